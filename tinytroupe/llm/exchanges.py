"""The journal's file: a table of exchanges in SQLite. Synchronous, for one thread at a time."""

from __future__ import annotations

import os
import sqlite3
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tinytroupe.llm.canonical import Canonical, readable
from tinytroupe.llm.exchange_key import Key
from tinytroupe.llm.model import ModelError

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x54544A4C  # "TTJL", at bytes 68-71 of the file
_MAGIC = b"SQLite format 3\0"
_BUSY_TIMEOUT_S = 30.0
_EVICT_AT_ONCE = 64
_ADDRESS = "simulation = ? AND person = ? AND call = ? AND hash = ?"

# A table with row ids: the blobs are long, and keys that are searched should lie close together.
_CREATE = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS prefix (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    body BLOB NOT NULL      -- deflated
);
CREATE TABLE IF NOT EXISTS exchange (
    id INTEGER PRIMARY KEY,
    simulation TEXT NOT NULL,
    person TEXT NOT NULL,
    call INTEGER NOT NULL,
    hash BLOB NOT NULL,
    prefix INTEGER NOT NULL REFERENCES prefix (id),
    request BLOB NOT NULL,  -- canonical form without its prefix, deflated
    reply BLOB,             -- NULL until it has come
    bytes INTEGER NOT NULL,
    used INTEGER NOT NULL   -- a counter, not a time: the smallest was used longest ago
);
CREATE UNIQUE INDEX IF NOT EXISTS by_address ON exchange (simulation, person, call, hash);
CREATE INDEX IF NOT EXISTS by_use ON exchange (used, bytes);
CREATE INDEX IF NOT EXISTS by_prefix ON exchange (prefix);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""


class JournalError(ModelError):
    """The journal's file can't be opened, read or written, or the journal is closed."""


