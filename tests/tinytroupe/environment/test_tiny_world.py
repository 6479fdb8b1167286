"""A world through the real client on virtual time: who acts when, who hears what, what a failure leaves behind."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from datetime import datetime, timedelta

import pytest

from tinytroupe.agent import Action, ReplyError, TinyPerson
from tinytroupe.config import config_manager
from tinytroupe.environment import SimulationError, StepEvent, TinyWorld
from tinytroupe.llm import ModelError
from tinytroupe.runtime.clock import VirtualClock, WallClock, use_clock
from tinytroupe.testing import DirectModel, MockLLM

NAMES = ("Ann", "Bo", "Cy")


@pytest.fixture
def llm():
    with VirtualClock() as clock, use_clock(clock), MockLLM(latency=1.0) as mock:
        mock.clock = clock
        yield mock


def world_of(*names, **options):
    return TinyWorld("Town", [TinyPerson(name) for name in names or NAMES], **options)


def heard(person):
    """What a person perceived, as (source, content)."""
    return [
        (each["source"], each["content"])
        for memory in person.episodic_memory.retrieve_all()
        for each in memory.content.get("stimuli", ())
    ]


def did(person):
    return [
        memory.content["action"]["content"]
        for memory in person.episodic_memory.retrieve_all()
        if "action" in memory.content
    ]


# ---------------------------------------------------------------- who lives there


def test_people_are_found_by_name_and_can_leave():
    world = world_of()
    ann, bo, _ = world.agents
    assert world.get_agent_by_name("Bo") is bo
    assert ann.environment is world
    world.remove_agent(ann).remove_agent(ann)
    assert world.get_agent_by_name("Ann") is None
    assert ann.environment is None
    assert world.add_agent(bo).agents == world.agents[:2]
    assert world.remove_all_agents().agents == []
    assert repr(world) == "TinyWorld(name='Town', agents=0)"


def test_two_people_of_one_name_are_refused_and_nobody_is_added():
    world = world_of("Ann")
    bo = TinyPerson("Bo")
    with pytest.raises(ValueError, match="world 'Town' has a person named 'Ann' already; names must be unique"):
        world.add_agents([bo, TinyPerson("Ann")])
    assert [agent.name for agent in world.agents] == ["Ann"]
    assert bo.environment is None
    with pytest.raises(ValueError, match="names must be unique"):
        world_of("Ann", "Ann")


def test_a_person_lives_in_one_world():
    ann = world_of("Ann").agents[0]
    other = TinyWorld("Elsewhere")
    with pytest.raises(ValueError, match="Ann lives in world 'Town'; remove_agent there first"):
        other.add_agents([ann])
    ann.environment.remove_agent(ann)
    assert other.add_agent(ann).agents == [ann]


@pytest.mark.parametrize("on_error", ["ignore", "", "RAISE"])
def test_on_error_is_one_of_two(on_error):
    with pytest.raises(ValueError, match="on_error must be 'skip' or 'raise'"):
        TinyWorld(on_error=on_error)


def test_everyone_reaches_everyone_but_themselves():
    world = world_of().make_everyone_accessible()
    for agent in world.agents:
        assert agent.accessible_agents == [other for other in world.agents if other is not agent]


def test_a_thousand_people_who_reach_each_other_share_one_table():
    world = world_of(*(f"P{number}" for number in range(1000)))
    kept = TinyPerson("Friend elsewhere")
    world.agents[7].make_agent_accessible(kept)
    world.make_everyone_accessible()
    assert len({id(agent._reach) for agent in world.agents}) == 2
    assert kept in world.agents[7].accessible_agents
    world.agents[0].make_agent_inaccessible(world.agents[1])
    assert len(world.agents[0].accessible_agents) == 998
    assert len(world.agents[2].accessible_agents) == 999


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, None, "3"])
def test_a_run_needs_steps(llm, steps):
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1, got"):
        world_of().run(steps)
    assert llm.calls == 0


def test_a_run_needs_people(llm):
    with pytest.raises(ValueError, match=r"world 'Empty' has no people; add some with add_agents\(\[...\]\)"):
        TinyWorld("Empty").run(1)


def test_an_unknown_scheduler_lists_those_there_are(llm):
    with pytest.raises(ValueError, match="unknown scheduler 'fast'; there are: auto, sequential, parallel"):
        world_of().run(1, scheduler="fast")
    assert llm.calls == 0


# ---------------------------------------------------------------- time


@pytest.mark.parametrize(
    ("options", "elapsed_s"),
    [
        ({}, 2.0),
        ({"parallelize": True}, 2.0),
        ({"parallelize": False}, 6.0),
        ({"scheduler": "sequential"}, 6.0),
        ({"scheduler": "parallel", "parallelize": False}, 2.0),
        ({"scheduler": "auto"}, 2.0),
    ],
)
def test_how_people_act_is_chosen_by_the_run(llm, options, elapsed_s):
    world = world_of()
    world.run(2, **options)
    metrics = world.get_parallel_metrics()
    assert metrics["elapsed_s"] == elapsed_s == llm.clock.now()
    assert metrics["total_parallel_steps"] == (2 if elapsed_s == 2 else 0)
    assert metrics["total_sequential_steps"] == (0 if elapsed_s == 2 else 2)
    assert metrics["busy_s"] == 6.0
    assert metrics["model_calls"] == llm.calls == 6


@pytest.mark.parametrize("failing", [0, None], ids=["tried again", "given up"])
def test_no_run_is_faster_than_its_bound_whatever_failed(llm, failing):
    llm.when(call=failing).fail("server_error", retry_after=20, after_s=1.0)
    llm.when().reply_actions([])
    world = world_of(on_error="skip")
    with config_manager.override(max_concurrent_model_calls=1, max_attempts=1 if failing is None else 3):
        world.run(1, scheduler="parallel")
    metrics = world.get_parallel_metrics()
    assert metrics["parallel_errors"] == (3 if failing is None else 0)
    assert metrics["efficiency"] <= 1 + 1e-9


@pytest.mark.parametrize(
    ("settings", "elapsed_s"),
    [
        ({"parallel_agent_actions": False}, 3.0),
        ({"scheduler": "sequential"}, 3.0),
        ({"parallel_agent_actions": False, "scheduler": "parallel"}, 1.0),
        ({"max_workers": 1}, 3.0),
        ({"max_workers": 2}, 2.0),
        ({"max_workers": 3}, 1.0),
        ({"max_concurrent_model_calls": 1}, 3.0),
    ],
)
def test_or_by_the_settings_at_once(llm, settings, elapsed_s):
    world = world_of()
    with config_manager.override(**settings):
        world.run(1)
        assert world.get_parallel_metrics()["elapsed_s"] == elapsed_s


def test_a_setting_changed_between_two_runs_holds_for_the_second(llm):
    world = world_of()
    world.run(1)
    with config_manager.override(max_concurrent_model_calls=1):
        world.run(1)
    assert llm.clock.now() == 4.0
    world.run(1)
    assert llm.clock.now() == 5.0


def test_the_calendar_moves_by_the_step(llm):
    world = world_of(initial_datetime=datetime(2026, 3, 1, 8))
    world.run(3, timedelta(hours=6))
    assert world.current_datetime == datetime(2026, 3, 2, 2)
    assert "Time: Sunday 2026-03-01 20:00" in llm.exchanges[-1].call.content
    timeless = world_of("Di", initial_datetime=None)
    timeless.run(1, timedelta(days=1))
    assert timeless.current_datetime is None
    assert "Time:" not in llm.exchanges[-1].call.content


def test_metrics_add_up_over_runs_and_can_start_again(llm):
    world = world_of()
    for _ in range(3):
        world.run(1)
    assert world.get_parallel_metrics()["total_parallel_steps"] == 3
    assert len(world.timeline()) == 9
    world.reset_parallel_metrics()
    assert world.get_parallel_metrics()["total_parallel_steps"] == 0
    assert all(isinstance(value, (int, float)) for value in world.get_parallel_metrics().values())
    assert world.timeline() == ()


def test_the_timeline_is_bounded_and_only_kept_when_wanted(llm):
    with config_manager.override(timeline_length=4):
        world = world_of()
        world.run(2)
        assert [(outcome.step, outcome.person) for outcome in world.timeline()] == [
            (0, "Cy"),
            *((1, name) for name in NAMES),
        ]
        with config_manager.override(collect_parallel_metrics=False):
            world.run(1)
        assert world.timeline()[-1].step == 1
        assert world.get_parallel_metrics()["total_parallel_steps"] == 3


def test_entering_and_leaving_run_is_cheap():
    """A hundred runs of one step start no thread and ask for no more than one run of a hundred steps."""
    with VirtualClock() as clock, use_clock(clock), MockLLM(latency=1.0) as llm:
        world = world_of()
        world.run(1)
        threads, portal = set(threading.enumerate()), clock.portal
        for _ in range(100):
            world.run(1)
        assert set(threading.enumerate()) <= threads
        assert clock.portal is portal
        assert llm.calls == 303
        assert clock.now() == 101.0


# ---------------------------------------------------------------- who hears what


def test_actions_are_returned_by_step_and_person(llm):
    llm.when(person="Ann").reply_talk("Hello", "Bo")
    llm.when().reply_actions([])
    history = world_of().run(2, return_actions=True)
    assert [list(step) for step in history] == [list(NAMES)] * 2
    assert history[0]["Ann"] == [Action("TALK", "Hello", "Bo"), Action("DONE")]
    assert history[1]["Bo"] == [Action("DONE")]
    assert world_of("Di").run(1) is None


def test_talk_reaches_its_target_alone(llm):
    llm.when(person="Ann").reply_talk("Hello", "Bo")
    llm.when().reply_actions([])
    world = world_of()
    world.run(1)
    assert [heard(agent) for agent in world.agents] == [[], [("Ann", "Hello")], []]


@pytest.mark.parametrize("target", ["", "Nobody", "bo"])
def test_talk_to_nobody_there_is_heard_by_all_or_by_none(llm, target):
    llm.when(person="Ann").reply_talk("Hello", target)
    llm.when().reply_actions([])
    world = world_of()
    world.run(1)
    assert [heard(agent) for agent in world.agents] == [[], [("Ann", "Hello")], [("Ann", "Hello")]]
    world = world_of(broadcast_if_no_target=False)
    world.run(1)
    assert [heard(agent) for agent in world.agents] == [[], [], []]


@pytest.mark.parametrize("parallelize", [True, False])
def test_everyone_talking_to_everyone_shares_what_is_heard(llm, parallelize):
    llm.when().reply(lambda call: turn("TALK", f"I am {call.person}"))
    world = world_of()
    world.run(1, parallelize=parallelize)
    for agent in world.agents:
        others = [(name, f"I am {name}") for name in NAMES if name != agent.name]
        assert [entry for entry in heard(agent) if entry[0] != agent.name] == others
        assert did(agent) == [f"I am {agent.name}"]
    if parallelize:
        shared = {
            id(memory.content)
            for agent in world.agents
            for memory in agent.episodic_memory.retrieve_all()
            if "stimuli" in memory.content
        }
        assert len(shared) == 1


def test_in_a_sequence_people_act_on_what_was_just_said_at_once_they_do_not(llm):
    llm.when(person="Ann").reply_talk("News!")
    llm.when().reply_actions([])
    world_of().run(1, parallelize=False)
    assert "News!" in llm.exchanges[-1].call.content
    world_of().run(1, parallelize=True)
    assert "News!" not in llm.exchanges[-1].call.content


def test_reaching_out_makes_two_people_reach_each_other(llm):
    llm.when(person="Ann").reply_actions([("REACH_OUT", "about the fair", "Cy")])
    llm.when().reply_actions([])
    world = world_of()
    ann, bo, cy = world.agents
    world.run(1)
    assert ann.accessible_agents == [cy]
    assert cy.accessible_agents == [ann]
    assert heard(cy) == [("Ann", "Ann reaches out to you: about the fair")]
    assert heard(ann) == [("Cy", "Cy was reached and can be talked to now.")]
    assert heard(bo) == []


@pytest.mark.parametrize("target", ["", "Zoe"])
def test_reaching_out_to_nobody_there_is_told_to_who_tries(llm, target):
    llm.when(person="Ann").reply_actions([("REACH_OUT", "Hey", target)])
    llm.when().reply_actions([])
    world = world_of()
    world.run(1)
    (told,) = heard(world.agents[0])
    assert told == ("Town", f"{target or 'Nobody in particular'} is not there to be reached.")


def test_broadcasts_reach_all_but_their_source():
    world = world_of()
    ann, bo, cy = world.agents
    world.broadcast("Fire!", ann).broadcast("Water!").broadcast_thought("Hm").broadcast_internal_goal("to leave")
    world.broadcast_context_change(["smoke"])
    assert heard(ann) == [("Town", "Water!"), ("", "Hm"), ("", "to leave")]
    assert heard(bo) == heard(cy) == [("Ann", "Fire!"), *heard(ann)]
    assert bo.episodic_memory.retrieve_all()[0].event is cy.episodic_memory.retrieve_all()[0].event
    assert all(agent._context == ("smoke",) for agent in world.agents)


def test_outcomes_are_committed_in_the_order_of_the_people_whoever_was_first(llm):
    for delay, name in zip((3.0, 2.0, 1.0), NAMES, strict=True):
        llm.when(person=name).reply(turn("TALK", f"I am {name}"), latency_s=delay)
    world = world_of()
    world.run(1)
    world.broadcast("end")
    assert llm.clock.now() == 3.0
    assert [source for source, _ in heard(world.agents[0])] == ["Ann", "Bo", "Cy", "Town"]


# ---------------------------------------------------------------- failures


def turn(kind, content, target=""):
    return {"actions": [{"type": kind, "content": content, "target": target}, {"type": "DONE"}], "cognitive_state": {}}


@pytest.mark.parametrize("parallelize", [True, False])
@pytest.mark.parametrize("fault", ["malformed text", "refusal", "server_error", "bad_request", "empty"])
def test_a_turn_that_fails_is_counted_and_leaves_nothing(llm, caplog, fault, parallelize):
    rule = llm.when(person="Bo")
    _ = rule.reply("not a turn") if fault == "malformed text" else rule.fail(fault)
    llm.when().reply_talk("Hello")
    world = world_of()
    bo = world.agents[1]
    with caplog.at_level(logging.WARNING, "tinytroupe.world"):
        history = world.run(1, parallelize=parallelize, return_actions=True)
    metrics = world.get_parallel_metrics()
    assert (metrics["parallel_errors"], metrics["parallel_timeouts"]) == (1, 0)
    assert history[0]["Bo"] == []
    assert did(bo) == []
    assert bo.pop_latest_actions() == []
    assert did(world.agents[0]) == did(world.agents[2]) == ["Hello"]
    assert {source for source, _ in heard(bo)} == {"Ann", "Cy"}
    assert "1 of 3 turns of step 0 are left out; the first, of Bo, failed" in caplog.text
    (outcome,) = (each for each in world.timeline() if each.person == "Bo")
    assert (outcome.status, type(outcome.error).__mro__[-2]) == ("failed", BaseException)


@pytest.mark.parametrize("how", ["world", "setting"])
@pytest.mark.parametrize("parallelize", [True, False])
def test_or_stops_the_run_where_that_is_wanted(llm, how, parallelize):
    llm.when(person="Bo").reply("not a turn")
    llm.when().reply_talk("Hello")
    world = world_of(on_error="raise" if how == "world" else None)
    with (
        config_manager.override(on_error="raise" if how == "setting" else "skip"),
        pytest.raises(SimulationError, match="world 'Town', step 0: the turn of Bo failed: Bo could not act") as caught,
    ):
        world.run(3, parallelize=parallelize)
    assert isinstance(caught.value.__cause__, ReplyError)
    # At once: nothing of the step is done. One after the other: what was done before the failure is.
    assert did(world.agents[0]) == ([] if parallelize else ["Hello"])
    assert did(world.agents[1]) == []
    assert did(world.agents[2]) == []


@pytest.mark.parametrize("fault", ["invalid_key", "permission", "not_found"])
@pytest.mark.parametrize("parallelize", [True, False])
def test_what_every_further_turn_would_meet_too_stops_the_run_at_once(llm, fault, parallelize):
    llm.when().fail(fault)
    world = world_of()
    with pytest.raises(SimulationError, match="step 0: the turn of Ann failed: the model's API answered 40") as caught:
        world.run(50, parallelize=parallelize)
    assert isinstance(caught.value.__cause__, ModelError)
    assert llm.calls == 1
    assert llm.clock.now() == 0.0


def test_a_run_goes_on_after_one_that_was_stopped(llm):
    llm.when(person="Bo", call=0).fail("invalid_key")
    llm.when().reply_talk("Hello")
    world = world_of()
    with pytest.raises(SimulationError):
        world.run(1)
    world.run(1)
    assert did(world.agents[1]) == ["Hello"]


@pytest.mark.parametrize("parallelize", [True, False])
def test_an_error_that_is_a_bug_is_not_hidden(llm, parallelize, monkeypatch):
    monkeypatch.setattr("tinytroupe.agent.prompt.present", lambda *args, **more: 1 / 0)
    with pytest.raises(SimulationError, match="division by zero") as caught:
        world_of().run(1, parallelize=parallelize)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


# ---------------------------------------------------------------- time-outs


def test_the_time_out_of_a_step_cancels_the_slow_and_keeps_the_others(llm):
    llm.when(person="Bo", call=range(1)).reply(turn("TALK", "late"), latency_s=100.0)
    llm.when().reply_talk("Hello")
    world = world_of()
    with config_manager.override(parallel_execution_timeout=5):
        world.run(1)
        assert llm.clock.now() == 5.0
        assert llm.in_flight == 0
        assert did(world.agents[1]) == []
        assert did(world.agents[0]) == did(world.agents[2]) == ["Hello"]
        world.run(1)
    assert llm.clock.now() == 6.0
    assert did(world.agents[1]) == ["Hello"]
    metrics = world.get_parallel_metrics()
    assert (metrics["parallel_timeouts"], metrics["parallel_errors"], metrics["elapsed_s"]) == (1, 0, 6.0)
    (late,) = (outcome for outcome in world.timeline() if outcome.status == "timed out")
    assert (late.person, late.elapsed_s) == ("Bo", 5.0)
    assert "PARALLEL_EXECUTION_TIMEOUT" in str(late.error)


@pytest.mark.parametrize(("latency_s", "late"), [(4.999, 0), (5.001, 1)])
def test_the_time_out_holds_at_its_edge(llm, latency_s, late):
    llm.when(person="Bo").reply(turn("TALK", "late"), latency_s=latency_s)
    llm.when().reply_talk("Hello")
    world = world_of()
    with config_manager.override(parallel_execution_timeout=5):
        world.run(1)
    assert world.get_parallel_metrics()["parallel_timeouts"] == late
    assert llm.clock.now() == min(latency_s, 5.0)


def test_in_a_sequence_the_time_is_shared_by_the_step(llm):
    llm.latency = 2.0
    world = world_of()
    with config_manager.override(parallel_execution_timeout=3):
        world.run(1, parallelize=False)
    assert llm.clock.now() == 3.0
    assert [outcome.status for outcome in world.timeline()] == ["acted", "timed out", "timed out"]
    assert llm.calls == 2
    assert world.get_parallel_metrics()["parallel_timeouts"] == 2


def test_a_time_out_can_stop_the_run(llm):
    llm.latency = 10.0
    world = world_of(on_error="raise")
    with config_manager.override(parallel_execution_timeout=3), pytest.raises(SimulationError, match="Ann timed out"):
        world.run(1)
    assert llm.clock.now() == 3.0


# ---------------------------------------------------------------- an act of one's own


class Shouter(TinyPerson):
    def act(self, until_done=True, n=None, return_actions=False):
        self.shouts = getattr(self, "shouts", 0) + 1
        return super().act(return_actions=return_actions)


def test_a_subclass_may_replace_act_and_still_ask_the_model(llm):
    llm.when().reply_talk("Hello")
    world = TinyWorld("Town", [Shouter("Ann"), TinyPerson("Bo")])
    history = world.run(3, return_actions=True)
    assert world.agents[0].shouts == 3
    assert history[0]["Ann"] == [Action("TALK", "Hello"), Action("DONE")]
    assert did(world.agents[0]) == ["Hello"] * 3
    assert llm.clock.now() == 3.0
    assert [source for source, _ in heard(world.agents[1]) if source == "Ann"] == ["Ann"] * 3
    assert world.get_parallel_metrics()["model_calls"] == 6


def test_an_instance_may_replace_act_with_a_plain_function(llm):
    world = world_of()
    called = []
    world.agents[0].act = lambda: called.append(threading.current_thread().name)
    world.run(2)
    assert len(called) == 2
    assert all(name.startswith("tinytroupe act") for name in called)
    assert llm.by_person.keys() == {"Bo", "Cy"}


def test_act_may_be_replaced_with_a_coroutine(llm):
    world = world_of()

    async def nap():
        await asyncio.sleep(7)

    world.agents[0].act_async = nap
    world.agents[1].act = nap
    world.run(1)
    assert llm.clock.now() == 7.0
    assert llm.by_person.keys() == {"Cy"}


@pytest.mark.parametrize("on_error", ["skip", "raise"])
def test_a_replaced_act_that_raises_is_a_failed_turn(llm, on_error):
    world = world_of(on_error=on_error)

    def broken():
        raise KeyError("lost")

    world.agents[0].act = broken
    if on_error == "raise":
        with pytest.raises(SimulationError, match="lost"):
            world.run(1)
    else:
        world.run(1)
        assert world.get_parallel_metrics()["parallel_errors"] == 1
        assert [outcome.status for outcome in world.timeline()] == ["failed", "acted", "acted"]


def test_a_slow_replaced_act_times_out_without_being_waited_for(tmp_path):
    """On real time: the thread can't be stopped, but the step ends and the late result is discarded."""
    release = threading.Event()
    with WallClock() as clock, MockLLM(latency=0.0) as llm:
        world = world_of("Ann", "Bo", clock=clock, model=DirectModel(llm))
        world.run(1)  # what the first step imports and builds is no part of Bo's turn
        world.agents[0].act = lambda: release.wait(60)
        with config_manager.override(parallel_execution_timeout=0.5):
            began_s = time.monotonic()
            world.run(1)
            took_s = time.monotonic() - began_s
        release.set()
    assert took_s < 30
    assert [outcome.status for outcome in world.timeline()[-2:]] == ["timed out", "acted"]


