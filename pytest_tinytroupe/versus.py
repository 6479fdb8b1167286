"""One thing against another in one process: interleaved, in rotated order, as a ratio."""

from __future__ import annotations

import gc
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from inspect import isasyncgenfunction, iscoroutine, iscoroutinefunction, isgeneratorfunction
from statistics import median

from pytest_tinytroupe.queueing import queued, queued_between
from pytest_tinytroupe.statistics import median_bounds, paired_ratios
from pytest_tinytroupe.untraced import untraced

ROUNDS = 15
MORE, MOST = 16, 64
"""So many times the rounds are taken while it is undecided, at most; beyond the first only within `LONG_S`."""

LONG_S = 10.0
"""A busy machine widens the bounds. What is quick goes on until they are narrow again; what is slow would take long."""

CONFIDENCE = 1 - 0.05 / MOST.bit_length()
"""Of each bound at each look, whenever the rounds have doubled (Bonferroni): 5 % remain for all looks together."""

SAMPLE_S = 2e-3
"""A sample lasts at least this long: shorter ones are mostly the timer's own noise."""

MAX_LOOPS = 100_000

COMPUTING = (0.9, 1.1)
"""CPU time over real time of a function that computes in one thread and waits for nothing."""

TRIES = 5

Timer = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many times as fast the candidate is.

    Attributes
    ----------
    ratio
        Median over rounds of the baseline's duration by the candidate's.
    lower, upper
        Bounds of that; at whichever look it ended, each is exceeded with a probability of at most 5 %.
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

    @property
    def told(self) -> str:
        """All of it in words."""
        return (
            f"{self.ratio:.3g}x as fast (95 % bounds {self.lower:.3g}x to {self.upper:.3g}x, "
            f"{self.rounds} rounds), at least {self.min_ratio:g}x wanted"
        )


def compare(
    baseline: Callable[[], object],
    candidate: Callable[[], object],
    min_ratio: float,
    rounds: int,
    timer: Timer | None = None,
) -> Comparison:
    """Time both in turn; see `Perf.compare`."""
    for each in (baseline, candidate):
        if iscoroutinefunction(each) or isgeneratorfunction(each) or isasyncgenfunction(each):
            kind = "coroutine" if iscoroutinefunction(each) else "generator"
            raise TypeError(f"{each!r} is a {kind} function: calling it runs nothing. Pass a function that runs it")
    if not (math.isfinite(min_ratio) and min_ratio > 0):
        raise ValueError(f"min_ratio must be a finite number above 0, not {min_ratio!r}")
    if rounds < 3:
        raise ValueError(f"a comparison takes at least 3 rounds, not {rounds!r}")
    for each in (baseline, candidate):
        found = each()  # once as everything else: for coverage
        if iscoroutine(found):
            found.close()
            raise TypeError(f"{each!r} returns a coroutine, which nobody awaits. Pass a function that runs it")
    with untraced():
        return _compared(baseline, candidate, min_ratio, rounds, timer or timer_for(baseline, candidate))


def _compared(
    baseline: Callable[[], object], candidate: Callable[[], object], min_ratio: float, rounds: int, timer: Timer
) -> Comparison:
    loops = [_loops(each, timer) for each in (baseline, candidate)]
    took: tuple[list[float], list[float]] = ([], [])
    look = rounds
    collecting = gc.isenabled()
    gc.disable()
    try:
        while True:
            while len(took[0]) < look:
                # Whoever goes first may find a colder cache or a later slice of the scheduler: take turns.
                order = (0, 1) if len(took[0]) % 2 == 0 else (1, 0)
                for which in order:
                    took[which].append(_time((baseline, candidate)[which], loops[which], timer))
                gc.collect(0)
            ratios = paired_ratios(*took)
            lower, upper = median_bounds(ratios, CONFIDENCE)
            spent_s = sum(sum(times) * count for times, count in zip(took, loops, strict=True))
            if not lower < min_ratio <= upper or look >= rounds * (MORE if spent_s > LONG_S else MOST):
                return Comparison(median(ratios), lower, upper, len(ratios), min_ratio)
            look *= 2
    finally:
        if collecting:
            gc.enable()


def timer_for(*functions: Callable[[], object]) -> Timer:
    """Return the clock that tells most about these functions: CPU time where all of them only compute, else real time.

    What else the machine does takes slices of real time, of CPU time hardly any. But a function that waits, or that
    computes in several threads at once, is worth its real time.
    """
    if sys.platform == "win32":  # where CPU time advances in steps of 16 ms
        return time.perf_counter
    return time.process_time if all(_computes(each) for each in functions) else time.perf_counter


def _computes(function: Callable[[], object]) -> bool:
    loops = _loops(function, time.perf_counter)
    shares = []
    for _ in range(TRIES):
        before, wall_s, cpu_s = queued(), time.perf_counter(), time.process_time()
        for _ in range(loops):
            function()
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
        shares.append(cpu_s / max(wall_s - queued_between(before, queued()), cpu_s / 2, 1e-9))
    # Queueing for a core is no waiting of the function's own; the account of it may lag a little, either way. Where
    # there is none, the least disturbed try counts: others on the machine only lower the share.
    return COMPUTING[0] <= (median(shares) if queued() else max(shares)) <= COMPUTING[1]


def _loops(function: Callable[[], object], timer: Timer) -> int:
    """Return how often to call a function for one sample; also warms it up."""
    function()
    loops = 1
    while loops < MAX_LOOPS:
        once = _time(function, loops, timer) * loops
        if once >= SAMPLE_S:
            break
        loops *= 2 if once > SAMPLE_S / 10 else 10
    return loops


def _time(function: Callable[[], object], loops: int, timer: Timer) -> float:
    start = timer()
    for _ in range(loops):
        function()
    return max(timer() - start, 1e-9) / loops
