"""What the terminal shows: why a test fails, and the table at the end."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_tinytroupe.records import TestRecord, Verdict
from pytest_tinytroupe.verdict import worst_first

if TYPE_CHECKING:
    from pytest_tinytroupe.session import Gate

Row = Sequence[str]

HEADINGS = ("metric", "measured", "baseline", "change", "limit", "verdict")
COLOURS = {
    "regressed": {"red": True},
    "over limit": {"red": True},
    "unmeasured": {"red": True},
    "improved": {"green": True},
    "new": {"yellow": True},
}


def number(value: float | None, unit: str = "", digits: int = 6) -> str:
    """Write a value with its unit: whole numbers in full, others with so many significant digits.

    >>> number(50.0, "s"), number(1234567), number(0.123456789, "MB"), number(None)
    ('50 s', '1234567', '0.123457 MB', '-')
    """
    if value is None:
        return "-"
    text = str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.{digits}g}"
    return text if not unit else f"{text}{unit}" if unit == "x" else f"{text} {unit}"


def change_of(verdict: Verdict) -> str:
    """Write the change against the baseline: in percent, or as a difference where the baseline is 0."""
    value, baseline = verdict.metric.value, verdict.baseline
    if value is None or baseline is None:
        return "-"
    if value == baseline:
        return "="
    if verdict.change is None:
        return f"{value - baseline:+.6g}"
    percent = verdict.change * 100
    return f"{percent:+.1f} %" if abs(percent) >= 0.05 else f"{percent:+.1g} %"


def limit_of(verdict: Verdict) -> str:
    """Write the limit with its direction."""
    if verdict.limit is None:
        return "-"
    return ("≤ " if verdict.limit_kind == "max" else "≥ ") + number(verdict.limit, verdict.metric.unit)


def row(verdict: Verdict) -> Row:
    """Return a verdict as the cells of a line."""
    unit = verdict.metric.unit
    digits = 6 if verdict.metric.tier == "exact" else 4  # more would pretend to a precision that is not there
    return (
        verdict.metric.name,
        number(verdict.metric.value, unit, digits),
        number(verdict.baseline, unit, digits),
        change_of(verdict),
        limit_of(verdict),
        verdict.status,
    )


def align(rows: Sequence[Row]) -> list[str]:
    """Return the rows as lines with aligned columns: the first and the last to the left, numbers to the right."""
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(rows[0]))]
    lines = []
    for cells in rows:
        first, *middle, last = cells
        numbers = [cell.rjust(width) for cell, width in zip(middle, widths[1:-1], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *numbers, last]).rstrip())
    return lines


def accept_command(nodeids: Iterable[str]) -> str:
    """Return the command that makes the measured figures the new baselines of these tests."""
    return shlex.join(["pytest", "--perf", "--perf-update", *nodeids])


def failure_message(nodeid: str, verdicts: Sequence[Verdict], *, accept: bool, problem: str) -> str:
    """Say why a test fails, or nothing if it does not.

    Parameters
    ----------
    nodeid
        The test.
    verdicts
        Its verdicts.
    accept
        Whether differences from the baseline are about to be accepted; limits hold all the same.
    problem
        Why the baseline could not be used, or nothing.
    """
    failing = [verdict for verdict in verdicts if verdict.failed and not (accept and acceptable(verdict))]
    if not failing and not problem:
        return ""
    if not failing:
        return f"perf: {problem}"
    others = f" (and {len(failing) - 1} more)" if len(failing) > 1 else ""
    lines = [f"perf: {_summary(failing[0])}{others}", "", *align([HEADINGS, *map(row, failing)])]
    lines += [f"{verdict.metric.name}: {verdict.note}" for verdict in failing if verdict.note]
    if problem:
        lines.append(problem)
    lines.append("")
    if all(acceptable(verdict) for verdict in failing):
        lines.append(f"If this is meant, make it the baseline: {accept_command([nodeid])}")
    else:
        lines.append(
            "If this is meant, change the limit in the test's perf marker; --perf-update does not lift limits."
        )
    return "\n".join(lines)


def acceptable(verdict: Verdict) -> bool:
    """Whether ``--perf-update`` accepts this failure: it breaks with the baseline, not with a limit."""
    return verdict.status == "regressed" or (verdict.status == "unmeasured" and verdict.limit is None)


def _summary(verdict: Verdict) -> str:
    name, unit = verdict.metric.name, verdict.metric.unit
    measured = number(verdict.metric.value, unit)
    if verdict.status == "over limit":
        kind = "max" if verdict.limit_kind == "max" else "min"
        return f"{name} over limit: {measured}, {kind} {number(verdict.limit, unit)}"
    if verdict.status == "regressed":
        return f"{name} regressed: {measured}, baseline {number(verdict.baseline, unit)} ({change_of(verdict)})"
    return f"{name} was not measured"


def write_summary(terminal: pytest.TerminalReporter, gate: Gate) -> None:
    """Write the table of all perf tests, failing ones first, and where the files are."""
    if not (gate.records or gate.errors):
        return
    terminal.section("performance")
    records = sorted(gate.records, key=lambda record: record.outcome == "passed")  # stable: else by id
    _write_table(terminal, records, verbosity=terminal.config.get_verbosity())
    _write_footer(terminal, gate)


def _write_table(terminal: pytest.TerminalReporter, records: Sequence[TestRecord], verbosity: int) -> None:
    shown = {record.nodeid: _shown(record, verbosity) for record in records}
    lines = align([HEADINGS, *(row(verdict) for record in records for verdict in shown[record.nodeid])])
    headings, *cells = [f"  {line}" for line in lines]
    terminal.write_line(headings, bold=True)
    position = 0
    for record in records:
        colour = {"red": True} if record.outcome in ("failed", "error") else {}
        status = "" if record.outcome == "passed" else f"  [{record.outcome}]"
        terminal.write_line(record.nodeid + status, **colour)
        for verdict in shown[record.nodeid]:
            terminal.write_line(cells[position], **COLOURS.get(verdict.status, {}))
            position += 1


def _shown(record: TestRecord, verbosity: int) -> list[Verdict]:
    """With -q only what needs attention is shown."""
    if verbosity < 0:
        return [verdict for verdict in worst_first(record.verdicts) if verdict.status not in ("ok", "advisory")]
    return worst_first(record.verdicts)


def _write_footer(terminal: pytest.TerminalReporter, gate: Gate) -> None:
    from pytest_tinytroupe.session import relative

    root = gate.config.rootpath
    passed = [record for record in gate.records if record.outcome == "passed"]
    terminal.write_line("")
    terminal.write_line(f"baselines: {relative(gate.settings.baseline_dir, root)}")
    for path in gate.updated:
        terminal.write_line(f"updated:   {relative(path, root)}")
    if not gate.settings.update:
        _announce(terminal, passed, "improved", "improved; keep it with")
        _announce(terminal, passed, "new", "new, without a baseline; keep it with")
    if gate.report_path is not None:
        terminal.write_line(f"report:    {gate.report_path}")
    for error in gate.errors:
        terminal.write_line(f"ERROR: {error}", red=True, bold=True)


def _announce(terminal: pytest.TerminalReporter, records: Sequence[TestRecord], status: str, text: str) -> None:
    nodeids = [record.nodeid for record in records if any(verdict.status == status for verdict in record.verdicts)]
    if not nodeids:
        return
    few = nodeids if len(nodeids) <= 3 else sorted({nodeid.partition("::")[0] for nodeid in nodeids})
    tests = "1 test" if len(nodeids) == 1 else f"{len(nodeids)} tests"
    terminal.write_line(f"{tests} {text}: {accept_command(few)}")
