"""Where a series of figures changed its level. Pure functions; advice for a reader, never a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

SIGNIFICANCE = 0.01
"""Of each split; a series of unrelated noise is split less often than this."""

MIN_SEGMENT = 4
"""Fewer figures on one side cannot be significant in Pettitt's approximation."""


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """A change of level.

    Attributes
    ----------
    index
        Position of the first figure on the new level.
    before, after
        The levels: medians of the stretches on both sides, up to the next change.
    """

    index: int
    before: float
    after: float

    @property
    def change(self) -> float | None:
        """``(after - before) / before``; None where `before` is 0."""
        return (self.after - self.before) / self.before if self.before else None


def exact_changes(values: Sequence[float]) -> list[ChangePoint]:
    """Return every place where a figure differs from the one before: for figures without noise."""
    places = [index for index in range(1, len(values)) if values[index] != values[index - 1]]
    return _levels(values, places)


def noisy_changes(values: Sequence[float], *, least: float = 0.0) -> list[ChangePoint]:
    """Return the places where the level changed, in figures with noise.

    Binary segmentation with Pettitt's test: the series is split where the rank statistic ``U_k = 2 Σ R_i - k (n + 1)``
    is farthest from 0, if ``p ≈ 2 exp(-6 U² / (n³ + n²))`` is at most `SIGNIFICANCE`, and both halves are searched in
    turn (A. N. Pettitt, "A non-parametric approach to the change-point problem", Applied Statistics 28, 1979). Ranks:
    a single outlier is no change.

    Parameters
    ----------
    values
        In order of time.
    least
        Smaller changes, as a share of the level before, are not worth telling.
    """
    places: list[int] = []
    todo = [(0, len(values))]
    while todo:
        start, end = todo.pop()
        split = _split(values[start:end])
        if split is not None:
            places.append(start + split)
            todo += [(start, start + split), (start + split, end)]
    places.sort()
    while True:  # a change too small to tell is none, and the stretches beside it are one
        found = _levels(values, places)
        small = [each.index for each in found if abs(each.after - each.before) < least * abs(each.before)]
        if not small:
            return found
        places.remove(small[0])


def _split(values: Sequence[float]) -> int | None:
    count = len(values)
    if count < 2 * MIN_SEGMENT:
        return None
    ranks = _ranks(values)
    best, place, running = 0.0, None, 0.0
    for index in range(1, count):
        running += ranks[index - 1]
        distance = abs(2 * running - index * (count + 1))
        if MIN_SEGMENT <= index <= count - MIN_SEGMENT and distance > best:
            best, place = distance, index
    p = 2 * math.exp(-6 * best**2 / (count**3 + count**2))
    return place if p <= SIGNIFICANCE else None


def _ranks(values: Sequence[float]) -> list[float]:
    """Return the ranks from 1; equal values share the mean of theirs."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for place in range(start, end + 1):
            ranks[order[place]] = (start + end) / 2 + 1
        start = end + 1
    return ranks


def _levels(values: Sequence[float], places: Sequence[int]) -> list[ChangePoint]:
    edges = [0, *places, len(values)]
    levels = [median(values[start:end]) for start, end in pairwise(edges)] if values else []
    return [ChangePoint(place, levels[at], levels[at + 1]) for at, place in enumerate(places)]
