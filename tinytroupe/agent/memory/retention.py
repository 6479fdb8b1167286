"""What a full memory drops first.

A strategy is a pure function that gives each entry a key; the entry with the lowest key goes first.

``fifo``
    The entry stored first.
``age``
    The entry with the earliest simulation time; of equals the one stored first. Entries without a time come before
    all others.
``relevance``
    The entry with the lowest ``w · 2^(-Δ / h)``, where ``w = max(importance, 0.1) · (1 + uses)``, ``Δ`` is the number
    of entries stored since it was stored or last used, and the half-life ``h`` is a quarter of the bound. Importance,
    recency and use thus multiply: doubling the importance, or one use, is worth as much as being a quarter of the
    bound younger. A product of this form has a helpful property: as time passes all entries fade by the same
    factor, so their order stays, and a queue can hold it. (Recency as exponential decay beside importance is
    after Park et al., "Generative Agents", 2023, section 4.1, where they are added; decay with use is after Lee et al.,
    "LRFU", 2001.) An entry that has only just been stored is not dropped in its own favour, however trivial.
"""

from __future__ import annotations

import difflib
import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from tinytroupe.agent.memory.entry import Memory, moment

Key = tuple[Any, int]
"""What decides, and the sequence number of the entry."""

LEAST_IMPORTANCE = 0.1
"""Importance below this counts as this, so that no entry is worth nothing."""


class Use(NamedTuple):
    """How often an entry was found relevant, and the sequence number reached when it last was."""

    times: int
    last: int


UNUSED = Use(0, -1)

Strategy = Callable[[Memory, Use, int], Key]
"""Takes the entry, its use, and the bound of the memory."""


def fifo(entry: Memory, use: Use, max_size: int) -> Key:
    """Key for dropping in the order of storing."""
    return (0, entry.sequence)


def age(entry: Memory, use: Use, max_size: int) -> Key:
    """Key for dropping in the order of simulation time."""
    return (moment(entry.timestamp), entry.sequence)


def relevance(entry: Memory, use: Use, max_size: int) -> Key:
    """Key for dropping what matters least: the logarithm of the formula above, but for a term equal for all."""
    half_life = max_size / 4
    weight = max(entry.importance, LEAST_IMPORTANCE) * (1 + use.times)
    return (math.log2(weight) + max(entry.sequence, use.last) / half_life, entry.sequence)


STRATEGIES: Mapping[str, Strategy] = {"fifo": fifo, "age": age, "relevance": relevance}


def strategy_named(name: str) -> Strategy:
    """Return the strategy of that name.

    Raises
    ------
    ValueError
        There is none; the message names those there are.
    """
    try:
        return STRATEGIES[name]
    except (KeyError, TypeError):
        near = difflib.get_close_matches(str(name), STRATEGIES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"cleanup strategy must be one of {', '.join(STRATEGIES)}; got {name!r}{hint}") from None


def order_of_eviction(
    entries: Iterable[Memory], strategy: Strategy, max_size: int, uses: Mapping[int, Use] | None = None
) -> list[Memory]:
    """Return entries in the order in which a strategy would drop them."""
    known = uses or {}
    return sorted(entries, key=lambda entry: strategy(entry, known.get(entry.sequence, UNUSED), max_size))


class EvictionQueue:
    """Keys, lowest out first.

    Keys mostly arrive in ascending order (nearly always under ``age``): those wait in a plain queue at constant cost,
    and only what arrives out of order goes through a heap.
    """

    __slots__ = ("_heap", "_line")

    def __init__(self) -> None:
        self._line: deque[Key] = deque()
        self._heap: list[Key] = []

    def __len__(self) -> int:
        return len(self._line) + len(self._heap)

    def push(self, key: Key) -> None:
        """Add a key."""
        if not self._line or key >= self._line[-1]:
            self._line.append(key)
        else:
            heapq.heappush(self._heap, key)

    def pop(self) -> Key:
        """Take the lowest key out.

        Raises
        ------
        IndexError
            The queue is empty.
        """
        if not self._heap or (self._line and self._line[0] <= self._heap[0]):
            return self._line.popleft()
        return heapq.heappop(self._heap)
