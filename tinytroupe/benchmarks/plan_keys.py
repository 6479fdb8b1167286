"""What ``tinytroupe bench --plan`` is asked: keys and values from a command line."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

MOST_PEOPLE = 10_000_000
"""More people than that are not planned for."""
MOST_STEPS = 100_000
"""Nor more steps."""
MOST_MEMORIES = 10_000
"""Nor more memories that each person brings."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The run that is planned; None leaves it to the settings, or to what is measured.

    Attributes
    ----------
    people, steps
        Its size.
    latency
        Seconds a model call takes, or text such as ``lognormal:1.2,0.5``.
    rpm, tpm
        Requests and tokens a minute, for all shards together; None: the settings.
    concurrency
        Calls in flight, over all shards; None: the settings, for each shard.
    calls_per_turn
        Model calls one after the other in a turn; None: as measured, and 1 as a rule.
    memories
        Entries that each person brings.
    relations
        Others who hear what a person says.
    shards
        Processes; None: as many as are needed.
    people_per_shard
        The most people of one process.
    exchange_ms
        What the exchange with one shard adds to a step, milliseconds.
    model
        Whose prices hold; None: the settings.
    """

    people: int
    steps: int = 3
    latency: str = "1.0"
    rpm: float | None = None
    tpm: float | None = None
    concurrency: int | None = None
    calls_per_turn: float | None = None
    memories: int = 0
    relations: int = 9
    shards: int | None = None
    people_per_shard: int = 1000
    exchange_ms: float = 3.0
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the command line: how its value is read, and what it means."""

    read: Callable[[str], Any]
    meaning: str


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (least <= value <= most and value == int(value)):
            raise ValueError(f"must be a whole number from {least:,} to {most:,}, not {text!r}")
        return int(value)

    return read


def _number(least: float, above: bool, most: float = math.inf) -> Callable[[str], float]:
    words = f"{'above' if above else 'of at least'} {least:g}" + (f" and at most {most:g}" if most < math.inf else "")

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (value > least or (value == least and not above)) or not math.isfinite(value) or value > most:
            raise ValueError(f"must be a number {words}, not {text!r}")
        return value

    return read


def _latency(text: str) -> str:
    from tinytroupe.testing import parse_latency

    parse_latency(text)
    return text


def _text(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return text


KEYS: Mapping[str, Key] = {
    "people": Key(_whole(1, MOST_PEOPLE), "how many; has to be given"),
    "steps": Key(_whole(1, MOST_STEPS), "how long; default 3"),
    "latency": Key(_latency, "seconds a call, or e.g. lognormal:1.2,0.5; default 1.0"),
    "rpm": Key(_number(0, above=True), "requests a minute for all together; default: REQUESTS_PER_MINUTE"),
    "tpm": Key(_number(0, above=True), "tokens a minute for all together; default: TOKENS_PER_MINUTE"),
    "concurrency": Key(
        _whole(1, 10_000_000), "calls in flight for all together; default: MAX_CONCURRENT_MODEL_CALLS a shard"
    ),
    "calls_per_turn": Key(_number(1, above=False, most=100), "model calls in one turn; default: as measured"),
    "memories": Key(_whole(0, MOST_MEMORIES), "entries that each person brings; default 0"),
    "relations": Key(_whole(0, 1000), "others who hear what a person says; default 9"),
    "shards": Key(_whole(1, 1_000_000), "processes; default: as many as are needed"),
    "people_per_shard": Key(_whole(1, 1_000_000), "the most people of one process; default 1,000"),
    "exchange_ms": Key(_number(0, above=False), "what one shard's exchange adds to a step; default 3"),
    "model": Key(_text, "whose prices hold; default: MODEL"),
}
"""All keys, in the order in which they are told."""

assert set(KEYS) == {each.name for each in fields(Asked)}


def read_asked(words: Sequence[str]) -> Asked:
    """Read ``KEY=VALUE`` words.

    Raises
    ------
    ValueError
        A word that is none, a key that is unknown or given twice, a value that can't be, no ``people``; the message
        names the culprit.
    """
    values: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"--plan takes KEY=VALUE, not {word!r}; the keys are {', '.join(KEYS)}")
        if name not in KEYS:
            near = difflib.get_close_matches(name, KEYS, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"--plan knows no key {name!r}: {hint}the keys are {', '.join(KEYS)}")
        if name in values:
            raise ValueError(f"--plan: {name} is given twice")
        try:
            values[name] = KEYS[name].read(text.strip())
        except ValueError as error:
            raise ValueError(f"--plan: {name}: {error}") from error
    if "people" not in values:
        raise ValueError("--plan needs to know how many people, such as people=1000")
    return Asked(**values)
