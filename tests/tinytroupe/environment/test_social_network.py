"""Worlds in which relations decide who reaches whom."""

from __future__ import annotations

import pytest

from tinytroupe.agent import TinyPerson
from tinytroupe.environment import TinySocialNetwork
from tinytroupe.runtime.clock import VirtualClock, use_clock
from tinytroupe.testing import MockLLM


@pytest.fixture
def llm():
    with VirtualClock() as clock, use_clock(clock), MockLLM(latency=1.0) as mock:
        yield mock


@pytest.fixture
def people():
    return [TinyPerson(name) for name in ("Ann", "Bo", "Cy", "Di")]


def heard(person):
    return [
        each["content"]
        for memory in person.episodic_memory.retrieve_all()
        for each in memory.content.get("stimuli", ())
        if each["type"] == "CONVERSATION"
    ]


def test_relations_go_both_ways_and_bring_people_in(people):
    ann, bo, cy, _ = people
    network = TinySocialNetwork("Net", [ann]).add_relation(ann, bo, "sister").add_relation(bo, cy)
    assert network.agents == [ann, bo, cy]
    assert (ann.accessible_agents, bo.accessible_agents, cy.accessible_agents) == ([bo], [ann, cy], [bo])
    assert network.is_in_relation_with(bo, ann)
    assert network.is_in_relation_with(bo, ann, "sister")
    assert not network.is_in_relation_with(bo, ann, "default")
    assert not network.is_in_relation_with(bo, ann, "no such relation")
    assert not network.is_in_relation_with(ann, cy)


def test_a_relation_is_kept_once(people):
    ann, bo, *_ = people
    network = TinySocialNetwork().add_relation(ann, bo).add_relation(bo, ann)
    assert len(network.relations["default"]) == 1


def test_nobody_is_related_to_themselves(people):
    with pytest.raises(ValueError, match="Ann can't be related to themselves"):
        TinySocialNetwork().add_relation(people[0], people[0])


def test_a_relation_with_a_namesake_changes_nothing(people):
    ann, bo, *_ = people
    network = TinySocialNetwork("Net", [ann])
    with pytest.raises(ValueError, match="names must be unique"):
        network.add_relation(bo, TinyPerson("Ann"))
    assert network.agents == [ann]
    assert network.relations == {}
    assert bo.accessible_agents == []


@pytest.mark.parametrize("target", ["", "Di", "Nobody"])
def test_what_is_said_to_nobody_related_is_heard_by_the_related(llm, people, target):
    ann, bo, cy, di = people
    network = TinySocialNetwork("Net", people).add_relation(ann, bo).add_relation(ann, cy)
    llm.when(person="Ann").reply_talk("Hello", target)
    llm.when().reply_actions([])
    network.run(1)
    assert [heard(person) for person in people] == [[], ["Hello"], ["Hello"], []]
    assert di.accessible_agents == []


def test_or_by_none_where_that_is_wanted(llm, people):
    ann, bo, *_ = people
    network = TinySocialNetwork("Net", people, broadcast_if_no_target=False).add_relation(ann, bo)
    llm.when(person="Ann").reply_talk("Hello", "Di")
    llm.when().reply_actions([])
    network.run(1)
    assert [heard(person) for person in people] == [[], [], [], []]


def test_talk_reaches_a_related_target_alone(llm, people):
    ann, bo, cy, _ = people
    network = TinySocialNetwork("Net", people).add_relation(ann, bo).add_relation(ann, cy)
    llm.when(person="Ann").reply_talk("Hello", "Cy")
    llm.when().reply_actions([])
    network.run(1)
    assert [heard(person) for person in people] == [[], [], ["Hello"], []]


def test_one_can_t_reach_out_to_whom_one_is_not_related_to(llm, people):
    ann, bo, _, di = people
    network = TinySocialNetwork("Net", people).add_relation(ann, bo)
    llm.when(person="Ann").reply_actions([("REACH_OUT", "Hey", "Di")])
    llm.when().reply_actions([])
    network.run(1)
    assert ann.accessible_agents == [bo]
    assert di.accessible_agents == []
    assert "Di is not there to be reached." in str(ann.episodic_memory.retrieve_all()[-1].content)


def test_reaching_out_keeps_the_name_of_the_relation(llm, people):
    ann, bo, *_ = people
    network = TinySocialNetwork("Net", people).add_relation(ann, bo, "sister")
    llm.when(person="Ann").reply_actions([("REACH_OUT", "Hey", "Bo")])
    llm.when().reply_actions([])
    network.run(2)
    assert "People you can reach: Bo (sister)\n" in next(
        exchange.call.content for exchange in reversed(llm.exchanges) if exchange.call.person == "Ann"
    )


def test_who_leaves_is_out_of_all_relations(people):
    ann, bo, cy, _ = people
    network = TinySocialNetwork("Net", people).add_relation(ann, bo).add_relation(bo, cy, "friend")
    network.remove_agent(bo)
    assert ann.accessible_agents == cy.accessible_agents == []
    assert bo.accessible_agents == []
    assert not network.is_in_relation_with(ann, bo)
    assert network.relations == {"default": [], "friend": []}
