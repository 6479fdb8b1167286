"""What people lived through, as text for somebody who was not there."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tinytroupe.agent.memory import Memory
from tinytroupe.agent.memory.event import action_of, stimuli_of, summary_of
from tinytroupe.agent.prompt import shortened
from tinytroupe.agent.tiny_person import TinyPerson
from tinytroupe.config import config_manager

MAX_CHARACTERS = 400_000
"""Longest history that is shown to a model; of a longer one the end."""


_Said = tuple[str, str, int]
"""Who, what, and for the how-manieth time: speech is told once, not again by each who heard it."""


@dataclass(frozen=True, slots=True)
class _Event:
    line: str
    said: _Said | None = None
    own: bool = False


def history(
    people: Iterable[TinyPerson],
    *,
    first_n: int | None = None,
    last_n: int | None = None,
    max_characters: int = MAX_CHARACTERS,
) -> str:
    """Return what `people` did and perceived, one line an event, in an order in which it may have happened.

    What one of them said is told where it was said, not again by each who heard it: a talk among N people costs N
    lines, not N². Nobody hears something before it is said.

    Parameters
    ----------
    people
        Whose history.
    first_n, last_n
        Of each person, so many of the first and the last memories; with neither, all.
    max_characters
        Of a longer text, the end is kept, with a note.
    """
    told = list(people)
    names = {person.name for person in told}
    merged = _merged([deque(_events(person, names, first_n, last_n)) for person in told])
    return _end_of([event.line for event in merged], max_characters)


def _merged(queues: Sequence[deque[_Event]]) -> list[_Event]:
    """Return all events in one order: each person's own order is kept, and speech comes before those who heard it."""
    coming = {event.said for queue in queues for event in queue if event.own}
    told: set[_Said | None] = set()
    merged: list[_Event] = []
    patient = True
    while any(queues):
        moved = False
        for queue in queues:
            acted = False
            while queue:
                event = queue[0]
                unsaid = event.said is not None and event.said not in told
                if not event.own and (acted or (patient and unsaid and event.said in coming)):
                    break  # after a turn, or before something is said: the others first
                queue.popleft()
                moved, acted = True, acted or event.own
                if event.said is None or unsaid:
                    merged.append(event)
                if event.said is not None:
                    told.add(event.said)
        patient = moved  # where all wait for one another, since memories were evicted, somebody has to begin
    return merged


def _events(person: TinyPerson, names: set[str], first_n: int | None, last_n: int | None) -> Iterator[_Event]:
    most = config_manager.get("max_content_characters")
    times: Counter[tuple[str, str]] = Counter()
    for memory in person.episodic_memory.retrieve(first_n, last_n):
        for line, speaker, text in _of_memory(memory, person.name, names, most):
            times[speaker, text] += 1
            said = (speaker, text, times[speaker, text]) if speaker else None
            yield _Event(line, said, own=speaker == person.name)


def _of_memory(memory: Memory, me: str, names: set[str], most: int) -> Iterator[tuple[str, str, str]]:
    """Yield lines, each with who spoke in it, if anyone, and what."""
    event = memory.event
    when = f"[{memory.timestamp:%Y-%m-%d %H:%M}] " if memory.timestamp is not None else ""
    if isinstance(event, str):
        yield f"{when}{me}: {shortened(event, most)}", "", ""
    elif (action := action_of(event)) is not None:
        to = f" to {action.target}" if action.target else ""
        shown = shortened(action.content, most)
        yield f"{when}{me} {action.type}{to}: {shown}", me, f"{action.type} {action.content}"
    elif (stimuli := stimuli_of(event)) is not None:
        for one in stimuli:
            text, source = one.content, one.source
            if one.type == "CONVERSATION":
                if source != me:
                    verb = "TALK" if source in names else "says"
                    yield f"{when}{source or 'Someone'} {verb}: {shortened(text, most)}", source, f"TALK {text}"
            else:
                origin = f" from {source}" if source not in ("", me) else ""
                yield f"{when}{me} perceives {one.type}{origin}: {shortened(text, most)}", "", ""
    else:
        yield f"{when}{me}, in short: {shortened(summary_of(event), most)}", "", ""


def _end_of(lines: Sequence[str], max_characters: int) -> str:
    room, kept = max_characters, 0
    for line in reversed(lines):
        room -= len(line) + 1
        if room < 0:
            break
        kept += 1
    if kept == len(lines):
        return "\n".join(lines) or "(nothing yet)"
    left_out = f"({len(lines) - kept:,} earlier events are left out)"
    return "\n".join([left_out, *lines[len(lines) - kept :]])
