"""What a history tells: the course of each figure, and where its level changed. Advice: nothing here judges."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
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
LEAST_WIDTH = 8
"""Characters of a course: as many as the line has room for, between these."""

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
    """Draw figures from the least to the greatest; where they are more than `width`, neighbours share their median."""
    cells = min(len(values), width)
    bounds = [cell * len(values) // cells for cell in range(cells + 1)]
    shown = [median(values[start:end]) for start, end in pairwise(bounds)]
    low, high = min(shown), max(shown)
    if low == high:
        return blocks[0] * len(shown)
    steps = len(blocks) - 1
    return "".join(blocks[round((value - low) / (high - low) * steps)] for value in shown)


def as_text(trends: Sequence[Trend], *, unicode: bool = True, columns: int = 80) -> str:
    """Return the trends for the terminal, by test and place, each change of level in a line below its metric.

    The rows fit `columns` where the figures leave room for a course of `LEAST_WIDTH`.
    """
    if not trends:
        return ""
    ordered = _by_place(trends)
    blocks = BLOCKS if unicode else ASCII_BLOCKS
    headings, *rows = align([HEADINGS, *([*_figures(trend), ""] for trend in ordered)])
    room = columns - len(f"  {headings.removesuffix(HEADINGS[-1])}")
    width = min(max(room, LEAST_WIDTH), WIDTH)
    lines, shown = [f"  {headings}"], ("", "")
    for trend, row in zip(ordered, rows, strict=True):
        if _place(trend) != shown:
            shown = _place(trend)
            lines.append("  ".join(filter(None, shown)))
        lines.append(f"  {row}  {sparkline(trend.series.values, blocks, width)}")
        lines += [f"    {told(trend.series, change)}" for change in trend.changes]
    return "\n".join(lines)


def as_markdown(trends: Sequence[Trend], *, unicode: bool = True) -> str:
    """Return the trends as Markdown, a table for each test and place."""
    from pytest_tinytroupe.report.markdown import code

    blocks = BLOCKS if unicode else ASCII_BLOCKS
    lines: list[str] = []
    shown = ("", "")
    for trend in _by_place(trends):
        if _place(trend) != shown:
            shown = _place(trend)
            heading = " ".join(code(part) for part in shown if part)
            lines += ["", f"### {heading}", "", f"| {' | '.join(HEADINGS)} | level changed |", "| --- " * 8 + "|"]
        changes = "; ".join(told(trend.series, change) for change in trend.changes)
        course = sparkline(trend.series.values, blocks)
        lines.append(f"| {' | '.join(_figures(trend))} | {course if unicode else code(course)} | {changes} |")
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


def _place(trend: Trend) -> tuple[str, str]:
    return trend.series.test, trend.series.where


def _by_place(trends: Sequence[Trend]) -> list[Trend]:
    return sorted(trends, key=_place)


def _figures(trend: Trend) -> list[str]:
    series = trend.series
    figures = [number(value, series.unit, 4) for value in (series.values[0], median(series.values), series.values[-1])]
    change = "=" if series.values[0] == series.values[-1] else "-" if trend.change is None else f"{trend.change:+.1%}"
    return [series.metric, str(len(series.values)), *figures, change]
