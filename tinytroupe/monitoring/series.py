"""Series of measurements that stay bounded and keep their extremes."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

SMALLEST_LIMIT = 8


def thin_indices(times_s: Sequence[float], values: Sequence[float], limit: int) -> list[int]:
    """Choose at most `limit` points that draw the same curve.

    The time axis is cut into equal buckets; of each bucket its smallest and its largest value stay, and so do the
    first and the last point. Peaks and troughs are therefore exact however much is left out.

    Parameters
    ----------
    times_s
        Times in seconds, not decreasing.
    values
        One finite value for each time.
    limit
        The most points to keep, at least 4.

    Returns
    -------
    list of int
        Positions to keep, increasing.
    """
    if limit < 4:
        raise ValueError(f"a curve cannot be thinned to {limit} points: keep at least 4 (first, last, lowest, highest)")
    count = len(times_s)
    if count <= limit:
        return list(range(count))
    buckets = (limit - 2) // 2
    start, span = times_s[0], times_s[-1] - times_s[0]
    kept = {0, count - 1}
    bucket = low = high = 0
    for position in range(count):
        share = (times_s[position] - start) / span if span > 0 else position / count
        here = min(int(share * buckets), buckets - 1)
        if here != bucket:
            kept.update((low, high))
            bucket, low, high = here, position, position
        elif values[position] < values[low]:
            low = position
        elif values[position] > values[high]:
            high = position
    kept.update((low, high))
    return sorted(kept)


class BoundedSeries:
    """Rows of numbers over time, kept in compact columns and never more than `limit` of them.

    When the series is full it is thinned to half by `thin_indices`, so a million rows cost no more than `limit`.

    Parameters
    ----------
    columns
        Names of the columns. The first is the time in seconds (not decreasing), the second the value whose extremes
        survive thinning.
    limit
        The most rows kept, at least 8.
    typecodes
        How `array` stores each column, one letter each; floats of eight bytes by default.
    """

    __slots__ = ("_columns", "limit", "names")

    def __init__(self, columns: Sequence[str], limit: int, typecodes: str = "") -> None:
        if limit < SMALLEST_LIMIT:
            raise ValueError(f"a series needs room for at least {SMALLEST_LIMIT} rows, not {limit}")
        self.names = tuple(columns)
        self.limit = limit
        codes = typecodes or "d" * len(self.names)
        self._columns: tuple[array[float], ...] = tuple(array(code) for _, code in zip(self.names, codes, strict=True))

    def __len__(self) -> int:
        return len(self._columns[0])

    def append(self, *row: float) -> None:
        """Add one row: a number for each column."""
        if len(self._columns[0]) >= self.limit:
            self._thin()
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)

    def columns(self) -> dict[str, list[float]]:
        """Copy the series, column by column."""
        return {name: list(column) for name, column in zip(self.names, self._columns, strict=True)}

    def rows(self) -> list[tuple[float, ...]]:
        """Copy the series, row by row."""
        return list(zip(*self._columns, strict=True))

    def _thin(self) -> None:
        kept = thin_indices(self._columns[0], self._columns[1], max(4, self.limit // 2))
        self._columns = tuple(array(column.typecode, [column[i] for i in kept]) for column in self._columns)
