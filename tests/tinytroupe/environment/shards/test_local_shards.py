"""In shards of this process a world lives as in one piece, to the last memory."""

from __future__ import annotations

import asyncio
import sys

import pytest
from lives import SETTINGS, Chatty, graph, lived, world_of

from tinytroupe.agent import RecallFaculty, TinyPerson
from tinytroupe.config import config_manager
from tinytroupe.engine import force_scheduler
from tinytroupe.environment import SimulationError, TinySocialNetwork, TinyWorld
from tinytroupe.environment.shards import LocalBackend
from tinytroupe.runtime.clock import VirtualClock, use_clock
from tinytroupe.testing import DirectModel, LogNormal, MockLLM


def left(seed, path, *, faults=0.0, network=True, prepare=None, settings=None, **options):
    """Live through a world on virtual time; returns what is left of it, and the world."""
    with (
        VirtualClock() as clock,
        use_clock(clock),
        MockLLM(seed=seed, latency=LogNormal(1.0, 1.0)) as llm,
        config_manager.override(**{**SETTINGS, **(settings or {})}),
    ):
        llm.when(endpoint="chat").reply(Chatty(seed, graph(seed)[0], faults))
        world = world_of(seed, DirectModel(llm), network=network, prepare=prepare)
        return lived(world, path, **options) | {"elapsed_s": clock.now()}, world


@pytest.mark.parametrize("seed", range(20))
def test_any_number_of_shards_lives_as_one_piece(tmp_path, seed):
    options = {"faults": 0.1 * (seed % 3 == 0), "network": seed % 4 != 0}
    whole, _ = left(seed, tmp_path / "whole", scheduler="parallel", **options)
    assert whole["journal"]
    for shards in (2, 3, 7):
        parts, world = left(seed, tmp_path / f"{shards}", shards=shards, **options)
        assert parts == whole
        assert world.get_parallel_metrics()["shard_steps"] == 4 * min(shards, len(world.agents))


def test_faculties_that_concern_nobody_else_do_their_work_in_the_shard(tmp_path):
    def recalling(world):
        for person in world.agents:
            person.add_mental_faculty(RecallFaculty())
            person.semantic_memory.store(f"{person.name} likes tea.")

    whole, _ = left(5, tmp_path / "whole", prepare=recalling, scheduler="parallel")
    parts, _ = left(5, tmp_path / "parts", prepare=recalling, shards=3)
    assert parts == whole
    assert any(not person for _, person, *_ in whole["journal"])  # vectors were asked for


@pytest.mark.parametrize("limit", ["turn_timeout", "parallel_execution_timeout"])
def test_turns_that_take_too_long_are_left_out_alike(tmp_path, limit):
    whole, _ = left(3, tmp_path / "whole", settings={limit: 1.5}, scheduler="parallel")
    parts, _ = left(3, tmp_path / "parts", settings={limit: 1.5}, shards=3)
    assert parts == whole
    assert whole["counts"]["parallel_timeouts"]


def town(people=4, **options):
    return TinySocialNetwork("Town", [TinyPerson(f"P{number}") for number in range(people)], **options)


def test_a_failure_that_ends_the_run_leaves_nothing_of_its_step():
    def run(**options):
        with MockLLM(seed=1) as llm:
            llm.when(person="P2", call=range(2, 3)).fail(status=401)
            llm.when(endpoint="chat").reply({"actions": [{"type": "TALK", "content": "Hello", "target": ""}]})
            world = town(model=DirectModel(llm))
            for number in range(3):
                world.add_relation(world.agents[number], world.agents[number + 1])
            with pytest.raises(SimulationError) as caught:
                world.run(5, **options)
            state = world.encode_complete_state()
            for agent in state["agents"]:  # in one process, turns under way are cancelled and cost nothing more
                del agent["calls"], agent["usage"]
            return str(caught.value), state

    assert run(shards=2) == run(scheduler="parallel")


