"""The figures of past runs, in a local SQLite file: ``pytest --perf --perf-history FILE`` adds to it.

For looking back, never for judging: the baselines in git are what a run is held against.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pytest_tinytroupe.environment import environment_key, machine_key
from pytest_tinytroupe.records import SessionReport

APPLICATION_ID = 0x70747470
"""Tells our files from other SQLite files."""

SCHEMA = 1

_BUSY_S = 30.0
"""Another run may be writing; it is done in milliseconds, but the machine may be loaded."""

_TABLES = (
    """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    started TEXT NOT NULL,      -- ISO 8601 with offset
    revision TEXT NOT NULL,     -- of the code under test; empty where it is not known
    environment TEXT NOT NULL,  -- Python and platform
    machine TEXT NOT NULL
)
""",
    """
CREATE TABLE figures (
    run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    test TEXT NOT NULL,
    metric TEXT NOT NULL,
    value REAL NOT NULL,
    unit TEXT NOT NULL,
    tier TEXT NOT NULL,
    better TEXT NOT NULL,
    status TEXT NOT NULL,       -- the verdict
    baseline REAL,
    PRIMARY KEY (test, metric, run)
) WITHOUT ROWID
""",
)


class HistoryError(Exception):
    """A history cannot be read or written. The message names the file and what to do."""


@dataclass(frozen=True, slots=True)
class Series:
    """One metric of one test over time, measured where its figures mean the same.

    Attributes
    ----------
    test, metric, unit, tier, better
        As in a record and its `Metric`.
    where
        The Python and platform that memory figures belong to, the machine that times belong to; empty for figures that
        are the same everywhere.
    values
        One a run, oldest first, in `unit`.
    started, revisions
        When each run started (ISO 8601), and the revision it measured.
    """

    test: str
    metric: str
    unit: str
    tier: str
    better: str
    where: str
    values: tuple[float, ...]
    started: tuple[str, ...]
    revisions: tuple[str, ...]


def check(path: Path) -> None:
    """Make sure that `append` can add to a file, if it is there.

    Raises
    ------
    HistoryError
        It is no history, a newer one, damaged, or cannot be written.
    """
    if path.exists():
        with _opened(path, create=True) as connection, _transaction(connection):
            pass


def append(path: Path, report: SessionReport) -> Path:
    """Add a run to a history, creating the file where it is missing: the whole run or, on an error, nothing of it.

    Parameters
    ----------
    path
        The file.
    report
        The run. The revision it measured is that of the working directory; see `current_revision`.

    Raises
    ------
    HistoryError
        It is no history, a newer one, damaged, or cannot be written.
    """
    with _opened(path, create=True) as connection, _transaction(connection):
        cursor = connection.execute(
            "INSERT INTO runs (started, revision, environment, machine) VALUES (?, ?, ?, ?)",
            (report.started, current_revision(), environment_key(), machine_key()),
        )
        rows = [
            (
                *(cursor.lastrowid, record.nodeid, metric.name, float(metric.value)),
                *(metric.unit, metric.tier, metric.better, verdict.status, verdict.baseline),
            )
            for record in report.records
            for verdict in record.verdicts
            if (metric := verdict.metric).value is not None
        ]
        connection.executemany("INSERT OR REPLACE INTO figures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    return path


def read(path: Path, *, last: int | None = None) -> list[Series]:
    """Return what a history holds, by test and metric.

    Parameters
    ----------
    path
        The file.
    last
        Only so many of the newest figures of each series; None: all.

    Raises
    ------
    HistoryError
        It is missing, no history, a newer one, or damaged.
    """
    query = """
        SELECT test, metric, unit, tier, better,
               CASE WHEN tier IN ('heap', 'process') THEN environment WHEN tier = 'wall' THEN machine ELSE '' END,
               value, started, revision
        FROM figures JOIN runs ON runs.id = figures.run ORDER BY test, metric, runs.id
    """
    with _opened(path, create=False) as connection:
        rows = connection.execute(query).fetchall()
    groups: dict[tuple[str, ...], list[tuple[float, str, str]]] = {}
    kinds: dict[tuple[str, ...], tuple[str, str, str]] = {}
    for test, metric, unit, tier, better, where, *figure in rows:
        groups.setdefault((test, metric, where), []).append((figure[0], figure[1], figure[2]))
        kinds[test, metric, where] = (unit, tier, better)  # of the newest run
    found = []
    for (test, metric, where), figures in groups.items():
        values, started, revisions = zip(*(figures[-last:] if last else figures), strict=True)
        found.append(Series(test, metric, *kinds[test, metric, where], where, values, started, revisions))
    return found


def current_revision() -> str:
    """Return the revision of the working directory, from the variables of CI services or git; empty if unknown."""
    import subprocess

    for variable in ("GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT"):
        if os.environ.get(variable):
            return os.environ[variable][:12]
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return asked.stdout.strip() if asked.returncode == 0 else ""


@contextmanager
def _opened(path: Path, *, create: bool) -> Iterator[sqlite3.Connection]:
    if not create and not path.is_file():
        raise HistoryError(f"{path}: no such file; pytest --perf --perf-history {path} begins it")
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)) as connection:
            _check(path, connection, create=create)
            yield connection
    except sqlite3.DatabaseError as error:
        if "not a database" in str(error) or "malformed" in str(error):
            reason = f"not a history, or a damaged one ({error}); name another file, or move this one away"
        else:
            held = "; another program holds it: try again when that is done" if "locked" in str(error) else ""
            reason = f"cannot be {'written' if create else 'read'} ({error}){held}"
        raise HistoryError(f"{path}: {reason}") from error


def _check(path: Path, connection: sqlite3.Connection, *, create: bool) -> None:
    """Make sure that this is a history of our schema; make an empty file one."""
    if create and not _pragma(connection, "page_count"):
        with _transaction(connection):
            if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():  # of two runs that begin it, one does
                for statement in _TABLES:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA}")
    # Whoever begins a history writes both of these at once.
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise HistoryError(f"{path}: a SQLite file, but no history of pytest --perf; name another file")
    if (version := _pragma(connection, "user_version")) > SCHEMA:
        raise HistoryError(f"{path}: schema {version} is newer than {SCHEMA}; upgrade pytest-tinytroupe")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    with connection:  # commits, or on an error rolls back
        yield
