"""Percentiles in bounded memory: within 1 % of the nearest rank, whatever comes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytroupe.engine import Histogram
from tinytroupe.engine.histogram import LONGEST_S, RELATIVE_ERROR, SHORTEST_S


@given(st.lists(st.floats(SHORTEST_S, LONGEST_S), min_size=1, max_size=200), st.floats(0, 1))
def test_a_percentile_is_within_a_hundredth_of_the_nearest_rank(durations_s, share):
    histogram = Histogram()
    for duration_s in durations_s:
        histogram.add(duration_s)
    rank = max(1, math.ceil(share * len(durations_s)))
    true_s = sorted(durations_s)[rank - 1]
    assert abs(histogram.percentile(share) - true_s) <= true_s * (RELATIVE_ERROR + 1e-9)
    assert histogram.count == len(durations_s)


@pytest.mark.parametrize("odd_s", [0.0, SHORTEST_S / 10, LONGEST_S * 10])
def test_durations_out_of_bounds_are_returned_as_they_were(odd_s):
    histogram = Histogram()
    histogram.add(odd_s)
    assert histogram.percentile(0.5) == odd_s


def test_nothing_counted_and_shares_that_are_none():
    histogram = Histogram()
    assert histogram.percentile(0.99) == 0.0
    for share in (-0.01, 1.01, math.nan):
        with pytest.raises(ValueError, match="share must be from 0 to 1"):
            histogram.percentile(share)


def test_a_million_durations_take_no_more_room_than_the_bounds_allow():
    histogram = Histogram()
    steps = 20_000
    for number in range(steps):
        histogram.add(SHORTEST_S * (LONGEST_S / SHORTEST_S) ** (number / steps))
    assert len(histogram._buckets) <= 1500
