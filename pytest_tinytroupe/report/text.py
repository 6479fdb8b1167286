"""Verdicts as text: shared by the terminal, Markdown and annotations. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

from pytest_tinytroupe.command_line import CommandLine
from pytest_tinytroupe.metrics import CATALOGUE
from pytest_tinytroupe.records import Metric, Verdict
from pytest_tinytroupe.settings import Update

Row = Sequence[str]

HEADINGS = ("metric", "measured", "baseline", "change", "limit", "verdict")


WIDTH = 80
"""What is prose in a failure's message is broken here: not at the terminal's edge, which a worker does not see."""


def number(value: float | None, unit: str = "", digits: int = 6) -> str:
    """Write a value with its unit: whole numbers in full, others with so many significant digits.

    >>> number(50.0, "s"), number(1234567), number(0.123456789, "MB"), number(None)
    ('50 s', '1234567', '0.123457 MB', '-')
    """
    if value is None:
        return "-"
    text = str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.{digits}g}"
    return text if not unit else f"{text}{unit}" if unit == "x" else f"{text} {unit}"


def telling_digits(value: float | None, other: float | None, digits: int = 6) -> int:
    """Return how many significant digits it takes until two values that differ are written differently.

    >>> telling_digits(50.0, 50.0), telling_digits(50.0, 50.00000001)
    (6, 10)
    """
    while value != other and digits < 17 and number(value, digits=digits) == number(other, digits=digits):
        digits += 1
    return digits


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
    # More would pretend to a precision that is not there; yet what differs must not look the same.
    digits = telling_digits(verdict.metric.value, verdict.baseline) if verdict.metric.tier == "exact" else 4
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


def failure_message(
    nodeid: str, verdicts: Sequence[Verdict], *, accept: Update, problem: str, command: CommandLine
) -> str:
    """Say why a test fails, or nothing if it does not.

    Parameters
    ----------
    nodeid
        The test.
    verdicts
        Its verdicts.
    accept
        Which differences from the baseline are about to be accepted; limits hold all the same.
    problem
        Why the baseline could not be used, or nothing.
    command
        How the tests were run.
    """
    failing = [verdict for verdict in verdicts if verdict.failed and not (accept == "all" and acceptable(verdict))]
    if not failing and not problem:
        return ""
    if not failing:
        return f"perf: {problem}"
    others = f" (and {len(failing) - 1} more)" if len(failing) > 1 else ""
    lines = [f"perf: {summary_of(failing[0])}{others}", ""]
    if all(verdict.status == "no baseline" for verdict in failing):  # a table of what there is not says nothing
        lines.append(
            "Without a baseline there is nothing to hold it against, and CI is set. Run and commit: "
            + command.accepting([nodeid], "--perf-update-new")
        )
        return "\n".join(lines)
    lines += align([HEADINGS, *map(row, failing)])
    lines += [wrapped(f"{verdict.metric.name}: {verdict.note}") for verdict in failing if verdict.note]
    if problem:
        lines.append(problem)
    lines.append("")
    if all(acceptable(verdict) for verdict in failing):
        lines.append(f"If this is meant, make it the baseline: {command.accepting([nodeid])}")
    else:
        lines.append(
            "If this is meant, change the limit in the test's perf marker or perf.compare; "
            "--perf-update does not lift limits."
        )
    return "\n".join(lines)


def wrapped(text: str, width: int = WIDTH, indent: str = "", rest: str = "    ") -> str:
    """Break a remark into lines; a path is never broken in two."""
    return fill(
        text, width, initial_indent=indent, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def acceptable(verdict: Verdict) -> bool:
    """Whether ``--perf-update`` accepts this failure: it breaks with the baseline, not with a limit."""
    unmeasured = verdict.status == "unmeasured" and verdict.limit is None and verdict.baseline is not None
    return unmeasured or verdict.status in ("regressed", "no baseline")


def summary_of(verdict: Verdict) -> str:
    """Say what is wrong with a metric."""
    name, unit = verdict.metric.name, verdict.metric.unit
    measured = number(verdict.metric.value, unit)
    if verdict.status == "over limit":
        word = "over" if verdict.limit_kind == "max" else "below"
        limit = number(verdict.limit, unit, telling_digits(verdict.metric.value, verdict.limit))
        measured = number(verdict.metric.value, unit, telling_digits(verdict.metric.value, verdict.limit))
        return f"{name} {word} limit: {measured}, {verdict.limit_kind} {limit}"
    if verdict.status == "regressed":
        digits = telling_digits(verdict.metric.value, verdict.baseline)
        measured, baseline = (number(each, unit, digits) for each in (verdict.metric.value, verdict.baseline))
        return f"{name} regressed: {measured}, baseline {baseline} ({change_of(verdict)})"
    if verdict.status == "no baseline":
        return f"{name} has no baseline: {measured}"
    return f"{name} was not measured"


def headline(verdicts: Sequence[Verdict], limit: int = 6) -> str:
    """Return the figures that matter most, in one line: the usual ones, and the test's own."""
    shown = [
        verdict.metric
        for verdict in verdicts
        if verdict.metric.value is not None
        and (verdict.metric.steady or verdict.metric.tier in ("exact", "heap", "ratio", "price"))
        and (verdict.metric.name not in CATALOGUE or CATALOGUE[verdict.metric.name].headline)
    ]
    return ", ".join(_figure(metric) for metric in shown[:limit])


def _figure(metric: Metric) -> str:
    name = metric.name.removesuffix(f"_{metric.unit.lower()}") if metric.unit else metric.name
    value = number(metric.value, metric.unit, 3 if metric.tier == "heap" else 4)
    return f"{name.removeprefix('llm_').replace('_', ' ')} {value}"
