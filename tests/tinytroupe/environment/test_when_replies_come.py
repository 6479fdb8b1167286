"""What a run leaves behind does not depend on which reply comes first: of turns, summaries beside them, embeddings.

Else a run that is resumed, where what is on record comes at once, would end differently from one never disturbed.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from contextlib import nullcontext
from itertools import pairwise

import pytest

from tinytroupe.agent import TinyPerson
from tinytroupe.agent.memory import Embedder, SemanticMemory
from tinytroupe.config import config_manager
from tinytroupe.environment import TinySocialNetwork, TinyWorld
from tinytroupe.llm.journal import Journal, use_journal
from tinytroupe.runtime.clock import VirtualClock, use_clock
from tinytroupe.testing import DirectModel, MockLLM, Reply

PEOPLE, STEPS = 4, 9
SCHEDULERS = ["sequential", "parallel", "dependency"]


class Noting(DirectModel):
    """Notes whose calls come with which number, and for what."""

    def __init__(self, llm):
        super().__init__(llm)
        self.numbers = defaultdict(list)

    async def complete(self, request):
        self.numbers[request.origin.person].append((request.origin.call, request.schema.name))
        return await super().complete(request)


def lived(how, *, turn_s=1.0, summary_s=1.0, embedding_s=1.0, journal=None):
    """Return the state that a run leaves, and the numbers of its calls."""

    def turn(call):
        said = hashlib.sha1(call.content.encode()).hexdigest()  # hangs on all that the person is shown
        kinds = ("THINK", "TALK", "DONE")
        actions = [{"type": kind, "content": said, "target": ""} for kind in kinds]
        return Reply(json.dumps({"actions": actions, "cognitive_state": {}}), latency_s=turn_s)

    def summary(call):
        short = {"summary": hashlib.sha1(call.content.encode()).hexdigest(), "key_facts": []}
        return Reply(json.dumps(short), latency_s=summary_s)

    small = {"auto_consolidation_threshold": 10, "max_episodic_memory_size": 14, "recent_memories_in_prompt": 8}
    with VirtualClock() as clock, use_clock(clock), MockLLM(seed=1) as llm, config_manager.override(**small):
        llm.when(schema="turn").reply(turn)
        llm.when(schema="consolidation").reply(summary)
        llm.latency = embedding_s
        model = Noting(llm)
        people = [TinyPerson(f"P{number}") for number in range(PEOPLE)]
        shared = Embedder(model.embed)  # what one of them has asked for, the others have at once
        for person in people[:3]:
            person.semantic_memory = SemanticMemory(embed=shared)
            person.semantic_memory.store("Tea is served at five.")
        world = (TinySocialNetwork if how == "dependency" else TinyWorld)("Town", people, model=model)
        if how == "dependency":
            for one, other in pairwise(people):
                world.add_relation(one, other)
        else:
            world.make_everyone_accessible()
        world.broadcast("What shall we do today?")
        with use_journal(journal) if journal is not None else nullcontext():
            world.run(STEPS, scheduler=how)
        state = world.encode_complete_state()
        for agent in state["agents"]:
            del agent["usage"]  # what is on record costs nothing
        return state, model.numbers


@pytest.mark.parametrize("how", SCHEDULERS)
def test_whoever_is_faster(how):
    expected, numbers = lived(how)
    assert all(agent["consolidation"]["total"] > 1 for agent in expected["agents"])
    for turn_s, summary_s, embedding_s in [(1.0, 0.0, 1.0), (1.0, 0.3, 0.0), (1.0, 2.5, 0.7), (0.0, 9.0, 0.0)]:
        state, again = lived(how, turn_s=turn_s, summary_s=summary_s, embedding_s=embedding_s)
        assert state == expected, (turn_s, summary_s, embedding_s)
        assert {who: sorted(each) for who, each in again.items()} == {
            who: sorted(each) for who, each in numbers.items()
        }


@pytest.mark.parametrize("how", SCHEDULERS)
def test_summaries_have_their_numbers_before_the_turn_beside_them(how):
    _, numbers = lived(how)
    for calls in map(sorted, numbers.values()):
        assert [number for number, _ in calls] == list(range(len(calls)))
        # A summary is made beside a turn, never after a person's last.
        assert calls[-1][1] == "turn"
        assert ("consolidation", "turn") in {(one[1], next_one[1]) for one, next_one in pairwise(calls)}


@pytest.mark.parametrize("how", SCHEDULERS)
def test_what_is_on_record_comes_at_once_and_changes_nothing(how, tmp_path):
    with Journal(tmp_path / "a.journal") as journal:
        expected, _ = lived(how, journal=journal)
    with Journal(tmp_path / "a.journal") as journal:
        replayed, asked = lived(how, journal=journal)
        assert journal.misses == 0
    assert replayed == expected
    assert not asked
