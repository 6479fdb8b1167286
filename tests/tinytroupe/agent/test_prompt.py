"""What a model is shown: stable first, changing last, nothing unbounded."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytroupe.agent.action import CognitiveState
from tinytroupe.agent.memory import Memory
from tinytroupe.agent.prompt import Situation, identity, messages, present, recalled, shortened


def heard(text, source="Bo", when=None):
    said = {"type": "CONVERSATION", "content": text, "source": source}
    return Memory("stimulus", "user", {"stimuli": [said]}, when)


def test_the_first_message_tells_who_on_its_first_line_and_ends_with_the_persona():
    text = identity("Dr. Ann Lee", {"name": "Dr. Ann Lee", "age": 40}, max_actions=7)
    assert text.splitlines()[0] == "You are Dr. Ann Lee."
    assert text.endswith("name: Dr. Ann Lee\nage: 40")
    assert "At most 7 actions" in text
    for word in ("THINK", "TALK", "REACH_OUT", "DONE"):
        assert text.count(f"- {word}:") == 1


def test_the_instructions_are_short():
    text = identity("Ann", {}, max_actions=15)
    assert len(text) / 4 < 2000


def test_further_actions_are_explained_before_the_last():
    text = identity("Ann", {}, max_actions=7, further={"RECALL": "look for something"})
    assert text.index("- TALK:") < text.index("- RECALL: look for something") < text.index("- DONE:")
    assert "RECALL" not in identity("Ann", {}, max_actions=7)


def test_the_same_person_gives_the_same_bytes():
    assert identity("Ann", {"a": 1}, max_actions=3) == identity("Ann", {"a": 1}, max_actions=3)


@pytest.mark.parametrize("nasty", ["{{ 7 * 7 }}", "{% for x in y %}", "<b>&amp;</b>", "{{ name.__class__ }}"])
def test_no_text_is_ever_evaluated_or_escaped(nasty):
    assert nasty in identity("Ann", {"motto": nasty}, max_actions=3)
    shown = present(
        recalled([heard(nasty)], "Ann", 10),
        CognitiveState(nasty, (nasty,), nasty, nasty),
        Situation(nasty, nasty, (nasty,), (nasty,)),
        known=[nasty],
    )
    assert shown.count(nasty) == 10
    assert "49" not in shown


def test_an_empty_moment_says_only_what_there_is():
    text = present("", CognitiveState(), Situation())
    assert text.splitlines() == ["# Now", "People you can reach: nobody", "", "What do you do now?"]


def test_memories_come_first_and_the_moment_last():
    text = present(
        "older\nnewer",
        CognitiveState("to rest", ("a mind",), "the door", "calm"),
        Situation("Monday", "a room", ("Bo", "Cy"), ("rain",)),
        known=["Bo bakes"],
    )
    order = ["older", "newer", "Bo bakes", "# Now", "Monday", "a room", "Bo, Cy", "rain; a mind", "to rest", "the door"]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)
    assert text.endswith("Your emotions: calm\n\nWhat do you do now?")


def test_a_turn_is_two_messages():
    assert messages("who", "now") == [{"role": "system", "content": "who"}, {"role": "user", "content": "now"}]


# ---------------------------------------------------------------- memories


def test_every_kind_of_memory_reads_as_a_line():
    when, later = datetime(2026, 1, 5, 9, 30), datetime(2026, 1, 5, 9, 31)
    said = {"type": "TALK", "content": "Hi", "target": "Bo"}
    memories = [
        heard("Hello", "Bo", when),
        heard("Psst", ""),
        Memory("stimulus", "user", {"stimuli": [{"type": "VISUAL", "content": "A cat", "source": ""}]}),
        Memory("stimulus", "user", {"stimuli": [{"type": "SOCIAL", "content": "Nods", "source": "Cy"}]}),
        Memory("action", "assistant", {"action": said, "cognitive_state": {}}, when),
        Memory("action", "assistant", {"action": {"type": "THINK", "content": "Hm", "target": ""}}, later),
        Memory("note", "user", "A plain note"),
        Memory("consolidation", "assistant", {"summary": "We met.", "key_facts": ["Bo bakes."]}),
    ]
    assert recalled(memories, "Ann", 50).splitlines() == [
        "[2026-01-05 09:30] Bo says: Hello",
        "Someone says: Psst",
        "VISUAL: A cat",
        "SOCIAL from Cy: Nods",
        "You TALK to Bo: Hi",
        "[2026-01-05 09:31] You THINK: Hm",
        "A plain note",
        "In short: We met. Bo bakes.",
    ]


def test_what_a_person_said_is_not_heard_again_by_that_person():
    crowd = [{"type": "CONVERSATION", "content": f"from {name}", "source": name} for name in ("Ann", "Bo")]
    memory = Memory("stimulus", "user", {"stimuli": crowd})
    assert recalled([memory], "Ann", 50) == "Bo says: from Bo"
    assert recalled([memory], "Bo", 50) == "Ann says: from Ann"
    own = Memory("stimulus", "user", {"stimuli": [{"type": "THOUGHT", "content": "Hm", "source": "Ann"}]})
    assert recalled([own], "Ann", 50) == "THOUGHT from Ann: Hm"


@given(st.lists(st.integers(1, 6), max_size=8), st.integers(1, 12))
def test_no_more_events_than_asked_for_and_the_latest_of_them(sizes, most):
    number = 0
    memories, texts = [], []
    for size in sizes:
        stimuli = []
        for _ in range(size):
            stimuli.append({"type": "CONVERSATION", "content": f"#{number}", "source": "Bo"})
            texts.append(f"Bo says: #{number}")
            number += 1
        memories.append(Memory("stimulus", "user", {"stimuli": stimuli}))
    lines = recalled(memories, "Ann", most).splitlines()
    events = [line for line in lines if line.startswith("Bo")]
    assert events == texts[len(texts) - len(events) :]
    assert len(events) == min(most, len(texts))
    notes = [line for line in lines if not line.startswith("Bo")]
    assert len(notes) <= 1


def test_a_crowd_is_cut_with_a_note_of_how_many_more_there_were():
    crowd = [{"type": "CONVERSATION", "content": f"{n}", "source": "Bo"} for n in range(5)]
    lines = recalled([Memory("stimulus", "user", {"stimuli": crowd})], "Ann", 2).splitlines()
    assert lines == ["(3 more were heard)", "Bo says: 3", "Bo says: 4"]


@given(st.text(max_size=60), st.integers(2, 40))
def test_text_is_cut_at_the_bound_and_says_so(text, most):
    cut = shortened(text, most)
    if len(text) <= most:
        assert cut == text
    else:
        half = most // 2
        assert cut.startswith(text[:half])
        assert cut.endswith(text[-half:])
        assert f"{len(text) - 2 * half} characters left out" in cut


def test_long_content_is_cut_wherever_it_comes_from():
    long = "x" * 10_000
    said = {"action": {"type": "TALK", "content": long, "target": ""}}
    summary = {"summary": long, "key_facts": []}
    for memory in (
        heard(long),
        Memory("action", "assistant", said),
        Memory("note", "user", long),
        Memory("consolidation", "assistant", summary),
    ):
        assert len(recalled([memory], "Ann", 5, 100)) < 200
    assert len(present("", CognitiveState(), Situation(), known=[long], max_characters=100)) < 400
