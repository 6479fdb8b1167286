"""Statistics of paired measurements, and one thing against another on a clock of our own."""

from __future__ import annotations

import math
import random
import sys
import time
from collections import Counter
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tinytroupe import versus
from pytest_tinytroupe.statistics import median_bounds, paired_ratios, percentile
from pytest_tinytroupe.versus import compare

VALUES = st.lists(st.floats(min_value=0.1, max_value=1e6), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(1, 0.95, 1), (19, 0.95, 19), (20, 0.95, 19), (21, 0.95, 20), (100, 0.5, 50), (5, 1, 5)],
)
def test_percentile_is_the_nearest_rank(count, share, expected):
    assert percentile(range(count, 0, -1), share) == expected


@given(VALUES, st.floats(min_value=0.01, max_value=1))
def test_percentile_covers_its_share_and_is_one_of_the_values(values, share):
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1], 0), ([1], 1.01)])
def test_percentile_refuses_nonsense(values, share):
    with pytest.raises(ValueError, match="share"):
        percentile(values, share)


@pytest.mark.parametrize(("baseline", "candidate"), [([], []), ([1.0], [1.0, 2.0]), ([0.0], [1.0]), ([1.0], [-1.0])])
def test_ratios_refuse_nonsense(baseline, candidate):
    with pytest.raises(ValueError):
        paired_ratios(baseline, candidate)


@given(VALUES, st.floats(min_value=0.5, max_value=0.999))
def test_bounds_are_ordered_around_the_median(values, confidence):
    lower, upper = median_bounds(values, confidence)
    assert lower <= median(values) <= upper
    assert {lower, upper} <= {*values, -math.inf, math.inf}


@pytest.mark.parametrize(
    ("count", "confidence", "rank"),
    [(6, 0.99, 0), (7, 0.99, 1), (15, 0.99, 3), (15, 0.95, 4), (4, 0.95, 0), (5, 0.95, 1), (20, 0.95, 6)],
)
def test_bounds_are_of_the_ranks_that_tables_of_the_sign_test_give(count, confidence, rank):
    values = list(range(1, count + 1))
    expected = (rank, count + 1 - rank) if rank else (-math.inf, math.inf)
    assert median_bounds(values, confidence) == expected


def test_without_values_there_are_no_bounds():
    with pytest.raises(ValueError, match="at least one"):
        median_bounds([])


@pytest.mark.parametrize("rounds", [3, 5, 15])
def test_a_comparison_at_the_edge_passes_as_seldom_as_it_says(rounds):
    """At whichever look it ends: of 400 comparisons whose true ratio is what is wanted, 5 % and little more."""
    rng = random.Random(rounds)

    class Noisy(Timer):
        def task(self, name, *durations_s):
            def run():
                self.now += durations_s[0] * math.exp(rng.gauss(0, 0.05))

            return run

    met = 0
    for _ in range(400):
        timer = Noisy()
        met += compare(timer.task("a", 0.2), timer.task("b", 0.1), 2.0, rounds, timer).met
    assert met <= 30


class Timer:
    """A clock that functions push."""

    def __init__(self):
        self.now = 0.0
        self.order = []
        self.counts = Counter()

    def __call__(self):
        return self.now

    def task(self, name, *durations_s):
        def run():
            self.order.append(name)
            self.counts[name] += 1
            self.now += durations_s[self.counts[name] % len(durations_s)]

        return run


def test_the_ratio_is_measured_not_assumed():
    timer = Timer()
    found = compare(timer.task("a", 0.3), timer.task("b", 0.1), 2.0, 5, timer)
    assert (found.ratio, found.lower, found.rounds) == (pytest.approx(3), pytest.approx(3), 10)
    assert found.met
    assert not compare(timer.task("c", 0.1), timer.task("d", 0.1), 1.01, 5, timer).met


def test_the_order_rotates():
    timer = Timer()
    compare(timer.task("a", 0.3), timer.task("b", 0.1), 2.0, 4, timer)
    assert "".join(timer.order[-8:]) == "abbaabba"


@pytest.mark.parametrize(("one_s", "rounds"), [(0.0208, 320), (0.0209, 160), (0.0416, 160), (0.0417, 80), (1.0, 80)])
def test_what_is_undecided_takes_more_rounds_but_not_for_ever(one_s, rounds):
    """A round takes three times `one_s` in the mean: 160 of them 10 s at the first edge, 80 at the second."""
    timer = Timer()
    assert compare(timer.task("a", one_s, 3 * one_s), timer.task("b", one_s), 2.0, 5, timer).rounds == rounds


def test_short_functions_are_called_often_enough_for_a_sample():
    timer = Timer()
    compare(timer.task("a", 1e-6), timer.task("b", 1e-6), 0.9, 3, timer)
    assert timer.order.count("a") > 3 * 1000


def test_cpu_time_is_for_what_only_computes():
    def computes():
        sum(range(20_000))

    def waits():
        time.sleep(0.002)

    cpu_timer = time.perf_counter if sys.platform == "win32" else time.process_time
    # Where others want the processor, what only computes waits, too: then real time is the careful choice.
    assert any(versus.timer_for(computes, computes) is cpu_timer for _ in range(100))
    assert versus.timer_for(computes, waits) is time.perf_counter


async def coroutine():
    """Never runs."""


async def asynchronous_generator():
    """Never runs."""
    yield


def generator():
    """Never runs."""
    yield


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (coroutine, "is a coroutine function: calling it runs nothing"),
        (generator, "is a generator function: calling it runs nothing"),
        (asynchronous_generator, "is a generator function: calling it runs nothing"),
        (lambda: coroutine(), "returns a coroutine, which nobody awaits"),
    ],
    ids=["coroutine", "generator", "async-generator", "lambda"],
)
def test_what_runs_nothing_when_it_is_called_is_not_compared(function, message):
    for pair in ((int, function), (function, int)):
        with pytest.raises(TypeError, match=message):
            compare(*pair, 0.5, 3)


@pytest.mark.parametrize(
    ("candidate", "min_ratio", "rounds", "error"),
    [
        (int, 0, 5, ValueError),
        (int, math.nan, 5, ValueError),
        (int, math.inf, 5, ValueError),
        (int, 2, 2, ValueError),
    ],
)
def test_comparisons_refuse_nonsense(candidate, min_ratio, rounds, error):
    with pytest.raises(error):
        compare(int, candidate, min_ratio, rounds)
