"""Durations counted in buckets: percentiles of any number of them in bounded memory."""

from __future__ import annotations

import math

RELATIVE_ERROR = 0.01
"""Most that a percentile of a `Histogram` is off, as a share of the true value."""

SHORTEST_S, LONGEST_S = 1e-6, 1e7
"""Durations outside are counted as these, so that the number of buckets is bounded (1500 at most)."""

_GROWTH = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GROWTH = math.log(_GROWTH)


class Histogram:
    """Counts durations in buckets whose bounds grow by a constant factor.

    Every value of a bucket is within 1 % of the one that stands for it (Masson, Rim, Lee, "DDSketch", 2019, section
    2.1); the least and the greatest are kept exactly, and nothing outside of them is ever returned. Not thread-safe.
    """

    __slots__ = ("_buckets", "_greatest_s", "_least_s", "count")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._least_s, self._greatest_s = math.inf, 0.0
        self.count = 0

    def add(self, duration_s: float) -> None:
        """Count a duration, in seconds."""
        kept = min(max(duration_s, SHORTEST_S), LONGEST_S)
        bucket = math.ceil(math.log(kept) / _LOG_GROWTH)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self._least_s = min(self._least_s, duration_s)
        self._greatest_s = max(self._greatest_s, duration_s)
        self.count += 1

    def percentile(self, share: float) -> float:
        """Return the duration that `share` (0 to 1) of all do not exceed, the nearest rank; 0.0 where there are none.

        Raises
        ------
        ValueError
            The share is not from 0 to 1.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"a percentile's share must be from 0 to 1, got {share!r}")
        if not self.count:
            return 0.0
        left = max(1, math.ceil(share * self.count))
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                middle_s = 2 * _GROWTH**bucket / (1 + _GROWTH)
                return min(max(middle_s, self._least_s), self._greatest_s)
        raise AssertionError("the buckets hold all that was counted")
