"""Where processes that take part in a run keep their parts of its journal, until they are one file again.

Each run has a directory of its own beside the journal, ``NAME.shards/RUN``, and holds it by a lock that ends with its
process at the latest. So whoever opens the journal takes in what killed runs have left, and not what is under way.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tinytroupe.llm.exchanges import ExchangeFile, JournalError
from tinytroupe.runtime.files import hold

PART = ".journal"
"""What names of files end with that are parts."""


@dataclass(frozen=True, slots=True)
class PartsDirectory:
    """A directory for the parts of one run, which nobody else touches.

    Attributes
    ----------
    path
        It.
    lock
        The file that it is held by; None: nobody else comes to know of it.
    let_go
        Leaves it to whoever opens the journal next.
    """

    path: Path
    lock: Path | None
    let_go: Callable[[], None]

    @classmethod
    def new(cls, journal: str | None) -> PartsDirectory:
        """Make a directory beside a journal; None: a temporary one."""
        if journal is None:
            return cls(Path(tempfile.mkdtemp(prefix="tinytroupe-shards-")), None, lambda: None)
        beside = _beside(journal)
        beside.mkdir(exist_ok=True)
        made = cls._held(beside / f"{secrets.token_hex(8)}.lock")
        assert made is not None
        made.path.mkdir()
        return made

    @classmethod
    def _held(cls, lock: Path) -> PartsDirectory | None:
        let_go = hold(lock)
        return None if let_go is None else cls(lock.with_suffix(""), lock, let_go)

    def become_part_of(self, file: ExchangeFile) -> None:
        """Take all parts into a file.

        Raises
        ------
        JournalError
            One of them can't be read, or the file not be written; all are left where they are.
        """
        for part in sorted(self.path.glob(f"*{PART}")):
            try:
                file.take_in(part)
            except JournalError as error:
                raise JournalError(f"{error}; move it away to go on without what is in it") from error

    def remove(self) -> None:
        """Remove it, with everything in it."""
        if self.path.is_dir():
            for path in self.path.iterdir():
                path.unlink()
            self.path.rmdir()
        self.let_go()
        if self.lock is not None:
            self.lock.unlink(missing_ok=True)
            with suppress(OSError):  # others have theirs in there
                self.lock.parent.rmdir()


def take_in_left_behind(file: ExchangeFile) -> None:
    """Take over what runs that were killed have left beside a journal; what is under way is left alone.

    Raises
    ------
    JournalError
        See `PartsDirectory.become_part_of`.
    """
    for lock in sorted(_beside(file.path).glob("*.lock")):
        found = PartsDirectory._held(lock)
        if found is not None:
            try:
                found.become_part_of(file)
            except BaseException:
                found.let_go()
                raise
            found.remove()


def _beside(journal: str) -> Path:
    return Path(f"{journal}.shards").absolute()
