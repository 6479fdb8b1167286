"""A run broken off, by Ctrl-C or by an error: every turn is there as a whole, or not at all."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinytroupe.agent import TinyMentalFaculty, TinyPerson
from tinytroupe.config import config_manager
from tinytroupe.environment import SimulationError, TinySocialNetwork, TinyWorld, run_many_async
from tinytroupe.environment.tiny_world import DEFAULT_START
from tinytroupe.llm import ModelError
from tinytroupe.llm.openai_model import OpenAIModel
from tinytroupe.runtime.clock import VirtualClock, use_clock
from tinytroupe.testing import DirectModel, LogNormal, MockLLM

SCHEDULERS = ["sequential", "parallel", "dependency"]
HOUR = timedelta(hours=1)


class Notebook(TinyMentalFaculty):
    """Takes some time to write something down, and remembers what it has written."""

    touches_others = False
    actions = {"NOTE": "write something down"}  # noqa: RUF012

    def __init__(self, takes_s):
        self.takes_s = takes_s
        self.written = []

    async def process_action_async(self, agent, action):
        await asyncio.sleep(self.takes_s)
        self.written.append((agent.name, action.content))
        agent.think(f"written: {action.content}")


class Asked(DirectModel):
    """Notes of which steps calls begin after the first that fails."""

    late: list[int] | None = None

    async def complete(self, request):
        if self.late is not None:
            self.late.append(request.origin.step)
        try:
            return await super().complete(request)
        except ModelError:
            self.late = self.late or []
            raise


def replying(people, seed):
    """Everybody says something to somebody, and writes it down."""

    def answer(call):
        rng = random.Random(f"{seed}/{call.person}/{call.number}")
        what = f"{call.person} in step {call.number}"
        actions = [
            {"type": "TALK", "content": what, "target": f"P{rng.randrange(people)}"},
            {"type": "NOTE", "content": what, "target": ""},
            {"type": "DONE", "content": "", "target": ""},
        ]
        return {"actions": actions, "cognitive_state": {}}

    return answer


def town(llm, people, edges, takes_s):
    notebook = Notebook(takes_s)
    everyone = [TinyPerson(f"P{number}", mental_faculties=[notebook]) for number in range(people)]
    world = TinySocialNetwork("Net", everyone, model=Asked(llm), broadcast_if_no_target=False)
    for one, other in edges:
        world.add_relation(everyone[one], everyone[other])
    return world, notebook


def remembered(world, kind):
    return sorted(
        (agent.name, memory.content["action"]["content"])
        for agent in world.agents
        for memory in agent.episodic_memory.retrieve_all("action")
        if memory.content["action"]["type"] == kind
    )


def perceived(world, kind):
    return sorted(
        (agent.name, stimulus["content"], memory.timestamp)
        for agent in world.agents
        for memory in agent.episodic_memory.retrieve_all()
        for stimulus in memory.content.get("stimuli", ())
        if stimulus["type"] == kind
    )


def check_whole(world, notebook):
    """Whatever somebody remembers to have done has been done, once, and the other way round."""
    assert sorted(notebook.written) == remembered(world, "NOTE")
    told = sorted(
        (memory.content["action"]["target"], memory.content["action"]["content"])
        for agent in world.agents
        for memory in agent.episodic_memory.retrieve_all("action")
        if memory.content["action"]["type"] == "TALK"
        and agent.name != memory.content["action"]["target"]
        and world.get_agent_by_name(memory.content["action"]["target"]) in agent.accessible_agents
    )
    heard = perceived(world, "CONVERSATION")
    assert [(who, what) for who, what, _ in heard] == told
    for _, what, moment in heard + perceived(world, "THOUGHT"):
        assert moment == DEFAULT_START + int(what.rpartition(" ")[2]) * HOUR
    assert world.usage.calls == world.get_parallel_metrics()["model_calls"]


graphs = st.integers(2, 7).flatmap(
    lambda people: st.tuples(
        st.just(people),
        st.sets(st.tuples(st.integers(0, people - 1), st.integers(0, people - 1)).filter(lambda e: e[0] < e[1])),
    )
)
several = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)


@several
@given(graphs, st.integers(0, 1000), st.floats(0.0, 12.0), st.sampled_from([0.0, 0.25]), st.sampled_from(SCHEDULERS))
def test_a_cancelled_run_leaves_no_turn_half(graph, seed, cancelled_s, takes_s, how):
    people, edges = graph

    async def main(world):
        run = asyncio.ensure_future(world.run_async(4, HOUR, scheduler=how))
        await asyncio.wait([run], timeout=cancelled_s)
        run.cancel()
        await asyncio.wait([run])
        assert (
            asyncio.get_running_loop().time() - cancelled_s <= 2 * takes_s
        )  # those at work, and those whose turn is completed after them
        assert len(asyncio.all_tasks()) == 1

    with VirtualClock() as clock, use_clock(clock), MockLLM(seed=seed, latency=LogNormal(1.0, 1.0)) as llm:
        llm.when().reply(replying(people, seed))
        world, notebook = town(llm, people, edges, takes_s)
        clock.run(main(world))
        check_whole(world, notebook)


@several
@given(graphs, st.integers(0, 1000), st.integers(0, 3), st.none() | st.integers(1, 3), st.sampled_from(SCHEDULERS))
def test_nor_does_one_that_an_error_ends_and_no_call_begins_that_does_not_lead_up_to_it(
    graph, seed, step, workers, how
):
    people, edges = graph
    with VirtualClock() as clock, use_clock(clock), MockLLM(seed=seed, latency=LogNormal(1.0, 1.0)) as llm:
        llm.when(person="P1", call=step).fail("invalid_key")
        llm.when().reply(replying(people, seed))
        world, notebook = town(llm, people, edges, 0.1)
        with (
            config_manager.override(max_workers=workers),
            pytest.raises(SimulationError, match="Incorrect API key") as caught,
        ):
            world.run(4, HOUR, scheduler=how)
        assert f"step {step}: the turn of P1" in str(caught.value)
        check_whole(world, notebook)
        assert all(asked < step for asked in world.model.late)
        assert how == "dependency" or not world.model.late
        assert world.get_parallel_metrics()["total_parallel_steps"] == (0 if how == "sequential" else step)


@pytest.mark.parametrize("how", SCHEDULERS)
def test_who_is_at_work_with_a_tool_may_finish_but_not_for_ever(how, caplog):
    decided_s = 2.0 if how == "sequential" else 1.0

    async def main(world):
        run = asyncio.ensure_future(world.run_async(3, HOUR, scheduler=how))
        await asyncio.sleep(decided_s + 0.2)
        run.cancel()
        await asyncio.wait([run])

    with VirtualClock() as clock, use_clock(clock), MockLLM(latency=1.0) as llm:
        llm.when().reply(replying(2, 0))
        quick, endless = Notebook(0.4), Notebook(1000.0)
        people = [TinyPerson(name, mental_faculties=[each]) for name, each in (("P0", quick), ("P1", endless))]
        world = TinySocialNetwork("Net", people, model=DirectModel(llm))
        with caplog.at_level("WARNING", "tinytroupe"):
            clock.run(main(world))
        assert clock.now() == pytest.approx(decided_s + 0.2 + 0.4)
    assert quick.written == [("P0", "P0 in step 0")]
    assert endless.written == []
    cut_off = [record.getMessage() for record in caplog.records if "cut off" in record.getMessage()]
    assert len(cut_off) == 1
    assert cut_off[0].startswith("Net: cut off in step 0, while doing what they had decided: ")
    assert cut_off[0].endswith("P1")


class Later(DirectModel):
    async def complete(self, request):
        await asyncio.sleep(5.0)
        return await super().complete(request)


@pytest.mark.parametrize("how", ["parallel", "sequential"])
def test_what_a_replaced_act_has_done_is_heard_though_the_run_ends(how):
    class Herself(TinyPerson):
        async def act_async(self, *args, **options):
            return await super().act_async(*args, **options)

    with VirtualClock() as clock, use_clock(clock), MockLLM(latency=1.0) as llm:
        llm.when(person="Ann").reply_talk("Hello", "Bo")
        llm.when(person="Bo").fail("invalid_key")
        ann, bo = Herself("Ann"), TinyPerson("Bo", model=Later(llm))
        world = TinyWorld("Town", [ann, bo], model=DirectModel(llm))
        with pytest.raises(SimulationError, match="Incorrect API key"):
            world.run(1, scheduler=how)
    assert remembered(world, "TALK") == [("Ann", "Hello")]
    assert [(who, what) for who, what, _ in perceived(world, "CONVERSATION")] == [("Bo", "Hello")]


class Confused(TinyWorld):
    """Does not know whom Bo reaches."""

    def effects(self, source, action):
        if source.name == "Bo":
            raise LookupError("lost")
        return super().effects(source, action)


@pytest.mark.parametrize("how", ["parallel", "sequential"])
def test_where_the_world_can_not_tell_whom_a_turn_reaches_it_is_not_done(how):
    with VirtualClock() as clock, use_clock(clock), MockLLM() as llm:
        llm.when().reply_talk("Hello", "Cy")
        people = [TinyPerson(name) for name in ("Ann", "Bo", "Cy")]
        with pytest.raises(LookupError, match="lost"):
            Confused("Town", people, model=DirectModel(llm)).run(1, scheduler=how)
        assert [len(person.episodic_memory.retrieve_all("action")) for person in people] == [1, 0, 0]
        assert [len(person.episodic_memory) for person in people] == [1, 0, 1]


def test_nor_do_several_worlds_that_are_cancelled_together():
    async def main(worlds):
        runs = asyncio.ensure_future(run_many_async(worlds, 3, HOUR))
        await asyncio.sleep(1.1)
        runs.cancel()
        await asyncio.wait([runs])

    with VirtualClock() as clock, use_clock(clock), MockLLM(latency=1.0) as llm:
        llm.when().reply(replying(2, 0))
        notebook, model = Notebook(0.3), DirectModel(llm)
        people = [TinyPerson("P0"), TinyPerson("P1", mental_faculties=[notebook])]
        worlds = [TinyWorld(f"Town of {one.name}", [one], model=model, broadcast_if_no_target=False) for one in people]
        clock.run(main(worlds))
        assert clock.now() == pytest.approx(1.3)
    assert notebook.written == remembered(worlds[1], "NOTE") == [("P1", "P1 in step 0")]


@pytest.mark.parametrize("how", ["parallel", "dependency"])
def test_what_waits_at_the_gate_when_the_run_ends_is_never_sent(how):
    with (
        VirtualClock() as clock,
        use_clock(clock),
        MockLLM(latency=1.0) as llm,
        config_manager.override(max_concurrent_model_calls=2),
    ):
        llm.when(person="P2").fail("invalid_key")
        llm.when()
        world = TinySocialNetwork("Net", [TinyPerson(f"P{number}") for number in range(20)], model=OpenAIModel())
        with pytest.raises(SimulationError, match="API key"):
            world.run(3, scheduler=how)
        assert clock.now() == 1.0
    assert llm.calls == 3
