"""What a model is shown: first what never changes for a person, then what was added, last what changes every turn.

Providers serve a prompt's unchanged beginning from their cache; so the order is by how often a part changes.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tinytroupe.agent.action import ACTION_TYPES, DONE, REACH_OUT, TALK, THINK, CognitiveState
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
    known: Sequence[str] = (),
    max_characters: int = 4000,
) -> str:
    """Return the second message: memories (of `recalled`), which grow at their end, then the present moment."""
    return _template("now.j2").render(
        memories=memories,
        known=[shortened(fact, max_characters) for fact in known],
        time=situation.time,
        place=situation.place,
        people=", ".join(situation.people),
        context=(*situation.context, *state.context),
        state=state,
    )


def messages(identity_text: str, present_text: str) -> list[Message]:
    """Return the two messages of a turn: few and large, since every message costs the client time."""
    return [{"role": "system", "content": identity_text}, {"role": "user", "content": present_text}]


def recalled(memories: Sequence[Memory], me: str, most: int, max_characters: int = 4000) -> str:
    """Return the latest `most` events among `memories` as lines of the prompt, oldest first.

    A memory may hold many events at once, such as all that was said in a step; what `me` said is among it, and is
    left out there since the person's own actions are remembered by themselves.
    """
    lines: list[str] = []
    room = most
    for memory in reversed(memories):
        found = events(memory, me, max_characters)
        if len(found) > room:
            left_out = len(found) - room
            found = [f"({left_out} more were heard)", *found[left_out:]] if room else []
        lines.extend(reversed(found))
        room = most - len(lines)
        if room <= 0:
            break
    return "\n".join(reversed(lines))


def events(memory: Memory, me: str, max_characters: int = 4000, subject: str = "You") -> list[str]:
    """Return what a memory of `me` holds, a line an event; `subject` is what `me` is called."""
    content: Any = memory.content
    when = f"[{memory.timestamp:%Y-%m-%d %H:%M}] " if memory.timestamp is not None else ""
    if isinstance(content, str):
        return [when + shortened(content, max_characters)]
    if "action" in content:
        action = content["action"]
        to = f" to {action['target']}" if action.get("target") else ""
        return [f"{when}{subject} {action['type']}{to}: {shortened(action['content'], max_characters)}"]
    if "stimuli" in content:
        return [
            when + _perceived(stimulus, max_characters)
            for stimulus in content["stimuli"]
            if stimulus["source"] != me or stimulus["type"] != "CONVERSATION"
        ]
    facts = " ".join(content.get("key_facts", ()))
    summary = f"{content.get('summary', '')} {facts}".strip()
    return [f"{when}In short: {shortened(summary, max_characters)}"]


def _perceived(stimulus: dict[str, Any], max_characters: int) -> str:
    text, source = shortened(str(stimulus["content"]), max_characters), stimulus["source"]
    if stimulus["type"] == "CONVERSATION":
        return f"{source or 'Someone'} says: {text}"
    return f"{stimulus['type']}{f' from {source}' if source else ''}: {text}"


def shortened(text: str, max_characters: int) -> str:
    """Return `text`, cut in the middle where it is too long, saying so."""
    if len(text) <= max_characters:
        return text
    half = max_characters // 2
    return f"{text[:half]} […{len(text) - 2 * half:,} characters left out…] {text[-half:]}"
