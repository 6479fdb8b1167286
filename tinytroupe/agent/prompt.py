"""What a model is shown: first what never changes for a person, then what was added, last what changes every turn.

Providers serve a prompt's unchanged beginning from their cache; so the order is by how often a part changes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING

from tinytroupe.agent.action import ACTION_TYPES, DONE, REACH_OUT, TALK, THINK, CognitiveState
from tinytroupe.agent.memory.event import Stimulus, action_of, stimuli_of, summary_of
from tinytroupe.agent.persona import Persona, described
from tinytroupe.llm.model import Message

if TYPE_CHECKING:
    from jinja2 import Template

    from tinytroupe.agent.memory import Memory

_MEANINGS = {
    THINK: "what goes through your mind. Nobody hears it. No target.",
    TALK: "what you say aloud, in your own voice, to the target.",
    REACH_OUT: "contact someone you can't talk to yet; content is how and why, target the person's name.",
    DONE: "you are finished for now.",
}
_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Situation:
    """What a person's surroundings are at the moment of a turn."""

    time: str = ""
    place: str = ""
    people: tuple[str, ...] = ()
    context: tuple[str, ...] = ()


@functools.lru_cache(maxsize=8)
def _template(name: str) -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tinytroupe.agent", "prompts"),
        autoescape=False,  # plain text for a model, never markup
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(name)


def identity(name: str, persona: Persona, *, max_actions: int, further: Mapping[str, str] = _NONE) -> str:
    """Return the first message: instructions and persona. Byte for byte the same while the persona is.

    Parameters
    ----------
    name, persona
        Who the person is.
    max_actions
        The most that a turn may hold.
    further
        Types of actions that only some people have, each with its meaning.
    """
    meanings = [*((kind, _MEANINGS[kind]) for kind in ACTION_TYPES[:-1]), *further.items(), (DONE, _MEANINGS[DONE])]
    return _template("person.j2").render(
        name=name, persona=described(persona), actions=meanings, max_actions=max_actions
    )


def present(
    memories: str,
    state: CognitiveState,
    situation: Situation,
    *,
    earlier: str = "",
    known: Sequence[str] = (),
    max_characters: int = 4000,
) -> str:
    """Return the second message: memories (of `recalled`), which grow at their end, then the present moment.

    Parameters
    ----------
    memories
        The latest events.
    state, situation
        How and where the person is.
    earlier
        Summaries of what lies before the latest events.
    known
        Knowledge that bears on the moment.
    max_characters
        Longer pieces of knowledge are cut.
    """
    # Written out, since every turn passes here: a template takes three times as long.
    parts: list[str] = []
    if earlier:
        parts.append(f"# What you remember of earlier times\n{earlier}\n")
    if memories:
        parts.append(f"# What you remember of late, oldest first\n{memories}\n")
    if known:
        facts = "\n".join(f"- {shortened(fact, max_characters)}" for fact in known)
        parts.append(f"# What you know that bears on this\n{facts}\n")
    context = "; ".join((*situation.context, *state.context))
    lines = (
        ("Time: ", situation.time),
        ("Place: ", situation.place),
        ("People you can reach: ", ", ".join(situation.people) or "nobody"),
        ("Situation: ", context),
        ("Your goals: ", state.goals),
        ("Your attention: ", state.attention),
        ("Your emotions: ", state.emotions),
    )
    parts.append("# Now")
    parts.extend(label + text for label, text in lines if text)
    parts.append("\nWhat do you do now?")
    return "\n".join(parts)


def messages(identity_text: str, present_text: str) -> list[Message]:
    """Return the two messages of a turn: few and large, since every message costs the client time."""
    return [{"role": "system", "content": identity_text}, {"role": "user", "content": present_text}]


