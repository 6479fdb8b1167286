"""Entries in order, within a bound: what the memories keep their entries on. Its owner holds the lock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tinytroupe.agent.memory.entry import Memory, shortened
from tinytroupe.agent.memory.lexical import LexicalIndex
from tinytroupe.agent.memory.retention import UNUSED, EvictionQueue, Key, Strategy, Use, fifo, relevance


def is_size(value: object) -> bool:
    """Tell whether a value is a whole number from 0 on."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def checked_size(size: int | None) -> int | None:
    """Return a bound as a number of entries, None (also for 0) = unbounded.

    Raises
    ------
    ValueError
        It is not a whole number, or negative.
    """
    if size is None:
        return None
    if not is_size(size):
        raise ValueError(f"max_size must be a whole number of entries, or 0 or None for no bound; got {size!r}")
    return size or None


def checked_length(name: str, value: int) -> int:
    """Return a number of entries as it is.

    Raises
    ------
    ValueError
        It is not a whole number, or negative.
    """
    if not is_size(value):
        raise ValueError(f"{name} must be a whole number of entries from 0 on, got {value!r}")
    return value


@dataclass(slots=True)
class Counts:
    """Where events went since the beginning.

    ``stored == evicted + cleared + Σ count`` of the entries that are there; ``consolidated`` events were replaced by a
    summary that counts them.
    """

    stored: int = 0
    evicted: int = 0
    cleared: int = 0
    consolidated: int = 0


