"""What the simulated people remembered over time, as the test's `memory_monitor` saw it: curves for the report."""

from __future__ import annotations

from pytest_tinytroupe.instruments import Reading
from pytest_tinytroupe.probe import Probe
from tinytroupe.visualization.agent_memory import agent_memory

PEOPLE = 100
"""People kept of one test: those who remember most."""

POINTS, FEWEST_POINTS, MOST_POINTS = 4000, 32, 240
"""Points kept of all people together, and the fewest and most of each."""


class Memories:
    """Reads the histories that monitors keep anyway."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    def start(self) -> None:
        """Nothing: monitors watch by themselves."""

    def stop(self) -> None:
        """Nothing to release."""

    def read(self) -> Reading:
        """Return the curves of the people with the most memories."""
        everyone = [
            (monitor.get_agent_stats(name)["peak_size"], name, monitor)
            for monitor in self._probe.monitors
            for name in monitor.agent_names
        ]
        kept = sorted(everyone, key=lambda each: (-each[0], each[1]))[:PEOPLE]
        points = min(MOST_POINTS, max(FEWEST_POINTS, POINTS // max(len(kept), 1)))
        # Over snapshots, one a step: virtual time stands still where the model answers at once.
        agents = [agent_memory(monitor, name, points=points, by_snapshot=True) for _, name, monitor in kept]
        notes = [f"memory: the {PEOPLE} of {len(everyone)} people with the most"] if len(everyone) > PEOPLE else []
        return Reading(notes=notes, agents=agents)
