"""Which way a series goes, by tests that noise does not fool."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist, fmean, median
from typing import Literal

Trend = Literal["increasing", "decreasing", "stable"]

SIGNIFICANCE = 0.01
"""Two-sided level of the trend test: pure noise is called a trend less than once in a hundred."""

_HIGHEST_CORRELATION = 0.9  # Above, not even the steepest curve would count as a trend.


def theil_sen_slope(values: Sequence[float]) -> float:
    """Give the median slope over all pairs of points, in units of a value per position.

    A few outliers, such as the drop at a consolidation, do not move it (Sen 1968,
    https://doi.org/10.1080/01621459.1968.10480934).
    """
    slopes = [(values[j] - values[i]) / (j - i) for i in range(len(values)) for j in range(i + 1, len(values))]
    return median(slopes) if slopes else 0.0


def mann_kendall_p(values: Sequence[float]) -> float:
    """Give the two-sided p-value of no monotonic trend.

    Corrected for ties (Kendall 1975), and for noise that remembers (Yue and Wang 2004,
    https://doi.org/10.1023/B:WARM.0000043140.61082.60): sizes wander and swing between consolidations, and one high
    value after another is less than so many signs of growth.
    """
    count = len(values)
    if count < 3:
        return 1.0
    score = sum((b > a) - (b < a) for i, a in enumerate(values) for b in values[i + 1 :])
    ties = sum(n * (n - 1) * (2 * n + 5) for n in Counter(values).values())
    variance = (count * (count - 1) * (2 * count + 5) - ties) / 18 * _inflation(values)
    if variance <= 0 or score == 0:
        return 1.0
    z = (abs(score) - 1) / math.sqrt(variance)
    return 2 * (1 - NormalDist().cdf(z))


def _inflation(values: Sequence[float]) -> float:
    """Give the factor by which memory of noise widens the scatter, from what is left beside the slope."""
    slope = theil_sen_slope(values)
    rest = [value - slope * position for position, value in enumerate(values)]
    mean = fmean(rest)
    rest = [value - mean for value in rest]
    power = sum(value * value for value in rest)
    if power <= 1e-12 * sum(value * value for value in values):  # a straight line, but for rounding
        return 1.0
    correlation = sum(a * b for a, b in pairwise(rest)) / power
    if correlation <= 0:
        return 1.0
    # An estimate from few values is too low (Kendall and Ord 1990).
    correlation = min(correlation + (1 + 4 * correlation) / len(values), _HIGHEST_CORRELATION)
    return (1 + correlation) / (1 - correlation)


def trend_of(values: Sequence[float]) -> Trend:
    """Tell whether a series of sizes grows, shrinks or stays.

    From six values on it is the Mann-Kendall test at 1 %, and the Theil-Sen slope must amount to at least one entry
    and 1 % of the median over the series. Three to five values are a trend only if every one of them goes the same
    way and the change is at least a tenth; fewer say nothing and count as stable.
    """
    count = len(values)
    if count < 3:
        return "stable"
    if count < 6:
        steps = [b - a for a, b in pairwise(values)]
        change = abs(values[-1] - values[0])
        if change < 0.1 * max(abs(values[0]), abs(values[-1])):
            return "stable"
        if all(step > 0 for step in steps):
            return "increasing"
        return "decreasing" if all(step < 0 for step in steps) else "stable"
    change = theil_sen_slope(values) * (count - 1)
    if abs(change) < max(1.0, 0.01 * abs(median(values))) or mann_kendall_p(values) >= SIGNIFICANCE:
        return "stable"
    return "increasing" if change > 0 else "decreasing"
