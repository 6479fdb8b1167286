"""The Python heap, by tracemalloc: repeatable to a fraction of a percent, and slow, therefore in a pass of its own."""

from __future__ import annotations

import gc
import tracemalloc

from pytest_tinytroupe.metrics import metric
from pytest_tinytroupe.probe import Probe
from pytest_tinytroupe.records import Metric, Timeline

MB = 2**20


class Heap:
    """Measures the highest heap during the call above that at its start, and what a step of the worlds left behind.

    Parameters
    ----------
    probe
        Whose worlds' steps divide the growth; None measures the peak alone.
    """

    def __init__(self, probe: Probe | None = None) -> None:
        self._probe = probe
        self._after = 0
        self._started = False
        self._before = 0
        self._peak = 0

    def start(self) -> None:
        """Begin to trace, with one frame an allocation: more frames cost an order of magnitude."""
        self._started = not tracemalloc.is_tracing()
        if self._started:
            tracemalloc.start(1)
        if self._probe is not None:
            self._probe.restart()
        gc.collect()
        tracemalloc.reset_peak()
        self._before = tracemalloc.get_traced_memory()[0]

    def stop(self) -> None:
        """Take the peak and stop tracing, unless somebody else had begun it."""
        self._peak = tracemalloc.get_traced_memory()[1]
        if self._probe is not None:
            gc.collect()
            self._after = tracemalloc.get_traced_memory()[0]
        if self._started:
            tracemalloc.stop()

    def read(self) -> tuple[list[Metric], list[Timeline], list[str]]:
        """Return the peak, and the growth a step."""
        metrics = [metric("heap_mb", round(max(self._peak - self._before, 0) / MB, 6))]
        steps = self._probe.worlds.counts().get("steps", 0) if self._probe is not None else 0
        if steps:
            metrics.append(metric("memory_growth_mb_per_step", round((self._after - self._before) / MB / steps, 6)))
        return metrics, [], []
