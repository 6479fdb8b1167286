"""A step with a second for everyone and somebody who takes ten: it takes a second, whoever that is and on any clock."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from tinytroupe import TinyPerson, TinySocialNetwork, TinyWorld, VirtualClock, WallClock, config_manager
from tinytroupe.llm.openai_model import OpenAIModel
from tinytroupe.runtime.clock import use_clock
from tinytroupe.testing import DirectModel, MockLLM

TIMEOUTS = ["parallel_execution_timeout", "turn_timeout"]


class InAThread(TinyPerson):
    """Acts by a plain function, which asks the model as everybody does."""

    def act(self, *args, **options):
        return super().act(*args, **options)


def slow_and_quick(kind, clock, model, how="parallel"):
    people = [kind("Slow"), TinyPerson("Quick"), TinyPerson("Other")]
    world = (TinySocialNetwork if how == "dependency" else TinyWorld)("Town", people, clock=clock, model=model)
    if how == "dependency":
        world.add_relation(people[1], people[2])
    return world


def by_name(world):
    return {outcome.person: outcome for outcome in world.timeline()}


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("kind", [TinyPerson, InAThread])
@pytest.mark.parametrize("how", ["parallel", "dependency"])
def test_on_virtual_time_it_is_exactly_a_second(kind, how, timeout):
    with VirtualClock() as clock, use_clock(clock), MockLLM(latency=0.5) as mock:
        mock.strict = False
        mock.when(person="Slow").reply({}, latency_s=10.0)
        world = slow_and_quick(kind, clock, DirectModel(mock), how)
        with config_manager.override(**{timeout: 1}):
            world.run(1, scheduler=how)
        assert clock.now() == 1.0
        outcomes = by_name(world)
        assert {name: outcome.status for name, outcome in outcomes.items()} == {
            "Slow": "timed out",
            "Quick": "acted",
            "Other": "acted",
        }
        assert outcomes["Slow"].elapsed_s == 1.0
        assert outcomes["Quick"].elapsed_s == 0.5
        assert mock.in_flight == 0  # the call was cancelled with the turn
        metrics = world.get_parallel_metrics()
        assert (metrics["parallel_timeouts"], metrics["elapsed_s"]) == (1, 1.0)


@pytest.mark.parametrize(
    ("how", "timeout"),
    [("sequential", "turn_timeout"), *((how, each) for how in ("parallel", "dependency") for each in TIMEOUTS)],
)
def test_it_bounds_a_summary_beside_the_turn_too(how, timeout, caplog):
    with VirtualClock() as clock, use_clock(clock), MockLLM() as mock:
        mock.when(schema="consolidation").reply({"summary": "all", "key_facts": []}, latency_s=100.0)
        mock.when(person="Slow").reply(
            {"actions": [{"type": "TALK", "content": "Hello", "target": ""}], "cognitive_state": {}}, latency_s=0.75
        )
        mock.when().reply_actions([])
        world = slow_and_quick(TinyPerson, clock, DirectModel(mock), how)
        world.agents[0].listen("One").listen("Two")
        with config_manager.override(**{timeout: 1}, auto_consolidation_threshold=2):
            world.run(1, scheduler=how)
        assert clock.now() == 1.0
        assert {name: outcome.status for name, outcome in by_name(world).items()} == dict.fromkeys(
            ("Slow", "Quick", "Other"), "acted"
        )
        assert by_name(world)["Slow"].elapsed_s == 0.75
        assert len(world.agents[0].episodic_memory.retrieve_all("action")) == 1
        assert world.agents[0].get_consolidation_metrics()["total"] == 0
        assert mock.in_flight == 0
    assert "memories of Slow stay as they are, their summary failed: it was not there in time" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("kind", [TinyPerson, InAThread])
def test_on_real_time_it_is_a_second_and_little_more(kind, timeout):
    mock = MockLLM(strict=False)
    mock.when(person="Slow").reply({}, latency_s=10.0)
    with mock.serve() as server, WallClock() as clock, config_manager.override(**{timeout: 1}):
        world = slow_and_quick(kind, clock, OpenAIModel(base_url=server.base_url, api_key="x"))
        world.run(1)  # the client's own import and building come before the step
        for _ in range(20):  # what else runs on the machine only ever adds
            began_s = time.monotonic()
            world.run(1)
            took_s = time.monotonic() - began_s
            statuses = {name: outcome.status for name, outcome in by_name(world).items()}
            assert statuses["Slow"] == "timed out"
            if took_s <= 1.2 and statuses["Quick"] == "acted":
                break
    assert 1.0 <= took_s <= 1.2
    assert statuses == {"Slow": "timed out", "Quick": "acted", "Other": "acted"}


STUCK = """
import json, threading
from tinytroupe import TinyPerson, TinyWorld, config_manager
from tinytroupe.testing import MockLLM

with MockLLM(), config_manager.override(parallel_execution_timeout=1):
    slow, quick = TinyPerson("Slow"), TinyPerson("Quick")
    world = TinyWorld("Town", [slow, quick])
    world.run(1)  # what the first step imports and builds is no part of those that count
    slow.act = threading.Event().wait
    for _ in range(5):  # what else runs on the machine only ever adds
        world.reset_parallel_metrics()
        world.run(1)
        statuses, elapsed_s = [each.status for each in world.timeline()], world.get_parallel_metrics()["elapsed_s"]
        if elapsed_s <= 1.2 and "acted" in statuses:
            break
    print(json.dumps([statuses, elapsed_s]))
"""


@pytest.mark.slow
def test_a_thread_that_hangs_holds_up_neither_the_step_nor_the_end_of_the_program():
    # The threads wait for ever: that the program ends at all is what they don't hold up.
    done = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=40)
    statuses, elapsed_s = json.loads(done.stdout)
    assert statuses == ["timed out", "acted"]
    assert elapsed_s <= 1.2
