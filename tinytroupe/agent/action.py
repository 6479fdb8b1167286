"""What a person does in a turn, and how a model's reply becomes that."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from tinytroupe.llm.model import ReplySchema

THINK = "THINK"
TALK = "TALK"
REACH_OUT = "REACH_OUT"
DONE = "DONE"
ACTION_TYPES = (THINK, TALK, REACH_OUT, DONE)

_RAW_SHOWN = 500
_FENCE = re.compile(r"```(?:json)?\s*\n?(.*?)```", re.DOTALL)
_OPENING = re.compile(r"[\[{]")


class ReplyError(ValueError):
    """A model's reply can't be read as a turn.

    Attributes
    ----------
    raw
        The beginning of the reply, at most 500 characters.
    """

    def __init__(self, message: str, raw: str) -> None:
        self.raw = raw[:_RAW_SHOWN]
        more = f"… ({len(raw):,} characters in all)" if len(raw) > _RAW_SHOWN else ""
        super().__init__(f"{message}; the reply was: {self.raw!r}{more}" if raw else message)


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


@dataclass(frozen=True, slots=True)
class CognitiveState(_Readable):
    """What a person has in mind after a turn."""

    goals: str = ""
    context: tuple[str, ...] = ()
    attention: str = ""
    emotions: str = ""


@dataclass(frozen=True, slots=True)
class TurnReply:
    """A reply that was read: the actions up to and including ``DONE``, and the new state of mind."""

    actions: tuple[Action, ...]
    state: CognitiveState


def reply_schema(action_types: Sequence[str] = ACTION_TYPES) -> ReplySchema:
    """Return the strict JSON schema of a turn's reply. Build it once; building costs more than using."""
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
    beyond `max_actions` are left out; a missing ``DONE`` is added.

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
    if len(text) > max_characters:
        raise ReplyError(f"the reply has {len(text):,} characters, more than the {max_characters:,} allowed", text)
    if not text.strip():
        raise ReplyError("the reply is empty", text)
    data = _load(text)
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
        actions.append(action)
    actions.append(Action(DONE))
    return TurnReply(tuple(actions), _state(data.get("cognitive_state")))


def _load(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = _inside(text) or _repaired(text)
    if isinstance(data, list) and data and isinstance(data[0], dict):
        # Either the list of actions alone, or the object wrapped in a list.
        data = data[0] if "actions" in data[0] else {"actions": data}
    if not isinstance(data, dict):
        raise ReplyError("the reply must be a JSON object", text)
    if "actions" not in data and isinstance(data.get("action"), dict):
        data = {**data, "actions": [data["action"]]}
    return data


def _inside(text: str) -> Any:
    """Return what is sound JSON amid other text, such as a Markdown fence; None where there is none."""
    opening = _OPENING.search(text)
    try:
        data = json.JSONDecoder().raw_decode(text, opening.start())[0] if opening else None
    except (ValueError, RecursionError):
        return None
    whole = isinstance(data, dict) or (isinstance(data, list) and all(isinstance(item, dict) for item in data))
    return data if whole else None


def _repaired(text: str) -> Any:
    fenced = _FENCE.search(text)
    body = fenced.group(1) if fenced else text
    if "{" not in body:
        raise ReplyError("the reply is not JSON", text)
    import json_repair

    try:
        return json_repair.loads(body[body.index("{") :])
    except (ValueError, RecursionError) as error:
        raise ReplyError("the reply is not JSON and can't be repaired", text) from error


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
    if kind != DONE and not (content or "").strip():
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
