"""What steps cost in time, and how near that came to the least possible."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tinytroupe.engine.turn import TurnOutcome
from tinytroupe.llm.usage import Usage


@dataclass(frozen=True, slots=True)
class StepCost:
    """Time of one step, in seconds on the clock of the run.

    Attributes
    ----------
    parallel
        Whether people acted at once.
    elapsed_s
        From the first start to the last end.
    busy_s
        Durations of the turns added up, waiting for slots excluded: what one after the other would take at least.
    queued_s
        Waiting for slots added up.
    lower_bound_s
        The least that any schedule could take: max(longest turn, busy_s / slots).
    errors, timeouts
        Turns that failed, and turns that ran out of time.
    usage
        Calls and tokens of the step.
    """

    parallel: bool
    elapsed_s: float
    busy_s: float
    queued_s: float
    lower_bound_s: float
    errors: int
    timeouts: int
    usage: Usage


def step_cost(outcomes: Sequence[TurnOutcome], *, parallel: bool, elapsed_s: float, slots: int) -> StepCost:
    """Return the cost of a step.

    Parameters
    ----------
    outcomes
        The turns of the step.
    parallel
        Whether they ran at once.
    elapsed_s
        Duration of the step in seconds.
    slots
        Turns that may be under way at once (C in ``max(longest, sum / C)``).
    """
    busy = [outcome.busy_s for outcome in outcomes]
    total = sum(busy)
    return StepCost(
        parallel=parallel,
        elapsed_s=elapsed_s,
        busy_s=total,
        queued_s=sum(outcome.queued_s for outcome in outcomes),
        lower_bound_s=max(max(busy, default=0.0), total / max(slots, 1)),
        errors=sum(outcome.status == "failed" for outcome in outcomes),
        timeouts=sum(outcome.status == "timed out" for outcome in outcomes),
        usage=sum((outcome.usage for outcome in outcomes), Usage()),
    )


class EngineMetrics:
    """Adds up the cost of steps over all runs of a world. Thread-safe; its size does not grow with the steps.

    Parameters
    ----------
    timeline_length
        Last turns kept in `timeline`.
    """

    def __init__(self, timeline_length: int = 1000) -> None:
        self._lock = threading.Lock()
        self._timeline: deque[TurnOutcome] = deque(maxlen=timeline_length)
        self.reset()

    def reset(self) -> None:
        """Start again from nothing."""
        with self._lock:
            self._steps = {True: 0, False: 0}
            self._errors = self._timeouts = 0
            self._elapsed_s = self._busy_s = self._queued_s = self._lower_bound_s = 0.0
            self._parallel_elapsed_s = self._parallel_busy_s = 0.0
            self._usage = Usage()
            self._timeline.clear()

    def add(self, cost: StepCost, outcomes: Iterable[TurnOutcome] = ()) -> None:
        """Take in one step and, where timings are wanted, its turns."""
        with self._lock:
            self._steps[cost.parallel] += 1
            self._errors += cost.errors
            self._timeouts += cost.timeouts
            self._elapsed_s += cost.elapsed_s
            self._busy_s += cost.busy_s
            self._queued_s += cost.queued_s
            self._lower_bound_s += cost.lower_bound_s
            self._usage += cost.usage
            if cost.parallel:
                self._parallel_elapsed_s += cost.elapsed_s
                self._parallel_busy_s += cost.busy_s
            self._timeline.extend(outcomes)

    def timeline(self) -> tuple[TurnOutcome, ...]:
        """Return the last turns, oldest first."""
        with self._lock:
            return tuple(self._timeline)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures, always numbers.

        ``avg_parallel_speedup`` is busy time over elapsed time of the parallel steps: how many people acted at once on
        average (1.0 where no time passed). ``efficiency`` is lower bound over elapsed time of all steps, sequential
        ones included, which therefore come to 1 / people.
        """
        with self._lock:
            return {
                "total_parallel_steps": self._steps[True],
                "total_sequential_steps": self._steps[False],
                "avg_parallel_speedup": _ratio(self._parallel_busy_s, self._parallel_elapsed_s),
                "parallel_errors": self._errors,
                "parallel_timeouts": self._timeouts,
                "elapsed_s": self._elapsed_s,
                "busy_s": self._busy_s,
                "queued_s": self._queued_s,
                "lower_bound_s": self._lower_bound_s,
                "efficiency": _ratio(self._lower_bound_s, self._elapsed_s),
                "model_calls": self._usage.calls,
                "retries": self._usage.retries,
                "prompt_tokens": self._usage.prompt_tokens,
                "completion_tokens": self._usage.completion_tokens,
                "tokens": self._usage.tokens,
                "cached_tokens": self._usage.cached_tokens,
            }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 1.0
