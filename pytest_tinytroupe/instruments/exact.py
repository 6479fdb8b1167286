"""What is identical from run to run: virtual time, calls, tokens, errors, memories."""

from __future__ import annotations

import time
from typing import Any

from pytest_tinytroupe.instruments import Reading
from pytest_tinytroupe.metrics import metric
from pytest_tinytroupe.probe import Probe
from pytest_tinytroupe.records import Metric
from pytest_tinytroupe.statistics import percentile

DIGITS = 9
"""Virtual times are sums of floats; a nanosecond is far below anything simulated, and keeps JSON stable."""

MIXED = "time_s: part of the test ran on real time, part on virtual time: neither says how long it takes"

FROZEN = "time_s: time.perf_counter stood still during the call; freeze time inside the test, not around it"


class Exact:
    """Reads the counters of everything that a test's fixtures attached to its probe."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._wall_s = 0.0

    def start(self) -> None:
        """Count from now on."""
        self._probe.restart()
        self._wall_s = time.perf_counter()

    def stop(self) -> None:
        """Take the real time the call took."""
        self._wall_s = time.perf_counter() - self._wall_s

    def read(self) -> Reading:
        """Return the metrics of all sources that were attached."""
        metrics = [*self._time(), *self._models(), *self._worlds(), *self._turns()]
        if self._probe.clocks.sources:
            return Reading(metrics, notes=[MIXED] if self._probe.runs_on_real_time else [])
        return Reading(metrics, notes=[] if self._wall_s > 0 else [FROZEN])

    def _time(self) -> list[Metric]:
        if not self._probe.clocks.sources:
            if not self._wall_s > 0:
                return []
            return [Metric("time_s", round(self._wall_s, DIGITS), "s", tier="wall")]
        if self._probe.runs_on_real_time:
            return []
        elapsed_s = round(self._probe.clocks.counts()["now"], DIGITS)
        # A clock that stood still measured nothing; 0 s would satisfy any limit.
        return [metric("time_s", elapsed_s)] if elapsed_s > 0 else []

    def _models(self) -> list[Metric]:
        if not self._probe.models.sources:
            return []
        counts = {name: int(value) for name, value in self._probe.models.counts().items()}
        if self._probe.worlds.sources and self._probe.worlds.counts()["model_calls"] > counts["calls"]:
            return []  # people asked a model that nobody watches: what was counted is not all
        return [
            metric("llm_calls", counts["calls"]),
            metric("tokens", counts["prompt_tokens"] + counts["completion_tokens"]),
            *(metric(name, counts[name]) for name in ("prompt_tokens", "completion_tokens", "cached_tokens")),
        ]

    def _worlds(self) -> list[Metric]:
        worlds = self._probe.worlds.sources
        if not worlds:
            return []
        counts = self._probe.worlds.counts()
        people: list[Any] = [agent for world in worlds for agent in world.agents]
        entries = sum(agent.episodic_memory.get_memory_stats()["total_size"] for agent in people)
        metrics = [
            metric("errors", int(counts["errors"])),
            metric("timeouts", int(counts["timeouts"])),
            metric("memory_entries", int(entries)),
        ]
        # Only virtual time makes the ratio of two durations exact.
        if self._probe.clocks.sources and counts["elapsed_s"] > 0:
            metrics.append(metric("efficiency", round(counts["lower_bound_s"] / counts["elapsed_s"], DIGITS)))
        return metrics

    def _turns(self) -> list[Metric]:
        if not self._probe.clocks.sources:
            return []
        took_s = [turn.finished_s - turn.started_s for turn in self._probe.turns()]
        if not any(took_s):
            return []
        return [metric("p95_turn_latency_s", round(percentile(took_s, 0.95), DIGITS))]


def speedup(sequential: list[Metric], parallel: list[Metric]) -> list[Metric]:
    """Return the ratio of the virtual times of a sequential and a parallel pass; nothing where there is none."""
    before, after = (_virtual_time(metrics) for metrics in (sequential, parallel))
    if before is None or after is None:
        return []
    return [metric("speedup", round(before / after, DIGITS))]


def _virtual_time(metrics: list[Metric]) -> float | None:
    return next((metric.value for metric in metrics if metric.name == "time_s" and metric.tier == "exact"), None)
