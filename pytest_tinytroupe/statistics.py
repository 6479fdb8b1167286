"""Statistics of paired measurements. Pure functions, seeded: the same numbers give the same answer."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import median

RESAMPLES = 2000
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


def bootstrap_bounds(
    values: Sequence[float], *, confidence: float = CONFIDENCE, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Return bounds of the median, each exceeded in its direction with probability 1 - `confidence`.

    The percentile bootstrap: medians of resamples drawn with replacement, and the quantiles of these (Efron 1979).

    Parameters
    ----------
    values
        At least one measurement.
    confidence
        Of each of the two one-sided bounds.
    resamples, seed
        How many resamples are drawn, and from which sequence of random numbers.
    """
    rng = random.Random(seed)
    count = len(values)
    medians = sorted(median(rng.choices(values, k=count)) for _ in range(resamples))
    low = min(int((1 - confidence) * resamples), resamples - 1)
    return medians[low], medians[resamples - 1 - low]
