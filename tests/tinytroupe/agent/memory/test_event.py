"""What turns make takes little room in a memory, and reads as the dictionaries that programs know."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytroupe import TinyPerson
from tinytroupe.agent.memory import EpisodicMemory, Memory
from tinytroupe.agent.memory.event import Did, Perceived, Stimulus, action_of, stimuli_of
from tinytroupe.monitoring.deep_size import deep_size_bytes

HEARD = {"stimuli": [{"type": "CONVERSATION", "content": "Hello", "source": "Bo"}]}
SAID = {
    "action": {"type": "TALK", "content": "Hello", "target": "Bo"},
    "cognitive_state": {"goals": "to rest", "context": ["a room"], "attention": "the door", "emotions": "calm"},
}

words = st.text(max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


def like(shape: Any) -> st.SearchStrategy[Any]:
    """Values with the keys of a shape, most of them with texts where it has texts."""
    if isinstance(shape, dict):
        return st.fixed_dictionaries({key: like(inner) for key, inner in shape.items()}) | values
    if isinstance(shape, list):
        return st.lists(like(shape[0]), max_size=3) | values
    return words | values


def remembered(content: Any) -> Memory:
    return Memory("stimulus", "user", content)


@given(like(HEARD) | like(SAID) | values)
def test_any_content_reads_as_it_was_given(content: Any) -> None:
    before = copy.deepcopy(content)
    memory = remembered(content)
    assert memory.content == memory["content"] == before
    assert json.loads(json.dumps(memory.to_dict()))["content"] == before
    assert Memory.from_mapping(memory.to_dict()) == memory
    assert dataclasses.replace(memory, step=3).content == before
    for same in (pickle.loads(pickle.dumps(memory)), copy.deepcopy(memory), copy.copy(memory)):
        assert same == memory
        assert type(same.event) is type(memory.event)


@pytest.mark.parametrize(("content", "kind"), [(HEARD, Perceived), (SAID, Did), ({"stimuli": []}, Perceived)])
def test_what_turns_make_is_kept_in_little_room(content: dict[str, Any], kind: type) -> None:
    assert type(remembered(content).event) is kind
    assert type(remembered({**content, "more": 1}).event) is dict
    assert type(remembered(json.loads(json.dumps(content))).event) is kind, "what a state holds, too"


def test_nobody_changes_a_memory_by_what_it_returns() -> None:
    memory = remembered(HEARD)
    memory.content["stimuli"][0]["content"] = "Goodbye"
    memory.content["stimuli"].clear()
    assert memory.content == HEARD


def test_what_many_share_is_pickled_once() -> None:
    crowd = Perceived(Stimulus("CONVERSATION", f"Sentence {number}", "Bo") for number in range(100))
    one, ten = ([remembered(crowd) for _ in range(count)] for count in (1, 10))
    assert len(pickle.dumps(ten)) < 1.2 * len(pickle.dumps(one))
    back = pickle.loads(pickle.dumps(ten))
    assert all(memory.event is back[0].event for memory in back)


def test_events_that_a_program_stored_itself_can_be_read() -> None:
    odd = {"stimuli": ["a text", {"type": "VISUAL", "content": "A cat"}, {"content": 3, "source": None, "loud": True}]}
    assert stimuli_of(remembered(odd).event) == [
        Stimulus("", "a text"),
        Stimulus("VISUAL", "A cat"),
        Stimulus("", "3"),
    ]
    action = action_of(remembered({"action": {"type": "TALK", "target": None}}).event)
    assert action is not None
    assert (action.type, action.content, action.target) == ("TALK", "", "")
    for other in ("a text", {"summary": "…"}, HEARD):
        assert action_of(remembered(other).event) is None
    for other in ("a text", {"summary": "…"}, SAID):
        assert stimuli_of(remembered(other).event) is None


def test_a_mapping_can_be_perceived() -> None:
    seen = {"type": "VISUAL", "content": "A cat"}
    (memory,) = TinyPerson("Ann").perceive(seen).episodic_memory.retrieve_all()
    assert memory.content == {"stimuli": [{**seen, "source": ""}]}


def test_a_hundred_memories_take_less_than_50_KB() -> None:
    """Each of them another sentence of about 75 characters; as dictionaries they took 70."""
    memory = EpisodicMemory()
    for number in range(100):
        sentence = f"Sentence {number} for somebody: the weather is fine, and the bread is fresh."
        memory.store(remembered({"stimuli": [{"type": "CONVERSATION", "content": sentence, "source": "Bo"}]}))
    assert deep_size_bytes(memory) < 50 * 1024