def test_no_more_threads_than_workers(llm):
    world = world_of(*(f"P{number}" for number in range(6)))
    lock, now, peak = threading.Lock(), [0], [0]

    def work():
        with lock:
            now[0] += 1
            peak[0] = max(peak[0], now[0])
        time.sleep(0.01)
        with lock:
            now[0] -= 1

    for agent in world.agents:
        agent.act = work
    with config_manager.override(max_workers=2):
        world.run(1)
    assert peak[0] <= 2


# ---------------------------------------------------------------- being watched


def test_listeners_are_told_of_each_step_and_may_use_synchronous_verbs(llm):
    world = world_of()
    events = []

    def listener(event):
        events.append(event)
        world.agents[0].listen_and_act("So?")

    stop = world.on("step", listener)
    world.run(2)
    stop()
    stop()
    world.run(1)
    assert all(isinstance(event, StepEvent) for event in events)
    assert [(event.step, event.elapsed_s) for event in events] == [(0, 1.0), (1, 3.0)]
    assert [outcome.person for outcome in events[0].outcomes] == list(NAMES)
    assert llm.calls == 11


def test_a_listener_that_fails_is_logged_and_stops_nothing(llm, caplog):
    world = world_of()
    world.on("step", lambda event: 1 / 0)
    world.run(2)
    assert caplog.text.count("a listener to 'step' failed") == 2
    assert world.get_parallel_metrics()["total_parallel_steps"] == 2
    with pytest.raises(ValueError, match="unknown event 'day'; there are: step, turn, action"):
        world.on("day", print)


