"""What a crowd remembers when everyone speaks to everyone: as much as was said, not as much as was heard."""

from __future__ import annotations

from tinytroupe import TinyPerson, TinyWorld, VirtualClock, use_clock, use_model
from tinytroupe.monitoring.deep_size import deep_size_bytes
from tinytroupe.testing import DirectModel, MockLLM

STEPS = 3


def crowd_after_speaking(people: int) -> list[TinyPerson]:
    mock = MockLLM()
    with VirtualClock() as clock, use_clock(clock), use_model(DirectModel(mock)):
        world = TinyWorld("Square", [TinyPerson(f"Person {number:03}") for number in range(people)])
        world.make_everyone_accessible().run(STEPS)
        assert mock.calls == people * STEPS
        return world.agents


def bytes_of_memories(crowd: list[TinyPerson]) -> int:
    return deep_size_bytes(*(person.episodic_memory for person in crowd))


def test_entries_and_texts_are_as_many_as_people_spoke() -> None:
    crowd = crowd_after_speaking(50)
    # One's own word and one for all that was heard, in each step.
    assert [person.episodic_memory.count() for person in crowd] == [2 * STEPS] * 50
    heard = [
        stimulus
        for person in crowd
        for entry in person.episodic_memory.retrieve_all("stimulus")
        for stimulus in entry.event
    ]
    assert len(heard) == 50 * 50 * STEPS
    assert len({id(stimulus) for stimulus in heard}) == 50 * STEPS  # each word is there once, whoever heard it


def test_bytes_grow_with_people_not_with_pairs_of_them() -> None:
    small, large = (bytes_of_memories(crowd_after_speaking(people)) for people in (25, 50))
    assert large / small < 2.02  # With the pairs it would be 4.
    assert large / 50 < 8_000
