"""Growth over steps by robust regression. Pure functions: the same numbers give the same answer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist, fmean, median

POINTS = 400
"""The most points compared in pairs, some 80,000 pairs; of longer series as many are taken at equal distances."""

CONFIDENCE = 0.999
"""Of the interval. One clean run in a thousand is said to grow, and one in a thousand to shrink, by chance alone."""

_HIGHEST_CORRELATION = 0.9  # Above, not even the steepest line would count.


@dataclass(frozen=True, slots=True)
class Slope:
    """How fast a series grows, in units of its values per unit of its positions.

    Attributes
    ----------
    value
        The Theil-Sen estimate.
    lower, upper
        Bounds of its confidence interval; infinite where there are too few points for one.
    points
        How many it comes from.
    """

    value: float
    lower: float
    upper: float
    points: int

    @property
    def bounded(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.lower) and math.isfinite(self.upper)

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.lower > 0 or self.upper < 0


def theil_sen(
    positions: Sequence[float], values: Sequence[float], *, confidence: float = CONFIDENCE, points: int = POINTS
) -> Slope:
    """Return the median of the slopes of all pairs of points, and its confidence interval.

    Up to 29 % of the points may be arbitrarily wrong without moving the estimate far. The interval comes from the
    variance of Kendall's S, corrected for ties (Sen 1968, https://doi.org/10.1080/01621459.1968.10480934; in the form
    of Gilbert 1987, *Statistical Methods for Environmental Pollution Monitoring*, section 16.5), and for what is left
    beside the line depending on what came before it (Yue and Wang 2004,
    https://doi.org/10.1023/B:WARM.0000043140.61082.60): bounded memories wander as their contents change.

    Parameters
    ----------
    positions
        Increasing.
    values
        One a position.
    confidence
        Two-sided, in (0, 1).
    points
        The most points compared, at least 2.

    Raises
    ------
    ValueError
        The lengths differ, there are fewer than two points, or a parameter is out of range.
    """
    if len(positions) != len(values) or len(values) < 2:
        raise ValueError(f"need as many positions as values, and at least two, not {len(positions)} and {len(values)}")
    if not 0 < confidence < 1 or points < 2:
        raise ValueError(f"need a confidence in (0, 1) and 2 points or more, not {confidence} and {points}")
    chosen = evenly(len(values), points)
    x, y = [positions[i] for i in chosen], [values[i] for i in chosen]
    count = len(chosen)
    slopes = sorted((y[j] - y[i]) / (x[j] - x[i]) for i in range(count) for j in range(i + 1, count))
    ties = sum(n * (n - 1) * (2 * n + 5) for n in Counter(y).values())
    slope = median(slopes)
    variance = (
        (count * (count - 1) * (2 * count + 5) - ties)
        / 18
        * _inflation([value - slope * place for place, value in zip(x, y, strict=True)], scale=max(map(abs, y)))
    )
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(variance)
    low = math.floor((len(slopes) - reach) / 2)  # ranks count from 1; rounded outwards
    if low < 1:
        return Slope(slope, -math.inf, math.inf, count)
    return Slope(slope, slopes[low - 1], slopes[len(slopes) - low], count)


def _inflation(rest: Sequence[float], scale: float) -> float:
    """Return the factor by which dependence from point to point widens the scatter of Kendall's S."""
    mean = fmean(rest)
    rest = [value - mean for value in rest]
    power = sum(value * value for value in rest)
    if power <= len(rest) * (1e-9 * scale) ** 2:  # a straight line, but for rounding
        return 1.0
    correlation = sum(a * b for a, b in pairwise(rest)) / power
    if correlation <= 0:
        return 1.0
    # An estimate from few values is too low (Kendall and Ord 1990).
    correlation = min(correlation + (1 + 4 * correlation) / len(rest), _HIGHEST_CORRELATION)
    return (1 + correlation) / (1 - correlation)


def evenly(count: int, limit: int) -> list[int]:
    """Return at most `limit` positions of `count`, the first and the last among them, at equal distances."""
    if count <= limit:
        return list(range(count))
    return [round(place * (count - 1) / (limit - 1)) for place in range(limit)]
