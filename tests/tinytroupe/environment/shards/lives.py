"""Worlds to be lived through in one piece and in shards, and everything that a run leaves behind."""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
import zlib
from datetime import timedelta

from tinytroupe.agent import TinyPerson
from tinytroupe.environment import TinySocialNetwork, TinyWorld
from tinytroupe.llm.journal import Journal, use_journal

SETTINGS = {"auto_consolidation_threshold": 9, "max_episodic_memory_size": 12}
STEPS = 4
COUNTED = (
    *("total_parallel_steps", "parallel_errors", "parallel_timeouts", "model_calls", "retries", "tokens"),
    "cached_tokens",
)


def graph(seed):
    """Return a number of people, and pairs of those who are related, which depend on the seed alone."""
    rng = random.Random(f"graph/{seed}")
    people = rng.randint(2, 12)
    pairs = [(one, other) for one in range(people) for other in range(one + 1, people)]
    return people, rng.sample(pairs, rng.randint(0, min(len(pairs), 2 * people)))


def names(people):
    return [f"P{number}" for number in range(people)]


class Chatty:
    """What people do: decided by who they are and by what they are told. It can be pickled."""

    def __init__(self, seed, people, faults=0.0):
        self.seed, self.people, self.faults = seed, people, faults

    def __call__(self, call):
        if call.schema_name != "turn":
            return {"summary": f"{call.person} {hashlib.sha1(call.content.encode()).hexdigest()}", "key_facts": []}
        rng = random.Random(f"{self.seed}/{call.person}/{call.content}")
        if rng.random() < self.faults:
            return "this is no turn"
        kinds = rng.choices(("TALK", "TALK", "REACH_OUT", "THINK"), k=rng.randrange(4))
        actions = [
            {"type": kind, "content": f"{rng.random()}", "target": rng.choice(["", "Nobody", *names(self.people)])}
            for kind in kinds
        ]
        return {"actions": [*actions, {"type": "DONE", "content": "", "target": ""}], "cognitive_state": {}}


def world_of(seed, model, *, network=True, prepare=None):
    """Return a world whose people and relations depend on the seed alone."""
    people, edges = graph(seed)
    kind = TinySocialNetwork if network else TinyWorld
    world = kind("Net", [TinyPerson(name).define("age", 30 + at) for at, name in enumerate(names(people))], model=model)
    for one, other in edges:
        if network:
            world.add_relation(world.agents[one], world.agents[other])
        else:  # in one direction: reaching out changes who can reach whom
            world.agents[one].make_agent_accessible(world.agents[other])
    world.broadcast("What shall we do today?")
    world.agents[0].semantic_memory.store("Tea is served at five.")
    if prepare is not None:
        prepare(world)
    return world


def lived(world, path, *, times=True, **options):
    """Run a world, and return everything that the run leaves behind; without `times` nothing of how long calls took."""
    journal = Journal(path)
    with use_journal(journal):
        actions = world.run(STEPS, timedelta(hours=1), True, **options)
    stats = journal.stats()
    journal.close()
    metrics = world.get_parallel_metrics()
    return {
        "state": world.encode_complete_state(),
        "actions": actions,
        "usage": world.usage_by_agent(),
        "counts": {name: metrics[name] for name in COUNTED},
        "turns": [(o.step, o.person, o.status, o.actions, o.usage, str(o.error)) for o in world.timeline()],
        "journal": recorded(path, times),
        "hits": (stats.hits, stats.misses),
    }


def recorded(path, times=True):
    """Return what a journal holds, whatever the order in which it came."""
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT simulation, person, call, exchange.hash, body, request, reply FROM exchange "
        "JOIN prefix ON prefix.id = prefix"
    ).fetchall()
    connection.close()
    return sorted(
        (*row[:4], *(None if blob is None else content(zlib.decompress(blob), times) for blob in row[4:]))
        for row in rows
    )


def content(stored, times):
    if times or not stored.startswith(b'{"finish_reason"'):
        return stored
    return {**json.loads(stored), "latency_s": 0.0, "queued_s": 0.0}.__repr__().encode()
