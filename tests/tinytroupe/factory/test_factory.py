"""People made up by a model: at once, all different, or a clear error."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tinytroupe.agent import ReplyError, TinyPerson
from tinytroupe.factory import FactoryError, TinyPersonFactory
from tinytroupe.factory.particulars import particulars
from tinytroupe.factory.tiny_person_factory import PERSON_SCHEMA
from tinytroupe.llm import ModelError
from tinytroupe.runtime.clock import VirtualClock, use_clock
from tinytroupe.testing import MockLLM
from tinytroupe.testing.call import Call


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    with VirtualClock() as clock, use_clock(clock):
        yield clock


@pytest.fixture
def llm(clock: VirtualClock) -> Iterator[MockLLM]:
    with MockLLM() as mock:
        yield mock


def numbered(call: Call) -> dict[str, Any]:
    return {"name": f"Person {call.index}", "age": 30, "occupation": {"title": "baker"}, "invented": "extra"}


def test_a_person_has_what_the_model_made_up_and_nothing_else(llm: MockLLM) -> None:
    llm.reply(numbered)
    factory = TinyPersonFactory("Customers of a bank", sampling_space_description="all of Brazil")
    person = factory.generate_person("A retired diver", temperature=1.2, frequency_penalty=None)
    assert isinstance(person, TinyPerson)
    assert person.persona == {"name": "Person 0", "age": 30, "occupation": {"title": "baker"}}
    call = llm.exchanges[-1].call
    assert (call.schema_name, call.schema) == ("person", PERSON_SCHEMA.schema)
    assert call.body["temperature"] == 1.2
    assert "frequency_penalty" not in call.body
    assert call.person == ""
    for told in ("Customers of a bank", "all of Brazil", "A retired diver", "- extraversion: "):
        assert told in call.content
    assert factory.usage.calls == 1


def test_people_are_asked_for_at_once_and_start_from_different_points(llm: MockLLM, clock: VirtualClock) -> None:
    llm.latency = 2.0
    llm.when(schema="person").reply(numbered)
    people = TinyPersonFactory("A market", 20).generate_people()
    assert clock.now() == 2.0
    assert llm.calls == 20
    assert len({person.name for person in people}) == 20
    assert len({exchange.call.content for exchange in llm.exchanges}) == 20
    systems = {exchange.call.messages[0]["content"] for exchange in llm.exchanges}
    assert len(systems) == 1  # the part that providers cache
    assert not systems.pop().startswith("You are ")


def test_the_same_seed_asks_the_same_and_another_asks_otherwise(llm: MockLLM) -> None:
    llm.when(schema="person").reply(numbered)

    def asked(seed: int) -> set[str]:
        llm.exchanges.clear()
        TinyPersonFactory("A market", seed=seed).generate_people(5)
        return {exchange.call.content for exchange in llm.exchanges}

    assert asked(1) == asked(1)
    assert not asked(1) & asked(2)


def test_names_that_are_taken_are_asked_for_again_told_which(llm: MockLLM) -> None:
    given = iter(["Ann Lee", "ann  lee", "Bob Ray", "Cleo Fox", "Dan Oz"])
    llm.when(schema="person").reply(lambda call: {"name": next(given)})
    factory = TinyPersonFactory("A market", taken_names=["CLEO FOX"])
    people = factory.generate_people(3)
    assert [person.name for person in people] == ["Ann Lee", "Dan Oz", "Bob Ray"]
    assert llm.calls == 5  # 3, then 1 for "ann  lee", then 1 for "Cleo Fox", which was taken from the start
    last = llm.exchanges[-1].call.content
    assert "CLEO FOX, Ann Lee, Bob Ray" in last
    assert factory.usage.calls == 5


def test_later_calls_know_the_names_of_earlier_ones(llm: MockLLM) -> None:
    given = iter(["Ann Lee", "Ann Lee", "Bob Ray"])
    llm.when(schema="person").reply(lambda call: {"name": next(given)})
    factory = TinyPersonFactory("A market")
    assert [factory.generate_person().name, factory.generate_person().name] == ["Ann Lee", "Bob Ray"]


@pytest.mark.parametrize("attempts", [1, 3])
def test_names_that_stay_taken_end_in_an_error_and_nobody_is_kept(llm: MockLLM, attempts: int) -> None:
    llm.when(schema="person").reply({"name": "Ann Lee"})
    factory = TinyPersonFactory("A market")
    with pytest.raises(FactoryError, match=f"1 of 2 people .* in {attempts} rounds .*'Ann Lee'"):
        factory.generate_people(2, attempts=attempts)
    assert llm.calls == 1 + attempts
    assert factory.generate_person().name == "Ann Lee"  # nobody has it: the failed call kept nobody


@pytest.mark.parametrize(
    ("reply", "wrong"),
    [
        ({}, "'name' must be a text"),
        ({"name": "  "}, "printable"),
        ({"name": "x" * 201}, "200"),
        ({"name": "Ann", "age": 200}, "'age'"),
        ({"name": "Ann", "age": True}, "'age'"),
        ("no", "not JSON"),
    ],
)
def test_unusable_replies_are_errors(llm: MockLLM, reply: Any, wrong: str) -> None:
    llm.when(schema="person").reply(reply)
    with pytest.raises(ReplyError, match=re.escape(wrong)) as caught:
        TinyPersonFactory().generate_person()
    assert "person 0 could not be made" in str(caught.value)
    assert llm.calls == 3


def test_errors_of_the_model_pass_through(llm: MockLLM) -> None:
    llm.when(schema="person").fail(status=401)
    with pytest.raises(ModelError):
        TinyPersonFactory().generate_people(3)


@pytest.mark.parametrize("number", [0, -1, True, 1.5])
def test_numbers_that_make_no_sense(number: Any) -> None:
    with pytest.raises(ValueError, match="whole number"):
        TinyPersonFactory().generate_people(number)
    with pytest.raises(ValueError, match="whole number"):
        TinyPersonFactory(total_population_size=number)


def test_a_number_is_needed_and_at_least_one_attempt() -> None:
    with pytest.raises(ValueError, match="how many"):
        TinyPersonFactory().generate_people()
    with pytest.raises(ValueError, match="attempts"):
        TinyPersonFactory().generate_people(1, attempts=0)


def test_async_forms_and_post_processing(llm: MockLLM) -> None:
    llm.when(schema="person").reply(numbered)

    async def main() -> list[TinyPerson]:
        factory = TinyPersonFactory()
        one = await factory.generate_person_async(post_processing_func=lambda person: person.define("mood", "good"))
        return [one, *await factory.generate_people_async(2)]

    people = asyncio.run(main())
    assert [person.get("mood") for person in people] == ["good", None, None]


def test_an_unscripted_mock_makes_a_whole_persona(llm: MockLLM) -> None:
    person = TinyPersonFactory("A market").generate_person()
    assert list(person.persona) == list(PERSON_SCHEMA.schema["properties"])
    assert person.minibio()


def test_starting_points_cover_every_level_evenly() -> None:
    drawn = [particulars(0, "x", index) for index in range(100)]
    assert len({tuple(one.values()) for one in drawn}) == 100
    for trait in ("openness", "neuroticism", "money"):
        levels = [one[trait] for one in drawn]
        assert {levels.count(level) for level in set(levels)} <= set(range(15, 26))  # 20 each, were it exact
    assert len({one["age"] for one in drawn}) > 30
    assert particulars(0, "x", 7) == drawn[7] != particulars(1, "x", 7)
