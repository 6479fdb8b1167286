"""What a turn leaves in a memory, in a third of the room that dictionaries take.

A person remembers a hundred events and more, and there may be very many people. So what turns make is kept as objects
with slots, which all who perceive it share, and reads as dictionaries when a program looks at it (`Memory.content`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinytroupe.agent.action import Action, CognitiveState

_DID = {"action", "cognitive_state"}
_ACTION = {"type", "content", "target"}
_STIMULUS = {"type", "content", "source"}
_MIND = {"goals", "context", "attention", "emotions"}


@dataclass(frozen=True, slots=True)
class Stimulus:
    """Something to perceive.

    Attributes
    ----------
    type
        ``CONVERSATION``, ``VISUAL``, ``THOUGHT``, ``SOCIAL``, …
    content
        What is said or seen.
    source
        Name of whom it comes from; empty: nobody in particular.
    """

    type: str
    content: str
    source: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return Stimulus, (self.type, self.content, self.source)  # what dataclasses do by themselves takes twice as long


class Perceived(tuple[Stimulus, ...]):
    """Stimuli that came together, as one memory: ``{"stimuli": [{"type", "content", "source"}, …]}``."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Did:
    """An action and the state of mind after its turn: ``{"action": {…}, "cognitive_state": {…}}``."""

    action: Action
    mind: CognitiveState

    def __reduce__(self) -> tuple[Any, ...]:
        return Did, (self.action, self.mind)


def packed(content: Any) -> Any:
    """Return a content in little room: `Perceived` or `Did` where a dictionary is exactly that, else as it is."""
    if type(content) is not dict:
        return content
    if len(content) == 1 and type(stimuli := content.get("stimuli")) is list:
        found = [_stimulus(each) for each in stimuli]
        return content if None in found else Perceived(found)  # type: ignore[arg-type]
    if content.keys() == _DID:
        action, mind = content["action"], content["cognitive_state"]
        if _texts(action, _ACTION) and _is_mind(mind):
            return Did(Action(**action), CognitiveState(**{**mind, "context": tuple(mind["context"])}))
    return content


def unpacked(event: Any) -> Any:
    """Return what `packed` was given: for `Perceived` and `Did` new dictionaries, that JSON can hold."""
    if type(event) is Perceived:
        return {"stimuli": [{"type": one.type, "content": one.content, "source": one.source} for one in event]}
    if type(event) is Did:
        did = event.action
        action = {"type": did.type, "content": did.content, "target": did.target}
        return {"action": action, "cognitive_state": event.mind.as_dict()}
    return event


def stimuli_of(event: Any) -> Sequence[Stimulus] | None:
    """Return what was perceived; None where it was something else."""
    if type(event) is Perceived:
        return event
    if type(event) is Did or not isinstance(event, Mapping) or "stimuli" not in event:
        return None
    return [as_stimulus(each) for each in event["stimuli"]]


def as_stimulus(value: Any) -> Stimulus:
    """Return a stimulus as it is, or make one of a mapping, or of a text."""
    if type(value) is Stimulus:
        return value
    if isinstance(value, Mapping):
        return Stimulus(str(value.get("type", "")), str(value.get("content", "")), str(value.get("source") or ""))
    return Stimulus("", str(value))


def action_of(event: Any) -> Action | None:
    """Return what was done; None where it was something else."""
    if type(event) is Did:
        return event.action
    action = event.get("action") if isinstance(event, Mapping) else None
    if action is None:
        return None
    return Action(str(action["type"]), str(action.get("content", "")), action.get("target") or "")


def summary_of(event: Mapping[str, Any]) -> str:
    """Return the words of a summary and of the facts that go with it."""
    return " ".join([str(event.get("summary", "")), *map(str, event.get("key_facts", ()))]).strip()


def _stimulus(value: Any) -> Stimulus | None:
    if type(value) is Stimulus:
        return value
    return Stimulus(**value) if _texts(value, _STIMULUS) else None


def _is_mind(value: Any) -> bool:
    if type(value) is not dict or value.keys() != _MIND or type(value["context"]) is not list:
        return False
    return _all_texts(value["context"]) and _all_texts(value[name] for name in _MIND - {"context"})


def _texts(value: Any, keys: set[str]) -> bool:
    return type(value) is dict and value.keys() == keys and _all_texts(value.values())


def _all_texts(values: Iterable[Any]) -> bool:
    return all(type(each) is str for each in values)