def test_people_may_come_and_go_between_steps(llm):
    world = world_of()
    world.on("step", lambda event: world.remove_agent(world.agents[-1]) if event.step == 0 else None)
    world.run(2)
    assert llm.calls == 5


# ---------------------------------------------------------------- where it runs


def test_inside_a_running_loop_as_in_a_notebook(llm):
    async def cell():
        world_of().run(2)

    asyncio.run(cell())
    assert llm.calls == 6


def test_awaited_in_a_loop_of_the_program_s_own():
    with MockLLM() as llm:

        async def program():
            world = world_of(model=DirectModel(llm))
            await world.run_async(2)
            return world.get_parallel_metrics()["model_calls"]

        assert asyncio.run(program()) == 6


def test_worlds_on_clocks_of_their_own_do_not_meet():
    with VirtualClock() as one, VirtualClock() as other, MockLLM(latency=1.0):
        world_of(clock=one).run(3)
        world_of(clock=other).run(1, parallelize=False)
        assert (one.now(), other.now()) == (3.0, 3.0)
        world_of(clock=one).run(1)
        assert (one.now(), other.now()) == (4.0, 3.0)


def test_consolidation_runs_beside_the_step_and_is_done_at_its_end(llm):
    llm.when(schema="turn").reply_talk("Hello")
    llm.when()
    world = world_of()
    with config_manager.override(auto_consolidation_threshold=10):
        world.run(15)
        for agent in world.agents:
            assert agent.episodic_memory.get_memory_stats()["total_size"] < 20
        assert len(world.timeline()) == 45
    assert llm.calls > 45


