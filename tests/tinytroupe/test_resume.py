"""A run that is killed, and the same program again: no answer is asked for twice, and the end is the same."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter

import pytest

from tinytroupe.testing import MockLLM, Uniform

PEOPLE, STEPS = 5, 50
KILLED_AFTER_CALLS = PEOPLE * STEPS // 2 + 2  # in the middle of a step

PROGRAM = """
import json, sys
from datetime import timedelta
from tinytroupe import TinyPerson, TinyWorld, config_manager, control

number_of_people, steps, base_url, journal, result, how = sys.argv[1:]
config_manager.update_multiple({"base_url": base_url, "auto_consolidation_threshold": 60, "on_error": "raise"})
people = [TinyPerson(f"P{number}").define("age", 30 + number) for number in range(int(number_of_people))]
people[0].semantic_memory.store("Tea is served at five.")
world = TinyWorld("Town", people)
world.make_everyone_accessible()
world.broadcast("What shall we do today?")
simulation = control.begin(journal)
world.run(int(steps), timedelta(hours=1), parallelize=how == "parallel")
figures = {"hits": simulation.cache_hits, "misses": simulation.cache_misses}
control.end()
with open(result, "w") as file:
    json.dump({"state": world.encode_complete_state(), **figures}, file)
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Town:
    """The model's side: a scripted server that notes every chat request, and can fall silent in the middle."""

    def __init__(self, falls_silent=False):
        self.falls_silent = falls_silent
        self.mock = MockLLM(latency=Uniform(0.001, 0.02), seed=3, max_exchanges=1)
        self.asked = Counter()
        self.arrived = threading.Event()
        self.mock.when(schema="turn").reply(self.turn)
        self.mock.when(schema="consolidation").reply(self.summary)

    async def note(self, what, call):
        text = "\n".join(message["content"] for message in call.messages)
        self.asked[what, call.person, text] += 1
        if sum(self.asked.values()) >= KILLED_AFTER_CALLS:
            self.arrived.set()
            while self.falls_silent:  # so that the program can't end before it is killed
                await asyncio.sleep(0.01)

    async def turn(self, call):
        # Says what hangs on the question alone, so that a question asked again gets the same answer.
        await self.note("turn", call)
        said = f"I have {len(call.content)} reasons to stay."
        return {
            "actions": [
                {"type": "THINK", "content": f"{call.person} thinks of {said}", "target": ""},
                {"type": "TALK", "content": said, "target": ""},
                {"type": "DONE", "content": "", "target": ""},
            ],
            "cognitive_state": {"goals": said, "context": [], "attention": "", "emotions": ""},
        }

    async def summary(self, call):
        await self.note("summary", call)
        return {"summary": f"{len(call.content)} characters of life.", "key_facts": []}


def start(program, base_url, journal, result, how):
    arguments = [str(each) for each in (program, PEOPLE, STEPS, base_url, journal, result, how)]
    return subprocess.Popen([sys.executable, *arguments], env={**os.environ, "OPENAI_API_KEY": "x"}, cwd=program.parent)


def without_usage(state):
    return {**state, "agents": [{**agent, "usage": None} for agent in state["agents"]]}


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("how", ["parallel", "sequential"])
def test_a_killed_run_goes_on_where_it_was_and_ends_the_same(tmp_path, how):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    whole = Town()
    with whole.mock.serve() as server:
        assert start(program, server.base_url, tmp_path / "whole.journal", tmp_path / "whole.json", how).wait() == 0
    undisturbed = json.loads((tmp_path / "whole.json").read_text())
    assert set(whole.asked.values()) == {1}
    assert {what for what, _, _ in whole.asked} == {"turn", "summary"}
    assert undisturbed["hits"] == 0

    town = Town(falls_silent=True)
    with town.mock.serve() as server:
        first = start(program, server.base_url, tmp_path / "town.journal", tmp_path / "town.json", how)
        assert town.arrived.wait(120)
        os.kill(first.pid, signal.SIGKILL)
        assert first.wait() == -signal.SIGKILL
        town.falls_silent = False
        assert not (tmp_path / "town.json").exists()
        before = sum(town.asked.values())
        assert before < sum(whole.asked.values())
        assert start(program, server.base_url, tmp_path / "town.journal", tmp_path / "town.json", how).wait() == 0
    resumed = json.loads((tmp_path / "town.json").read_text())

    # Asked twice: only what was under way when it was killed, at most one for each person.
    assert town.asked.keys() == whole.asked.keys()
    twice = [asked for asked, times in town.asked.items() if times > 1]
    assert max(town.asked.values()) <= 2
    turns = [person for what, person, _ in twice if what == "turn"]
    assert len(set(turns)) == len(turns) <= (PEOPLE if how == "parallel" else 1)
    assert len(twice) - len(turns) <= PEOPLE
    assert resumed["hits"] >= before - len(twice)
    assert town.mock.by_endpoint["embeddings"].calls <= whole.mock.by_endpoint["embeddings"].calls + 1
    assert without_usage(resumed["state"]) == without_usage(undisturbed["state"])
