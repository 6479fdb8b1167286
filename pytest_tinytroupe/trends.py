"""What a history tells: the course of each figure, and where its level changed. Advice: nothing here judges."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from statistics import median
from typing import Any

from pytest_tinytroupe.change_points import ChangePoint, exact_changes, noisy_changes
from pytest_tinytroupe.history import Series
from pytest_tinytroupe.report.text import align, number

LEAST = {"heap": 0.01, "process": 0.02, "ratio": 0.03, "wall": 0.05}
"""Tier -> share of the level from which on a change is worth telling; exact figures have no noise."""

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-=+*#@"
WIDTH = 24

HEADINGS = ("metric", "runs", "first", "median", "last", "change", "trend")


@dataclass(frozen=True, slots=True)
class Trend:
    """A series and the places where its level changed."""

    series: Series
    changes: tuple[ChangePoint, ...]

    @property
    def change(self) -> float | None:
        """``(last - first) / first``; None where the first figure is 0."""
        first, last = self.series.values[0], self.series.values[-1]
        return (last - first) / first if first else None

    def to_json(self) -> dict[str, Any]:
        """Return the trend as JSON types."""
        return {**asdict(self.series), "changes": [asdict(each) for each in self.changes]}


def trend_of(series: Series) -> Trend:
    """Look for changes of level, by the method that fits the tier."""
    if series.tier in ("exact", "price"):
        return Trend(series, tuple(exact_changes(series.values)))
    return Trend(series, tuple(noisy_changes(series.values, least=LEAST.get(series.tier, 0.05))))


def selected(all_series: Sequence[Series], pattern: str, metrics: Sequence[str]) -> list[Series]:
    """Return the series whose test contains or matches `pattern`, of these metrics (none named: of all)."""

    def fits(series: Series) -> bool:
        in_test = not pattern or pattern in series.test or fnmatchcase(series.test, pattern)
        return in_test and (not metrics or series.metric in metrics)

    return [series for series in all_series if fits(series)]


def sparkline(values: Sequence[float], blocks: str = BLOCKS, width: int = WIDTH) -> str:
    """Draw the last `width` figures, from the least to the greatest of them."""
    shown = values[-width:]
    low, high = min(shown), max(shown)
    if low == high:
        return blocks[0] * len(shown)
    steps = len(blocks) - 1
    return "".join(blocks[round((value - low) / (high - low) * steps)] for value in shown)


def as_text(trends: Sequence[Trend], *, unicode: bool = True) -> str:
    """Return the trends for the terminal, by test, each change of level in a line below its metric."""
    if not trends:
        return ""
    headings, *rows = align([HEADINGS, *(_cells(trend, BLOCKS if unicode else ASCII_BLOCKS) for trend in trends)])
    lines, test = [f"  {headings}"], ""
    for trend, row in zip(trends, rows, strict=True):
        if trend.series.test != test:
            test = trend.series.test
            lines.append(test)
        lines.append(f"  {row}")
        lines += [f"    {told(trend.series, change)}" for change in trend.changes]
    return "\n".join(lines)


def as_markdown(trends: Sequence[Trend], *, unicode: bool = True) -> str:
    """Return the trends as Markdown, a table a test."""
    from pytest_tinytroupe.report.markdown import code

    lines: list[str] = []
    test = ""
    for trend in trends:
        if trend.series.test != test:
            test = trend.series.test
            lines += ["", f"### {code(test)}", "", f"| {' | '.join(HEADINGS)} | level changed |", "| --- " * 8 + "|"]
        changes = "; ".join(told(trend.series, change) for change in trend.changes)
        *cells, course = _cells(trend, BLOCKS if unicode else ASCII_BLOCKS)
        lines.append(f"| {' | '.join(cells)} | {course if unicode else code(course)} | {changes} |")
    return "\n".join(lines).lstrip("\n")


def as_json(trends: Sequence[Trend]) -> str:
    """Return the trends as JSON: a list of objects, described in ``docs/perf_json.md``."""
    return json.dumps([trend.to_json() for trend in trends], indent=2, allow_nan=False)


def told(series: Series, change: ChangePoint) -> str:
    """Say when a level changed, and how."""
    run, unit = change.index + 1, series.unit
    revision = f" {series.revisions[change.index]}" if series.revisions[change.index] else ""
    percent = f" ({change.change * 100:+.1f} %)" if change.change is not None else ""
    levels = f"{number(change.before, unit, 4)} -> {number(change.after, unit, 4)}{percent}"
    worse = (change.after > change.before) == (series.better == "lower")
    where = f"run {run}{revision}, {series.started[change.index][:10]}"
    return f"{levels} at {where}: {'worse' if worse else 'better'}"


def _cells(trend: Trend, blocks: str) -> list[str]:
    series = trend.series
    figures = [number(value, series.unit, 4) for value in (series.values[0], median(series.values), series.values[-1])]
    change = "=" if series.values[0] == series.values[-1] else "-" if trend.change is None else f"{trend.change:+.1%}"
    name = f"{series.metric} [{series.where}]" if series.where else series.metric
    return [name, str(len(series.values)), *figures, change, sparkline(series.values, blocks)]
