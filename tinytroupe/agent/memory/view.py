"""A sequence that is seen but not written to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import overload

from tinytroupe.agent.memory.entry import Memory


class View(Sequence[Memory]):
    """A live view of entries that somebody else keeps: each look sees what is there at that moment.

    Parameters
    ----------
    size
        Tells the number of entries.
    entries
        Returns a copy of them.
    """

    __slots__ = ("_entries", "_size")

    def __init__(self, size: Callable[[], int], entries: Callable[[], list[Memory]]) -> None:
        self._size = size
        self._entries = entries

    def __len__(self) -> int:
        return self._size()

    def __iter__(self) -> Iterator[Memory]:
        return iter(self._entries())

    @overload
    def __getitem__(self, index: int) -> Memory: ...
    @overload
    def __getitem__(self, index: slice) -> list[Memory]: ...
    def __getitem__(self, index: int | slice) -> Memory | list[Memory]:
        return self._entries()[index]

    def __eq__(self, other: object) -> bool:
        return self._entries() == list(other) if isinstance(other, (list, tuple, View)) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._entries())
