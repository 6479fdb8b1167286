"""Retry decisions: what the server asks for, jitter, and what is worth repeating."""

import random
from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytroupe.llm.retry import is_transient, retry_after_s, retry_delay_s

NOW = 1_800_000_000.0


def delay(attempt=1, headers=None, **options):
    return retry_delay_s(attempt, headers or {}, NOW, random.Random(7), **options)


@pytest.mark.parametrize("status", [None, 408, 409, 429, 500, 502, 503, 529, 599])
def test_transient(status):
    assert is_transient(status)


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 413, 422, 428, 430, 499, 600])
def test_not_transient(status):
    assert not is_transient(status)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": " 0.25 "}, 0.25),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": formatdate(NOW + 30, usegmt=True)}, 30.0),
        ({"retry-after": formatdate(NOW + 30)}, 30.0),
        ({"retry-after": formatdate(NOW - 30, usegmt=True)}, 0.0),
        ({}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e9"}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": "Wed, 99 Foo 2026 00:00:00 GMT"}, None),
    ],
)
def test_what_the_server_asks_for(headers, seconds):
    assert retry_after_s(headers, NOW) == seconds


def test_the_order_is_milliseconds_seconds_date():
    both = {"retry-after-ms": "100", "retry-after": formatdate(NOW + 30, usegmt=True)}
    assert 0.1 <= delay(headers=both) <= 0.11


@settings(deadline=None)
@given(seconds=st.floats(0, 60), seed=st.integers())
def test_the_server_is_never_asked_early_nor_much_later(seconds, seed):
    text = f"{seconds:.6f}"
    result = retry_delay_s(1, {"retry-after": text}, NOW, random.Random(seed))
    assert result is not None
    assert float(text) <= result <= min(float(text) * 1.1, 60.0) + 1e-9


def test_a_wait_beyond_the_cap_is_no_retry():
    assert delay(headers={"retry-after": "60"}) == 60.0
    assert delay(headers={"retry-after": "60.001"}) is None
    assert delay(headers={"retry-after": "3"}, cap_s=2.0) is None


@settings(deadline=None)
@given(attempt=st.integers(1, 5000), seed=st.integers())
def test_the_delay_doubles_up_to_the_cap(attempt, seed):
    longest = min(0.5 * 2.0 ** min(attempt - 1, 20), 60.0)
    result = retry_delay_s(attempt, {}, NOW, random.Random(seed))
    assert result is not None
    assert longest / 2 <= result <= longest


def test_the_jitter_comes_from_the_generator_alone():
    assert delay(3) == delay(3)
    assert retry_delay_s(3, {}, NOW, random.Random(1)) != retry_delay_s(3, {}, NOW, random.Random(2))


def test_the_server_has_the_last_word():
    assert delay(headers={"x-should-retry": "false", "retry-after": "1"}) is None
    assert delay(headers={"x-should-retry": "True"}) is not None
    assert delay(transient=False) is None
    assert delay(transient=False, headers={"x-should-retry": " true "}) is not None
    assert delay(headers={"x-should-retry": "perhaps"}) is not None
    assert delay(transient=False, headers={"x-should-retry": "perhaps", "retry-after": "1"}) is None
