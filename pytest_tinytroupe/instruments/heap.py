"""The Python heap, by tracemalloc: repeatable to a fraction of a percent, and slow, therefore in a pass of its own."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from array import array
from pathlib import Path

from pytest_tinytroupe.instruments import Reading
from pytest_tinytroupe.instruments.sites import ENDED, MB, top_sites, tracing_ended, witness
from pytest_tinytroupe.metrics import metric
from pytest_tinytroupe.probe import Probe
from pytest_tinytroupe.records import Metric, Site, Timeline
from pytest_tinytroupe.slopes import CONFIDENCE, Slope, theil_sen
from tinytroupe.monitoring.process_memory import heap_peak

SAMPLES = 400
"""Of the heap at the ends of steps; of more steps every second, fourth, … is kept."""

FEWEST = 9
"""Fewer points never give an interval: from twice as many on, the first half is left out."""

_NAMED = 3
_SITES_FROM_MB = 0.25
_HIGHER = 1.25  # A snapshot takes long: one a quarter more, some thirty from the first to 400 MB.
_MOST_TRACES_MB = 128  # Of tracemalloc's own, some million blocks: counting them takes seconds.


class Heap:
    """Measures the highest heap during the call above that at its start, what held it, and how it grew step by step.

    Parameters
    ----------
    probe
        Whose steps are watched: those of its worlds, and those that the test marks itself.
    root
        What paths are relative to.
    growth
        Whether the growth a step is asked for. Then garbage is collected after each step, which takes time and makes
        the peak a little lower.
    """

    def __init__(self, probe: Probe, root: Path, *, growth: bool = False) -> None:
        self._probe = probe
        self._root = root
        self._growth = growth
        self._lock = threading.Lock()
        self._samples = _Samples()
        self._sites: tuple[Site, ...] = ()
        self._sites_mb = 0.0
        self._too_many = False
        self._running = self._started = self._frozen = self._ended = False
        self._witness: object = None
        self._before = self._peak = self._ticket = 0

    def start(self) -> None:
        """Begin to trace, with one frame an allocation: more frames cost an order of magnitude."""
        self._started = not tracemalloc.is_tracing()
        if self._started:
            tracemalloc.start(1)
        self._witness = witness()
        self._probe.watch_steps(self._stepped)
        gc.collect()
        if self._growth and not gc.get_freeze_count():
            gc.freeze()  # what is here already need not be looked through after each step
            self._frozen = True
        self._running = True
        self._ticket = heap_peak.begin()
        self._before = tracemalloc.get_traced_memory()[0]

    def stop(self) -> None:
        """Take the peak and stop tracing, unless somebody else had begun it."""
        with self._lock:
            self._running = False
            self._ended = tracing_ended(self._witness)
            self._peak = max(self._peak, heap_peak.end(self._ticket) - self._before)
            if not self._ended:
                self._look(tracemalloc.get_traced_memory()[0] - self._before)
        if self._frozen:
            gc.unfreeze()
        if self._started:
            tracemalloc.stop()

    def read(self) -> Reading:
        """Return the peak, its largest sites, the curve over the steps, and the growth a step."""
        if self._ended:
            return Reading(notes=[f"{name}: {ENDED}" for name in ("heap_mb", "memory_growth_mb_per_step")])
        metrics = [metric("heap_mb", round(max(self._peak, 0) / MB, 6))]
        notes = self._notes()
        points = tuple((step, round(value / MB, 6)) for step, value in self._samples.rows())
        curve = [Timeline("heap after each step", "MB", points, axis="step")] if len(points) > 1 else []
        if self._growth and len(points) > 1:
            growth, note = growth_of(points)
            metrics.append(growth)
            notes.append(note)
        return Reading(metrics, curve, notes, self._sites)

    def _notes(self) -> list[str]:
        if not self._sites:
            return []
        most = ", ".join(f"{site.place} ({site.mb:.3g} MB)" for site in self._sites[:_NAMED])
        why = ", and too many blocks later on to look again" if self._too_many else ""
        return [
            f"heap_mb: most by {most}, of {self._sites_mb:.3g} MB held at the end of a step or of the call "
            f"(the peak, {self._peak / MB:.3g} MB, lies between{why})"
        ]

    def _stepped(self) -> None:
        with self._lock:
            if not self._running:
                return
            if self._growth:
                gc.collect()
            now = tracemalloc.get_traced_memory()[0] - self._before
            self._samples.add(now)
            # The snapshot is no part of the peak.
            self._peak = max(self._peak, heap_peak.end(self._ticket) - self._before)
            self._look(now)
            self._ticket = heap_peak.begin()

    def _look(self, now: int) -> None:
        """Find out what holds the heap where it is clearly higher than it was the last time."""
        if not self._started or now / MB < max(_SITES_FROM_MB, _HIGHER * self._sites_mb):
            return
        if tracemalloc.get_tracemalloc_memory() > _MOST_TRACES_MB * MB:
            self._too_many = True
            return
        self._sites, self._sites_mb = top_sites(self._root), now / MB
        self._forget_looking()

    def _forget_looking(self) -> None:
        """Have Python give back the tuples that it keeps for reuse, thousands of them: they would count as the test's.

        It does so at a full collection only, from which the test's own garbage is kept away: when that goes is part of
        what the test does.
        """
        if self._growth:
            gc.collect()
        elif not gc.get_freeze_count():
            gc.freeze()
            gc.collect()
            gc.unfreeze()


class _Samples:
    """A value after each step, in a place that never grows: it would be measured, too."""

    def __init__(self) -> None:
        self._values = array("d", bytes(8 * SAMPLES))
        self._kept = 1  # nothing, when the call began
        self._steps = 0
        self._stride = 1

    def add(self, value: float) -> None:
        self._steps += 1
        if self._kept == SAMPLES:
            self._kept = SAMPLES // 2
            self._values[: self._kept] = self._values[::2]
            self._stride *= 2
        if self._steps % self._stride == 0:
            self._values[self._kept] = value
            self._kept += 1

    def rows(self) -> list[tuple[float, float]]:
        """Return pairs of a step, from 1, and its value, led by step 0."""
        return [(float(place * self._stride), value) for place, value in enumerate(self._values[: self._kept])]


def growth_of(points: tuple[tuple[float, float], ...]) -> tuple[Metric, str]:
    """Return the growth in MB a step as a metric, and a remark on how sure it is.

    Of 18 steps and more the first half is left out: caches and bounded memories fill. What the confidence interval
    does not tell from 0 is 0.

    Parameters
    ----------
    points
        Step and MB, at least two.
    """
    told = points[len(points) // 2 :] if len(points) // 2 >= FEWEST else points
    slope = theil_sen([step for step, _ in told], [mb for _, mb in told])
    value = slope.value if slope.certain or not slope.bounded else 0.0
    name = "memory_growth_mb_per_step"
    return metric(name, round(value, 6)), f"{name}: {_told(slope, told)}"


def _told(slope: Slope, told: tuple[tuple[float, float], ...]) -> str:
    where = f"steps {told[0][0]:.0f} to {told[-1][0]:.0f}"
    if not slope.bounded:
        return f"{slope.value:.4g} MB, the median slope over {where}; too few points for an interval"
    bounds = f"{slope.lower:.4g} to {slope.upper:.4g} MB"
    if not slope.certain:
        return f"none: the {CONFIDENCE:.1%} interval over {where}, {bounds}, includes 0"
    return f"{slope.value:.4g} MB, {CONFIDENCE:.1%} interval {bounds}, over {where}"
