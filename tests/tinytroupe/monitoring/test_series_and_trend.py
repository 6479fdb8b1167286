"""Bounded series and the trend test."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytroupe.monitoring.series import BoundedSeries, thin_indices
from tinytroupe.monitoring.trend import mann_kendall_p, theil_sen_slope, trend_of

values = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=400)


@given(values, st.integers(4, 60))
def test_thinning_is_bounded_and_keeps_ends_and_extremes(values: list[float], limit: int) -> None:
    times = [float(k) for k in range(len(values))]
    kept = thin_indices(times, values, limit)
    assert len(kept) <= limit
    assert kept == sorted(set(kept))
    assert {0, len(values) - 1} <= set(kept)
    assert max(values[i] for i in kept) == max(values)
    assert min(values[i] for i in kept) == min(values)


@given(values)
def test_thinning_survives_equal_times(values: list[float]) -> None:
    kept = thin_indices([1.0] * len(values), values, 8)
    assert len(kept) <= 8
    assert max(values[i] for i in kept) == max(values)


def test_thinning_needs_room_for_four_points() -> None:
    assert thin_indices([0.0, 1, 2, 3, 4], [0.0, 5, 1, -5, 0], 4) == [0, 1, 3, 4]
    with pytest.raises(ValueError, match="at least 4"):
        thin_indices([0.0], [0.0], 3)


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=600), st.integers(8, 40))
def test_a_series_never_outgrows_its_limit_and_keeps_its_extremes(values: list[int], limit: int) -> None:
    series = BoundedSeries(("time_s", "value"), limit)
    for k, value in enumerate(values):
        series.append(k, value)
        assert len(series) <= limit
    column = series.columns()["value"]
    assert max(column) == max(values)
    assert min(column) == min(values)
    assert column[0] == values[0]
    assert series.rows()[-1] == (len(values) - 1, values[-1])


def test_a_series_too_small_is_refused() -> None:
    BoundedSeries(("time_s", "value"), 8)
    with pytest.raises(ValueError, match="at least 8"):
        BoundedSeries(("time_s", "value"), 7)


def test_columns_may_be_stored_as_whole_numbers() -> None:
    series = BoundedSeries(("time_s", "count"), 8, "dq")
    for k in range(100):
        series.append(k / 2, 2**40 + k)
    assert series.rows()[-1] == (49.5, 2**40 + 99)
    assert len(series) <= 8
    with pytest.raises(ValueError, match="argument"):
        BoundedSeries(("time_s", "count"), 8, "d")


def test_a_row_must_fit_the_columns() -> None:
    with pytest.raises(ValueError, match="argument"):
        BoundedSeries(("time_s", "value"), 8).append(1.0)


@pytest.mark.parametrize(
    ("values", "trend"),
    [
        ([], "stable"),
        ([1, 5], "stable"),
        ([1, 2, 3], "increasing"),
        ([3, 2, 1], "decreasing"),
        ([100, 101, 102], "stable"),
        ([1, 3, 2], "stable"),
        (list(range(40)), "increasing"),
        (list(range(40, 0, -1)), "decreasing"),
        ([7] * 40, "stable"),
        ([500, 501] * 20, "stable"),
        ([k if k != 20 else 0 for k in range(40)], "increasing"),
        ([round(100 * math.sqrt(k)) for k in range(60)], "increasing"),
        ([k * k for k in range(60)], "increasing"),
        ([3 * k + 5 * k % 50 for k in range(60)], "increasing"),
        ([200 + 4 * k if k < 40 else 4 * k - 60 for k in range(60)], "stable"),
        ([50 + 3 * k % 135 for k in range(60)], "stable"),
        ([50 + 3 * k % 60 for k in range(60)], "stable"),
    ],
)
def test_trend(values: list[int], trend: str) -> None:
    assert trend_of(values) == trend


def test_noise_is_rarely_called_a_trend() -> None:
    rng = random.Random(5)
    runs = 300
    wrong = sum(trend_of([100 + rng.gauss(0, 10) for _ in range(60)]) != "stable" for _ in range(runs))
    assert wrong <= 0.03 * runs  # Expected: 1 %.


def test_noise_that_remembers_is_rarely_called_a_trend() -> None:
    """Each size is near the one before, as sizes of memories are: the plain test is wrong in half of these runs."""
    rng = random.Random(7)
    runs, wrong = 200, 0
    for _ in range(runs):
        noise, sizes = 0.0, []
        for _ in range(60):
            noise = 0.9 * noise + rng.gauss(0, 10)
            sizes.append(round(500 + noise))
        wrong += trend_of(sizes) != "stable"
    assert wrong <= 0.08 * runs


def test_a_slope_under_noise_is_found() -> None:
    rng = random.Random(6)
    assert all(trend_of([100 + k + rng.gauss(0, 10) for k in range(60)]) == "increasing" for _ in range(50))


def test_statistics_of_known_series() -> None:
    assert theil_sen_slope([0, 2, 4, 100, 8, 10]) == 2.0
    assert theil_sen_slope([3]) == 0.0
    assert mann_kendall_p([1, 2]) == 1.0
    # S = 45, variance = 125, z = 44 / sqrt(125).
    assert math.isclose(mann_kendall_p(range(10)), 8.3e-5, rel_tol=0.01)
