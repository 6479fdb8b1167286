"""What a person does in a turn, and how a model's reply becomes that."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from tinytroupe.llm.asking import ReplyError, read_json
from tinytroupe.llm.model import ReplySchema

THINK = "THINK"
TALK = "TALK"
REACH_OUT = "REACH_OUT"
DONE = "DONE"
ACTION_TYPES = (THINK, TALK, REACH_OUT, DONE)


class _Readable:
    """Reads like a dict too, for programs that were written for dicts."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:
        if key not in self.keys():
            raise KeyError(key)
        return getattr(self, key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the field `key`, or `default`."""
        return getattr(self, key) if key in self.keys() else default

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> tuple[str, ...]:
        """Return the names of the fields."""
        return tuple(field.name for field in fields(self))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Action(_Readable):
    """One thing a person does.

    Attributes
    ----------
    type
        ``THINK``, ``TALK``, ``REACH_OUT`` or ``DONE``.
    content
        What is thought or said; empty for ``DONE``.
    target
        Name of the person addressed; empty: nobody, or whoever is there.
    """

    type: str
    content: str = ""
    target: str = ""

    def __getitem__(self, key: str) -> Any:
        # Programs know actions as {"type": …} and as {"action": {"type": …}}: both are this.
        return self if key == "action" else _Readable.__getitem__(self, key)


@dataclass(frozen=True, slots=True)
class CognitiveState(_Readable):
    """What a person has in mind after a turn."""

    goals: str = ""
    context: tuple[str, ...] = ()
    attention: str = ""
    emotions: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, as JSON can hold them."""
        return {
            "goals": self.goals,
            "context": list(self.context),
            "attention": self.attention,
            "emotions": self.emotions,
        }


@dataclass(frozen=True, slots=True)
class TurnReply:
    """A reply that was read: the actions up to and including ``DONE``, and the new state of mind."""

    actions: tuple[Action, ...]
    state: CognitiveState


@functools.lru_cache(maxsize=64)
def reply_schema(action_types: tuple[str, ...] = ACTION_TYPES) -> ReplySchema:
    """Return the strict JSON schema of a turn's reply, built once for each set of types."""
    text = {"type": "string"}
    action = _object(type={"type": "string", "enum": list(action_types)}, content=text, target=text)
    state = _object(goals=text, context={"type": "array", "items": text}, attention=text, emotions=text)
    return ReplySchema("turn", _object(actions={"type": "array", "items": action}, cognitive_state=state))


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


TURN_SCHEMA = reply_schema()


def parse_reply(
    text: str, *, action_types: Sequence[str] = ACTION_TYPES, max_actions: int = 15, max_characters: int = 200_000
) -> TurnReply:
    """Read a model's reply, repairing what is plainly meant.

    Markdown fences, text around the object, trailing commas and missing braces are mended; actions after ``DONE`` or
    beyond `max_actions` are left out, as are repetitions; a missing ``DONE`` is added.

    Parameters
    ----------
    text
        The reply.
    action_types
        Types that are known.
    max_actions
        Actions kept, ``DONE`` not counted.
    max_characters
        Longest reply that is looked at.

    Raises
    ------
    ReplyError
        Says what is wrong in words that a model can act on, and carries the beginning of the reply.
    """
    data = _load(text, max_characters)
    raw_actions = data.get("actions")
    if isinstance(raw_actions, Mapping):
        raw_actions = [raw_actions]
    if not isinstance(raw_actions, list) or not raw_actions:
        raise ReplyError("the reply needs a non-empty list 'actions'", text)
    actions: list[Action] = []
    for raw in raw_actions:
        action = _action(raw, action_types, text)
        if action.type == DONE or len(actions) == max_actions:
            break
        if action not in actions:  # a model in a rut says one thing several times
            actions.append(action)
    actions.append(Action(DONE))
    return TurnReply(tuple(actions), _state(data.get("cognitive_state")))


def _load(text: str, max_characters: int) -> dict[str, Any]:
    data = read_json(text, max_characters=max_characters)
    if isinstance(data, list) and data and isinstance(data[0], dict):
        # Either the list of actions alone, or the object wrapped in a list.
        data = data[0] if "actions" in data[0] else {"actions": data}
    if not isinstance(data, dict):
        raise ReplyError("the reply must be a JSON object", text)
    if "actions" not in data and isinstance(data.get("action"), dict):
        data = {**data, "actions": [data["action"]]}
    return data


def _action(raw: Any, action_types: Sequence[str], text: str) -> Action:
    if not isinstance(raw, Mapping) or not isinstance(raw.get("type"), str):
        raise ReplyError(f"every action needs a 'type', got {str(raw)[:80]!r}", text)
    kind = raw["type"].strip().upper()
    if kind not in action_types:
        near = difflib.get_close_matches(kind, action_types, 1)
        hint = f", did you mean {near[0]}?" if near else ""
        raise ReplyError(f"unknown action type {raw['type'][:80]!r}{hint} Known: {', '.join(action_types)}", text)
    content, target = raw.get("content"), raw.get("target")
    if content is not None and not isinstance(content, str):
        content = json.dumps(content, ensure_ascii=False)
    if target is not None and not isinstance(target, str):
        raise ReplyError(f"'target' must be a name, got {str(target)[:80]!r}", text)
    if kind in (THINK, TALK, REACH_OUT) and not (content or "").strip():
        raise ReplyError(f"the action {kind} has no content", text)
    return Action(kind, (content or "").strip(), (target or "").strip())


def _state(raw: Any) -> CognitiveState:
    if not isinstance(raw, Mapping):
        return CognitiveState()

    def words(key: str) -> str:
        value = raw.get(key)
        if isinstance(value, list):
            value = "; ".join(map(str, value))
        return "" if value is None else str(value).strip()

    context = raw.get("context")
    if isinstance(context, str):
        context = [context]
    lines = tuple(str(line).strip() for line in context) if isinstance(context, list) else ()
    return CognitiveState(words("goals"), lines, words("attention"), words("emotions"))
