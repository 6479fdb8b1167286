"""One thing remembered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from typing import Any

from tinytroupe.agent.memory.event import packed, unpacked

_ALIASES = {"type": "kind"}
_MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Memory:
    """One entry of a person's memory.

    It never changes. What it holds is shared, not copied: all who hear one stimulus remember the same object, so
    nobody may change it. An entry also reads like the dictionary ``{"role", "content", "type",
    "simulation_timestamp"}``; there the timestamp is ISO 8601 text.

    Attributes
    ----------
    kind
        What it is: ``stimulus``, ``action``, ``consolidated``, ``omission``, …
    role
        ``user``, ``assistant`` or ``system``, as chat messages have it.
    content
        Text, or a mapping that JSON can hold. What turns make is kept in less room (see `event`), and every look gives
        new dictionaries.
    timestamp
        Simulation time; None outside of simulated time.
    importance
        From 0 (trivial) to 1.
    sequence
        Position in the order of storing, from 0; given by the store, -1 before.
    step
        The world's step, from 0; -1 outside of a step.
    count
        How many original events the entry stands for.

    Raises
    ------
    ValueError
        The importance lies outside of 0 to 1, or the count below 1.
    """

    kind: str
    role: str
    content: Any
    timestamp: datetime | None = None
    importance: float = 0.5
    sequence: int = -1
    step: int = -1
    count: int = 1

    def __post_init__(self) -> None:
        if not 0.0 <= self.importance <= 1.0:
            raise ValueError(f"a memory's importance must lie between 0 and 1, got {self.importance!r}")
        if self.count < 1:
            raise ValueError(f"a memory must stand for at least one event, got count={self.count!r}")

    @property
    def event(self) -> Any:
        """The content as it is kept: `tinytroupe.agent.memory.event` has what reads it."""
        return _content(self)

    def __hash__(self) -> int:
        return hash((self.kind, self.role, self.timestamp, self.sequence))

    def __reduce__(self) -> tuple[Any, ...]:
        # As it is kept: what many share is pickled once, and copied once.
        kept = (self.kind, self.role, _content(self), self.timestamp)
        return _restored, (*kept, self.importance, self.sequence, self.step, self.count)

    def __str__(self) -> str:
        return plain_text(self.content)

    def __getitem__(self, key: str) -> Any:
        if key == "simulation_timestamp":
            return None if self.timestamp is None else self.timestamp.isoformat()
        name = _ALIASES.get(key, key)
        if name not in _FIELDS:
            raise KeyError(f"a memory has no {key!r}; it has {', '.join(_KEYS + _FIELDS[3:])}")
        return getattr(self, name)

    def __contains__(self, key: object) -> bool:
        return key in _KEYS or key in _FIELDS

    def __iter__(self) -> Iterator[str]:
        return iter(_KEYS)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or `default` where there is no such key."""
        return self[key] if self.__contains__(key) else default

    def keys(self) -> tuple[str, ...]:
        """Return the keys of the dictionary form, so that ``dict(memory)`` gives it."""
        return _KEYS

    def numbered(self, sequence: int) -> Memory:
        """Return this entry at a position in the order of storing."""
        kept = (self.kind, self.role, _content(self), self.timestamp)
        return _restored(*kept, self.importance, sequence, self.step, self.count)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, as JSON can hold them; `from_mapping` is the way back."""
        values = {name: getattr(self, name) for name in _FIELDS}
        values["timestamp"] = self["simulation_timestamp"]
        return values

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Memory:
        """Make an entry of a mapping.

        Parameters
        ----------
        value
            Fields by name; ``type`` may stand for ``kind`` and ``simulation_timestamp`` for ``timestamp``, the latter
            as a datetime or as ISO 8601 text. ``role`` defaults to ``user``, ``kind`` follows from the role.

        Raises
        ------
        ValueError
            No content, an unknown key or an unreadable timestamp.
        """
        given = dict(value)
        if "type" in given:
            given.setdefault("kind", given.pop("type"))
        if "simulation_timestamp" in given:
            given.setdefault("timestamp", given.pop("simulation_timestamp"))
        unknown = [key for key in given if key not in _FIELDS]
        if unknown or "content" not in given:
            problem = f"unknown {', '.join(map(repr, unknown))}" if unknown else "no 'content'"
            raise ValueError(
                f"a memory is made of {', '.join(_KEYS + _FIELDS[3:])}; got {problem} in {shortened(value)}"
            )
        given.setdefault("role", "user")
        given.setdefault("kind", "stimulus" if given["role"] == "user" else "action")
        given["timestamp"] = _datetime(given.get("timestamp"))
        return cls(**given)


_FIELDS = tuple(field.name for field in fields(Memory))
_SLOTS = [getattr(Memory, name) for name in _FIELDS]
_content = _SLOTS[_FIELDS.index("content")].__get__
_SETTERS = [slot.__set__ for slot in _SLOTS]
_set_kind, _set_role, _set_content, _set_timestamp, _set_importance, _set_sequence, _set_step, _set_count = _SETTERS


def _get_unpacked(memory: Memory) -> Any:
    return unpacked(_content(memory))


def _set_packed(memory: Memory, content: Any) -> None:
    _set_content(memory, packed(content))


# In front of the slot, so that the constructor and `dataclasses.replace` pass here, too.
setattr(Memory, "content", property(_get_unpacked, _set_packed))  # noqa: B010 - mypy knows a field by that name
_KEYS = ("role", "content", "type", "simulation_timestamp")


def _restored(
    kind: str,
    role: str,
    event: Any,
    timestamp: datetime | None,
    importance: float,
    sequence: int,
    step: int,
    count: int,
) -> Memory:
    """Return an entry of values that were those of one."""
    # Every event of every person passes here, and the constructor of a frozen dataclass takes three times as long.
    entry = object.__new__(Memory)
    _set_kind(entry, kind)
    _set_role(entry, role)
    _set_content(entry, event)
    _set_timestamp(entry, timestamp)
    _set_importance(entry, importance)
    _set_sequence(entry, sequence)
    _set_step(entry, step)
    _set_count(entry, count)
    return entry


def as_memory(value: Memory | Mapping[str, Any]) -> Memory:
    """Return an entry as it is, or make one of a mapping.

    Raises
    ------
    TypeError
        It is neither.
    """
    if isinstance(value, Memory):
        return value
    if isinstance(value, Mapping):
        return Memory.from_mapping(value)
    raise TypeError(f"a memory must be a Memory or a mapping with role and content, got {type(value).__name__}")


def plain_text(content: Any, max_characters: int = 20_000) -> str:
    """Return the words of a content without its structure: the texts and numbers in it, joined by blanks.

    Parameters
    ----------
    content
        Text, or mappings and sequences of it; what lies more than 32 levels deep is left out.
    max_characters
        The rest is cut off.
    """
    if isinstance(content, str):
        return content[:max_characters]
    parts: list[str] = []
    room = max_characters
    for part in _leaves(content, 0):
        parts.append(part[:room])
        room -= len(part) + 1
        if room <= 0:
            break
    return " ".join(parts)


def shortened(value: object, max_characters: int = 200) -> str:
    """Return the text of a value for an error message, cut to a length."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= max_characters else f"{text[:max_characters]}… ({len(text)} characters)"


def moment(timestamp: datetime | None) -> datetime:
    """Return a time that compares with any other: naive ones count as UTC, None as before everything."""
    if timestamp is None:
        return datetime.min
    return timestamp if timestamp.tzinfo is None else timestamp.astimezone(timezone.utc).replace(tzinfo=None)


def _leaves(content: Any, depth: int) -> Iterator[str]:
    if isinstance(content, str):
        if content:
            yield content
    elif content is None or isinstance(content, bool) or depth > _MAX_DEPTH:
        return
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from _leaves(value, depth + 1)
    elif isinstance(content, (list, tuple, set, frozenset)):
        for value in content:
            yield from _leaves(value, depth + 1)
    else:
        yield str(content)


def _datetime(value: Any) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    if isinstance(value, str):
        text = value[:-1] + "+00:00" if value.endswith("Z") else value  # Python 3.10 does not read the Z
        try:
            return datetime.fromisoformat(text)
        except ValueError as error:
            raise ValueError(f"a memory's timestamp must be ISO 8601, got {shortened(value)!r}") from error
    raise ValueError(f"a memory's timestamp must be a datetime, ISO 8601 text or None, got {type(value).__name__}")
