"""What the simulated people remembered over time, as the test's `memory_monitor` saw it: curves for the report."""

from __future__ import annotations

from pytest_tinytroupe.instruments.process import POINTS
from pytest_tinytroupe.probe import Probe
from pytest_tinytroupe.records import Metric, Timeline
from tinytroupe.monitoring.series import thin_indices

PEOPLE = 20
"""Curves kept of one test: those of the people who remember most."""


class Memories:
    """Reads the histories that monitors keep anyway."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    def start(self) -> None:
        """Nothing: monitors watch by themselves."""

    def stop(self) -> None:
        """Nothing to release."""

    def read(self) -> tuple[list[Metric], list[Timeline], list[str]]:
        """Return the curves of the people with the most memories."""
        curves = [
            _curve(name, monitor.get_history(name)) for monitor in self._probe.monitors for name in monitor.agent_names
        ]
        curves.sort(key=lambda curve: -max((value for _, value in curve.points), default=0.0))
        shown = [curve for curve in curves if curve.points][:PEOPLE]
        notes = [f"memory entries: the {PEOPLE} highest of {len(curves)} people"] if len(curves) > PEOPLE else []
        return [], shown, notes


def _curve(name: str, history: dict[str, list[float]]) -> Timeline:
    # Over snapshots, one a step: virtual time stands still where the model answers at once.
    snapshots, sizes = history["snapshot"], history["total_size"]
    points = tuple((snapshots[i], sizes[i]) for i in thin_indices(snapshots, sizes, POINTS))
    return Timeline(f"memory entries: {name}", "entries", points, axis="snapshot")
