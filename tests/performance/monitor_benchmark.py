"""What a `MemoryMonitor` costs: a million snapshots of a hundred agents, each figure beside its goal.

    python tests/performance/monitor_benchmark.py
    python tests/performance/monitor_benchmark.py --snapshots 100000

Then the page about a hundred agents with a hundred thousand samples: its size, and the time to write it.

Time is CPU time of the snapshots alone. Sizes swing at random, so that alarms come and go; extremes and alarms are
compared with what a plain loop over all sizes finds. Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinytroupe import TinyPerson
from tinytroupe.agent.memory import Memory
from tinytroupe.monitoring import MemoryMonitor
from tinytroupe.monitoring.deep_size import deep_size_bytes
from tinytroupe.visualization import MemoryVisualizer

MB = 2**20
BOUND = 1000


class Agent:
    """Says of its memory what it is told to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.episodic_memory = self
        self.size = self.evicted = self.consolidations = 0

    def get_memory_stats(self) -> dict[str, Any]:
        """As of `EpisodicMemory`."""
        return {
            "current_size": self.size,
            "buffer_size": 0,
            "total_size": self.size,
            "max_size": BOUND,
            "usage_ratio": self.size / BOUND,
            "is_bounded": True,
            "evicted": self.evicted,
        }

    def get_consolidation_metrics(self) -> dict[str, Any]:
        """As of `TinyPerson`."""
        return {"total": self.consolidations, "memories_consolidated": 50 * self.consolidations}


@dataclass
class Expected:
    """What a plain loop over the sizes of one agent finds."""

    lowest: int = BOUND
    highest: int = 0
    alarms: dict[str, int] = field(default_factory=lambda: {"warning": 0, "critical": 0})
    on: set[str] = field(default_factory=set)

    def see(self, size: int) -> None:
        """Warning from 80 % on, critical from 95 % on, each off again 5 % below; of two at once the graver."""
        self.lowest, self.highest = min(self.lowest, size), max(self.highest, size)
        raised = []
        for severity, limit in (("critical", 0.95), ("warning", 0.8)):
            if severity in self.on:
                if size / BOUND < limit - 0.05:
                    self.on.discard(severity)
            elif size / BOUND >= limit:
                if severity == "critical" or "critical" not in self.on:
                    raised.append(severity)
                self.on.add(severity)
        for severity in raised:
            self.alarms[severity] += 1


def swinging(snapshots: int, agents: int) -> tuple[float, float, bool, int]:
    """Microseconds a snapshot, MB that the monitor holds, whether extremes and alarms are exact, and alarms."""
    rng = random.Random(0)
    monitor = MemoryMonitor(growth_rate_threshold=float("inf"), forecast_snapshots=0)
    crowd = [Agent(f"agent {number}") for number in range(agents)]
    expected = [Expected() for _ in crowd]
    took_s = 0.0
    for _ in range(snapshots // agents):
        for agent, found in zip(crowd, expected, strict=True):
            if rng.random() < 0.01:
                agent.consolidations += 1
                agent.size //= 2
            agent.size += rng.randint(-60, 66)
            agent.evicted += max(0, agent.size - BOUND)
            agent.size = min(max(agent.size, 0), BOUND)
            found.see(agent.size)
        began_s = time.process_time()
        for agent in crowd:
            monitor.record_snapshot(agent)
        took_s += time.process_time() - began_s
    exact = True
    for agent, found in zip(crowd, expected, strict=True):
        stats = monitor.get_agent_stats(agent.name)
        sizes = monitor.get_history(agent.name)["total_size"]
        exact &= (stats["lowest_size"], stats["peak_size"]) == (min(sizes), max(sizes)) == (found.lowest, found.highest)
        exact &= stats["alerts_by_severity"] == {"info": 0, **found.alarms}
        exact &= stats["evicted"] == sum(monitor.get_evictions(agent.name)["memories_evicted"]) == agent.evicted
        exact &= sum(monitor.get_consolidations(agent.name)["count"]) == agent.consolidations
    alarms = sum(sum(found.alarms.values()) for found in expected)
    return took_s * 1e6 / snapshots, deep_size_bytes(monitor) / MB, exact, alarms


def living(snapshots: int, agents: int) -> float:
    """Microseconds a snapshot of real people, who remember something between any two."""
    monitor = MemoryMonitor()
    crowd = [TinyPerson(f"P{number}") for number in range(agents)]
    for person in crowd:
        person.episodic_memory.max_size = 2 * snapshots // agents
    event = Memory("stimulus", "user", "It rains.")
    took_s = 0.0
    for _ in range(snapshots // agents):
        for person in crowd:
            person.episodic_memory.store(event)
        began_s = time.process_time()
        for person in crowd:
            monitor.record_snapshot(person)
        took_s += time.process_time() - began_s
    return took_s * 1e6 / snapshots


def page(samples: int, agents: int) -> tuple[float, float]:
    """KB of the page about everybody, and seconds to write it, with its stylesheet, to a file."""
    rng = random.Random(0)
    monitor = MemoryMonitor()
    crowd = [Agent(f"agent {number}") for number in range(agents)]
    for _ in range(samples // agents):
        for agent in crowd:
            agent.size = min(max(agent.size + rng.randint(-60, 66), 0), BOUND)
            monitor.record_snapshot(agent)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "page.html"
        began_s = time.process_time()
        MemoryVisualizer(monitor).generate_html_report(output_file=file)
        return file.stat().st_size / 1000, time.process_time() - began_s


def show(what: str, figure: str, goal: str, met: bool) -> bool:
    """Print one line."""
    print(f"{'ok    ' if met else 'MISSED'} {what:48} {figure:>24}  goal {goal}", flush=True)
    return met


def main() -> int:
    """Print the figures; return 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--snapshots", type=int, default=1_000_000, metavar="N", help="default %(default)s")
    parser.add_argument("--agents", type=int, default=100, metavar="N", help="default %(default)s")
    chosen = parser.parse_args()
    each_us, held_mb, exact, alarms = swinging(chosen.snapshots, chosen.agents)
    people_us = living(chosen.snapshots // 10, chosen.agents)
    page_kb, page_s = page(100_000, chosen.agents)
    of = f"{chosen.snapshots:,} snapshots of {chosen.agents} agents"
    met = [
        show(of, f"{each_us:.1f} µs each", "<= 50 µs", each_us <= 50),
        show("  memory that the monitor holds", f"{held_mb:.2f} MB", "<= 4 MB", held_mb <= 4),
        show(f"  extremes, evictions, {alarms:,} alarms", "exact" if exact else "WRONG", "exact", exact),
        show(
            f"{chosen.snapshots // 10:,} snapshots of real people",
            f"{people_us:.1f} µs each",
            "<= 50 µs",
            people_us <= 50,
        ),
        show(f"page of {chosen.agents} agents, 100,000 samples", f"{page_kb:.0f} KB", "<= 300 KB", page_kb <= 300),
        show("  time to write it", f"{page_s:.2f} s", "<= 1 s", page_s <= 1),
    ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
