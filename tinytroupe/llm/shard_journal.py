"""A journal in parts: one file for each process that takes part in a run, which together are the journal of the run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tinytroupe.llm import canonical
from tinytroupe.llm.canonical import Canonical
from tinytroupe.llm.exchange_key import Key
from tinytroupe.llm.exchanges import ExchangeFile
from tinytroupe.llm.journal import Journal, Mode
from tinytroupe.llm.model import ModelError
from tinytroupe.llm.parts import PART, PartsDirectory

_EARLIER = "earlier.sqlite"
_MARK = "run"


class ShardJournal(Journal):
    """What a shard asks in a run, so that whoever takes its place goes on where it was lost.

    What it has recorded is replayed at the cost that it had, since it is the same run that spent it. What an earlier
    run has recorded costs nothing, as ever, and is taken over.

    Parameters
    ----------
    path
        The shard's file.
    earlier
        The file with what earlier runs have recorded; None: there is none.
    mode
        ``record`` or ``replay``, of the run.
    power_safe
        As of `Journal`: it becomes part of a journal, and has to survive the machine.
    passing
        Whether nobody is going to look for the file, so that it goes when this is closed.

    Attributes
    ----------
    passing
        See above.
    reliving
        True: what is not recorded is a `ModelError`, and nothing is asked. So a call that failed fails once more.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        earlier: str | os.PathLike[str] | None,
        mode: Mode,
        *,
        power_safe: bool = True,
        passing: bool = False,
    ) -> None:
        super().__init__(path, power_safe=power_safe)
        self.passing = passing
        self.replays_cost = True
        self.reliving = False
        self._is_replay = mode == "replay"
        self._earlier = (
            None if earlier is None else ExchangeFile(earlier, read_only=True, max_bytes=None, power_safe=False)
        )

    def _begin(self, requests: Mapping[Key, Canonical]) -> dict[Key, bytes]:
        known = self._known(requests)
        for key in [key for key in requests if key not in known]:
            reply = None if self._earlier is None else self._earlier.reply(key)
            if reply is None and self._is_replay:
                raise self._unknown(key, requests[key])
            self._file.begin(key, requests[key])
            if reply is None:
                self.misses += 1
            else:
                self.hits += 1
                known[key] = reply = self._free(reply) if key.person else reply  # vectors have no person
                self._file.finish({key: reply})
        return known

    def _known(self, keys: Iterable[Key]) -> dict[Key, bytes]:
        """Return what the run itself has recorded; to who relives the past, that is all there may be."""
        known = {}
        for key in keys:
            reply = self._file.reply(key)
            if reply is not None:
                known[key] = reply
            elif self.reliving:
                raise ModelError(f"no reply is on record for {key}", transient=True)
        return known

    @staticmethod
    def _free(reply: bytes) -> bytes:
        return canonical.encode_reply(canonical.at_no_cost(canonical.decode_reply(reply)))

    def close(self) -> None:
        """Finish writing and close the files."""
        super().close()
        if self._earlier is not None:
            self._earlier.close()
        if self.passing:
            path = Path(self.path)
            path.unlink(missing_ok=True)
            with suppress(OSError):  # others have theirs in there
                path.parent.rmdir()


class ShardReplies(ShardJournal):
    """What a shard was answered in a run that keeps no journal: it is for whoever takes its place, and for nobody else.

    That one asks the same anyway, so that requests are not written down, and nothing is looked up where nobody was
    before.

    Parameters
    ----------
    path, passing
        As of `ShardJournal`.
    """

    def __init__(self, path: str | os.PathLike[str], *, passing: bool = False) -> None:
        super().__init__(path, None, "record", power_safe=False, passing=passing)
        self._is_first = not self.stats().exchanges

    async def begin(self, requests: Mapping[Key, Canonical]) -> dict[Key, bytes]:
        """See `Journal.begin`."""
        self._ready()
        if self._is_first and not self.reliving:
            self.misses += len(requests)
            return {}
        return await super().begin(requests)

    async def finish(self, replies: Mapping[Key, bytes]) -> None:
        """See `Journal.finish`."""
        await self._do(lambda: self._file.add(replies))

    def _begin(self, requests: Mapping[Key, Canonical]) -> dict[Key, bytes]:
        known = self._known(requests)
        self.misses += len(requests) - len(known)
        return known


