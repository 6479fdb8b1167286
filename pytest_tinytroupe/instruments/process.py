"""The memory of the whole process: its high-water mark, and a curve for the report. Disturbs no exact metric."""

from __future__ import annotations

from pytest_tinytroupe.instruments import Reading
from pytest_tinytroupe.probe import Probe
from pytest_tinytroupe.records import Metric, Timeline
from tinytroupe.monitoring.process_memory import MB, HighWaterMark, TimelineSampler, release_free_memory

POINTS = 600
"""A chart is some 600 pixels wide; the sampler keeps the extremes when it thins."""


class Process:
    """Measures resident memory during the call.

    Parameters
    ----------
    probe
        Whose steps are marked on the curve.
    steady
        Whether nothing else has run in this process, so that the peak can be held against a baseline.
    """

    def __init__(self, probe: Probe, *, steady: bool = False) -> None:
        self._probe = probe
        self._steps = 0
        self._steady = steady
        self._mark = HighWaterMark()
        self._sampler = TimelineSampler(limit=POINTS)

    def start(self) -> None:
        """Begin to sample, and reset the high-water mark."""
        self._probe.watch_steps(self._stepped)
        self._sampler.start()
        if self._steady:
            # Memory that is free already would be used again, and the increase be that much too low.
            release_free_memory()
            with HighWaterMark():  # what it needs itself is needed now
                pass
        self._mark.__enter__()

    def stop(self) -> None:
        """End both."""
        self._mark.__exit__(None, None, None)
        self._sampler.stop()

    def read(self) -> Reading:
        """Return the peak, how far it lies above the start, and the curve."""
        points = tuple((round(t, 4), round(value, 3)) for t, value in self._sampler.values)
        marks = tuple((round(t, 4), label) for t, label in self._sampler.marks if t <= points[-1][0])
        increase_mb = (self._mark.peak_bytes - self._mark.start_bytes) / MB
        metrics = [
            Metric(name, round(value_mb, 3), "MB", tier="process", steady=self._steady)
            for name, value_mb in (("peak_memory_mb", self._mark.peak_mb), ("memory_increase_mb", increase_mb))
        ]
        curve = Timeline("process memory", "MB", points, marks)
        return Reading(metrics, [curve], [f"peak_memory_mb: {self._mark.method}"])

    def _stepped(self) -> None:
        self._steps += 1
        self._sampler.mark(f"step {self._steps}")
