"""The dependency scheduler beside the oracle and beside a barrier after every step, on virtual time.

    python tests/performance/scheduler_benchmark.py [--people 100] [--steps 50] [--slots 100] [--slots 20]

The *oracle* is told how long every model call is going to take. It schedules the same turns under the same
dependencies (nobody acts before all who can address them have decided the step before) on the same slots, always
taking the turn with the longest chain behind it. Without a bound on slots that is the least possible; with one, it is
the usual yardstick for it (list scheduling by critical path). Everyone says something to everyone they are related to
in every turn, so the dependencies are also the interactions that happened.

Exits with 1 where a goal is missed: at least 0.90 of the oracle, and twice as fast as the barrier where the oracle is.
"""

from __future__ import annotations

import argparse
import heapq
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tinytroupe.agent import TinyPerson
from tinytroupe.config import config_manager
from tinytroupe.environment import TinySocialNetwork
from tinytroupe.runtime.clock import VirtualClock, use_clock
from tinytroupe.testing import DirectModel, LogNormal, MockLLM

Edges = list[tuple[int, int]]

SAID = {
    "actions": [{"type": "TALK", "content": "Hello.", "target": ""}, {"type": "DONE", "content": "", "target": ""}],
    "cognitive_state": {},
}


def ring(people: int) -> Edges:
    """Everyone knows two others."""
    return [(one, (one + 1) % people) for one in range(people)]


def communities(people: int, size: int = 5) -> Edges:
    """Groups in which everyone knows everyone, and nobody else."""
    groups = [range(first, min(first + size, people)) for first in range(0, people, size)]
    return [(one, other) for group in groups for one in group for other in group if one < other]


def linked(people: int, size: int = 5) -> Edges:
    """The same, and the last of each group knows the first of the next."""
    return communities(people, size) + [(first - 1, first) for first in range(size, people, size)]


GRAPHS = {"ring": ring, "communities of 5": communities, "linked communities": linked}


@dataclass(frozen=True)
class Row:
    """What a workload took, in seconds of virtual time."""

    graph: str
    sigma: float
    slots: int
    oracle_s: float
    ours_s: float
    barrier_s: float
    efficiency: float

    @property
    def of_oracle(self) -> float:
        return self.oracle_s / self.ours_s

    @property
    def missed(self) -> bool:
        allowed = self.barrier_s / self.oracle_s >= 2
        return self.of_oracle < 0.90 or (allowed and self.barrier_s / self.ours_s < 2)


def oracle_s(durations_s: Sequence[Sequence[float]], addresses: Sequence[Collection[int]], slots: int) -> float:
    """Return the makespan of turns with known durations.

    Parameters
    ----------
    durations_s
        By person and step.
    addresses
        For each person, those whom the person can address.
    slots
        Turns at once, at most.
    """
    people, steps = len(durations_s), len(durations_s[0])
    follow = [sorted({one, *addresses[one]}) for one in range(people)]
    needed = [0] * people
    for others in follow:
        for other in others:
            needed[other] += 1
    behind = [[0.0] * (steps + 1) for _ in range(people)]
    for step in reversed(range(steps)):
        for one in range(people):
            behind[one][step] = durations_s[one][step] + max(behind[other][step + 1] for other in follow[one])
    missing = {(one, step): needed[one] for one in range(people) for step in range(1, steps)}
    ready = [(-behind[one][0], one, 0) for one in range(people)]
    heapq.heapify(ready)
    running: list[tuple[float, int, int]] = []
    now_s = 0.0
    while ready or running:
        while ready and len(running) < slots:
            _, one, step = heapq.heappop(ready)
            heapq.heappush(running, (now_s + durations_s[one][step], one, step))
        now_s, one, step = heapq.heappop(running)
        for other in follow[one] if step + 1 < steps else ():
            missing[other, step + 1] -= 1
            if not missing[other, step + 1]:
                heapq.heappush(ready, (-behind[other][step + 1], other, step + 1))
    return now_s


def lived(edges: Edges, people: int, steps: int, sigma: float, slots: int, scheduler: str) -> TinySocialNetwork:
    """Return a world after a run."""
    with (
        VirtualClock() as clock,
        use_clock(clock),
        MockLLM(latency=LogNormal(1.0, sigma)) as llm,
        config_manager.override(timeline_length=people * steps, max_workers=slots, max_episodic_memory_size=50),
        config_manager.override(auto_consolidate_on_threshold=False, loglevel="ERROR", max_steps_ahead=steps),
    ):
        llm.when().reply(SAID)
        world = TinySocialNetwork("Net", [TinyPerson(f"P{number}") for number in range(people)], model=DirectModel(llm))
        for one, other in edges:
            world.add_relation(world.agents[one], world.agents[other])
        world.run(steps, scheduler=scheduler)
        return world


def measured(graph: str, people: int, steps: int, sigma: float, slots: int) -> Row:
    """Return what a workload takes."""
    edges = GRAPHS[graph](people)
    ours = lived(edges, people, steps, sigma, slots, "dependency")
    barrier = lived(edges, people, steps, sigma, slots, "parallel")
    durations_s = [[0.0] * steps for _ in range(people)]
    for outcome in ours.timeline():
        durations_s[outcome.index][outcome.step] = outcome.busy_s
    addresses: list[set[int]] = [set() for _ in range(people)]
    for one, other in edges:
        addresses[one].add(other)
        addresses[other].add(one)
    figures = ours.get_parallel_metrics()
    return Row(
        graph,
        sigma,
        slots,
        oracle_s(durations_s, addresses, slots),
        figures["elapsed_s"],
        barrier.get_parallel_metrics()["elapsed_s"],
        figures["efficiency"],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--slots", type=int, action="append", help="turns at once; may be given several times")
    options = parser.parse_args()
    print(f"{options.people} people, {options.steps} steps, lognormal latency (median 1 s), virtual seconds\n")
    print(f"{'graph':20}{'σ':>5}{'slots':>7}{'oracle':>10}{'ours':>10}{'barrier':>10}", end="")
    print(f"{'of oracle':>11}{'× barrier':>11}{'allowed':>9}{'efficiency':>12}")
    missed = False
    for slots in options.slots or [options.people]:
        for graph in GRAPHS:
            for sigma in (0.8, 1.2):
                row = measured(graph, options.people, options.steps, sigma, slots)
                missed |= row.missed
                print(
                    f"{row.graph:20}{row.sigma:5}{row.slots:7}{row.oracle_s:10.1f}{row.ours_s:10.1f}"
                    f"{row.barrier_s:10.1f}{row.of_oracle:11.3f}{row.barrier_s / row.ours_s:11.2f}"
                    f"{row.barrier_s / row.oracle_s:9.2f}{row.efficiency:12.3f}{'  MISSED' if row.missed else ''}",
                    flush=True,
                )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
