"""What runs cost in time, calls and tokens, and how near that came to the least possible."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from tinytroupe.engine.histogram import Histogram
from tinytroupe.engine.turn import TurnOutcome
from tinytroupe.llm.usage import Usage

_PERCENTILES = (50, 95, 99)


class EngineMetrics:
    """Adds up what the runs of a world cost. Thread-safe; its size grows neither with the steps nor with the people.

    Parameters
    ----------
    timeline_length
        Last turns kept in `timeline`.
    """

    def __init__(self, timeline_length: int = 1000) -> None:
        self._lock = threading.Lock()
        self._timeline: deque[TurnOutcome] = deque(maxlen=timeline_length)
        self.reset()

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Start again from nothing."""
        with self._lock:
            self._steps = {True: 0, False: 0}
            self._errors = self._timeouts = 0
            self._elapsed_s = self._busy_s = self._queued_s = self._backoff_s = self._present_s = 0.0
            self._parallel_elapsed_s = self._parallel_busy_s = 0.0
            self._bounds_before_s = self._bound_s = 0.0
            self._shard_steps = self._shard_restarts = self._exchanged_bytes = 0
            self._exchange_s = 0.0
            self._usage = Usage()
            self._turns_s, self._calls_s = Histogram(), Histogram()
            self._timeline.clear()

    def begin_run(self) -> None:
        """Say that what follows is another run: lower bounds of runs, which come one after the other, add up."""
        with self._lock:
            self._bounds_before_s += self._bound_s
            self._bound_s = 0.0

    def add(
        self,
        outcomes: Sequence[TurnOutcome],
        *,
        parallel: bool,
        elapsed_s: float,
        lower_bound_s: float,
        calls_s: Iterable[float] = (),
        complete: bool = True,
        timeline: bool = True,
    ) -> None:
        """Take in a step.

        Parameters
        ----------
        outcomes
            Its turns.
        parallel
            Whether people acted at once.
        elapsed_s
            Seconds since the step before was complete; out of order, steps overlap, and this adds up to the run.
        lower_bound_s
            Least seconds that the run could have taken up to here; see `tinytroupe.engine.bound`.
        calls_s
            Seconds that each of its model calls took.
        complete
            False where the run ended within the step: it is not counted as one.
        timeline
            Whether to keep its turns in `timeline`.
        """
        with self._lock:
            self._steps[parallel] += complete
            self._elapsed_s += elapsed_s
            self._present_s += elapsed_s * len(outcomes)
            self._bound_s = lower_bound_s
            busy_s = 0.0
            for outcome in outcomes:
                self._errors += outcome.status == "failed"
                self._timeouts += outcome.status == "timed out"
                self._queued_s += outcome.queued_s
                self._backoff_s += outcome.backoff_s
                self._usage += outcome.usage
                self._turns_s.add(outcome.elapsed_s)
                busy_s += outcome.busy_s
            self._busy_s += busy_s
            for call_s in calls_s:
                self._calls_s.add(call_s)
            if parallel:
                self._parallel_elapsed_s += elapsed_s
                self._parallel_busy_s += busy_s
            if timeline:
                self._timeline.extend(outcomes)

    def exchanged(self, exchange_s: float, exchanged_bytes: int = 0, restarts: int = 0) -> None:
        """Take in what it cost beside its turns that a shard lived through a step elsewhere.

        Parameters
        ----------
        exchange_s
            Seconds between sending its inbox and having its outbox in which the shard itself was not at work.
        exchanged_bytes
            Size of both.
        restarts
            How often it was lost meanwhile, and began anew.
        """
        with self._lock:
            self._shard_steps += 1
            self._exchange_s += exchange_s
            self._exchanged_bytes += exchanged_bytes
            self._shard_restarts += restarts

    def timeline(self) -> tuple[TurnOutcome, ...]:
        """Return the last turns, by step and in agent order."""
        with self._lock:
            return tuple(self._timeline)

    def replace_timeline(self, outcomes: Iterable[TurnOutcome]) -> None:
        """Put others in place of the last turns."""
        with self._lock:
            self._timeline = deque(outcomes, maxlen=self._timeline.maxlen)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures, always numbers; times in seconds, on the clock of the runs.

        ``busy_s``, ``queued_s``, ``backoff_s``
            What the turns took, failed ones included: a model answering or the person computing; waiting for a place
            among the workers, a slot or a rate limit; waiting for the next attempt of a call. A turn with several calls
            under way is busy while one of them is answered.
        ``avg_parallel_speedup``
            Busy time over elapsed time of the parallel steps: how many people acted at once on average (1.0 where no
            time passed).
        ``efficiency``
            Lower bound over elapsed time of all steps. Sequential ones, where people do not wait for each other's
            words alone but for each other's turns, come to about 1 / people.
        ``stall_share``
            Share of the people's time in which they neither acted nor queued nor waited for another attempt, but for
            others: ``1 - (busy + queued + backoff) / Σ people · elapsed``.
        ``shard_steps``, ``exchange_s``, ``exchanged_bytes``, ``shard_restarts``
            Of runs in shards: steps that shards went through (shards times steps), what it took to send them there and
            back, and how often a lost shard was brought back. Shards exchange at the same time: divided by their
            number, seconds are those of a run.
        ``p50_…``, ``p95_…``, ``p99_turn_latency_s``, ``…_call_latency_s``
            Nearest rank, within 1 %; turns include the waiting for slots, calls do not.
        """
        with self._lock:
            lower_bound_s = self._bounds_before_s + self._bound_s
            stalled_s = self._present_s - self._busy_s - self._queued_s - self._backoff_s
            return {
                "total_parallel_steps": self._steps[True],
                "total_sequential_steps": self._steps[False],
                "avg_parallel_speedup": _ratio(self._parallel_busy_s, self._parallel_elapsed_s),
                "parallel_errors": self._errors,
                "parallel_timeouts": self._timeouts,
                "elapsed_s": self._elapsed_s,
                "busy_s": self._busy_s,
                "queued_s": self._queued_s,
                "backoff_s": self._backoff_s,
                "lower_bound_s": lower_bound_s,
                "efficiency": _ratio(lower_bound_s, self._elapsed_s),
                "stall_share": max(0.0, stalled_s / self._present_s) if self._present_s > 0 else 0.0,
                "shard_steps": self._shard_steps,
                "exchange_s": self._exchange_s,
                "exchanged_bytes": self._exchanged_bytes,
                "shard_restarts": self._shard_restarts,
                "model_calls": self._usage.calls,
                "retries": self._usage.retries,
                "prompt_tokens": self._usage.prompt_tokens,
                "completion_tokens": self._usage.completion_tokens,
                "tokens": self._usage.tokens,
                "cached_tokens": self._usage.cached_tokens,
                **{f"p{p}_call_latency_s": self._calls_s.percentile(p / 100) for p in _PERCENTILES},
                **{f"p{p}_turn_latency_s": self._turns_s.percentile(p / 100) for p in _PERCENTILES},
            }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 1.0
