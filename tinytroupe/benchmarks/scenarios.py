"""Named workloads, with the figures that the performance guide expects of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scenario:
    """A workload.

    Attributes
    ----------
    name, agents, steps
        What to run.
    floor_speedup
        What the guide's table "Expected Performance" promises; to be beaten.
    """

    name: str
    agents: int
    steps: int
    floor_speedup: float


LIGHT = Scenario("light", 5, 10, 3.3)
MEDIUM = Scenario("medium", 10, 50, 4.2)
HEAVY = Scenario("heavy", 20, 100, 4.4)

SCENARIOS = (LIGHT, MEDIUM, HEAVY)
