"""What it costs that the people of a world live in shards, beside the same world in one piece, and how far it goes.

python tests/performance/shard_benchmark.py             all of it, a few minutes; the part on Ray needs the extra `ray`
python tests/performance/shard_benchmark.py --quick     small numbers, to see that it runs

Replies are instant and come from the direct door, in every process its own, so that nothing is measured but the
engine, the shards and the exchange between them. People live in rings of ten and talk to their neighbours.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import pickle
import sys
import time
import tracemalloc
from datetime import timedelta
from itertools import pairwise
from statistics import median

import psutil

from tinytroupe import TinyPerson, TinySocialNetwork, config_manager
from tinytroupe.agent.life import Tables, life_of
from tinytroupe.monitoring import rss_bytes
from tinytroupe.runtime.cluster import connected
from tinytroupe.testing import DirectModel, MockLLM

RING = 10


class Neighbourly:
    """Says the same short sentence every time."""

    def __call__(self, call):
        talk = {"type": "TALK", "content": "I have been thinking about what you said this morning.", "target": ""}
        return {"actions": [talk, {"type": "DONE", "content": "", "target": ""}], "cognitive_state": {"goals": "Rest."}}


def world_of(people, name="Rings"):
    llm = MockLLM(prompt_cache=False, max_exchanges=0)
    llm.when(endpoint="chat").reply(Neighbourly())
    everyone = [TinyPerson(f"P{number}").define("age", 20 + number % 60) for number in range(people)]
    world = TinySocialNetwork(name, everyone, model=DirectModel(llm), show=False)
    for start in range(0, people, RING):
        ring = everyone[start : start + RING]
        for one, other in zip(ring, ring[1:] + ring[:1], strict=True):
            if one is not other:
                one.make_agent_accessible(other)
                other.make_agent_accessible(one)
    return world


def timed_steps(people, steps, **options):
    """Return the seconds of each step as a listener at the gate sees them: the first is apart, since it warms up."""
    world = world_of(people)
    began_s, marks = time.perf_counter(), []
    told = world._metrics.add

    def add(*args, **details):
        marks.append(time.perf_counter())
        told(*args, **details)

    world._metrics.add = add
    world.run(steps, timedelta(hours=1), **options)
    ended_s = time.perf_counter()
    each = [after - before for before, after in pairwise(marks)]
    return {
        "start_s": marks[0] - began_s,
        "step_s": median(each),
        "end_s": ended_s - marks[-1],
        "metrics": world.get_parallel_metrics(),
    }


def overhead(people, shards, steps, rounds):
    """Print what a turn and a shard's step cost in shards beyond what they cost in one piece.

    With one person a shard, a step costs little but the exchange itself; what more people add is the cost of turns.
    """
    kinds = {
        "one piece, parallel": {"scheduler": "parallel"},
        f"{shards} shards here": {"shards": shards},
        f"{shards} shards on Ray": {"shards": shards, "backend": "ray"},
    }
    found = {(size, kind): [] for size in (shards, people) for kind in kinds}
    for _ in range(rounds):
        for size, kind in found:
            found[size, kind].append(timed_steps(size, steps, **kinds[kind]))
    step_ms = {key: 1e3 * median(each["step_s"] for each in runs) for key, runs in found.items()}
    print(f"\n{people:,} people, {shards} shards, instant replies: median step of {steps}, {rounds} rounds interleaved")
    for kind in kinds:
        beside = {size: step_ms[size, kind] - step_ms[size, next(iter(kinds))] for size in (shards, people)}
        runs = found[people, kind]
        metrics = runs[-1]["metrics"]
        start_s, end_s = (median(each[name] for each in runs) for name in ("start_s", "end_s"))
        print(
            f"  {kind:20} a step {step_ms[people, kind]:6.1f} ms, {step_ms[people, kind] / people:.3f} ms a turn; "
            f"beside one piece {beside[shards] / shards:+.2f} ms a shard's step and "
            f"{(beside[people] - beside[shards]) / (people - shards):+.3f} ms a turn; "
            f"{metrics['exchanged_bytes'] / max(metrics['shard_steps'], 1) / 1024:.0f} KB exchanged a shard's step; "
            f"until the first step is done {start_s:.1f} s, home again {end_s:.1f} s"
        )
    print("  targets on Ray, beside one piece: ≤ 5 ms a shard's step, ≤ 0.2 ms a turn")


def memory_of_a_person(people, memories):
    """Print what a person weighs who remembers so much, at home and on the way."""
    print(f"\n{people:,} people with {memories} memories each; target ≤ 60 KB a person")

    def told(world):
        for person in world.agents:
            for number in range(memories):
                person.listen(
                    f"Sentence {number} for {person.name}: the weather is fine, and the bread is fresh.", "P0"
                )

    def lived(world):
        world.run(memories // 3 + 2)  # an action and what two neighbours say

    world_of(2).run(1)  # what the first run imports is nobody's memory
    for how, fill in (("told, every sentence another", told), ("lived through", lived)):
        gc.collect()
        tracemalloc.start()
        world = world_of(people)
        empty = tracemalloc.get_traced_memory()[0]
        fill(world)
        world.reset_parallel_metrics()
        gc.collect()
        full = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        tables = Tables()
        sent = len(pickle.dumps([life_of(person, tables) for person in world.agents], 5))
        print(
            f"  {how:30} {full / people / 1024:.1f} KB a person ({empty / people / 1024:.1f} KB without memories), "
            f"{sent / people / 1024:.1f} KB pickled"
        )


def far(people, steps, **options):
    """Print how long many people take, and what memory each step adds."""
    world = world_of(people)
    resident, hosts = [], []
    told = world._metrics.add

    def add(*args, **details):
        resident.append(rss_bytes() / 2**20)
        hosts[:] = hosts_mb()
        told(*args, **details)

    world._metrics.add = add
    gc.collect()
    before_mb, began_s = rss_bytes() / 2**20, time.perf_counter()
    world.run(steps, timedelta(hours=1), **options)
    elapsed_s = time.perf_counter() - began_s
    grown = [after - before for before, after in pairwise(resident)]
    how = ", ".join(f"{name}={value}" for name, value in options.items()) or "one piece"
    print(
        f"  {how:32} {elapsed_s:6.1f} s ({elapsed_s / people / steps * 1e3:.2f} ms a turn); {before_mb:.0f} MB before, "
        f"{resident[0]:.0f} MB after the first step, then {', '.join(f'{each:+.1f}' for each in grown)} MB a step"
        + (f"; {len(hosts)} actors of {median(hosts):.0f} MB each (PSS)" if hosts else "")
    )


def hosts_mb():
    """Return the memory of the actors, what they share divided among them."""
    processes = psutil.process_iter(["cmdline"])
    actors = [one for one in processes if (one.info["cmdline"] or [""])[0].startswith("ray::Host")]
    return [one.memory_full_info().pss / 2**20 for one in actors]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small numbers")
    parser.add_argument("--only", choices=("overhead", "memory", "far"), help="one part of it")
    given = parser.parse_args()
    scale = 10 if given.quick else 1
    logging.getLogger("tinytroupe.memory").setLevel(logging.ERROR)  # memories are meant to be full
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs, load average {os.getloadavg()[0]:.1f}")
    with config_manager.override(max_episodic_memory_size=100, auto_consolidate_on_threshold=False):
        if given.only in (None, "memory"):
            memory_of_a_person(1000 // scale, 100)
        if given.only in (None, "overhead"):
            with connected():
                overhead(1000 // scale, 4, 6, 1 if given.quick else 3)
        if given.only in (None, "far"):
            people = 10_000 // scale
            print(
                f"\n{people:,} people, 3 steps, direct door; target: under 5 minutes, the same memory after every step"
            )
            config_manager.set(
                "max_episodic_memory_size", 3
            )  # full after a step: what grows later is not what people know
            far(people, 3)
            far(people, 3, shards=20 // min(scale, 5))
            with connected():
                far(people, 3, backend="ray", shards=20 // min(scale, 5))


if __name__ == "__main__":
    main()
