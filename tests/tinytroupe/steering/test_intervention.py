"""Interventions: when something holds, do something."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tinytroupe.agent import TinyPerson
from tinytroupe.environment import TinyWorld
from tinytroupe.llm import ModelError
from tinytroupe.runtime.clock import VirtualClock, use_clock
from tinytroupe.steering import Intervention, InterventionBatch, InterventionError, intervene
from tinytroupe.testing import DirectModel, MockLLM

YES = {"why": "it is said", "holds": True}
NO = {"why": "nothing says so", "holds": False}


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    with VirtualClock() as clock, use_clock(clock):
        yield clock


@pytest.fixture
def llm(clock: VirtualClock) -> Iterator[MockLLM]:
    with MockLLM() as mock:
        yield mock


@pytest.fixture
def lisa() -> TinyPerson:
    return TinyPerson("Lisa")


def test_a_function_decides_and_the_effect_gets_the_targets(clock: VirtualClock, lisa: TinyPerson) -> None:
    intervention = (
        Intervention(lisa)
        .set_functional_precondition(lambda targets: targets.get("mood") == "bad")
        .set_effect(lambda targets: targets.think("Cheer up."))
    )
    assert intervention.check_precondition() is False
    assert "did not hold" in intervention.precondition_justification()
    assert intervention() is False
    lisa.define("mood", "bad")
    assert intervention.execute() is True
    assert "Cheer up." in str(lisa.episodic_memory.retrieve_all()[-1].content)
    assert intervention.usage.calls == 0


def test_without_preconditions_it_always_happens(clock: VirtualClock, lisa: TinyPerson) -> None:
    seen: list[Any] = []
    assert Intervention([lisa]).set_effect(seen.append).execute() is True
    assert seen == [[lisa]]


def test_a_text_is_judged_from_the_last_memories(llm: MockLLM, lisa: TinyPerson) -> None:
    for number in range(10):
        lisa.see(f"thing {number}")
    llm.reply(YES).reply(NO)
    intervention = Intervention(lisa, last_n=2).set_textual_precondition("Lisa has seen enough.")
    assert intervention.check_precondition() is True
    assert intervention.precondition_justification() == "it is said"
    assert intervention.check_precondition() is False
    call = llm.exchanges[-1].call
    assert call.schema_name == "precondition"
    assert "Lisa has seen enough." in call.content
    assert "thing 8" in call.content
    assert "thing 7" not in call.content
    assert intervention.usage.calls == 2


def test_functions_come_first_and_texts_are_asked_together(llm: MockLLM, lisa: TinyPerson) -> None:
    llm.reply(YES)
    asked: list[str] = []
    intervention = Intervention(lisa).set_textual_precondition("one").set_functional_precondition(lambda _: False)
    assert intervention.check_precondition() is False
    assert llm.calls == 0
    intervention.set_functional_precondition(lambda _: asked.append("f") or True)
    intervention.chain("two", lambda _: asked.append("g") or True)
    assert intervention.check_precondition() is True
    assert asked == ["f", "g"]
    assert llm.calls == 1
    assert "- one\n- two" in llm.exchanges[-1].call.content
    intervention.chain(lambda _: False)
    assert intervention.check_precondition() is False
    assert llm.calls == 1


def test_functions_may_use_synchronous_verbs_and_be_async(llm: MockLLM, lisa: TinyPerson) -> None:
    llm.when(person="Lisa").reply_talk("Well then.")

    async def holds(target: TinyPerson) -> bool:
        await asyncio.sleep(1)
        return True

    async def effect(target: TinyPerson) -> None:
        await target.listen_and_act_async("And now?")

    both = Intervention(lisa).chain(holds, lambda target: bool(target.listen_and_act("Say it.", return_actions=True)))
    assert both.set_effect(lambda target: target.act()).execute() is True
    assert both.set_effect(effect).execute() is True
    llm.assert_called(4, person="Lisa")


def test_worlds_and_several_people(llm: MockLLM) -> None:
    llm.when(schema="precondition").reply(YES)
    ann, bob = TinyPerson("Ann"), TinyPerson("Bob")
    world = TinyWorld("Market", [ann, bob])
    world.broadcast("Prices fall.", source="Crier")
    intervention = Intervention([world, ann]).set_textual_precondition("They know of prices.")
    assert intervention.set_effect(lambda targets: targets[0].broadcast("Buy!")).execute() is True
    content = llm.exchanges[-1].call.content
    assert "# About\nAnn, Bob\n" in content
    assert content.count("Prices fall.") == 1
    assert "Buy!" in str(bob.episodic_memory.retrieve_all()[-1].content)


def test_the_targets_own_model_and_clock_are_used(lisa: TinyPerson) -> None:
    mock = MockLLM(latency=3.0).reply(YES)
    with VirtualClock() as own:
        TinyWorld("W", [lisa], clock=own, model=DirectModel(mock))
        assert Intervention(lisa).set_textual_precondition("x").check_precondition() is True
        assert own.now() == 3.0
    assert mock.calls == 1


def test_all_look_at_the_same_moment_are_asked_at_once_and_happen_in_order(llm: MockLLM, clock: VirtualClock) -> None:
    llm.latency = 1.0
    llm.when(content="- a").reply(YES)
    llm.when(content="- b").reply(NO)
    llm.when(content="- c").reply(YES)
    happened: list[str] = []
    people = {name: TinyPerson(name) for name in "abc"}
    interventions = [
        Intervention(people[name], name=name)
        .set_textual_precondition(name)
        .chain(lambda _: not happened)
        .set_effect(lambda target: happened.append(target.name))
        for name in "cab"
    ]
    due = clock.run(intervene(interventions))
    assert [one.name for one in due] == happened == ["c", "a"]
    assert clock.now() == 1.0


def test_a_batch_sets_up_one_for_each(llm: MockLLM) -> None:
    llm.when(schema="precondition").reply(YES)
    seen: list[str] = []
    batch = Intervention.create_for_each([TinyPerson("Ann"), TinyPerson("Bob")], last_n=3)
    assert isinstance(batch, InterventionBatch)
    batch.set_textual_precondition("x").set_functional_precondition(lambda _: True).chain("y")
    batch.set_effect(lambda target: seen.append(target.name))
    assert len(batch) == 2
    assert all(one.execute() for one in batch)
    assert seen == ["Ann", "Bob"]
    assert batch.execute() is True
    assert seen == ["Ann", "Bob"] * 2
    assert InterventionBatch([]).execute() is False


def test_errors_say_which_intervention_and_keep_the_cause(llm: MockLLM, lisa: TinyPerson) -> None:
    def broken(_: Any) -> bool:
        raise KeyError("mood")

    happened: list[Any] = []
    fine = Intervention(lisa, name="fine").set_effect(happened.append)
    wrong = Intervention(lisa, name="wrong").set_functional_precondition(broken).set_effect(print)
    with pytest.raises(InterventionError, match=r"wrong: a precondition, .*broken, failed with KeyError") as caught:
        asyncio.run(intervene([fine, wrong]))
    assert isinstance(caught.value.__cause__, KeyError)
    assert happened == []
    with pytest.raises(InterventionError, match=r"fine: its effect, .*broken, failed"):
        fine.set_effect(broken).execute()
    with pytest.raises(InterventionError, match="no effect; give it one"):
        Intervention(lisa).apply_effect()
    llm.when(schema="precondition").reply({"holds": "perhaps"})
    with pytest.raises(InterventionError, match=r"judgement .* can't be read: .*true or false"):
        Intervention(lisa).set_textual_precondition("x").check_precondition()
    assert llm.calls == 3


def test_a_model_that_does_not_answer_is_an_error_and_nothing_happens(llm: MockLLM, lisa: TinyPerson) -> None:
    llm.when(schema="precondition").fail(status=401)
    happened: list[Any] = []
    first = Intervention(lisa).set_effect(happened.append)
    with pytest.raises(ModelError):
        asyncio.run(intervene([first, Intervention(lisa).set_textual_precondition("x").set_effect(happened.append)]))
    assert happened == []


def test_what_makes_no_sense_is_refused(lisa: TinyPerson) -> None:
    with pytest.raises(TypeError, match="people or worlds, not str"):
        Intervention(["Lisa"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="at least one target"):
        Intervention([])
    with pytest.raises(ValueError, match="last_n"):
        Intervention(lisa, last_n=-1)
    with pytest.raises(ValueError, match="claims something"):
        Intervention(lisa).set_textual_precondition(" ")
    with pytest.raises(TypeError, match="function"):
        Intervention(lisa).set_effect("x")  # type: ignore[arg-type]
    assert repr(Intervention(lisa)) == "Intervention('intervention on Lisa')"
