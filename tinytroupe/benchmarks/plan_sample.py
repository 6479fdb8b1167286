"""A small world, really run on the mock model, and what it tells of a large one."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tinytroupe.benchmarks.gated import GatedModel
from tinytroupe.benchmarks.plan_keys import Asked
from tinytroupe.benchmarks.plan_queue import Limits
from tinytroupe.config import config_manager
from tinytroupe.llm import Usage
from tinytroupe.llm.gate import Gate
from tinytroupe.monitoring.process_memory import HighWaterMark
from tinytroupe.runtime.clock import VirtualClock, use_clock

if TYPE_CHECKING:
    from tinytroupe.environment import TinySocialNetwork

SAMPLED_PEOPLE = 20
"""People of the world that calls, tokens and processor time are measured in."""
SAMPLED_STEPS = 60
"""Its steps, at most: by then what a prompt shows of the past has its full length."""
FOOTPRINTS = (200, 1000)
"""People of the two worlds that memory is measured in."""
FOOTPRINT_STEPS = 3
"""Their steps, at most."""

CLIENT_CPU_S = 0.0012
"""Processor time of the real client for one call, which the sample does not have (openai on aiohttp)."""
TURN_EXCHANGE_S = 0.00003
"""What a turn adds to a step where people live in shards on Ray; this and the next two: ``shard_benchmark.py``."""
ACTOR_MB = 35.0
"""What Ray takes up in the process of each shard."""
DRIVER_PERSON_MB = 0.01
"""What the driver of shards keeps of each person."""
BUSY = 0.8
"""Share of a processor that a shard may take before more shards are needed."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What turns cost in a small world.

    Attributes
    ----------
    people
        Of it.
    usage
        What one person's turn costs, by step: calls and tokens of all people together.
    cpu_s_per_turn
        Processor time, the mock model's own work included.
    """

    people: int
    usage: tuple[Usage, ...]
    cpu_s_per_turn: float

    def of_step(self, step: int) -> Usage:
        """Return what a step costs; steps beyond the sampled ones cost what the last of those did."""
        return self.usage[min(step, len(self.usage) - 1)]


@dataclass(frozen=True, slots=True)
class Footprint:
    """Resident memory of a process that simulates people, at its peak, MB of 2**20 bytes.

    Attributes
    ----------
    process_mb
        Without people.
    person_mb
        Each of them.
    method
        How peaks were measured.
    """

    process_mb: float
    person_mb: float
    method: str

    def of(self, people: float) -> float:
        """Return the peak with so many people."""
        return self.process_mb + people * self.person_mb


def limits_of(asked: Asked, shards: int) -> Limits:
    """Return what the calls of all shards together have to keep to."""
    fixed = config_manager.get("max_concurrent_model_calls")
    each = Gate(
        start=fixed or 20,
        low=fixed or config_manager.get("min_concurrent_model_calls"),
        high=fixed or config_manager.get("max_adaptive_model_calls"),
    ).control
    start, high = each.slots * shards, each.high * shards
    if asked.concurrency is not None:
        start = high = asked.concurrency
    return Limits(
        start,
        high,
        config_manager.get("requests_per_minute") if asked.rpm is None else asked.rpm,
        config_manager.get("tokens_per_minute") if asked.tpm is None else asked.tpm,
    )


def planned_world(asked: Asked, people: int, model: Any, clock: VirtualClock) -> TinySocialNetwork:
    """Return a world as it is planned, of so many people: groups who hear each other, and know each other for a while.

    Parameters
    ----------
    asked
        The plan.
    people
        How many, whatever the plan says.
    model, clock
        Of the world.
    """
    from tinytroupe.environment import TinySocialNetwork
    from tinytroupe.examples import personas, troupe
    from tinytroupe.testing.generate import sentence

    ready = len(personas())  # those are described at length; of the others there are as many as it takes
    agents = troupe(ready + people)[ready:]
    size = asked.relations + 1
    for first in range(0, people, size):
        group = agents[first : first + size]
        for one in group:
            one.make_agents_accessible([other for other in group if other is not one])
        for number in range(asked.memories):
            speaker, said = group[number % len(group)], sentence(f"{first} {number}")
            for one in group:
                one.listen(said, speaker)
    for one in agents:
        one.episodic_memory.commit_episode()
    return TinySocialNetwork("plan", agents, model=model, clock=clock, on_error="raise", show=False)


def run_planned(asked: Asked, people: int, steps: int, limits: Limits, seed: int = 0) -> dict[str, Any]:
    """Run a world as it is planned, of so many people, on virtual time; return its metrics, and what it held at most.

    This is what a prediction is held against, and what it is made of.
    """
    from tinytroupe.testing import MockLLM, parse_latency

    mock = MockLLM(seed, parse_latency(asked.latency), prompt_cache=False, max_exchanges=1)
    with VirtualClock() as clock, use_clock(clock), HighWaterMark() as mark, _unhurried():
        adaptive = limits.start < limits.high
        gate = Gate(limits.start, high=limits.high, rpm=limits.rpm, tpm=limits.tpm, adaptive=adaptive)
        world = planned_world(asked, people, GatedModel(mock, gate), clock)
        world.run(steps, scheduler="parallel")
        metrics = world.get_parallel_metrics()
    return {**metrics, "peak_mb": mark.peak_mb, "method": mark.method}


def sampled(asked: Asked, seed: int = 0) -> Sample:
    """Run a small world and return what its turns cost."""
    from tinytroupe.testing import MockLLM

    people, steps = min(asked.people, SAMPLED_PEOPLE), min(asked.steps, SAMPLED_STEPS)
    with VirtualClock() as clock, use_clock(clock), _unhurried():
        world = planned_world(asked, people, GatedModel(MockLLM(seed), Gate()), clock)
        world.run(1, scheduler="parallel")  # templates and caches are there now
        usage = [world.usage]
        began_s = time.process_time()
        for _ in range(max(steps - 1, 1)):
            world.run(1, scheduler="parallel")
            usage.append(world.usage)
        cpu_s = time.process_time() - began_s
    each = [usage[0], *(after - before for before, after in pairwise(usage))]
    return Sample(people, tuple(each[:steps]), cpu_s / people / max(steps - 1, 1))


def footprint(asked: Asked) -> Footprint:
    """Return what people take up, from two worlds of different sizes, each in a process of its own.

    Raises
    ------
    RuntimeError
        A process failed; its error output is in the message.
    """
    small, large = FOOTPRINTS
    first, second = measured_peak(asked, small), measured_peak(asked, large)
    person_mb = max(second["peak_mb"] - first["peak_mb"], 0.0) / (large - small)
    return Footprint(first["peak_mb"] - small * person_mb, person_mb, second["method"])


def measured_peak(asked: Asked, people: int) -> dict[str, Any]:
    """Return the metrics and the peak of a world of so many people, in a fresh process, where nothing else has run.

    Raises
    ------
    RuntimeError
        The process failed; its error output is in the message.
    """
    program = (
        "import json, sys; from tinytroupe.benchmarks.plan_sample import peak_of; "
        "print(json.dumps(peak_of(json.loads(sys.argv[1]), int(sys.argv[2]))))"
    )
    given = {"asked": asdict(asked), "settings": config_manager.as_dict()}
    command = [sys.executable, "-c", program, json.dumps(given), str(people)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the process that memory is measured in ended with {done.returncode}:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def peak_of(given: Mapping[str, Any], people: int) -> dict[str, Any]:
    """Do the same in this process, with the settings of the other."""
    plan = Asked(**given["asked"])
    with config_manager.override(**given["settings"]):
        return run_planned(plan, people, min(plan.steps, FOOTPRINT_STEPS), limits_of(plan, 1))


def _unhurried() -> Any:
    """No step is ended by time, and everybody is timed: a plan that takes hours is not broken off after minutes."""
    gc.collect()
    return config_manager.override(parallel_execution_timeout=None, turn_timeout=None, loglevel="ERROR")
