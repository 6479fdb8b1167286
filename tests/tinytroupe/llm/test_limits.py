"""The control law and the buckets, step by step."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinytroupe.llm.limits import CUT_FACTOR, START, Bucket, Control, told_by


def successes(control, n, in_use=None):
    for _ in range(n):
        control = control.succeeded(control.episode, control.slots if in_use is None else in_use)
    return control


def test_slow_start_doubles_a_round():
    control = Control(20)
    assert successes(control, 1).slots == 21
    assert successes(control, 20).slots == 40
    assert successes(control, 60).slots == 80
    assert successes(control, 5000).slots == 1000


def test_slow_start_doubles_a_round_without_a_refusal():
    assert [Control(limit).unopposed().slots for limit in (20, 40, 600, 1000)] == [40, 80, 1000, 1000]
    assert Control(20).troubled().unopposed().slots == 20
    assert Control(50).rate_limited(0).unopposed().slots == 40


def test_the_last_burst_of_slow_start_is_taken_back_down_to_the_start():
    control = Control(640).rate_limited(0)
    assert control.slots == 512
    for _ in range(100):
        control = control.rate_limited(0)
    assert (control.slots, control.episode) == (412, 1)
    for _ in range(1000):
        control = control.rate_limited(0)
    assert control.slots == START * CUT_FACTOR == 16
    assert control.rate_limited(1).rate_limited(0).slots == 12
    assert Control(300, low=200).rate_limited(0).rate_limited(0).slots == 239
    assert Control(10).rate_limited(0).rate_limited(0).slots == 8


@pytest.mark.parametrize(("in_use", "slots"), [(15, 20), (16, 21)])
def test_it_grows_only_when_four_fifths_are_in_use(in_use, slots):
    assert Control(20).succeeded(0, in_use).slots == slots


def test_a_rate_limit_cuts_once_an_episode():
    control = Control(100).rate_limited(0).rate_limited(1)
    assert (control.slots, control.slow_start, control.episode) == (64, False, 2)
    assert control.rate_limited(1) is control  # sent before the cut
    assert control.rate_limited(2).slots == 51


def test_successes_from_before_the_cut_do_not_count():
    control = Control(25).rate_limited(0)
    assert control.succeeded(0, 20) is control


def test_after_the_first_cut_a_clean_round_adds_five_percent():
    control = Control(50).rate_limited(0)
    assert successes(control, 39).slots == 40
    control = successes(control, 40)
    assert control.limit == pytest.approx(42)
    assert control.successes == 0
    assert successes(control, 41).limit == control.limit
    assert successes(control, 42).limit == pytest.approx(44.1)


def test_a_small_limit_grows_too():
    control = Control(1).rate_limited(0)
    assert control.slots == 1
    assert successes(control, 14).slots == 1
    assert successes(control, 15).slots == 2


def test_an_idle_round_adds_nothing_and_one_busy_moment_is_enough():
    control = Control(25).rate_limited(0)
    assert successes(control, 20, in_use=15).limit == 20
    control = successes(successes(control, 19, in_use=1), 1, in_use=16)
    assert control.limit == pytest.approx(21)


def test_a_rate_limit_starts_the_round_anew():
    control = successes(Control(50).rate_limited(0), 39)
    assert control.rate_limited(1).successes == 0


def test_trouble_pauses_growth_for_a_round_and_cuts_nothing():
    control = Control(20).troubled()
    assert successes(control, 20).slots == 20
    assert successes(control, 21).slots == 21
    after_cut = Control(25).rate_limited(0).troubled()
    assert successes(after_cut, 39).limit == 20
    assert successes(after_cut, 40).limit == pytest.approx(21)


def test_the_bounds_hold():
    assert Control(2, low=2).rate_limited(0).slots == 2
    assert successes(Control(99, high=100), 10).slots == 100
    at_top = Control(125, high=100).rate_limited(0)
    assert successes(at_top, 1000).slots == 100


@settings(deadline=None)
@given(
    st.integers(1, 50),
    st.integers(0, 50),
    st.lists(st.tuples(st.sampled_from("slt"), st.integers(0, 3), st.integers(0, 100)), max_size=200),
)
def test_the_limit_never_leaves_its_bounds(low, room, steps):
    control = Control(low, low, low + room)
    for kind, age, in_use in steps:
        episode = max(control.episode - age, 0)
        before = control
        if kind == "s":
            control = control.succeeded(episode, in_use)
            assert control.limit >= before.limit
        elif kind == "l":
            control = control.rate_limited(episode)
            assert control.limit <= before.limit
        else:
            control = control.troubled()
            assert control.limit == before.limit
        assert low <= control.slots <= low + room


def test_a_bucket_refills_continuously():
    bucket = Bucket.per_minute(60, burst_s=2)
    assert bucket == Bucket(1.0, 2.0)
    for _ in range(2):
        assert bucket.ready_at(1) <= 100
        bucket = bucket.take(1, 100)
    assert bucket.level(100) == 0
    assert bucket.ready_at(1) == 101
    assert bucket.level(101.5) == 1.5
    assert bucket.level(500) == 2


def test_more_than_the_capacity_goes_when_full_and_is_paid_back():
    bucket = Bucket(10.0, 10.0).take(50, 0)
    assert bucket.level(0) == -40
    assert bucket.ready_at(50) == 5
    assert bucket.ready_at(1) == pytest.approx(4.1)


def test_no_limit_is_no_bucket_and_one_request_always_fits():
    assert Bucket.per_minute(None, 1.0) is None
    bucket = Bucket.per_minute(6, burst_s=0)
    assert bucket is not None
    assert bucket.capacity == 1


@settings(deadline=None)
@example(1.25, 1.0, [(0.0, 23.0), (0.0, 0.0)])
@given(st.floats(0.1, 1e4), st.floats(1, 1e4), st.lists(st.tuples(st.floats(0, 50), st.floats(0, 100)), max_size=50))
def test_no_interval_takes_more_than_the_rate_allows(rate, capacity, requests):
    bucket, now, taken = Bucket(rate, capacity), 0.0, 0.0
    for pause, cost in requests:
        now = max(now + pause, bucket.ready_at(cost))
        assert taken - max(cost, 0) <= capacity + rate * now + 1e-6 * (1 + taken)
        bucket = bucket.take(cost, now)
        taken += cost
        assert taken <= capacity + rate * now + max(cost - capacity, 0) + 1e-6 * (1 + taken)


def test_the_servers_count_is_taken_out_once():
    full = Bucket(1.0, 10.0)
    first = full.take(1, 0)  # 9 left, we think
    second = first.take(1, 0)  # 8
    bucket = second.reconciled(first, 0, remaining=4, now_s=2)  # the server: 4. Five too many.
    assert bucket.level(2) == pytest.approx(second.level(2) - 5)
    assert bucket.reconciled(second, 0, remaining=3, now_s=2) is bucket  # the same five
    assert bucket.reconciled(second, 0, remaining=2, now_s=2).level(2) == pytest.approx(bucket.level(2) - 1)


def test_a_server_that_counts_more_changes_nothing():
    bucket = Bucket(1.0, 10.0).take(5, 0)
    assert bucket.reconciled(bucket, 0, remaining=500, now_s=0) is bucket


@pytest.mark.parametrize("text", ["", "many", "-3", "nan", "1e999", "9" * 40])
def test_headers_that_are_no_number_are_passed_over(text):
    assert told_by({"x-ratelimit-limit-tokens": text, "x-ratelimit-remaining-tokens": "7"}, "tokens") == (None, 7.0)
