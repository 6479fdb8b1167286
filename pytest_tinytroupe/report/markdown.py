"""A summary in Markdown, for a file or for the page of a run on GitHub."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from pytest_tinytroupe.records import SessionReport, TestRecord, Verdict
from pytest_tinytroupe.report.text import HEADINGS, headline, row
from pytest_tinytroupe.verdict import worst_first
from tinytroupe.runtime.files import write_atomically

LIMIT = 500
"""The most tests in a list: the page of a run takes 1 MB."""


def write_markdown(path: Path, session: SessionReport) -> Path:
    """Write the summary to a file, replacing it in one step."""
    return write_atomically(path, markdown(session))


def append_step_summary(session: SessionReport) -> None:
    """Add the summary to the page of the run, where this runs on GitHub (``GITHUB_STEP_SUMMARY``).

    Raises
    ------
    OSError
        The file it names cannot be written.
    """
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(markdown(session))


def markdown(session: SessionReport) -> str:
    """Return the summary: what needs attention with all its figures, the rest in one line each."""
    failing = [record for record in session.records if record.attention]
    others = [record for record in session.records if not record.attention]
    verdict = f"{len(failing)} of {len(session.records)} failed" if failing else f"{len(session.records)} passed"
    if not session.records:
        verdict = "nothing was measured"
    lines = [f"## {_text(session.title)}: {verdict}", ""]
    for record in failing[:LIMIT]:
        lines += [f"### ❌ {code(record.nodeid)} ({record.outcome})", ""]
        if record.verdicts:
            lines += [*table(worst_first(record.verdicts)), ""]
        if record.reason:
            lines += [f"- {_text(record.reason)}"]
        lines += [f"- {_text(v.metric.name)}: {_text(v.note)}" for v in record.verdicts if v.failed and v.note]
        lines += [""]
    if others:
        lines += ["| test | | figures |", "| --- | --- | --- |"]
        lines += [f"| {code(r.nodeid)} | {_word(r)} | {_text(headline(r.verdicts))} |" for r in others[:LIMIT]]
    left_out = max(len(failing) - LIMIT, 0) + max(len(others) - LIMIT, 0)
    if left_out:
        lines += ["", f"… and {left_out} more tests"]
    lines += ["", " · ".join(f"{_text(what)} {_text(value)}" for what, value in session.environment), ""]
    return "\n".join(lines)


def table(verdicts: Iterable[Verdict]) -> list[str]:
    """Return verdicts as the lines of a table."""
    lines = [_row(HEADINGS), "| --- | ---: | ---: | ---: | ---: | --- |"]
    return lines + [_row(row(verdict)) for verdict in verdicts]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_text(cell) for cell in cells) + " |"


def _word(record: TestRecord) -> str:
    words = {verdict.status for verdict in record.verdicts} & {"improved", "new"}
    return ", ".join(sorted(words)) or ("ok" if record.outcome == "passed" else record.outcome)


def _text(text: str) -> str:
    for plain, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\\", "\\\\"), ("|", "\\|")):
        text = text.replace(plain, escaped)
    for sign in "*_`[]":
        text = text.replace(sign, "\\" + sign)
    return " ".join(text.split())


def code(text: str) -> str:
    """Return text as a code span, also inside a table."""
    # In a code span nothing but the fence, and in a table the bar, has a meaning.
    text = " ".join(text.split()).replace("|", "\\|")
    return f"`` {text} ``" if "`" in text else f"`{text}`"
