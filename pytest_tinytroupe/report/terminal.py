"""What the terminal shows at the end: a line for what is well, a table for what is not."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_tinytroupe.environment import machine_key
from pytest_tinytroupe.records import TestRecord, Verdict
from pytest_tinytroupe.report.github import error_lines, on_github
from pytest_tinytroupe.report.text import HEADINGS, align, headline, row, wrapped
from pytest_tinytroupe.verdict import worst_first

if TYPE_CHECKING:
    from pytest_tinytroupe.gate import Gate

COLOURS = {
    "regressed": {"red": True},
    "over limit": {"red": True},
    "unmeasured": {"red": True},
    "no baseline": {"red": True},
    "improved": {"green": True},
    "new": {"yellow": True},
}


UNUSED_LIMIT = 10
"""The most unused baselines named."""


def write_summary(terminal: pytest.TerminalReporter, gate: Gate) -> None:
    """Write the tests, those that need attention first, and where the files are."""
    if not (gate.records or gate.errors or gate.warnings or gate.unused or gate.pruned):
        return
    terminal.write_sep("=", "performance")
    verbosity = terminal.config.get_verbosity()
    full = [record for record in gate.records if verbosity > 0 or _changed(record)]
    full.sort(key=lambda record: record.outcome == "passed")  # stable: else by id
    if full:
        # What a failure's own message says further up is not said twice.
        told = gate.told if terminal.config.getoption("tbstyle") != "no" else frozenset()
        _write_tables(terminal, full, verbosity, told)
    if verbosity >= 0:
        for record in gate.records:
            if record not in full:
                _write_line(terminal, record)
    _write_footer(terminal, gate)
    if on_github():
        for line in error_lines(gate.records, gate.config.rootpath):
            terminal.write_line(line)


def _changed(record: TestRecord) -> bool:
    return record.attention or any(verdict.status == "improved" for verdict in record.verdicts)


def _write_tables(
    terminal: pytest.TerminalReporter, records: Sequence[TestRecord], verbosity: int, told: Collection[str]
) -> None:
    shown = [_shown(record, verbosity) for record in records]
    rows = [row(verdict) for verdicts in shown for verdict in verdicts]
    headings, *cells = [f"  {line}" for line in align([HEADINGS, *rows])]
    if rows:
        terminal.write_line(headings, bold=True)
    rest = iter(cells)
    for record, verdicts in zip(records, shown, strict=True):
        colour = {"red": True} if record.outcome in ("failed", "error") else {}
        terminal.write_line(record.nodeid + ("" if record.outcome == "passed" else f"  [{record.outcome}]"), **colour)
        for verdict in verdicts:
            terminal.write_line(next(rest), **COLOURS.get(verdict.status, {}))
            if verdict.note and verdict.failed and record.nodeid not in told:
                _write_note(terminal, verdict.note)
        if record.reason:
            _write_note(terminal, record.reason)


def _write_note(terminal: pytest.TerminalReporter, text: str) -> None:
    """Write a remark below its row, in as many lines as the terminal needs."""
    terminal.write_line(wrapped(text, max(_width(), 24), indent="    "))


def _shown(record: TestRecord, verbosity: int) -> list[Verdict]:
    """With -q only what needs attention is shown."""
    quiet = ("ok", "advisory") if verbosity < 0 else ()
    return [verdict for verdict in worst_first(record.verdicts) if verdict.status not in quiet]


def _write_line(terminal: pytest.TerminalReporter, record: TestRecord) -> None:
    """Write a test in one line; where that is too long, its figures go to a line of their own."""
    new = any(verdict.status == "new" for verdict in record.verdicts)
    word = record.outcome if record.outcome != "passed" else "new" if new else "ok"
    start, figures = f"{word:<4} {record.nodeid}", headline(record.verdicts)
    colour = {"green": True} if word == "ok" else {"yellow": True}
    if figures and len(start) + 2 + len(figures) > _width():
        terminal.write_line(start, **colour)
        terminal.write_line(f"     {figures}")
    else:
        terminal.write_line(f"{start}  {figures}".rstrip(), **colour)


def _width() -> int:
    import shutil

    return shutil.get_terminal_size().columns


def _write_footer(terminal: pytest.TerminalReporter, gate: Gate) -> None:
    from pytest_tinytroupe.gate import relative

    root = gate.config.rootpath
    terminal.write_line("")
    terminal.write_line(f"baselines: {relative(gate.settings.baseline_dir, root)}")
    for path in gate.updated:
        terminal.write_line(f"updated:   {relative(path, root)}")
    for path in gate.pruned:
        terminal.write_line(f"pruned:    {relative(path, root)}")
    if not gate.settings.update:
        _announce(terminal, gate, "improved", "improved; keep it with")
        _announce(terminal, gate, "new", "new, without a baseline; keep it with")
        if gate.without_times:
            count = "1 test" if len(gate.without_times) == 1 else f"{len(gate.without_times)} tests"
            terminal.write_line(
                f"times of {count} held against nothing: no baseline of this machine ({machine_key()})", yellow=True
            )
    if gate.too_busy:
        terminal.write_line(
            f"times neither judged nor kept, because others had the cores: {', '.join(gate.too_busy)}; "
            "run again when the machine has less to do",
            yellow=True,
            bold=True,
        )
    _write_unused(terminal, gate)
    for what, path in gate.written.items():
        terminal.write_line(f"{what + ':':<10} {path}")
    for warning in gate.warnings:
        terminal.write_line(f"WARNING: {warning}", yellow=True, bold=True)
    for error in gate.errors:
        terminal.write_line(f"ERROR: {error}", red=True, bold=True)


def _announce(terminal: pytest.TerminalReporter, gate: Gate, status: str, text: str) -> None:
    nodeids = [
        record.nodeid
        for record in gate.records
        if record.outcome == "passed" and any(verdict.status == status for verdict in record.verdicts)
    ]
    if not nodeids:
        return
    few = nodeids if len(nodeids) <= 3 else sorted({nodeid.partition("::")[0] for nodeid in nodeids})
    tests = "1 test" if len(nodeids) == 1 else f"{len(nodeids)} tests"
    terminal.write_line(f"{tests} {text}: {gate.settings.command.accepting(few)}")


def _write_unused(terminal: pytest.TerminalReporter, gate: Gate) -> None:
    unused = [f"{file}::{test}" for file, tests in gate.unused.items() for test in tests]
    if not unused:
        return
    colour = {"red": True, "bold": True} if gate.settings.strict else {"yellow": True}
    word = "ERROR: " if gate.settings.strict else ""
    count = "1 baseline is" if len(unused) == 1 else f"{len(unused)} baselines are"
    terminal.write_line(f"{word}{count} used by no test; remove with: {gate.settings.command.pruning()}", **colour)
    for nodeid in unused[:UNUSED_LIMIT]:
        terminal.write_line(f"  {nodeid}")
    if len(unused) > UNUSED_LIMIT:
        terminal.write_line(f"  ... and {len(unused) - UNUSED_LIMIT} more")
