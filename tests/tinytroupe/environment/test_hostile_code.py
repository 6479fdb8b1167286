"""Functions of the program's own that raise what a loop or a scheduler stumbles over: the run ends all the same."""

from __future__ import annotations

import asyncio

import pytest

from tinytroupe.agent import CustomMentalFaculty, TinyMentalFaculty, TinyPerson, TinyToolUse
from tinytroupe.environment import SimulationError, TinySocialNetwork, TinyWorld
from tinytroupe.steering import Intervention, InterventionError
from tinytroupe.testing import MockLLM
from tinytroupe.tools import TinyTool

FAR_S = 20.0
"""Only waited for where something is broken; on real time, since virtual time would wait for the thread, too."""


@pytest.fixture
def llm():
    with MockLLM(strict=False) as mock:
        yield mock


def ended(coroutine):
    """Return the error of a coroutine, which is over before long."""

    async def watch():
        task = asyncio.ensure_future(coroutine)
        done, _ = await asyncio.wait([task], timeout=FAR_S)
        task.cancel()
        await asyncio.wait([task])
        assert done, "it goes on for ever"
        return None if task.cancelled() else task.exception()

    return asyncio.run(watch())


def exhausted(*_):
    return next(iter([]))


def test_a_plain_act_may_run_out_of_an_iterator(llm):
    ann = TinyPerson("Ann")
    ann.act = exhausted
    world = TinyWorld("Town", [ann, TinyPerson("Bo")])
    assert ended(world.run_async(1)) is None
    failed, acted = world.timeline()
    assert (failed.status, acted.status) == ("failed", "acted")
    assert str(failed.error) == "exhausted raised StopIteration"


class Broken(TinyTool):
    actions = {"NOTE": "write something down"}  # noqa: RUF012

    def process_action(self, agent, action):
        return exhausted()


@pytest.mark.parametrize(
    "faculty",
    [
        CustomMentalFaculty("Notes", {"NOTE": {"description": "write something down", "function": exhausted}}),
        TinyToolUse([Broken("Notes")]),
    ],
)
def test_so_may_what_a_faculty_or_a_tool_does(llm, faculty):
    llm.when(person="Ann").reply_actions([("NOTE", "milk", "")])
    world = TinyWorld("Town", [TinyPerson("Ann", mental_faculties=[faculty])])
    error = ended(world.run_async(1))
    assert isinstance(error, SimulationError)
    assert "raised StopIteration" in str(error)


def test_so_may_an_intervention(llm):
    intervention = Intervention(TinyPerson("Ann")).set_effect(exhausted)
    error = ended(intervention.execute_async())
    assert isinstance(error, InterventionError)
    assert "exhausted raised StopIteration" in str(error)


class Cancelling(TinyMentalFaculty):
    touches_others = False

    async def process_actions_async(self, agent, actions):
        raise asyncio.CancelledError


def ring(*faculties):
    people = [TinyPerson(f"P{number}") for number in range(6)]
    people[0].add_mental_faculties(faculties)
    world = TinySocialNetwork("Ring", people)
    for one, other in zip(people, people[1:] + people[:1], strict=True):
        world.add_relation(one, other)
    return world


@pytest.mark.parametrize("how", ["sequential", "parallel", "dependency"])
def test_a_faculty_that_cancels_itself_ends_the_run_with_an_error(llm, how):
    error = ended(ring(Cancelling()).run_async(3, scheduler=how))
    assert isinstance(error, SimulationError)
    assert "what P0 did was cancelled from inside" in str(error)


class FailsAtFirst(TinyPerson):
    failures = 0

    async def act_async(self, *args, **options):
        done = await super().act_async(*args, **options)
        if not self.failures:
            self.failures += 1
            raise OSError("after the deed")
        return done


def test_what_a_failed_act_did_is_not_done_in_a_later_turn(llm):
    llm.when(person="Ann").reply_talk("Hello", "Bo")
    ann = FailsAtFirst("Ann")
    world = TinyWorld("Town", [ann, TinyPerson("Bo")])
    assert ended(world.run_async(1)) is None
    assert ann.pop_latest_actions() == []
    assert ended(world.run_async(1)) is None
    failed, acted = (outcome for outcome in world.timeline() if outcome.person == "Ann")
    assert (failed.status, failed.actions) == ("failed", ())
    assert [action.content for action in acted.actions if action.type == "TALK"] == ["Hello"]


def test_nor_is_what_somebody_did_between_the_steps(llm):
    llm.when(person="Ann").reply_talk("Hello", "Bo")
    ann = FailsAtFirst("Ann")
    ann.failures = 1
    world = TinyWorld("Town", [ann, TinyPerson("Bo")])
    ann.act()
    assert ended(world.run_async(1)) is None
    acted = world.timeline()[0]
    assert [action.content for action in acted.actions if action.type == "TALK"] == ["Hello"]
