"""Statistics of repeated measurements. Pure functions: the same numbers give the same answer."""

from __future__ import annotations

import math
from collections.abc import Sequence

CONFIDENCE = 0.95


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of all values do not exceed (nearest rank).

    Raises
    ------
    ValueError
        There are no values, or `share` is not in (0, 1].
    """
    if not values or not 0 < share <= 1:
        raise ValueError(f"need values and a share in (0, 1], not {len(values)} values and {share}")
    # The tiny amount keeps 0.95 * 20 from becoming 20 by rounding.
    return sorted(values)[max(math.ceil(share * len(values) - 1e-9), 1) - 1]


def paired_ratios(baseline: Sequence[float], candidate: Sequence[float]) -> list[float]:
    """Return ``baseline / candidate`` of each round: above 1 the candidate was faster.

    Raises
    ------
    ValueError
        The lengths differ, there is nothing, or a duration is not positive.
    """
    if len(baseline) != len(candidate) or not baseline:
        raise ValueError(f"need as many of both, and at least one, not {len(baseline)} and {len(candidate)}")
    if min(*baseline, *candidate) <= 0:
        raise ValueError("durations must be positive")
    return [before / after for before, after in zip(baseline, candidate, strict=True)]


def median_bounds(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return bounds of the median, each exceeded in its direction with a probability of at most 1 - `confidence`.

    Exact, whatever the values are distributed like: each lies below the median with probability one half, so the number
    of those that do is binomial, and the bounds are the values of the rank that it says (the sign test turned round;
    Thompson 1936).

    Parameters
    ----------
    values
        At least one measurement.
    confidence
        Of each of the two one-sided bounds.

    Returns
    -------
    tuple of float
        Infinite where there are too few values for such a confidence.

    Raises
    ------
    ValueError
        There are no values.
    """
    if not values:
        raise ValueError("need at least one value")
    ranked, count = sorted(values), len(values)
    rank, below = 0, 0.5**count  # the probability that at most `rank` values lie below the median
    while below <= 1 - confidence:
        rank += 1
        below += math.comb(count, rank) * 0.5**count
    return (ranked[rank - 1], ranked[count - rank]) if rank else (-math.inf, math.inf)


def student_t_tail(t: float, freedom: int) -> float:
    """Return the probability that Student's t with so many degrees of freedom exceeds `t`.

    The finite series for whole degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4).

    Raises
    ------
    ValueError
        There is no degree of freedom.
    """
    if freedom < 1:
        raise ValueError(f"need at least one degree of freedom, not {freedom}")
    angle = math.atan2(t, math.sqrt(freedom))
    cosine_squared, odd = math.cos(angle) ** 2, freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for step in range(freedom // 2):
        total += term
        term *= cosine_squared * ((2 * step + 2) / (2 * step + 3) if odd else (2 * step + 1) / (2 * step + 2))
    between = 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
    return min(max((1 - between) / 2, 0.0), 1.0)


def holm(p_values: Sequence[float], significance: float, family: int = 0) -> list[bool]:
    """Return which hypotheses are rejected so that the chance of any wrong rejection is at most `significance`.

    The step-down method of Holm (1979): the smallest p-value is held against ``significance / m``, the next one against
    ``significance / (m - 1)``, and so on up to the first that is larger.

    Parameters
    ----------
    p_values
        One a hypothesis.
    significance
        Chance of any wrong rejection.
    family
        Number m of hypotheses where it is larger than that of `p_values`: the others count as never rejected.
    """
    family = max(family, len(p_values))
    rejected = [False] * len(p_values)
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        if p_values[place] > significance / (family - rank):
            break
        rejected[place] = True
    return rejected
