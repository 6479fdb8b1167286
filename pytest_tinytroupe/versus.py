"""One thing against another in one process: interleaved, in rotated order, as a ratio."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from inspect import iscoroutinefunction
from statistics import median

from pytest_tinytroupe.statistics import bootstrap_bounds, paired_ratios

ROUNDS = 15
MORE = 4
"""At most so many times the rounds are taken while it is undecided."""

SAMPLE_S = 2e-3
"""A sample lasts at least this long: shorter ones are mostly the timer's own noise."""

MAX_LOOPS = 100_000


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many times as fast the candidate is.

    Attributes
    ----------
    ratio
        Median over rounds of the baseline's duration by the candidate's.
    lower, upper
        Bounds of that, each exceeded with a probability of 5 %.
    rounds
        Rounds taken.
    min_ratio
        What was wanted.
    """

    ratio: float
    lower: float
    upper: float
    rounds: int
    min_ratio: float

    @property
    def met(self) -> bool:
        """Whether the lower bound reaches what was wanted."""
        return self.lower >= self.min_ratio


def compare(
    baseline: Callable[[], object],
    candidate: Callable[[], object],
    min_ratio: float,
    rounds: int,
    timer: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Time both in turn; see `Perf.compare`."""
    for each in (baseline, candidate):
        if iscoroutinefunction(each):
            raise TypeError(f"{each!r} is a coroutine function: calling it runs nothing. Pass a function that runs it")
    if not (math.isfinite(min_ratio) and min_ratio > 0):
        raise ValueError(f"min_ratio must be a finite number above 0, not {min_ratio!r}")
    if rounds < 3:
        raise ValueError(f"a comparison takes at least 3 rounds, not {rounds!r}")
    loops = [_loops(each, timer) for each in (baseline, candidate)]
    took: tuple[list[float], list[float]] = ([], [])
    collecting = gc.isenabled()
    gc.disable()
    try:
        while True:
            for _ in range(rounds):
                # Whoever goes first may find a colder cache or a later slice of the scheduler: take turns.
                order = (0, 1) if len(took[0]) % 2 == 0 else (1, 0)
                for which in order:
                    took[which].append(_time((baseline, candidate)[which], loops[which], timer))
                gc.collect(0)
            ratios = paired_ratios(*took)
            lower, upper = bootstrap_bounds(ratios)
            if not lower < min_ratio <= upper or len(ratios) >= rounds * MORE:
                return Comparison(median(ratios), lower, upper, len(ratios), min_ratio)
    finally:
        if collecting:
            gc.enable()


def _loops(function: Callable[[], object], timer: Callable[[], float]) -> int:
    """Return how often to call a function for one sample; also warms it up."""
    function()
    loops = 1
    while loops < MAX_LOOPS:
        once = _time(function, loops, timer) * loops
        if once >= SAMPLE_S:
            break
        loops *= 2 if once > SAMPLE_S / 10 else 10
    return loops


def _time(function: Callable[[], object], loops: int, timer: Callable[[], float]) -> float:
    start = timer()
    for _ in range(loops):
        function()
    return max(timer() - start, 1e-9) / loops
