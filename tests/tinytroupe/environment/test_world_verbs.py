"""The calendar, broadcasts, interventions, events, costs, and what is shown of a run."""

from __future__ import annotations

import io
import sys
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from tinytroupe.agent import TinyPerson
from tinytroupe.config import config_manager
from tinytroupe.environment import SimulationError, TinyWorld
from tinytroupe.llm import Usage
from tinytroupe.llm.prices import PriceError, cost_usd
from tinytroupe.runtime.clock import VirtualClock, use_clock
from tinytroupe.steering import Intervention
from tinytroupe.steering.intervention import InterventionError
from tinytroupe.testing import MockLLM

START = datetime(2026, 3, 1, 8)


@pytest.fixture
def llm():
    with VirtualClock() as clock, use_clock(clock), MockLLM(latency=1.0) as mock:
        mock.clock = clock
        yield mock


def town(*names, **options):
    return TinyWorld("Town", [TinyPerson(name) for name in names or ("Ann", "Bo")], **options)


def perceived(person):
    return [
        (each["type"], each["content"])
        for memory in person.episodic_memory.retrieve_all("stimulus")
        for each in memory.content["stimuli"]
    ]


# ---------------------------------------------------------------- the calendar

UNITS = {
    "minutes": timedelta(minutes=1),
    "hours": timedelta(hours=1),
    "days": timedelta(days=1),
    "weeks": timedelta(weeks=1),
    "months": timedelta(days=30),
    "years": timedelta(days=365),
}


@pytest.mark.parametrize("unit", UNITS)
def test_running_and_skipping_by_the_calendar(llm, unit):
    world = town("Ann", initial_datetime=START)
    actions = getattr(world, f"run_{unit}")(2, return_actions=True)
    assert [list(step) for step in actions] == [["Ann"], ["Ann"]]
    assert world.current_datetime == START + 2 * UNITS[unit]
    assert getattr(world, f"skip_{unit}")(3) is None
    assert world.current_datetime == START + 5 * UNITS[unit]
    assert llm.calls == 2


def test_skipping_needs_a_calendar_and_steps():
    with pytest.raises(ValueError, match="this world has no calendar; give it an initial_datetime"):
        town(initial_datetime=None).skip_days(1)
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1, got 0"):
        town().skip_hours(0)


def test_without_a_calendar_a_run_tells_no_time(llm):
    world = town("Ann", initial_datetime=None)
    world.run(1, timedelta(hours=1))
    assert world.current_datetime is None
    assert "Time:" not in llm.exchanges[-1].call.content


# ---------------------------------------------------------------- broadcasts


def test_broadcasts_of_every_kind_share_one_object(llm):
    world = town()
    world.broadcast("Hello").broadcast_thought("Late").broadcast_internal_goal("Rest")
    world.broadcast_context_change(["a cellar", "no light"])
    ann, bo = world.agents
    assert perceived(ann) == [("CONVERSATION", "Hello"), ("THOUGHT", "Late"), ("INTERNAL_GOAL_FORMULATION", "Rest")]
    for one, other in zip(ann.episodic_memory.retrieve_all(), bo.episodic_memory.retrieve_all(), strict=True):
        assert one.event is other.event
    world.run(1)
    assert "Situation: a cellar; no light\n" in llm.exchanges[-1].call.content


# ---------------------------------------------------------------- interventions


def test_interventions_act_at_the_beginning_of_a_step(llm):
    world = town("Ann")
    (ann,) = world.agents
    quiet = Intervention(ann).set_functional_precondition(lambda person: len(perceived(person)) == 0)
    quiet.set_effect(lambda person: person.think("Somebody should say something."))
    assert world.add_intervention(quiet) is world
    world.run(3)
    assert perceived(ann) == [("THOUGHT", "Somebody should say something.")]
    assert "Somebody should say something." in llm.exchanges[0].call.content
    assert llm.calls == 3


def test_a_textual_precondition_is_judged_by_the_model(llm):
    llm.when(schema="precondition").reply({"holds": False, "why": "sings"}).reply({"holds": True, "why": "yawns"})
    llm.when().reply_actions([])
    world = town("Ann")
    done = []
    bored = Intervention(world.agents[0]).set_textual_precondition("Ann is bored.")
    world.add_intervention(bored.set_effect(lambda person: done.append(person.name)))
    world.run(2)
    assert done == ["Ann"]
    assert llm.calls == 4


def test_an_effect_that_fails_ends_the_run_before_the_step(llm):
    def fail(person):
        raise OSError("no")

    world = town("Ann")
    world.add_intervention(Intervention(world.agents[0]).set_effect(fail))
    with pytest.raises(InterventionError, match="no") as caught:
        world.run(2)
    assert isinstance(caught.value.__cause__, OSError)
    assert llm.calls == 0


# ---------------------------------------------------------------- events


def test_steps_turns_and_actions_are_told_in_order(llm):
    llm.when(person="Ann").reply_actions([("THINK", "Hm"), ("TALK", "Hello", "Bo")])
    llm.when(person="Bo").reply("no turn at all")
    world, told = town(), []
    world.on("turn", lambda outcome: told.append((outcome.person, outcome.status)))
    world.on("action", lambda event: told.append((event.person, event.action.type)))
    stop = world.on("step", lambda event: told.append((event.step, event.elapsed_s)))
    world.run(1)
    assert told == [
        ("Ann", "acted"),
        ("Ann", "THINK"),
        ("Ann", "TALK"),
        ("Ann", "DONE"),
        ("Bo", "failed"),
        (0, 3.0),
    ]
    stop()
    stop()
    world.run(1)
    assert [kind for kind, _ in told[6:]] == ["Ann", "Ann", "Ann", "Ann", "Bo"]
    with pytest.raises(ValueError, match="unknown event 'end'; there are: step, turn, action"):
        world.on("end", print)


