"""On a Ray cluster a world lives as in one piece, and survives the loss of a machine. Real nodes, real processes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import lives
import on_ray
import pytest
from lives import SETTINGS, Chatty, graph, lived, recorded, world_of

from tinytroupe import TinyPerson, TinySocialNetwork, control
from tinytroupe.config import config_manager
from tinytroupe.environment.fences import reach
from tinytroupe.environment.shards import RayBackend, ShardError
from tinytroupe.environment.shards.partition import divided
from tinytroupe.runtime.clock import WallClock, use_clock
from tinytroupe.runtime.cluster import HERE_ALONE, the_ray
from tinytroupe.testing import DirectModel, MockLLM

pytestmark = on_ray.MARKS

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


@pytest.fixture(scope="module")
def cluster():
    """Yield a cluster of this machine: a head for the driver, and two nodes on which shards may live."""
    patch = pytest.MonkeyPatch()
    for name, value in {**HERE_ALONE, "OPENAI_API_KEY": "x"}.items():
        patch.setenv(name, value)
    before = on_ray.processes()
    ray = the_ray()
    from ray.cluster_utils import Cluster

    ray.cloudpickle.register_pickle_by_value(lives)  # workers know nothing of the tests
    # A node that does not answer is dead after five seconds: in earnest it has half a minute.
    impatient = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_timeout_ms": 500}
    impatient["health_check_failure_threshold"] = 10
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "_system_config": impatient})
    try:
        for _ in range(2):
            cluster.add_node(**NODE, resources={"shards": 10})
        ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        patch.undo()
    assert on_ray.left(before) == set()


def backend(**options):
    return RayBackend(actor_options={"resources": {"shards": 1}}, **options)


def left(seed, path, model=None, **options):
    """Live through a world whose model is the direct door, of which each shard gets a copy, unless it has another."""
    llm = MockLLM(seed=seed, prompt_cache=False)
    llm.when(endpoint="chat").reply(Chatty(seed, graph(seed)[0], 0.1 * (seed % 3 == 0)))
    world = world_of(seed, model or DirectModel(llm), network=seed % 4 != 0)
    return lived(world, path, times=False, **options), world.get_parallel_metrics()


@pytest.mark.usefixtures("cluster")
def test_two_shards_on_ray_live_as_one_piece(tmp_path):
    def both(seed):
        whole, _ = left(seed, tmp_path / f"{seed} whole", scheduler="parallel")
        parts, metrics = left(seed, tmp_path / f"{seed} parts", backend=backend(), shards=2)
        return whole, parts, metrics

    with config_manager.override(**SETTINGS), ThreadPoolExecutor(4) as threads:
        for seed, (whole, parts, metrics) in enumerate(threads.map(both, range(20))):
            assert parts == whole, seed
            assert metrics["shard_steps"] == 8
            assert metrics["exchanged_bytes"] > 0
            assert metrics["exchange_s"] > 0
    assert not list(tmp_path.glob("*.shards"))


class Town:
    """The model's side: a server that notes every request, and may keep one person waiting."""

    def __init__(self, held=""):
        self.mock = MockLLM(prompt_cache=False, max_exchanges=1)
        self.mock.when(endpoint="chat").reply(self.answer)
        self.asked, self.answered = Counter(), 0
        self.held, self.waiting, self.released = held, threading.Event(), threading.Event()

    async def answer(self, call):
        text = "\n".join(message["content"] for message in call.messages)
        self.asked[call.schema_name, call.person, text] += 1
        if call.person == self.held and "Time: Monday 2026-01-05 11:00" in text and not self.released.is_set():
            self.waiting.set()
            while not self.released.is_set():
                await asyncio.sleep(0.01)
        else:
            self.answered += 1
        said = hashlib.sha1(text.encode()).hexdigest()
        if call.schema_name != "turn":
            return {"summary": said, "key_facts": []}
        return {"actions": [{"type": "TALK", "content": said, "target": ""}], "cognitive_state": {"goals": said}}


def ring(people=6, name="Ring"):
    world = TinySocialNetwork(name, [TinyPerson(f"P{number}") for number in range(people)])
    for one, other in zip(world.agents, world.agents[1:] + world.agents[:1], strict=True):
        world.add_relation(one, other)
    world.broadcast("What shall we do today?")
    return world


@contextmanager
def living(town, threshold):
    with (
        town.mock.serve() as server,
        config_manager.override(base_url=server.base_url, auto_consolidation_threshold=threshold, on_error="raise"),
    ):
        yield


