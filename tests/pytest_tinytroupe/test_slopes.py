"""Growth is told from noise: what grows is found, and what does not is left alone."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tinytroupe.instruments.heap import growth_of
from pytest_tinytroupe.instruments.sites import growing
from pytest_tinytroupe.slopes import evenly, theil_sen

LEAK_MB = 10 / 1024
STEPS = 200


def noise(kind: str, rng: random.Random) -> list[float]:
    """A heap in MB after each step that does not grow: at random, wandering, or filling and emptying a memory."""
    if kind == "random":
        return [5 + rng.gauss(0, 0.05) for _ in range(STEPS)]
    if kind == "wandering":
        level, found = 0.0, []
        for _ in range(STEPS):
            level = 0.8 * level + rng.gauss(0, 0.01)
            found.append(5 + level)
        return found
    return [5 + 0.02 * (k % 17) + rng.gauss(0, 0.005) for k in range(STEPS)]


@pytest.mark.parametrize("kind", ["random", "wandering", "sawtooth"])
def test_a_leak_is_found_and_none_where_there_is_none(kind: str) -> None:
    rng = random.Random(7)
    for _ in range(34):
        clean = noise(kind, rng)
        leaking = [value + LEAK_MB * step for step, value in enumerate(clean)]
        none, _ = growth_of(tuple((float(step), value) for step, value in enumerate(clean)))
        leak, note = growth_of(tuple((float(step), value) for step, value in enumerate(leaking)))
        assert none.value == 0.0
        assert leak.value == pytest.approx(LEAK_MB, rel=0.25)
        assert "interval" in note


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=60),
    st.floats(-10, 10).filter(lambda slope: abs(slope) > 1e-3),
)
def test_the_slope_of_a_line_is_exact_and_bounds_enclose_the_estimate(values: list[float], slope: float) -> None:
    line = theil_sen(range(len(values)), [slope * k for k in range(len(values))])
    assert line.value == pytest.approx(slope)
    any_series = theil_sen(range(len(values)), values)
    assert any_series.lower <= any_series.value <= any_series.upper


def test_outliers_do_not_move_it_and_few_points_have_no_interval() -> None:
    values = [float(k) for k in range(40)]
    values[5] = values[20] = 10_000.0
    slope = theil_sen(range(40), values)
    assert slope.value == pytest.approx(1.0)
    assert slope.certain
    few = theil_sen(range(4), [0.0, 1.0, 2.0, 3.0])
    assert not few.bounded
    assert math.isinf(few.upper)


def test_of_a_long_series_as_many_points_are_taken_at_equal_distances() -> None:
    assert evenly(5, 10) == [0, 1, 2, 3, 4]
    assert evenly(1001, 5) == [0, 250, 500, 750, 1000]
    assert theil_sen(range(3000), [2.0 * k for k in range(3000)], points=50).points == 50


def test_only_lines_that_gain_every_time_leak_and_the_median_counts() -> None:
    leak, cache, list_, gone = ("leak.py", 1), ("cache.py", 1), ("list.py", 1), ("gone.py", 1)
    sizes = [
        {leak: 100, cache: 0, list_: 64, gone: 50},
        {leak: 110, cache: 900, list_: 64, gone: 60},
        {leak: 130, cache: 900, list_: 128},
        {leak: 140, cache: 900, list_: 128},
    ]
    assert growing(sizes) == {leak: 10}
