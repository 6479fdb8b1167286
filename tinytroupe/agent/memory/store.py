"""What every memory of a person is: entries within a bound that may follow the settings, safe for many threads."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tinytroupe.agent.memory.entry import Memory
from tinytroupe.agent.memory.shelf import Shelf, checked_length, checked_size
from tinytroupe.config import config_manager

if TYPE_CHECKING:
    from typing_extensions import Self


class Source(Enum):
    """Where a value comes from when none is given."""

    SETTINGS = "settings"


FROM_SETTINGS: Literal[Source.SETTINGS] = Source.SETTINGS
"""Stands for a value that follows the settings, also when they change later."""

MaxSize = int | Literal[Source.SETTINGS] | None


class Store:
    """Entries on a shelf; `_settle` says what goes when there are too many.

    Parameters
    ----------
    max_size
        Bound on entries; 0 or None = unbounded.
    """

    _setting: ClassVar[str]

    def __init__(self, max_size: MaxSize) -> None:
        self._max_size = max_size if max_size is FROM_SETTINGS else checked_size(max_size)
        self._lock = threading.RLock()
        self._shelf = Shelf()

    @property
    def max_size(self) -> int | None:
        """Bound on all entries; None = unbounded. Lowering it drops entries at once."""
        return (config_manager.get(self._setting) or None) if self._max_size is FROM_SETTINGS else self._max_size

    @max_size.setter
    def max_size(self, size: MaxSize) -> None:
        bound = size if size is FROM_SETTINGS else checked_size(size)
        with self._lock:
            self._max_size = bound
        self._changed()

    def retrieve_all(self, item_type: str | None = None) -> list[Memory]:
        """Return all entries in the order of storing; with `item_type` only those of this kind."""
        with self._lock:
            self._settle()
            entries = list(self._shelf.entries.values())
        return entries if item_type is None else [entry for entry in entries if entry.kind == item_type]

    def count(self) -> int:
        """Return the number of all entries."""
        with self._lock:
            self._settle()
            return len(self._shelf.entries)

    def encode_state(self) -> dict[str, Any]:
        """Return all entries and counts as JSON can hold them, as far as the contents can."""
        with self._lock:
            self._settle()
            return self._shelf.encode()

    def decode_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `encode_state` returned, in place of what is there; the bound applies at once.

        Raises
        ------
        ValueError
            It is something else; nothing is changed.
        """
        shelf = Shelf.decode(state)
        with self._lock:
            self._take(shelf)
        self._changed()

    def become(self, other: Self) -> None:
        """Hold what another memory holds, which nobody uses any more, and stay the object that programs know."""
        if other is not self:
            with self._lock:
                vars(self).update(other.__getstate__())

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock())

    def __bool__(self) -> bool:
        return True  # an empty memory is still a memory

    def __len__(self) -> int:
        return self.count()

    def _settle(self) -> int | None:
        """Bring the entries within the bound, which the settings may have changed, and return the bound."""
        raise NotImplementedError

    def _take(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def _changed(self) -> None:
        """Apply the bound after it, or all entries, were replaced. The lock is not held."""
        with self._lock:
            self._settle()

    def _found_by_words(self, text: str, top_k: int) -> list[Memory]:
        checked_length("top_k", top_k)
        with self._lock:
            self._settle()
            return self._shelf.find(text, top_k)