def recalled(memories: Sequence[Memory], me: str, most: int, max_characters: int = 4000) -> str:
    """Return the latest `most` events among `memories` as lines of the prompt, oldest first.

    A memory may hold many events at once, such as all that was said in a step; what `me` said is among it, and is
    left out there since the person's own actions are remembered by themselves.
    """
    groups: list[tuple[Memory, list[str]]] = []
    room = most
    for memory in reversed(memories):
        if room <= 0:
            break
        found, left_out = _latest_events(memory, me, max_characters, room)
        groups.append((memory, [f"({left_out} more were heard)", *found] if left_out else found))
        room -= len(found)
    return "\n".join(timed(reversed(groups)))


def timed(groups: Iterable[tuple[Memory, Sequence[str]]]) -> Iterator[str]:
    """Yield the lines of memories, the first of each moment with its time; the same time is not said twice."""
    last: datetime | None = None
    for memory, lines in groups:
        moment = memory.timestamp
        for index, line in enumerate(lines):
            if index == 0 and moment is not None and moment != last:
                last = moment
                yield f"[{moment:%Y-%m-%d %H:%M}] {line}"
            else:
                yield line


def first_shown(memories: Sequence[Memory], me: str, most: int, first: int) -> int:
    """Return the number (`sequence`) of the first memory to show, where it was `first` the last time.

    A window of the last `most` events that moved with each event would change the prompt from its first line on. This
    one stands still until more than `most` events are in it, and then moves on so far that it is half full.
    """
    sizes = [(memory.sequence, _size(memory, me, most)) for memory in memories if memory.sequence >= first]
    if sum(size for _, size in sizes) <= most:
        return first
    moved, room = first, most // 2
    for sequence, size in reversed(sizes):
        room -= size
        if room < 0:  # what is by itself too large for half a window is cut to the latest: see `recalled`
            return first if size > most // 2 else moved
        moved = sequence
    return moved


def _size(memory: Memory, me: str, most: int) -> int:
    """Return how many events a memory holds; more than `most` count as one more than that."""
    stimuli = stimuli_of(memory.event)
    return 1 if stimuli is None else sum(1 for _ in islice(_heard(stimuli, me), most + 1))


def _heard(stimuli: Iterable[Stimulus], me: str) -> Iterator[Stimulus]:
    return (each for each in stimuli if each.source != me or each.type != "CONVERSATION")


def _latest_events(memory: Memory, me: str, max_characters: int, most: int) -> tuple[list[str], int]:
    """Return the latest `most` lines of a memory, and how many are left out.

    Five hundred people may have spoken at once: what is left out is not written.
    """
    stimuli = stimuli_of(memory.event)
    if stimuli is None:
        return events(memory, me, max_characters), 0
    heard = list(_heard(stimuli, me))
    left_out = max(len(heard) - most, 0)
    return [_perceived(each, max_characters) for each in heard[left_out:]], left_out


def events(memory: Memory, me: str, max_characters: int = 4000, subject: str = "You") -> list[str]:
    """Return what a memory of `me` holds, a line an event; `subject` is what `me` is called."""
    event = memory.event
    if isinstance(event, str):
        return [shortened(event, max_characters)]
    action = action_of(event)
    if action is not None:
        to = f" to {action.target}" if action.target else ""
        return [f"{subject} {action.type}{to}: {shortened(action.content, max_characters)}"]
    stimuli = stimuli_of(event)
    if stimuli is not None:
        return [_perceived(each, max_characters) for each in _heard(stimuli, me)]
    return [f"In short: {shortened(summary_of(event), max_characters)}"]


def _perceived(stimulus: Stimulus, max_characters: int) -> str:
    text, source = shortened(stimulus.content, max_characters), stimulus.source
    if stimulus.type == "CONVERSATION":
        return f"{source or 'Someone'} says: {text}"
    return f"{stimulus.type}{f' from {source}' if source else ''}: {text}"


def shortened(text: str, max_characters: int) -> str:
    """Return `text`, cut in the middle where it is too long, saying so."""
    if len(text) <= max_characters:
        return text
    half = max_characters // 2
    return f"{text[:half]} […{len(text) - 2 * half:,} characters left out…] {text[-half:]}"