def lived_on(path, town, between=lambda: None, steps=5, threshold=6, **options):
    """Run a ring, with something done while the town keeps somebody waiting; returns what is left, and an error."""
    with living(town, threshold), ThreadPoolExecutor(1) as thread:
        world, error = ring(), None
        simulation = control.begin(path)
        try:
            running = thread.submit(world.run, steps, timedelta(hours=1), **options)
            if town.held:
                assert town.waiting.wait(60)
                between()
                town.released.set()
            error = running.exception()
        finally:
            town.released.set()
            control.end()
    return world, simulation, error


def on_record(path):
    """Return how many replies the shards' journals hold."""
    replies = 0
    for file in Path(f"{path}.shards").glob("*/*.journal"):
        connection = sqlite3.connect(file)
        replies += connection.execute("SELECT count(reply) FROM exchange").fetchone()[0]
        connection.close()
    return replies


@pytest.fixture
def deadly(cluster, tmp_path):
    """Return what kills the node on which a held person lives, once all that others were answered is on record."""

    def kill(town):
        deadline = time.monotonic() + 60
        while on_record(tmp_path / "parts") < town.answered:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        world = ring()
        groups = divided(reach(world), len(world.agents), 2)
        (shard,) = [number for number, group in enumerate(groups) if int(town.held[1:]) in group]
        from ray._private.state import actors

        alive = [each for each in actors().values() if each["State"] == "ALIVE"]
        (host,) = [each for each in alive if each["Name"].endswith(f"shard {shard}")]
        (node,) = [node for node in cluster.worker_nodes if node.node_id == host["Address"]["NodeID"]]
        os.kill(host["Pid"], signal.SIGKILL)  # workers outlive their node for a while, a machine's would not
        cluster.remove_node(node, allow_graceful=False)

    yield kill
    cluster.add_node(**NODE, resources={"shards": 10})


@pytest.mark.parametrize("steps_kept", [50, 2], ids=["from the beginning", "from what was put by"])
def test_a_lost_node_is_made_up_for_elsewhere_and_nothing_on_record_is_asked_again(
    deadly, tmp_path, monkeypatch, steps_kept
):
    monkeypatch.setattr("tinytroupe.environment.shards.ray_backend.STEPS_KEPT", steps_kept)
    whole, _, _ = lived_on(tmp_path / "whole", Town(), scheduler="parallel")
    town = Town(held="P5")
    parts, simulation, error = lived_on(tmp_path / "parts", town, lambda: deadly(town), backend=backend(), shards=2)
    assert error is None
    assert parts.get_parallel_metrics()["shard_restarts"] == 1
    assert parts.encode_complete_state() == whole.encode_complete_state()
    assert parts.usage_by_agent() == whole.usage_by_agent()
    assert recorded(tmp_path / "parts", times=False) == recorded(tmp_path / "whole", times=False)
    assert {(what, who): times for (what, who, _), times in town.asked.items() if times > 1} == {
        ("turn", "P5"): 2  # what was under way, and so on no record
    }

    # The same program once more, on fewer shards and with no model behind it: all of it is on record.
    again, simulation, error = lived_on(tmp_path / "parts", Town(), backend=backend(), shards=1)
    assert error is None
    assert (simulation.cache_hits, simulation.cache_misses) == (sum(town.asked.values()) - 1, 0)
    assert again.encode_complete_state()["agents"] != []
    assert [each.pretty_current_interactions() for each in again.agents] == [
        each.pretty_current_interactions() for each in whole.agents
    ]


def test_without_a_restart_left_everything_up_to_the_last_committed_step_is_kept(deadly, tmp_path):
    unsummarised = {"threshold": 100}  # a summary that was there in time stays, whatever becomes of the turn
    whole, _, _ = lived_on(tmp_path / "whole", Town(), steps=2, scheduler="parallel", **unsummarised)
    town = Town(held="P5")
    options = {"backend": backend(restarts=0), "shards": 2, **unsummarised}
    parts, _, error = lived_on(tmp_path / "parts", town, lambda: deadly(town), **options)
    assert isinstance(error, ShardError)
    assert "of world 'Ring' (3 people, after 2 steps) is lost, and may not begin anew once more" in str(error)
    assert parts.get_parallel_metrics()["total_parallel_steps"] == 2
    assert parts.current_datetime == whole.current_datetime
    kept, expected = parts.encode_complete_state()["agents"], whole.encode_complete_state()["agents"]
    for mine, theirs in zip(kept, expected, strict=True):
        spent = {"usage", "calls"}  # the others had been asked already
        assert {key: mine[key] for key in mine.keys() - spent} == {key: theirs[key] for key in theirs.keys() - spent}

    # The same program once more goes on where it was lost.
    again = Town()
    _, _, error = lived_on(tmp_path / "parts", again, backend=backend(), shards=2, **unsummarised)
    assert error is None
    assert not again.asked.keys() & (town.asked.keys() - {key for key in town.asked if key[1] == "P5"})


