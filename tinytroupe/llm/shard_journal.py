"""The journal of a shard: one file for each, which together are the journal of the run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tinytroupe.llm import canonical
from tinytroupe.llm.canonical import Canonical
from tinytroupe.llm.exchanges import ExchangeFile, Key
from tinytroupe.llm.journal import Journal, Mode
from tinytroupe.llm.model import ModelError

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

    Attributes
    ----------
    reliving
        True: what is not recorded is a `ModelError`, and nothing is asked. So a call that failed fails once more.
    """

    def __init__(self, path: str | os.PathLike[str], earlier: str | os.PathLike[str] | None, mode: Mode) -> None:
        super().__init__(path)
        self.replays_cost = True
        self.reliving = False
        self._is_replay = mode == "replay"
        self._earlier = (
            None if earlier is None else ExchangeFile(earlier, read_only=True, max_bytes=None, power_safe=False)
        )

    def _begin(self, requests: Mapping[Key, Canonical]) -> dict[Key, bytes]:
        known = {key: reply for key in requests if (reply := self._file.reply(key)) is not None}
        new = [key for key in requests if key not in known]
        if new and self.reliving:
            raise ModelError(f"no reply is on record for {new[0]}", transient=True)
        for key in new:
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

    @staticmethod
    def _free(reply: bytes) -> bytes:
        return canonical.encode_reply(canonical.at_no_cost(canonical.decode_reply(reply)))

    def close(self) -> None:
        """Finish writing and close the files."""
        super().close()
        if self._earlier is not None:
            self._earlier.close()


class ShardJournals:
    """The driver's side: where the files of the shards are, and how they become one journal again.

    Parameters
    ----------
    journal
        The journal of the run; None: it keeps none, and the files are for lost shards alone.
    """

    def __init__(self, journal: Journal | None) -> None:
        if journal is not None and journal.mode == "cache":
            raise ValueError(
                "a journal in mode 'cache' answers whoever asks the same, which shards elsewhere can't know of; "
                "use mode 'record'"
            )
        self._journal = journal
        self._kept = journal is not None and journal.path != ":memory:"
        self._directory: Path | None = None

    @property
    def directory(self) -> Path:
        """Where the files are: beside the journal's own, else a temporary directory."""
        assert self._directory is not None
        return self._directory

    @property
    def must_be_shared(self) -> bool:
        """Whether every shard must reach the directory, or what it records would be lost to the journal."""
        return self._journal is not None

    @property
    def mode(self) -> Mode:
        """Mode of the run."""
        return "record" if self._journal is None else self._journal.mode

    def path(self, shard: int) -> Path:
        """Return the file of a shard."""
        return self.directory / f"{shard}.journal"

    @property
    def earlier(self) -> Path | None:
        """The file with what earlier runs have recorded; None: there is none."""
        path = self.directory / _EARLIER
        return path if path.exists() else None

    def open(self) -> str:
        """Make the directory, take in what a run has left there that was killed, and return the mark of this run."""
        if self._kept:
            assert self._journal is not None
            self._directory = Path(f"{self._journal.path}.shards").absolute()
            if self._directory.is_dir():
                self.gather()
            self._directory.mkdir(exist_ok=True)
        else:
            self._directory = Path(tempfile.mkdtemp(prefix="tinytroupe-shards-"))
        if self._journal is not None and self._journal.stats().exchanges:
            self._journal.do_now(lambda file: file.copy_to(self.directory / _EARLIER))
        mark = os.urandom(16).hex()
        (self.directory / _MARK).write_text(mark, "utf-8")
        return mark

    def gather(self) -> None:
        """Take the shards' exchanges into the journal of the run, and remove their files.

        Raises
        ------
        JournalError
            A file can't be read; all are left where they are.
        """
        if self._journal is not None and self.mode == "record":
            for path in sorted(self.directory.glob("*.journal")):
                self._journal.do_now(lambda file, path=path: file.take_in(path))  # type: ignore[misc]
        for path in self.directory.iterdir():
            path.unlink()
        self.directory.rmdir()

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
