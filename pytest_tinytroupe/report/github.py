"""Annotations of a run on GitHub: a failing perf test is marked at its line in the diff."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from pytest_tinytroupe.records import TestRecord
from pytest_tinytroupe.report.text import summary_of

LIMIT = 10
"""GitHub shows at most ten errors a step."""


def on_github() -> bool:
    """Whether this runs there."""
    return os.environ.get("GITHUB_ACTIONS", "").lower() == "true"


def error_lines(records: Iterable[TestRecord]) -> Iterator[str]:
    """Yield the lines that GitHub turns into annotations, for tests that fail by their verdicts."""
    failing = [record for record in records if record.attention and any(v.failed for v in record.verdicts)]
    for record in failing[:LIMIT]:
        verdicts = [verdict for verdict in record.verdicts if verdict.failed]
        text = "\n".join(summary_of(each) + (f" ({each.note})" if each.note else "") for each in verdicts)
        file, _, test = record.nodeid.partition("::")
        place = f"file={_property(file)},line={max(record.line, 1)},title={_property(test)}"
        yield f"::error {place}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