@pytest.mark.usefixtures("cluster")
def test_two_worlds_at_once_keep_their_parts_of_one_journal(tmp_path):
    def both(name, options):
        town = Town()
        with living(town, 6), ThreadPoolExecutor(2) as threads:
            journal = tmp_path / name
            simulation = control.begin(journal)
            try:
                list(threads.map(lambda world: world.run(3, **options()), [ring(4, "Ring"), ring(5, "Round")]))
            finally:
                control.end()
        return sum(town.asked.values()), simulation.cache_misses, recorded(journal, times=False)

    whole = both("whole", lambda: {"scheduler": "parallel"})
    assert both("parts", lambda: {"backend": backend(), "shards": 2}) == whole


@pytest.mark.usefixtures("cluster")
def test_shards_that_nobody_has_room_for_are_told_of_and_can_be_broken_off(monkeypatch, caplog):
    monkeypatch.setattr("tinytroupe.environment.shards.ray_backend.WAITING_S", 0.5)
    nowhere = RayBackend(actor_options={"resources": {"moon": 1}})
    with living(Town(), 6), WallClock() as clock, use_clock(clock):

        async def main():
            running = asyncio.ensure_future(ring().run_async(1, backend=nowhere, shards=2))
            deadline = time.monotonic() + 60
            while not (told := [record.getMessage() for record in caplog.records if "not begun" in record.msg]):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            return told[0]

        told = clock.portal.call(main)
    assert told.startswith("2 of 2 shards have not begun so far, the first of them shard 0 of world 'Ring' (3 people")
    assert "no machine of the cluster has room for {'num_cpus': 0" in told
    assert "'resources': {'moon': 1}" in told


@pytest.mark.usefixtures("cluster")
def test_a_shard_that_is_lost_before_it_has_begun_begins_elsewhere(tmp_path):
    driver = os.getpid()

    class Fatal(DirectModel):
        """Kills the first shard that gets ready."""

        async def prepare(self):
            with suppress(FileExistsError):
                if os.getpid() != driver:
                    (tmp_path / "first").touch(exist_ok=False)
                    os.kill(os.getpid(), signal.SIGKILL)

    world = ring()
    world.model = Fatal(MockLLM(prompt_cache=False))
    world.run(2, backend=backend(), shards=2)
    assert (tmp_path / "first").exists()
    assert world.get_parallel_metrics()["shard_steps"] == 4


@pytest.mark.usefixtures("cluster")
def test_what_keeps_a_shard_from_beginning_is_said_once():
    class Broken(DirectModel):
        """Can't be made where it is needed."""

        def __reduce__(self):
            return int, ("no number",)

    world = ring()
    world.model = Broken(MockLLM(prompt_cache=False))
    with pytest.raises(
        ShardError, match=r"(?s)shard \d of world 'Ring' \(3 people, after 0 steps\) can't begin: .*no number"
    ):
        world.run(1, backend=backend(), shards=2)


@pytest.mark.usefixtures("cluster")
def test_four_shards_of_two_worlds_keep_one_limit_on_requests():
    arrived = []

    def note(call):
        arrived.append(time.monotonic())
        return {"actions": [{"type": "DONE", "content": "", "target": ""}], "cognitive_state": {}}

    mock = MockLLM(prompt_cache=False)
    mock.when(endpoint="chat").reply(note)
    worlds = [TinySocialNetwork(name, [TinyPerson(f"{name} {n}") for n in range(10)], show=False) for name in "AB"]
    with (
        mock.serve() as server,
        config_manager.override(base_url=server.base_url, requests_per_minute=600),
        ThreadPoolExecutor(2) as threads,
    ):
        list(threads.map(lambda world: world.run(2, backend=backend(), shards=2), worlds))
    assert [world.get_parallel_metrics()["shard_steps"] for world in worlds] == [4, 4]
    assert len(arrived) == 40
    # Twenty at once, ten a second: call by call it can be later than that, and never earlier.
    assert max((number - 20) / 10 - (at - min(arrived)) for number, at in enumerate(sorted(arrived), 1)) <= 0.5
