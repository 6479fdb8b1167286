"""What happened to a person, in order and within a bound."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any

from tinytroupe.agent.memory.entry import Memory, as_memory
from tinytroupe.agent.memory.retention import strategy_named
from tinytroupe.agent.memory.shelf import checked_length
from tinytroupe.agent.memory.store import FROM_SETTINGS, MaxSize, Store
from tinytroupe.agent.memory.view import View
from tinytroupe.config import config_manager

logger = logging.getLogger("tinytroupe.memory")


OMISSION = Memory("omission", "system", "Other memories lie here; they are left out for brevity.")
"""The note that stands where memories were left out."""


class EpisodicMemory(Store):
    """The events of a person's life, oldest first.

    New events go to the buffer, which holds the current episode, until `commit_episode` puts them with the others. The
    buffer counts toward the bound, so committed and buffered entries together never exceed it: storing one more
    drops another at once, as the strategy says (see `tinytroupe.agent.memory.retention`). A change of bound or strategy
    takes effect at once. Safe to use from several threads.

    Every event is accounted for: ``stored == evicted + cleared + Σ entry.count`` in `get_memory_stats`.

    Parameters
    ----------
    fixed_prefix_length
        Entries from the beginning that `retrieve_recent` returns.
    lookback_length
        Entries from the end that `retrieve_recent` returns.
    max_size
        Bound on entries, buffer included; 0 or None = unbounded. Not given = ``MAX_EPISODIC_MEMORY_SIZE``
        of the settings.
    cleanup_strategy
        ``fifo``, ``age`` or ``relevance``. Not given or None = ``MEMORY_CLEANUP_STRATEGY`` of the settings.
    owner
        Whose memory it is, for log messages.

    Raises
    ------
    ValueError
        A length or the bound is negative, or the strategy unknown.
    """

    MEMORY_BLOCK_OMISSION_INFO = OMISSION
    _setting = "max_episodic_memory_size"

    def __init__(
        self,
        fixed_prefix_length: int = 20,
        lookback_length: int = 100,
        max_size: MaxSize = FROM_SETTINGS,
        cleanup_strategy: str | None = None,
        *,
        owner: str = "",
    ) -> None:
        super().__init__(max_size)
        self.fixed_prefix_length = checked_length("fixed_prefix_length", fixed_prefix_length)
        self.lookback_length = checked_length("lookback_length", lookback_length)
        self.owner = owner
        self._warned = False
        self._consolidating = False
        self.cleanup_strategy = cleanup_strategy

    @property
    def cleanup_strategy(self) -> str:
        """Name of the strategy that says what a full memory drops first; setting None follows the settings."""
        return str(config_manager.get("memory_cleanup_strategy")) if self._strategy is None else self._strategy

    @cleanup_strategy.setter
    def cleanup_strategy(self, name: str | None) -> None:
        if name is not None:
            strategy_named(name)
        self._strategy = name

    def store(self, entry: Memory | Mapping[str, Any]) -> Memory:
        """Remember an event, as part of the current episode.

        Parameters
        ----------
        entry
            The event; its content is kept as it is, not copied.

        Returns
        -------
        Memory
            The entry with its sequence number.

        Raises
        ------
        TypeError, ValueError
            It is not an entry, nor a mapping that makes one.
        """
        given = as_memory(entry)
        with self._lock:
            stored = self._shelf.add(given)
            near = self._crossed(self._settle(stored.sequence))
        if near:
            self._warn(near)
        return stored

    def store_all(self, entries: Iterable[Memory | Mapping[str, Any]]) -> None:
        """Remember events in order; where one of them is malformed, none is stored."""
        for entry in [as_memory(entry) for entry in entries]:
            self.store(entry)

    def commit_episode(self) -> None:
        """End the current episode: its entries join the others, and the buffer is empty."""
        with self._lock:
            self._settle()
            self._shelf.commit()

    def replace(self, sources: Iterable[Memory], summary: Memory) -> Memory | None:
        """Put a summary in the place of the entries it stands for, in one step that nobody sees half done.

        Parameters
        ----------
        sources
            Entries as this memory returned them. Those no longer there (evicted or cleared meanwhile) are passed over:
            they are already accounted for.
        summary
            Takes the place, the sequence number and, unless it has its own, the time of the last source, and counts the
            events of all that were still there.

        Returns
        -------
        Memory or None
            The summary as stored; None where no source was left, and nothing was stored.
        """
        with self._lock:
            stored = self._shelf.replace(sources, summary)
            self._crossed(self._settle())
            return stored

    def clear(self, max_prefix_to_clear: int | None = None, max_suffix_to_clear: int | None = None) -> None:
        """Forget for good: the current episode, and of the committed entries those named, or all.

        Parameters
        ----------
        max_prefix_to_clear
            Committed entries to forget from the beginning.
        max_suffix_to_clear
            Committed entries to forget from the end. Where neither is given, all are forgotten.

        Raises
        ------
        ValueError
            A number is negative.
        """
        prefix = checked_length("max_prefix_to_clear", max_prefix_to_clear or 0)
        suffix = checked_length("max_suffix_to_clear", max_suffix_to_clear or 0)
        with self._lock:
            bound = self._settle()
            numbers = list(self._shelf.entries)
            if max_prefix_to_clear is not None or max_suffix_to_clear is not None:
                first = min(prefix, self._shelf.committed)
                last = max(first, self._shelf.committed - suffix)
                numbers = numbers[:first] + numbers[last:]
            self._shelf.clear(numbers)
            self._crossed(bound)

    @property
    def memory(self) -> Sequence[Memory]:
        """The committed entries, oldest first: a live view that can't be written to; its length costs no copy."""
        return View(self._committed_size, self._committed_entries)

    @property
    def episodic_buffer(self) -> list[Memory]:
        """The entries of the current episode, oldest first."""
        return self.get_current_episode()

    def get_current_episode(self, item_types: Collection[str] | None = None) -> list[Memory]:
        """Return the entries of the current episode, oldest first; with `item_types` only those of these kinds."""
        with self._lock:
            self._settle()
            entries = self._shelf.entries
            episode = list(islice(reversed(entries.values()), len(entries) - self._shelf.committed))[::-1]
        return episode if item_types is None else [entry for entry in episode if entry.kind in item_types]

    def retrieve(
        self,
        first_n: int | None = None,
        last_n: int | None = None,
        include_omission_info: bool = True,
        item_type: str | None = None,
    ) -> list[Memory]:
        """Return the first and the last entries, the current episode included, each at most once.

        Parameters
        ----------
        first_n, last_n
            How many from the beginning and from the end. With one of them only that end, with neither all.
        include_omission_info
            Put a note (kind ``omission``) where entries were left out.
        item_type
            Only entries of this kind.

        Raises
        ------
        ValueError
            A number is negative.
        """
        first, last = checked_length("first_n", first_n or 0), checked_length("last_n", last_n or 0)
        if first_n is None and last_n is None:
            return self.retrieve_all(item_type)
        with self._lock:
            self._settle()
            # No whole copies: a prompt takes a few entries of a thousand, in every turn.
            entries = self._shelf.entries.values() if item_type is None else self.retrieve_all(item_type)
            if len(entries) <= first + last:
                return list(entries)
            head = list(islice(entries, first))
            tail = list(islice(reversed(entries), last))[::-1]
        return [*head, OMISSION, *tail] if include_omission_info else head + tail

    def retrieve_first(self, n: int, include_omission_info: bool = True, item_type: str | None = None) -> list[Memory]:
        """Return the first `n` entries, and a note after them where others follow."""
        return self.retrieve(n, 0, include_omission_info, item_type)

    def retrieve_last(
        self, n: int | None = None, include_omission_info: bool = True, item_type: str | None = None
    ) -> list[Memory]:
        """Return the last `n` entries (None: all), and a note before them where others precede."""
        return self.retrieve(None, n, include_omission_info, item_type)

    def retrieve_recent(self, include_omission_info: bool = True, item_type: str | None = None) -> list[Memory]:
        """Return the first ``fixed_prefix_length`` and the last ``lookback_length`` entries."""
        return self.retrieve(self.fixed_prefix_length, self.lookback_length, include_omission_info, item_type)

    def retrieve_relevant(self, relevance_target: str, top_k: int = 20) -> list[Memory]:
        """Return at most `top_k` entries that share the most telling words with a text, best first.

        What is found counts as used, which the strategy ``relevance`` rewards. `LexicalIndex` describes the ranking.
        """
        return self._found_by_words(relevance_target, top_k)

    def get_memory_stats(self) -> dict[str, Any]:
        """Return the state of the memory in figures.

        Returns
        -------
        dict
            ``current_size`` (committed entries), ``buffer_size``, ``total_size``, ``max_size`` (None = unbounded),
            ``usage_ratio`` (of the bound; 0.0 where unbounded), ``is_bounded``, ``approaching_limit`` (the ratio has
            reached ``MEMORY_WARNING_THRESHOLD``), ``strategy``, and in events since the beginning ``stored``,
            ``evicted``, ``cleared``, and ``consolidated`` (replaced by a summary that counts them).
        """
        with self._lock:
            bound = self._settle()
            counts = self._shelf.counts
            total = len(self._shelf.entries)
            return {
                "current_size": self._shelf.committed,
                "buffer_size": total - self._shelf.committed,
                "total_size": total,
                "max_size": bound,
                "usage_ratio": total / bound if bound else 0.0,
                "is_bounded": bound is not None,
                "approaching_limit": self._is_near(bound),
                "strategy": self.cleanup_strategy,
                "stored": counts.stored,
                "evicted": counts.evicted,
                "cleared": counts.cleared,
                "consolidated": counts.consolidated,
            }

    def held(self) -> AbstractContextManager[object]:
        """Keep other threads out for the length of a ``with`` block, where several calls belong together."""
        return self._lock

    def begin_consolidation(self) -> bool:
        """Say that a consolidation starts; False where one is under way, which must be left to finish."""
        with self._lock:
            free, self._consolidating = not self._consolidating, True
            return free

    def end_consolidation(self) -> None:
        """Say that the consolidation has ended, however it did."""
        self._consolidating = False

    def __repr__(self) -> str:
        return f"<EpisodicMemory{self._of_owner()}: {self.count()} of {self.max_size or 'any number'}>"

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_consolidating": False}

    def _committed_size(self) -> int:
        with self._lock:
            self._settle()
            return self._shelf.committed

    def _committed_entries(self) -> list[Memory]:
        with self._lock:
            self._settle()
            return list(islice(self._shelf.entries.values(), self._shelf.committed))

    def _settle(self, newcomer: int = -1) -> int | None:
        bound = self.max_size
        if bound is not None and len(self._shelf.entries) > bound:
            self._shelf.fit(bound, strategy_named(self.cleanup_strategy), newcomer)
        return bound

    def _changed(self) -> None:
        with self._lock:
            near = self._crossed(self._settle())
        self._warn(near)

    def _is_near(self, bound: int | None) -> bool:
        size = len(self._shelf.entries)
        return bound is not None and 0 < size >= bound * float(config_manager.get("memory_warning_threshold"))

    def _crossed(self, bound: int | None) -> int:
        """Return the bound where the warning threshold has just been crossed, else 0."""
        near = self._is_near(bound)
        crossed = near and not self._warned
        self._warned = near
        return (bound or 0) if crossed else 0

    def _warn(self, bound: int) -> None:
        # Outside of the lock: a handler may take long, or look at this memory from another thread.
        if bound:
            logger.warning(
                "Episodic memory%s holds %d of at most %d entries. When full, it drops entries (%s); "
                "consolidate it, or raise MAX_EPISODIC_MEMORY_SIZE.",
                self._of_owner(),
                self.count(),
                bound,
                self.cleanup_strategy,
            )

    def _of_owner(self) -> str:
        return f" of {self.owner}" if self.owner else ""