class Shelf:
    """Entries by sequence number, in ascending order; those below ``boundary`` are committed, the others buffered.

    Adding costs constant time where entries go in the order in which they came, ``log n`` otherwise, and nothing for
    the bookkeeping of eviction before the shelf is full for the first time.
    """

    __slots__ = (
        "_bound",
        "_lexicon",
        "_oldest",
        "_queue",
        "_strategy",
        "boundary",
        "committed",
        "counts",
        "entries",
        "next",
        "uses",
    )

    def __init__(self) -> None:
        self.entries: dict[int, Memory] = {}
        self.committed = 0
        self.boundary = 0
        self.next = 0
        self.uses: dict[int, Use] = {}
        self.counts = Counts()
        self._queue: EvictionQueue | None = None
        self._strategy: Strategy = fifo
        self._bound = 1
        self._oldest = 0  # no entry has a lower number; only `fit` brings it up to date
        self._lexicon: LexicalIndex | None = None

    def add(self, entry: Memory) -> Memory:
        """Put an entry at the end of the buffer, and return it with its number."""
        sequence = self.next
        self.next = sequence + 1
        stored = self.entries[sequence] = entry.numbered(sequence)
        self.counts.stored += stored.count
        if self._queue is not None:
            self._queue.push(self._key(stored))
        return stored

    def fit(self, bound: int, strategy: Strategy, newcomer: int = -1) -> None:
        """Drop entries until no more than `bound` are left; under ``relevance`` `newcomer` is spared."""
        excess = len(self.entries) - bound
        if excess <= 0:
            return
        if strategy is fifo:  # the usual case needs no queue: sequence numbers only grow
            self._queue = None
            while excess:
                if self._oldest in self.entries:
                    self.counts.evicted += self.drop(self._oldest).count
                    excess -= 1
                self._oldest += 1
            return
        queue = self._queue
        # Searches leave outdated keys behind; building anew keeps the queue within twice the entries.
        if queue is None or strategy is not self._strategy or bound != self._bound or len(queue) > 2 * bound + 64:
            self._strategy, self._bound = strategy, bound
            queue = self._queue = EvictionQueue()
            for entry in self.entries.values():
                queue.push(self._key(entry))
        spared: Key | None = None
        while excess:
            key = queue.pop()
            candidate = self.entries.get(key[1])
            if candidate is None:
                continue
            if strategy is relevance:
                if key[1] == newcomer:
                    spared = key
                    continue
                if self._key(candidate) != key:  # used since
                    continue
            self.counts.evicted += self.drop(key[1]).count
            excess -= 1
        if spared is not None:
            queue.push(spared)

    def commit(self) -> None:
        """Count what is buffered among the committed."""
        self.committed = len(self.entries)
        self.boundary = self.next

    def drop(self, sequence: int) -> Memory:
        """Take an entry out."""
        if sequence < self.boundary:
            self.committed -= 1
        if self._lexicon is not None:
            self._lexicon.discard(sequence)
        self.uses.pop(sequence, None)
        return self.entries.pop(sequence)

    def clear(self, sequences: Iterable[int]) -> None:
        """Forget entries for good."""
        for sequence in sequences:
            self.counts.cleared += self.drop(sequence).count
        self._queue = None

    def replace(self, sources: Iterable[Memory], summary: Memory) -> Memory | None:
        """Put a summary in the place of the last of those sources that are still there; None where none is."""
        present = {source.sequence: source for source in sources if self.entries.get(source.sequence) is source}
        if not present:
            return None
        last = max(present)
        count = sum(source.count for source in present.values())
        timestamp = present[last].timestamp if summary.timestamp is None else summary.timestamp
        stored = replace(summary, sequence=last, count=count, timestamp=timestamp)
        self.entries[last] = stored  # stored before the first source goes; an existing key keeps its place
        self.uses.pop(last, None)
        if self._lexicon is not None:
            self._lexicon.add(last, str(stored))
        for sequence in present:
            if sequence != last:
                self.drop(sequence)
        self._queue = None
        self.counts.consolidated += count
        return stored

    def find(self, text: str, top_k: int) -> list[Memory]:
        """Return the entries that share the most telling words with a text, best first; they count as used."""
        if self._lexicon is None:
            self._lexicon = LexicalIndex()
        for sequence, entry in reversed(self.entries.items()):
            if sequence in self._lexicon:
                break
            self._lexicon.add(sequence, str(entry))
        found = [self.entries[sequence] for sequence in self._lexicon.search(text, top_k)]
        for entry in found:
            self.uses[entry.sequence] = Use(self.uses.get(entry.sequence, UNUSED).times + 1, self.next)
            if self._queue is not None and self._strategy is relevance:
                self._queue.push(self._key(entry))
        return found

    def encode(self) -> dict[str, Any]:
        """Return everything as JSON can hold it, as far as the contents can."""
        return {
            "entries": [entry.to_dict() for entry in self.entries.values()],
            "boundary": self.boundary,
            "next": self.next,
            "uses": [[sequence, *use] for sequence, use in self.uses.items()],
            "counts": asdict(self.counts),
        }

    @classmethod
    def decode(cls, state: Mapping[str, Any]) -> Shelf:
        """Make a shelf of what `encode` returned.

        Raises
        ------
        ValueError
            It is something else.
        """
        shelf = cls()
        try:
            entries = [Memory.from_mapping(entry) for entry in state["entries"]]
            numbers = [entry.sequence for entry in entries]
            shelf.boundary, shelf.next = int(state["boundary"]), int(state["next"])
            shelf.uses = {int(sequence): Use(int(times), int(last)) for sequence, times, last in state["uses"]}
            shelf.counts = Counts(**state["counts"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is not the state of a memory: {shortened(state)}") from error
        if numbers != sorted(set(numbers)) or (numbers and not 0 <= numbers[0] <= numbers[-1] < shelf.next):
            raise ValueError(f"the entries of a memory's state must be numbered in ascending order, got {numbers[:20]}")
        shelf.entries = dict(zip(numbers, entries, strict=True))
        shelf._oldest = numbers[0] if numbers else shelf.next
        shelf.committed = sum(number < shelf.boundary for number in numbers)
        return shelf

    def _key(self, entry: Memory) -> Key:
        return self._strategy(entry, self.uses.get(entry.sequence, UNUSED), self._bound)
