"""The state of people and worlds: through JSON and back, whole or not at all."""

from __future__ import annotations

import copy
import gc
import json
from datetime import timedelta

import pytest

from tinytroupe.agent import TinyPerson
from tinytroupe.environment import TinySocialNetwork, TinyWorld
from tinytroupe.runtime.clock import VirtualClock, use_clock
from tinytroupe.testing import MockLLM


@pytest.fixture
def llm():
    with VirtualClock() as clock, use_clock(clock), MockLLM(latency=1.0) as mock:
        yield mock


def through_json(state):
    return json.loads(json.dumps(state, allow_nan=False))


def lived(name="Ann"):
    ann = TinyPerson(name).define("age", 40).define("likes", ["tea"]).move_to("the kitchen", ["it rains"])
    ann.semantic_memory.store("Bo bakes.")
    ann.listen("Hello", "Bo").act()
    ann.listen("And?", "Bo")
    return ann


def town(kind=TinyWorld):
    world = kind("Town", [TinyPerson(name) for name in ("Ann", "Bo", "Cy")])
    world.make_everyone_accessible().broadcast("Hello")
    world.run(3, timedelta(hours=1))
    return world


# ---------------------------------------------------------------- people


def test_a_person_through_json_and_back(llm):
    ann = lived()
    state = ann.encode_complete_state()
    again = TinyPerson("Ann").decode_complete_state(through_json(state))
    assert again.encode_complete_state() == state
    assert again.pop_latest_actions() == ann.pop_latest_actions()
    assert again.persona == ann.persona
    assert again.usage == ann.usage
    assert again.episodic_memory.retrieve_all() == ann.episodic_memory.retrieve_all()
    ann.act()
    again.act()
    *_, one, other = (exchange.call.messages for exchange in llm.exchanges if exchange.call.endpoint == "chat")
    assert one == other


def test_a_state_is_a_copy(llm):
    ann = lived()
    state = ann.encode_complete_state()
    before = copy.deepcopy(state)
    ann.define("likes", ["rain"], merge=True).listen("More").act()
    assert state == before
    again = TinyPerson("Ann").decode_complete_state(state)
    again.define("likes", {"a": 1})
    assert state == before


def test_acquaintances_are_found_in_the_world_else_in_the_process(llm):
    ann, bo, cy = TinyPerson("Ann"), TinyPerson("Bo"), TinyPerson("Cy")
    ann.make_agent_accessible(bo, "my brother")
    ann.make_agent_accessible(cy)
    state = ann.encode_complete_state()
    del cy
    ann.make_all_agents_inaccessible()
    gc.collect()
    assert TinyPerson("Ann").decode_complete_state(state).accessible_agents == [bo]
    other_bo = TinyPerson("Bo")
    here = TinyPerson("Ann")
    TinyWorld("Town", [here, other_bo])
    assert here.decode_complete_state(state).accessible_agents == [other_bo]
    assert here.encode_complete_state()["accessible_agents"] == {"Bo": "my brother"}


def spoilt(state):
    """Every way of leaving something out or giving something of another kind."""
    for key in state:
        yield f"without {key}", {name: value for name, value in state.items() if name != key}
        yield f"{key} of another kind", {**state, key: object()}
    yield "another's", {**state, "name": "Bo"}
    yield (
        "memories out of order",
        {
            **state,
            "episodic_memory": {
                **state["episodic_memory"],
                "entries": state["episodic_memory"]["entries"][::-1],
            },
        },
    )
    yield "a memory of nothing", {**state, "semantic_memory": {"entries": [{}]}}
    yield "usage in words", {**state, "usage": {"calls": "many"}}
    yield "no state", 7


def test_what_is_not_sound_changes_nothing(llm):
    ann = lived()
    before = ann.encode_complete_state()
    wrong = list(spoilt(lived().encode_complete_state()))
    assert len(wrong) > 25
    for what, state in wrong:
        with pytest.raises(ValueError, match=r"Ann|state"):
            pytest.fail(f"{what}: {ann.decode_complete_state(state)}")
        assert ann.encode_complete_state() == before, what


# ---------------------------------------------------------------- worlds


def test_a_world_through_json_and_back_and_on(llm):
    llm.when().reply_actions([("TALK", "So?")])
    world = town()
    state = world.encode_complete_state()
    again = TinyWorld("Empty").decode_complete_state(through_json(state))
    assert again.encode_complete_state() == state
    assert [agent.name for agent in again.agents] == ["Ann", "Bo", "Cy"]
    assert again.current_datetime == world.current_datetime
    assert again.agents[0].accessible_agents == again.agents[1:]
    for one in (world, again):
        one.run(1)
    assert [a.encode_complete_state() for a in again.agents] == [a.encode_complete_state() for a in world.agents]


def test_a_world_s_people_become_those_of_the_state(llm):
    state = town().encode_complete_state()
    bo, zoe = TinyPerson("Bo"), TinyPerson("Zoe")
    world = TinyWorld("Elsewhere", [zoe, bo], initial_datetime=None).decode_complete_state(state)
    assert [agent.name for agent in world.agents] == ["Ann", "Bo", "Cy"]
    assert world.get_agent_by_name("Bo") is bo
    assert bo.environment is world
    assert zoe.environment is None
    assert world.name == "Town"


def spoilt_worlds(state):
    for key in state:
        yield {name: value for name, value in state.items() if name != key}
        if key != "name":
            yield {**state, key: object()}
    yield {**state, "current_datetime": "yesterday"}
    yield {**state, "agents": [*state["agents"], state["agents"][0]]}
    yield {**state, "agents": [*state["agents"][:2], {**state["agents"][2], "usage": None}]}
    yield {**state, "agents": [*state["agents"], {**state["agents"][2], "name": "a\nb"}]}
    yield None


@pytest.mark.parametrize("kind", [TinyWorld, TinySocialNetwork])
def test_a_world_s_state_that_is_not_sound_changes_nothing(llm, kind):
    world = town(kind)
    before, people = world.encode_complete_state(), list(world.agents)
    for wrong in spoilt_worlds(town(kind).encode_complete_state()):
        with pytest.raises(ValueError, match=r"Town|name"):
            world.decode_complete_state(wrong)
        assert world.encode_complete_state() == before
        assert world.agents == people


def test_relations_are_part_of_a_network_s_state(llm):
    ann, bo, cy = (TinyPerson(name) for name in ("Ann", "Bo", "Cy"))
    network = TinySocialNetwork("Net").add_relation(ann, bo, "family").add_relation(bo, cy)
    network.run(2)
    state = network.encode_complete_state()
    again = TinySocialNetwork("Other").decode_complete_state(through_json(state))
    assert again.encode_complete_state() == state
    one, two, three = again.agents
    assert again.is_in_relation_with(one, two, "family")
    assert again.is_in_relation_with(two, three)
    assert not again.is_in_relation_with(one, three)
    assert one.accessible_agents == [two]
    wrong = {**state, "relations": {"family": [["Ann", "Nobody"]]}}
    with pytest.raises(ValueError, match="the relation 'family' is of 'Ann' and 'Nobody'"):
        again.decode_complete_state(wrong)
    assert again.encode_complete_state() == state
