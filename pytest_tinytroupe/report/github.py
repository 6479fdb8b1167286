"""Annotations of a run on GitHub: a failing perf test is marked at its line in the diff."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from pytest_tinytroupe.records import TestRecord
from pytest_tinytroupe.report.text import summary_of

LIMIT = 10
"""GitHub shows at most ten errors a step."""


def on_github() -> bool:
    """Whether this runs there."""
    return os.environ.get("GITHUB_ACTIONS", "").lower() == "true"


def error_lines(records: Iterable[TestRecord], root: Path) -> Iterator[str]:
    """Yield the lines that GitHub turns into annotations, for tests that failed or could not run.

    Parameters
    ----------
    records
        All tests.
    root
        The directory that their ids are relative to.
    """
    failing = [record for record in records if record.attention]
    shown = failing if len(failing) <= LIMIT else failing[: LIMIT - 1]
    for record in shown:
        file, _, test = record.nodeid.partition("::")
        place = f"file={_property(_in_repository(file, root))},line={max(record.line, 1)},title={_property(test)}"
        yield f"::error {place}::{_data(_text(record))}"
    if len(shown) < len(failing):
        yield f"::error title=performance::{len(failing) - len(shown)} more perf tests failed: see the log"


def _text(record: TestRecord) -> str:
    verdicts = [verdict for verdict in record.verdicts if verdict.failed]
    lines = [summary_of(each) + (f" ({each.note})" if each.note else "") for each in verdicts]
    return "\n".join(lines or [record.reason or f"{record.outcome}, and was not judged"])


def _in_repository(file: str, root: Path) -> str:
    """Return the path of a test file relative to the repository, which GitHub wants, where that is known."""
    workspace = os.environ.get("GITHUB_WORKSPACE")
    if not workspace:
        return file
    path, repository = (root / file).resolve(), Path(workspace).resolve()
    return path.relative_to(repository).as_posix() if path.is_relative_to(repository) else file


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