def test_people_and_memories_stay_the_objects_that_a_program_holds():
    with MockLLM(seed=1) as llm:
        world = town(model=DirectModel(llm))
        held = [(person, person.episodic_memory, person.semantic_memory) for person in world.agents]
        world.run(2, shards=2)
        assert all((p, p.episodic_memory, p.semantic_memory) == one for p, one in zip(world.agents, held, strict=True))
        assert [TinyPerson.get_agent_by_name(person.name) for person, *_ in held] == world.agents
        assert all(len(person.episodic_memory) > 0 for person in world.agents)
        world.agents[0].listen_and_act("And now?")


def test_a_backend_that_fails_is_stopped_and_the_steps_before_are_kept():
    class Brittle(LocalBackend):
        """Loses its shards in the third step."""

        stopped = steps = 0

        async def step(self, shard, inbox):
            self.steps += 1
            if self.steps > 4:
                raise RuntimeError("gone")
            return await super().step(shard, inbox)

        async def stop(self):
            self.stopped += 1
            await super().stop()

    brittle = Brittle()
    with MockLLM(seed=1) as llm:
        world = town(model=DirectModel(llm))
        with pytest.raises(RuntimeError, match="gone"):
            world.run(5, backend=brittle, shards=2)
        assert brittle.stopped == 1
        assert world.get_parallel_metrics()["total_parallel_steps"] == 2
        kept = [len(person.episodic_memory) for person in world.agents]
        assert all(kept)
        world.run(1)
        assert all(len(p.episodic_memory) >= before for p, before in zip(world.agents, kept, strict=True))


def test_a_backend_keeps_one_world_at_a_time():
    shared = LocalBackend()

    def make(name):
        return TinyWorld(name, [TinyPerson(f"{name} {number}") for number in range(2)], model=DirectModel(llm))

    async def both():
        first, second = make("First"), make("Second")
        run = asyncio.ensure_future(first.run_async(3, backend=shared, shards=2))
        await asyncio.sleep(0.5)
        with pytest.raises(RuntimeError, match="keeps the shards of world 'First', which is running; give each"):
            await second.run_async(3, backend=shared, shards=2)
        await run
        await second.run_async(3, backend=shared, shards=2)
        return [world.get_parallel_metrics()["shard_steps"] for world in (first, second)]

    with VirtualClock() as clock, use_clock(clock), MockLLM(seed=1, latency=1.0) as llm:
        assert clock.portal.call(both) == [6, 6]


def test_in_shards_or_not_is_a_setting_too():
    with MockLLM(seed=1) as llm, config_manager.override(shards=2):
        world = town(model=DirectModel(llm))
        world.run(3)
        assert world.get_parallel_metrics()["shard_steps"] == 6
        world.run(3, shards=1)
        assert world.get_parallel_metrics()["shard_steps"] == 6
        with force_scheduler("sequential"):  # what is measured both ways
            world.run(1)
        assert world.get_parallel_metrics()["total_sequential_steps"] == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"shards": 0}, "shards must be a whole number of at least 1, or None, got 0"),
        ({"shards": True}, "shards must be a whole number of at least 1"),
        ({"backend": "moon", "shards": 2}, "unknown backend 'moon'; there are: local, ray"),
        ({"shards": 2, "scheduler": "sequential"}, "in shards people act at once"),
        ({"shards": 2, "parallelize": False}, "in shards people act at once"),
    ],
)
def test_what_can_not_be_is_said_before_anything_happens(options, complaint):
    with MockLLM() as llm:
        world = town(model=DirectModel(llm))
        with pytest.raises(ValueError, match=complaint):
            world.run(1, **options)
        llm.assert_not_called()


def test_without_ray_a_world_is_told_what_to_install_before_anything_happens(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with MockLLM() as llm:
        world = town(model=DirectModel(llm))
        with pytest.raises(ImportError, match=r"pip install 'pytest-tinytroupe\[ray\]'"):
            world.run(1, backend="ray")
        llm.assert_not_called()


def test_where_something_looks_at_everybody_a_world_stays_in_one_piece():
    world = TinyWorld("Town", [TinyPerson("Ann"), TinyPerson("Ben")])
    forget = world.on("step", print)
    with pytest.raises(ValueError, match="'Town' can't be divided into shards, because listeners look at the world"):
        world.run(1, shards=2)
    forget()
    world.agents[0].act = lambda: None
    with pytest.raises(ValueError, match="because Ann has verbs of TinyPerson replaced"):
        world.run(1, shards=2)
