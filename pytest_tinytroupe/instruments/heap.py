"""The Python heap, by tracemalloc: repeatable to a fraction of a percent, and slow, therefore in a pass of its own."""

from __future__ import annotations

import gc
import tracemalloc

from pytest_tinytroupe.records import Metric, Timeline

MB = 2**20


class Heap:
    """Measures the highest heap during the call above that at its start."""

    def __init__(self) -> None:
        self._started = False
        self._before = 0
        self._peak = 0

    def start(self) -> None:
        """Begin to trace, with one frame an allocation: more frames cost an order of magnitude."""
        self._started = not tracemalloc.is_tracing()
        if self._started:
            tracemalloc.start(1)
        gc.collect()
        tracemalloc.reset_peak()
        self._before = tracemalloc.get_traced_memory()[0]

    def stop(self) -> None:
        """Take the peak and stop tracing, unless somebody else had begun it."""
        self._peak = tracemalloc.get_traced_memory()[1]
        if self._started:
            tracemalloc.stop()

    def read(self) -> tuple[list[Metric], list[Timeline], list[str]]:
        """Return the peak."""
        return [Metric("heap_mb", round(max(self._peak - self._before, 0) / MB, 6), "MB", tier="heap")], [], []