@dataclass(frozen=True, slots=True)
class JournalPart:
    """What a process has to know to keep its part of a run's journal.

    Attributes
    ----------
    path, mark
        Its file, and what the driver has left beside it to be known by.
    earlier
        The file with what earlier runs have recorded; None: there is none.
    mode
        Of the run.
    is_kept
        Whether it becomes part of the run's journal; else it is for lost processes alone.
    """

    path: Path
    mark: str
    earlier: Path | None
    mode: Mode
    is_kept: bool

    def opened(self) -> ShardJournal:
        """Return the journal, in the process that keeps it.

        Raises
        ------
        RuntimeError
            The directory is not the driver's, and must be.
        """
        directory = self.path.parent
        reached = reaches(directory, self.mark)
        if not reached and self.is_kept:
            raise RuntimeError(
                f"the directory {directory} of the journal can't be reached from every machine of the cluster; give "
                "control.begin() a path on storage that all of them share"
            )
        directory.mkdir(parents=True, exist_ok=True)
        if not self.is_kept:
            return ShardReplies(self.path, passing=not reached)
        return ShardJournal(self.path, self.earlier, self.mode)


class ShardJournals:
    """The driver's side of one run: where the parts are, and how they become one journal again.

    Parameters
    ----------
    journal
        The journal of the run; None: it keeps none, and the parts are for lost processes alone.

    Raises
    ------
    ValueError
        A journal in mode ``cache``.
    """

    def __init__(self, journal: Journal | None) -> None:
        if journal is not None and journal.mode == "cache":
            raise ValueError(
                "a journal in mode 'cache' answers whoever asks the same, which processes elsewhere can't know of; "
                "use mode 'record'"
            )
        self._journal = journal
        self._directory: PartsDirectory | None = None
        self._mark = os.urandom(16).hex()

    @contextmanager
    def under_way(self) -> Iterator[ShardJournals]:
        """Keep parts inside the ``with`` block; at its end the journal takes them in, and their files are removed.

        Raises
        ------
        JournalError
            A file can't be read or written; the parts are left where they are, for whoever opens the journal next.
        """
        journal = self._journal
        self._directory = PartsDirectory.new(None if journal is None or journal.path == ":memory:" else journal.path)
        try:
            if journal is not None and journal.stats().exchanges:
                journal.do_now(lambda file: file.copy_to(self.directory / _EARLIER))
            (self.directory / _MARK).write_text(self._mark, "utf-8")
            yield self
        finally:
            try:
                if journal is not None and journal.mode == "record":
                    journal.do_now(self._directory.become_part_of)
            except BaseException:
                self._directory.let_go()
                raise
            self._directory.remove()

    @property
    def directory(self) -> Path:
        """Where the files are: beside the journal's own, else a temporary directory."""
        assert self._directory is not None
        return self._directory.path

    def part(self, number: int) -> JournalPart:
        """Return what the process that keeps a part has to know."""
        earlier = self.directory / _EARLIER
        return JournalPart(
            self.directory / f"{number}{PART}",
            self._mark,
            earlier if earlier.exists() else None,
            "record" if self._journal is None else self._journal.mode,
            self._journal is not None,
        )

    def count(self, hits: int, misses: int) -> None:
        """Add what shards had on record, and what they had not, to the figures of the journal."""
        if self._journal is not None:
            self._journal.hits += hits
            self._journal.misses += misses


def reaches(directory: Path, mark: str) -> bool:
    """Tell whether this machine sees the directory that the driver has marked."""
    try:
        return (directory / _MARK).read_text("utf-8") == mark
    except OSError:
        return False
