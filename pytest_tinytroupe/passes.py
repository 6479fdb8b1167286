"""The passes of a test: which it takes, and what measures in each.

``main``
    The exact metrics, and the memory of the process, which disturbs none of them.
``sequential``
    The same body with every world stepping one person after the other; only with ``min_speedup``.
``leak``
    The same body under tracemalloc several times, looked at when each is torn down; only with ``max_leaked_mb``.
``warm``
    Nothing, where the pass before imported something: before heap is looked at, because then it was no warm-up.
``heap``
    The Python heap, under tracemalloc, which slows the code down; once more where the figure would be news.
``verdict``
    Nothing, where the pass before was to be the last, and a comparison has to be confirmed before it is judged.
``timed``
    Real time and CPU time, calibrated; in fresh processes only, as often as it takes.
``flame``
    Under memray, in a fresh process, where a limit or baseline of memory is broken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pytest_tinytroupe.marker import PerfMarker

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_tinytroupe.instruments import Instrument
    from pytest_tinytroupe.probe import Probe
    from pytest_tinytroupe.timing import Run

PassName = Literal["main", "sequential", "warm", "leak", "heap", "verdict", "timed", "flame"]


_HEAP = ("heap_mb", "memory_growth_mb_per_step", "leaked_mb")


def plan(marker: PerfMarker) -> tuple[PassName, ...]:
    """Return the passes that a marker asks for, in order; the verdict is raised in the last."""
    passes: list[PassName] = ["main"]
    if marker.wants("speedup"):
        passes.append("sequential")
    if marker.wants("leaked_mb"):
        from pytest_tinytroupe.instruments.leaks import REPETITIONS

        passes += ["leak"] * REPETITIONS
    # With times, too: they are taken before the last pass, and the main one has to have passed by then.
    if marker.baseline or marker.timed or any(marker.wants(name) for name in _HEAP):
        passes.append("heap")
    return tuple(passes)


def instruments_of(name: PassName, marker: PerfMarker, probe: Probe, rounds: list[Run], root: Path) -> list[Instrument]:
    """Return what measures in a pass; rounds of a time are added to `rounds`, paths are relative to `root`."""
    # Imported here: without --perf nobody needs them. All of them before the first pass, which warms up for the others.
    from pytest_tinytroupe.instruments.exact import Exact
    from pytest_tinytroupe.instruments.heap import Heap
    from pytest_tinytroupe.instruments.process import Process
    from pytest_tinytroupe.instruments.recorded import Recorded
    from pytest_tinytroupe.instruments.timed import Timed
    from pytest_tinytroupe.instruments.traffic import METRICS, Traffic
    from pytest_tinytroupe.instruments.turns import Turns

    if name == "heap":
        return [Heap(probe, root, growth=marker.wants("memory_growth_mb_per_step"))]
    if name in ("warm", "leak", "verdict"):
        return []  # of leaks what counts is what is left when all is torn down
    if name == "sequential":
        return [Exact(probe)]
    if name == "timed":
        return [Timed(rounds)]
    # Whoever is isolated runs this in a process of its own.
    instruments: list[Instrument] = [
        # First, so that what it imports is no part of what the others measure.
        Traffic(probe, none=any(marker.thresholds.get(f"max_{name}") == 0 for name in METRICS)),
        Process(probe, steady=marker.isolate),
        Exact(probe),
        Recorded(probe),
        Turns(probe),
    ]
    if marker.wants("cost_usd"):
        from pytest_tinytroupe.instruments.cost import Cost

        instruments.append(Cost(probe))
    if probe.monitors:
        from pytest_tinytroupe.instruments.memories import Memories

        instruments.append(Memories(probe))
    return instruments
