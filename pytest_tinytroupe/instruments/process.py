"""The memory of the whole process: its high-water mark, and a curve for the report. Disturbs no exact metric."""

from __future__ import annotations

from pytest_tinytroupe.records import Metric, Timeline
from tinytroupe.monitoring.process_memory import HighWaterMark, TimelineSampler

POINTS = 600
"""A chart is some 600 pixels wide; the sampler keeps the extremes when it thins."""


class Process:
    """Measures resident memory during the call.

    Parameters
    ----------
    steady
        Whether nothing else has run in this process, so that the peak can be held against a baseline.
    """

    def __init__(self, *, steady: bool = False) -> None:
        self._steady = steady
        self._mark = HighWaterMark()
        self._sampler = TimelineSampler(limit=POINTS)

    def start(self) -> None:
        """Reset the high-water mark and begin to sample."""
        self._mark.__enter__()
        self._sampler.start()

    def stop(self) -> None:
        """End both."""
        self._sampler.stop()
        self._mark.__exit__(None, None, None)

    def read(self) -> tuple[list[Metric], list[Timeline], list[str]]:
        """Return the peak and the curve."""
        points = tuple((round(t, 4), round(value, 3)) for t, value in self._sampler.values)
        marks = tuple((round(t, 4), label) for t, label in self._sampler.marks)
        peak = Metric("peak_memory_mb", round(self._mark.peak_mb, 3), "MB", tier="process", steady=self._steady)
        return [peak], [Timeline("process memory", "MB", points, marks)], [f"peak_memory_mb: {self._mark.method}"]