class ExchangeFile:
    """Exchanges in a SQLite file (write-ahead log), bounded in bytes.

    Parameters
    ----------
    path
        The file, or ``:memory:``.
    read_only
        Nothing is ever written, the file must exist.
    max_bytes
        Most bytes of requests and replies, as stored; None = no bound. Beyond it, those used longest ago are dropped.
    power_safe
        Wait for the disk at every commit, so that even a power failure loses nothing. Without it only the last
        commits before a power failure are at risk; a killed process loses nothing either way.

    Raises
    ------
    JournalError
        Not a journal, of a newer version, or not to be opened. The file is left as it is.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, read_only: bool, max_bytes: int | None, power_safe: bool
    ) -> None:
        if max_bytes is not None and max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, or None for no bound, not {max_bytes}")
        self.path = os.fspath(path)
        self._read_only = read_only
        self._max_bytes = max_bytes
        self._power_safe = power_safe
        self._under_way: Counter[Key] = Counter()  # of this process; in a cache, several ask the same at once
        self._before_fork: list[sqlite3.Connection] = []
        self._open()

    # Opening ----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self.path != ":memory:":
            self._check_header()
        try:
            self._connection = self._connect()
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            raise JournalError(f"the journal {self.path} can't be opened: {error}") from error

    def _check_header(self) -> None:
        """Refuse what is not ours before SQLite gets to write into it."""
        try:
            with open(self.path, "rb") as file:
                header = file.read(100)
        except FileNotFoundError:
            if self._read_only:
                raise JournalError(f"there is no journal at {self.path} to replay; record one first") from None
            if not Path(self.path).parent.is_dir():
                raise JournalError(
                    f"the journal {self.path} can't be made: its directory does not exist; create it first"
                ) from None
            return
        except OSError as error:
            raise JournalError(f"the journal {self.path} can't be opened: {error}") from error
        if not header and not self._read_only:
            return
        if len(header) < 100 or not header.startswith(_MAGIC):
            raise JournalError(
                f"{self.path} is not a journal (it is no SQLite file); nothing was changed. "
                "Give another path, or move that file away."
            )
        version, application = struct.unpack(">I4xI", header[60:72])
        self._check_version(version, application)

    def _check_version(self, version: int, application: int) -> None:
        if application != _APPLICATION_ID:
            raise JournalError(
                f"{self.path} is a SQLite file of another program, not a journal; nothing was changed. "
                "Give another path, or move that file away."
            )
        if version > SCHEMA_VERSION:
            raise JournalError(
                f"the journal {self.path} has format {version}, this version reads up to {SCHEMA_VERSION}; "
                "nothing was changed. Update pytest-tinytroupe, or give another path."
            )

    def _connect(self) -> sqlite3.Connection:
        name, uri = self.path, False
        if self._read_only and self.path != ":memory:":
            # Without a log beside it the file is complete, and can be read even where nothing may be written.
            complete = not os.path.exists(f"{self.path}-wal")
            name, uri = f"{Path(self.path).absolute().as_uri()}?mode=ro{'&immutable=1' if complete else ''}", True
        # The journal sees to it that one thread at a time is in here; which one changes (open, write, close).
        return sqlite3.connect(
            name, uri=uri, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=32
        )

    def _prepare(self) -> None:
        execute = self._connection.execute
        if not self._read_only:
            if not execute("PRAGMA user_version").fetchone()[0]:
                # One transaction, before the write-ahead log: the version is in the file itself from the start.
                self._connection.executescript(_CREATE)
            execute("PRAGMA journal_mode = WAL")
            execute(f"PRAGMA synchronous = {'FULL' if self._power_safe else 'NORMAL'}")
        self._check_version(
            execute("PRAGMA user_version").fetchone()[0], execute("PRAGMA application_id").fetchone()[0]
        )
        self._seen: int | None = None
        self._look()

    def _look(self) -> None:
        """Ask the file for its size and last use, unless nobody else has written since we know them."""
        version: int = self._connection.execute("PRAGMA main.data_version").fetchone()[0]
        if version != self._seen:
            self._count()
            self._seen = version

    def _count(self) -> None:
        self._bytes: int
        self._tick: int
        self._bytes, self._tick = self._connection.execute(
            "SELECT coalesce(sum(bytes), 0) + (SELECT coalesce(sum(length(body)), 0) FROM main.prefix), "
            "coalesce(max(used), 0) FROM main.exchange"
        ).fetchone()

    def reopen_after_fork(self) -> None:
        """Open the file anew: SQLite's connections do not survive a fork. Memory came along and stays as it is."""
        self._under_way.clear()
        if self.path != ":memory:":
            self._before_fork.append(self._connection)  # closing it here would drop the parent's locks
            self._open()

    # Reading and writing ----------------------------------------------------------------------------------------

    def transaction(self, steps: Iterable[Callable[[], None]]) -> None:
        """Do all `steps` in one transaction; when one raises, nothing is changed.

        Raises
        ------
        JournalError
            SQLite could not write or read.
        """
        tick, size = self._tick, self._bytes
        try:
            self._connection.execute("BEGIN" if self._read_only else "BEGIN IMMEDIATE")
            try:
                self._look()
                tick, size = self._tick, self._bytes
                for step in steps:
                    step()
                self._evict()
                self._connection.execute("COMMIT")
            except BaseException:
                self._tick, self._bytes = tick, size
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise JournalError(f"the journal {self.path} can't be read or written: {error}") from error

    def reply(self, key: Key) -> bytes | None:
        """Return the reply recorded under `key`, or None."""
        row = self._connection.execute(f"SELECT id, reply FROM exchange WHERE {_ADDRESS}", key.columns).fetchone()
        if row is None or row[1] is None:
            return None
        if not self._read_only:
            self._connection.execute("UPDATE exchange SET used = ? WHERE id = ?", (self._next_tick(), row[0]))
        try:
            return zlib.decompress(row[1])
        except zlib.error as error:
            raise JournalError(f"the reply to {key} in the journal {self.path} is damaged: {error}") from error

    def begin(self, key: Key, request: Canonical) -> None:
        """Record that `request` is about to be sent."""
        deflated = zlib.compress(request.rest, 1)
        values = (*key.columns, self._prefix(request), deflated, len(deflated), self._next_tick())
        cursor = self._connection.execute(
            "INSERT OR IGNORE INTO exchange (simulation, person, call, hash, prefix, request, bytes, used) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )
        self._bytes += len(deflated) * cursor.rowcount
        self._under_way[key] += 1

    def _prefix(self, request: Canonical) -> int:
        """Return the row of the request's prefix, which is stored once for all that begin alike."""
        # Looked up each time: another process with the same file may have dropped it.
        execute = self._connection.execute
        found = execute("SELECT id FROM prefix WHERE hash = ?", (request.prefix_hash,)).fetchone()
        if found is not None:
            return int(found[0])
        deflated = zlib.compress(request.prefix, 1)
        cursor = execute("INSERT INTO prefix (hash, body) VALUES (?, ?)", (request.prefix_hash, deflated))
        self._bytes += len(deflated)
        return int(cursor.lastrowid or 0)

    def finish(self, replies: Mapping[Key, bytes]) -> None:
        """Record the replies to requests that were begun. Of two replies to the same request the first stays."""
        for key, reply in replies.items():
            deflated = zlib.compress(reply, 1)
            cursor = self._connection.execute(
                f"UPDATE exchange SET reply = ?, bytes = bytes + ?, used = ? WHERE {_ADDRESS} AND reply IS NULL",
                (deflated, len(deflated), self._next_tick(), *key.columns),
            )
            self._bytes += len(deflated) * cursor.rowcount
        self.ended(replies)

    def add(self, replies: Mapping[Key, bytes]) -> None:
        """Record replies without their requests. Of two replies to the same request the first stays."""
        for key, reply in replies.items():
            stored = zlib.compress(reply, 0)
            cursor = self._connection.execute(
                "INSERT OR IGNORE INTO exchange (simulation, person, call, hash, prefix, request, reply, bytes, used) "
                "VALUES (?, ?, ?, ?, 0, x'', ?, ?, ?)",
                (*key.columns, stored, len(stored), self._next_tick()),
            )
            self._bytes += len(stored) * cursor.rowcount

    def ended(self, keys: Iterable[Key]) -> None:
        """Say that requests that were begun are no longer under way, whatever became of them: they may be dropped."""
        for key in keys:
            if self._under_way[key] > 1:
                self._under_way[key] -= 1
            else:
                del self._under_way[key]

    def other_request(self, key: Key) -> dict[str, Any] | None:
        """Return what was recorded for the same person and call number, the latest answered, as `readable` gives it."""
        row = self._connection.execute(
            "SELECT prefix.body, request FROM exchange JOIN prefix ON prefix.id = prefix "
            "WHERE simulation = ? AND person = ? AND call = ? AND reply IS NOT NULL ORDER BY used DESC LIMIT 1",
            (key.simulation, key.person, key.call),
        ).fetchone()
        return readable(zlib.decompress(row[0]), zlib.decompress(row[1])) if row else None

    def counts(self) -> tuple[int, int, int]:
        """Return the number of answered exchanges, of those without a reply, and their bytes as stored."""
        self._look()
        answered, total = self._connection.execute("SELECT count(reply), count(*) FROM exchange").fetchone()
        return answered, total - answered, self._bytes

    def copy_to(self, path: str | os.PathLike[str]) -> None:
        """Write all that is here into a file of its own, complete without a log, in place of what is there.

        Raises
        ------
        JournalError
            It can't be written.
        """
        try:
            Path(path).unlink(missing_ok=True)
            self._connection.execute("VACUUM INTO ?", (os.fspath(path),))
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"the journal {self.path} can't be copied to {os.fspath(path)}: {error}") from error

    def take_in(self, path: str | os.PathLike[str]) -> None:
        """Take over the exchanges of another file. Of two replies to the same request the one that was here stays.

        Raises
        ------
        JournalError
            It can't be read, or this one not be written; nothing is changed.
        """
        execute = self._connection.execute
        try:
            execute("ATTACH DATABASE ? AS other", (os.fspath(path),))
            try:
                self.transaction([self._merge])
            finally:
                execute("DETACH DATABASE other")
        except sqlite3.Error as error:
            raise JournalError(f"the journal {os.fspath(path)} can't be taken into {self.path}: {error}") from error

    def _merge(self) -> None:
        execute = self._connection.execute
        if not execute("PRAGMA other.user_version").fetchone()[0]:  # its process was killed before it held anything
            return
        execute("INSERT OR IGNORE INTO prefix (hash, body) SELECT hash, body FROM other.prefix ORDER BY id")
        execute(
            "INSERT INTO exchange (simulation, person, call, hash, prefix, request, reply, bytes, used) "
            "SELECT theirs.simulation, theirs.person, theirs.call, theirs.hash, prefix.id, theirs.request, "
            "theirs.reply, theirs.bytes, theirs.used + ? FROM other.exchange AS theirs "
            "JOIN other.prefix AS named ON named.id = theirs.prefix JOIN prefix ON prefix.hash = named.hash "
            "WHERE true ORDER BY theirs.id ON CONFLICT (simulation, person, call, hash) DO UPDATE "
            "SET reply = excluded.reply, bytes = excluded.bytes, used = excluded.used "
            "WHERE reply IS NULL AND excluded.reply IS NOT NULL",
            (self._tick,),
        )
        self._count()

    def checkpoint(self) -> None:
        """Move what is in the write-ahead log into the file and wait for the disk."""
        if not self._read_only:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file; the write-ahead log goes with the last to close it."""
        self._connection.close()

    def _next_tick(self) -> int:
        self._tick += 1
        return self._tick

    def _evict(self) -> None:
        """Drop what was used longest ago until the bound holds; requests that this process has under way stay."""
        if self._max_bytes is None or self._read_only:
            return
        execute, kept = self._connection.execute, 0
        while self._bytes > self._max_bytes:
            rows = execute(
                "SELECT id, bytes, prefix, simulation, person, call, hash FROM exchange "
                "ORDER BY used, id LIMIT ? OFFSET ?",
                (_EVICT_AT_ONCE, kept),
            ).fetchall()
            if not rows:
                return
            for row, size, prefix, *columns in rows:
                if self._bytes <= self._max_bytes:
                    return
                if Key(*columns) in self._under_way:
                    kept += 1
                    continue
                execute("DELETE FROM exchange WHERE id = ?", (row,))
                self._bytes -= size
                self._drop_unused(prefix)

    def _drop_unused(self, prefix: int) -> None:
        execute = self._connection.execute
        if execute("SELECT 1 FROM exchange WHERE prefix = ? LIMIT 1", (prefix,)).fetchone() is None:
            body = execute("SELECT length(body) FROM prefix WHERE id = ?", (prefix,)).fetchone()
            if body is not None:
                self._bytes -= body[0]
                execute("DELETE FROM prefix WHERE id = ?", (prefix,))