# ---------------------------------------------------------------- what is shown


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(params=["rich", "plain"])
def look(request, monkeypatch):
    if request.param == "rich":
        pytest.importorskip("rich")
    else:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    return request.param


@pytest.mark.parametrize(
    ("show", "display", "terminal", "shown"),
    [
        (None, "auto", False, False),
        (None, "auto", True, True),
        (None, "on", False, True),
        (None, "off", True, False),
        (True, "off", False, True),
        (False, "on", True, False),
    ],
)
def test_conversations_are_shown_where_wanted(llm, monkeypatch, look, show, display, terminal, shown):
    llm.when(person="Ann").reply_actions([("THINK", "Hm"), ("TALK", "[bold]" + "x" * 2000, "Bo")])
    llm.when(person="Bo").reply_actions([])
    out, err = (Terminal(), Terminal()) if terminal else (io.StringIO(), io.StringIO())
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with config_manager.override(display=display):
        town(show=show).run(2)
    text = out.getvalue()
    assert ("Ann" in text and "THINK" in text and "TALK to Bo" in text) is shown
    assert ("[bold]x" in text) is shown
    assert ("…" in text) is shown
    assert "DONE" not in text
    assert "Bo [" not in text
    # Progress would stand between the words; where nothing is said, it is shown unless nothing is wanted at all.
    assert ("Town: step 2 of 2" in err.getvalue()) is (terminal and not shown and show is None)


@pytest.mark.parametrize(
    ("progress", "terminal", "shown"),
    [("auto", True, True), ("auto", False, False), ("off", True, False), ("on", False, True)],
)
def test_progress_is_one_line_that_goes_away(llm, monkeypatch, progress, terminal, shown):
    err = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", err)
    with config_manager.override(progress=progress, display="off"):
        town().run(3)
        assert ("\rTown: step 3 of 3" in err.getvalue()) is shown
        assert err.getvalue().endswith("\r\x1b[K") is shown
        before = err.getvalue()
        town().run(1)
        assert err.getvalue() == before


def test_progress_goes_away_after_an_error_too(llm, monkeypatch):
    err = Terminal()
    monkeypatch.setattr(sys, "stderr", err)
    llm.when(call=1).fail("invalid_key")
    llm.when().reply_actions([])
    with config_manager.override(display="off"), pytest.raises(SimulationError):
        town().run(3)
    assert err.getvalue().endswith("\r\x1b[K")


def test_a_person_s_own_turn_is_shown_with_what_it_answers(llm, monkeypatch, look):
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    llm.when().reply_actions([("TALK", "x" * 50)])
    ann = TinyPerson("Ann")
    ann.listen_and_act("How are you?", max_content_length=20)
    text = out.getvalue()
    assert text.index("CONVERSATION to Ann") < text.index("How are you?") < text.index("TALK")
    assert "x" * 20 + "…" in text
    assert "x" * 21 not in text
    length = len(text)
    ann.listen_and_act("And now?", communication_display=False)
    assert len(out.getvalue()) == length
    with config_manager.override(display="off"):
        ann.act()
        assert len(out.getvalue()) == length
        ann.act(communication_display=True)
        assert len(out.getvalue()) > length


def test_nothing_is_printed_in_tests(llm, capsys):
    world = town()
    world.run(2)
    world.agents[0].listen_and_act("Hello")
    assert capsys.readouterr() == ("", "")


# ---------------------------------------------------------------- what it costs


def test_usage_by_person_world_and_step(llm):
    world = town("Ann", "Bo", "Cy")
    world.run(2)
    world.agents[0].act()
    by_agent = world.usage_by_agent()
    assert {name: usage.calls for name, usage in by_agent.items()} == {"Ann": 3, "Bo": 2, "Cy": 2}
    assert world.usage == by_agent["Ann"] + by_agent["Bo"] + by_agent["Cy"]
    assert world.usage.prompt_tokens == llm.prompt_tokens
    assert world.usage.completion_tokens == llm.completion_tokens
    assert world.get_parallel_metrics()["model_calls"] == 6


def test_what_failed_turns_cost_is_counted_for_the_person(llm):
    llm.when(person="Bo").reply("no turn at all")
    llm.when().reply_actions([])
    world = town()
    world.run(1)
    assert {name: usage.calls for name, usage in world.usage_by_agent().items()} == {"Ann": 1, "Bo": 3}
    assert world.usage.prompt_tokens == llm.prompt_tokens


def test_usage_becomes_money():
    pytest.importorskip("genai_prices")
    fresh, cached = Usage(1, 1_000_000, 0), Usage(1, 1_000_000, 0, cached_tokens=1_000_000)
    assert cost_usd(fresh, "gpt-5-mini") == Decimal("0.25")
    assert cost_usd(cached, "gpt-5-mini", "openai") == Decimal("0.025")
    assert cost_usd(Usage(1, 0, 1_000_000), "gpt-5-mini") == Decimal(2)
    assert cost_usd(Usage(), "gpt-5-mini") == 0
    with pytest.raises(PriceError, match="no price is known for the model 'a-model-of-my-own' of any provider"):
        cost_usd(fresh, "a-model-of-my-own")
    with pytest.raises(PriceError, match="of nobody"):
        cost_usd(fresh, "gpt-5-mini", "nobody")


def test_without_the_extra_the_error_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(PriceError, match=r"prices need the extra: pip install 'pytest-tinytroupe\[prices\]'"):
        cost_usd(Usage(), "gpt-5-mini")
