"""Named workloads, with the figures that the performance guide expects of them."""

from __future__ import annotations

from collections.abc import Mapping
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
    sequential_s, parallel_s
        The guide's seconds for it.
    """

    name: str
    agents: int
    steps: int
    floor_speedup: float
    sequential_s: float = 0.0
    parallel_s: float = 0.0

    @property
    def latency_s(self) -> float:
        """Seconds a call that the guide's sequential time implies."""
        return self.sequential_s / (self.agents * self.steps)


LIGHT = Scenario("light", 5, 10, 3.3, 0.5, 0.15)
MEDIUM = Scenario("medium", 10, 50, 4.2, 5.0, 1.2)
HEAVY = Scenario("heavy", 20, 100, 4.4, 20.0, 4.5)

SCENARIOS = (LIGHT, MEDIUM, HEAVY)

EXPECTED_BY_AGENTS: Mapping[int, Scenario] = {
    1: Scenario("one", 1, 1, 1.0, 0.10, 0.10),
    5: Scenario("five", 5, 1, 3.3, 0.50, 0.15),
    10: Scenario("ten", 10, 1, 4.2, 1.00, 0.25),
    20: Scenario("twenty", 20, 1, 4.4, 2.00, 0.50),
}
"""The guide's "Sequential vs Parallel Speedup", by number of people.

Where its two tables differ (10 and 20 people: 4.0 here, 4.2 and 4.4 there), the higher figure is the floor.
"""


@dataclass(frozen=True, slots=True)
class MemoryScenario:
    """A workload of the guide's "Memory Baselines", in MB."""

    name: str
    agents: int
    steps: int
    end_mb: float
    growth_mb: float


MEMORY = (
    MemoryScenario("light", 5, 100, 280, 30),
    MemoryScenario("medium", 10, 500, 350, 100),
    MemoryScenario("heavy", 20, 1000, 450, 200),
)


@dataclass(frozen=True, slots=True)
class Workers:
    """A row of the guide's "Thread Pool Efficiency" (10 people); None workers: as many as there are people."""

    workers: int | None
    time_s: float
    speedup: float
    efficiency: float


WORKERS = (
    Workers(1, 2.00, 1.0, 0.10),
    Workers(2, 1.05, 1.9, 0.19),
    Workers(4, 0.55, 3.6, 0.36),
    Workers(8, 0.30, 6.7, 0.67),
    Workers(None, 0.25, 8.0, 0.80),
)
