"""Who waits at the gate: a line for each of those who share it, and the lines are served in turn."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Lines(Generic[K, V]):
    """First come, first served within a line; one of each line in turn.

    So a world of five people that shares a gate with one of five hundred does not wait behind all of those. Everything
    here takes constant time, and a line that is empty leaves nothing behind.
    """

    __slots__ = ("_lines", "_of")

    def __init__(self) -> None:
        self._lines: OrderedDict[str, OrderedDict[K, V]] = OrderedDict()
        self._of: dict[K, str] = {}

    def __len__(self) -> int:
        return len(self._of)

    def __iter__(self) -> Iterator[V]:
        """Go through those who wait, in the order in which they would be served."""
        going = deque(iter(line.values()) for line in self._lines.values())
        while going:
            line = going.popleft()
            for what in line:
                yield what
                going.append(line)
                break

    def keys(self) -> Collection[K]:
        """Return all who wait."""
        return self._of.keys()

    def join(self, line: str, who: K, what: V) -> None:
        """Stand at the end of a line; a line that is new has its turn after all others."""
        self._lines.setdefault(line, OrderedDict())[who] = what
        self._of[who] = line

    def first(self) -> tuple[K, V]:
        """Return who is next.

        Raises
        ------
        LookupError
            Nobody waits.
        """
        if not self._lines:
            raise LookupError("nobody waits")
        return next(iter(next(iter(self._lines.values())).items()))

    def serve(self) -> None:
        """Let the first go; the next turn is another line's."""
        who, _ = self.first()
        line = self._of[who]
        self.leave(who)
        if line in self._lines:
            self._lines.move_to_end(line)

    def leave(self, who: K) -> None:
        """Go away unserved, if still there."""
        line = self._of.pop(who, None)
        if line is not None:
            waiting = self._lines[line]
            del waiting[who]
            if not waiting:
                del self._lines[line]

    def clear(self) -> None:
        """Send everybody away."""
        self._lines.clear()
        self._of.clear()