IN_THEIR_OWN_WAY = """
import asyncio, sys
from tinytroupe import TinyPerson, TinyWorld

async def act():
    pass

world = TinyWorld("Town", [TinyPerson(f"P{n}") for n in range(3)], on_error="raise")
for agent in world.agents:
    agent.act_async = act
world.run(2)
print([outcome.status for outcome in world.timeline()] == ["acted"] * 6, "openai" in sys.modules)
"""


def test_a_world_in_which_nobody_asks_a_model_does_not_pay_for_its_client():
    environment = {**os.environ, "OPENAI_API_KEY": "x"}
    done = subprocess.run([sys.executable, "-c", IN_THEIR_OWN_WAY], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("True False\n", "")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
@pytest.mark.parametrize("act", ["the model's", "a coroutine"])
def test_ctrl_c_ends_a_run_at_once_and_says_nothing_more(tmp_path, act):
    program = textwrap.dedent(
        f"""
        import asyncio, logging, threading, time
        from tinytroupe import TinyPerson, TinyWorld
        from tinytroupe.llm.openai_model import OpenAIModel
        from tinytroupe.testing import MockLLM

        logging.getLogger("asyncio").setLevel("ERROR")  # that a callback was slow says only that the machine is
        asleep = []
        with MockLLM(latency=600.0).serve() as server:
            model = OpenAIModel(base_url=server.base_url, api_key="x")
            world = TinyWorld("Town", [TinyPerson(f"P{{n}}") for n in range(5)], model=model)
            async def sleepy():
                asleep.append(True)
                await asyncio.sleep(600)
            if {act == "a coroutine"}:
                for agent in world.agents:
                    agent.act_async = sleepy
            def say_when_all_wait():
                while server.mock.in_flight + len(asleep) < 5:
                    time.sleep(0.01)
                print("waiting", flush=True)
            threading.Thread(target=say_when_all_wait, daemon=True).start()
            world.run(3)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-X", "dev", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OPENAI_API_KEY": "x"},
    )
    try:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT, 1)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert errors.count("Traceback (most recent call last)") == 1, errors
    assert "did not end" not in errors
    assert "never" not in errors, errors
