"""What turns took, to the second: work is work, and waiting is told apart, whatever became of the turn."""

from __future__ import annotations

import asyncio

import pytest

from tinytroupe.agent import TinyPerson
from tinytroupe.config import config_manager
from tinytroupe.environment import TinySocialNetwork
from tinytroupe.llm import ChatRequest
from tinytroupe.llm.openai_model import OpenAIModel
from tinytroupe.runtime.clock import VirtualClock, use_clock
from tinytroupe.testing import MockLLM

SCHEDULERS = ["parallel", "dependency"]


def lived(how, script, people=("Ann", "Bo", "Cy"), prepare=None, **options):
    """Return what became of each turn of one step, and the metrics."""
    with (
        VirtualClock() as clock,
        use_clock(clock),
        MockLLM(latency=1.0, strict=False) as llm,
        config_manager.override(**options),
    ):
        script(llm)
        world = TinySocialNetwork("Net", [TinyPerson(name) for name in people], model=OpenAIModel())
        if prepare is not None:
            prepare(world)
        world.run(1 if how == "parallel" else 2, scheduler=how)  # one step alone leaves no room for the other
        turns = {each.person: each for each in world.timeline() if each.step == 0}
        return turns, world.get_parallel_metrics()


def spent(turns):
    return {name: (turn.status, turn.busy_s, turn.queued_s, turn.backoff_s) for name, turn in turns.items()}


@pytest.mark.parametrize("limit", ["max_concurrent_model_calls", "max_workers"])
def test_of_three_people_and_one_place_two_queue(limit):
    turns, metrics = lived("parallel", lambda llm: None, **{limit: 1})
    assert spent(turns) == {
        "Ann": ("acted", 1.0, 0.0, 0.0),
        "Bo": ("acted", 1.0, 1.0, 0.0),
        "Cy": ("acted", 1.0, 2.0, 0.0),
    }
    assert {key: metrics[key] for key in ("elapsed_s", "busy_s", "queued_s", "backoff_s")} == {
        "elapsed_s": 3.0,
        "busy_s": 3.0,
        "queued_s": 3.0,
        "backoff_s": 0.0,
    }
    assert metrics["avg_parallel_speedup"] == 1.0
    assert metrics["stall_share"] == pytest.approx(3 / 9)  # Ann for two seconds, Bo for one


@pytest.mark.parametrize("how", SCHEDULERS)
def test_of_a_turn_that_fails_too(how):
    def refusing(llm):
        llm.when(person="Bo", call=0).reply(refusal="No.", latency_s=1.0)

    turns, metrics = lived(how, refusing, max_concurrent_model_calls=1)
    assert spent(turns)["Bo"] == ("failed", 1.0, 1.0, 0.0)
    assert spent(turns)["Cy"] == ("acted", 1.0, 2.0, 0.0)
    assert how != "parallel" or (metrics["busy_s"], metrics["queued_s"]) == (3.0, 3.0)


@pytest.mark.parametrize("how", SCHEDULERS)
@pytest.mark.parametrize("limit", ["turn_timeout", "parallel_execution_timeout"])
def test_and_of_one_whose_time_is_over(how, limit):
    def slow(llm):
        llm.when(call=0).reply({}, latency_s=100.0)

    turns, metrics = lived(how, slow, max_concurrent_model_calls=1, **{limit: 4.0})
    assert spent(turns) == {
        "Ann": ("timed out", 4.0, 0.0, 0.0),
        "Bo": ("timed out", 0.0, 4.0, 0.0),
        "Cy": ("timed out", 0.0, 4.0, 0.0),
    }
    assert how != "parallel" or (metrics["avg_parallel_speedup"], metrics["stall_share"]) == (1.0, 0.0)


@pytest.mark.parametrize("attempts", [1, 2])
def test_waiting_for_the_next_attempt_is_neither_work_nor_a_queue(attempts):
    def failing(llm):
        llm.when(person="Ann").times(attempts).fail("server_error")

    turns, metrics = lived("parallel", failing, people=("Ann", "Bo"))
    ann = turns["Ann"]
    assert ann.status == "acted"
    assert ann.busy_s == pytest.approx(attempts + 1.0)  # each is answered after a second, one way or the other
    assert ann.queued_s == 0.0
    assert ann.backoff_s == pytest.approx(ann.elapsed_s - ann.busy_s)
    assert ann.backoff_s > 0.25 * attempts
    assert metrics["backoff_s"] == ann.backoff_s
    assert metrics["stall_share"] == pytest.approx((ann.elapsed_s - 1.0) / (2 * ann.elapsed_s))  # Bo's, meanwhile


def test_so_is_that_of_a_turn_which_gives_up():
    def failing(llm):
        llm.when(person="Ann").fail("server_error")

    turns, metrics = lived("parallel", failing, people=("Ann", "Bo"), max_attempts=3)
    ann = turns["Ann"]
    assert (ann.status, ann.queued_s) == ("failed", 0.0)
    assert ann.busy_s == pytest.approx(3.0)
    assert ann.backoff_s == pytest.approx(ann.elapsed_s - 3.0)
    assert ann.backoff_s > 0.5
    assert metrics["busy_s"] == pytest.approx(4.0)


def test_a_turn_works_while_one_of_its_calls_is_answered():
    def prepare(world):
        ann = world.agents[0]

        async def act():
            ask = ChatRequest([{"role": "user", "content": "Hello"}])
            await asyncio.gather(*(world.model.complete(ask) for _ in range(3)))

        ann.act_async = act

    turns, _ = lived("parallel", lambda llm: llm.when(), ("Ann",), prepare, max_concurrent_model_calls=1)
    assert spent(turns) == {"Ann": ("acted", 3.0, 0.0, 0.0)}
