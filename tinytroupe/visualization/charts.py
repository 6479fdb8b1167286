"""Charts as SVG that any browser shows: no script, no inline style, no request.

The drawing stretches with the page while its text keeps its size: positions across are percentages, positions down are
pixels. Colours come from classes in the stylesheet, with presentation attributes for a page that has lost it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tinytroupe.visualization.axis import (
    TIME_UNITS,
    WIDTH,
    Point,
    moment,
    nice_ticks,
    short,
    thin,
    ticks_across,
    time_unit,
)
from tinytroupe.visualization.text import display_text, format_number, format_quantity

POINT_LIMIT = 600
"""The most points drawn of one curve."""
SPARK_LIMIT = 32
"""The most points of a sparkline, which is 120 pixels wide."""
TABLE_LIMIT = 40
"""The most rows of one curve in the table of numbers."""
MARK_LIMIT = 60
"""The most marks drawn of one kind."""
QUIET_FROM = 8
"""More steps than this become ticks without labels on the axis."""
SERIES_LIMIT = 6
"""The most curves in one chart; the palette has as many colours and dashes."""

TOP_PX, LANE_PX, PLOT_PX, BOTTOM_PX = 22, 14, 190, 26
EVENTS = {
    "critical": ("M0-5.5L5.5 0L0 5.5L-5.5 0Z", "critical alert"),
    "warning": ("M0-5L5 4H-5Z", "warning"),
    "info": ("M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0Z", "notice"),
    "evicted": ("M-4-4L4 4M4-4L-4 4", "eviction"),
    "consolidated": ("M-5-4H5L0 4Z", "consolidation"),
}
"""Kinds of marks drawn as a sign in a lane of their own above the curve: the path of the sign, and its name."""

_COLOURS = ("#0067a5", "#c2410c", "#00785a", "#8e3b8a", "#8a6100", "#4b5563")
_DASHES = ("", "7 3", "2 3", "10 3 2 3", "5 5", "1 3")


@dataclass(frozen=True, slots=True)
class Series:
    """One curve: a name and pairs of seconds and value, in order of time."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened: when in seconds, a label, and its kind: `step` or one of `EVENTS`."""

    time_s: float
    label: str
    kind: str = "step"


@dataclass(frozen=True, slots=True)
class Chart:
    """What to draw.

    Attributes
    ----------
    name
        Unique on the page; ids of the drawing derive from it.
    title
        What is shown.
    unit
        Unit of the values.
    series
        At most six curves.
    marks
        What happened on the way.
    limit
        A bound to draw, in the unit of the values.
    limit_label
        What the bound is called.
    axis
        Unit of the horizontal axis, where it is not seconds.
    plot_px
        Height of the drawing without its labels, in pixels.
    wide
        Whether it takes the whole width of the page, beside no other.
    """

    name: str
    title: str
    unit: str
    series: Sequence[Series]
    marks: Sequence[Mark] = ()
    limit: float | None = None
    limit_label: str = "limit"
    axis: str = "s"
    plot_px: int = PLOT_PX
    wide: bool = False


def _value_range(values: Sequence[float], limit: float | None) -> tuple[float, float, bool]:
    low, high = min(values), max(values)
    if limit is not None and limit <= 1.6 * max(high, 0) and limit >= low:
        high, shown = max(high, limit), True
    else:
        shown = False
    if low >= 0 and low <= 0.5 * high:
        low = 0.0
    return low, high, shown


def chart_view(chart: Chart) -> dict[str, Any]:
    """Work out everything the template draws; a chart without points says so in `empty`."""
    chart = replace(chart, unit=display_text(chart.unit, 20), limit_label=display_text(chart.limit_label, 40))
    drawn = [(s.name, thin(s.points, POINT_LIMIT), len(s.points)) for s in chart.series[:SERIES_LIMIT]]
    drawn = [item for item in drawn if item[1]]
    title = display_text(chart.title, 120)
    if not drawn:
        return {"id": chart.name, "title": title, "wide": chart.wide, "empty": True}
    times = [t for _, points, _ in drawn for t, _ in points]
    values = [v for _, points, _ in drawn for _, v in points]
    start_s, end_s = min(times), max(times)
    span_s = end_s - start_s
    low, high, limit_shown = _value_range(values, chart.limit)
    y_ticks = nice_ticks(low, high, 6)
    bottom, top = y_ticks[0], y_ticks[-1]

    def across(time_s: float) -> float:
        return (time_s - start_s) / span_s * 100 if span_s else 50.0

    def down(value: float) -> float:
        return chart.plot_px * (1 - (value - bottom) / (top - bottom))

    divisor, unit = time_unit(span_s) if chart.axis == "s" else (1.0, chart.axis)
    inside = sorted((m for m in chart.marks if start_s <= m.time_s <= end_s), key=lambda m: m.time_s)
    lanes = _lanes([m for m in inside if m.kind in EVENTS], across)
    above_px = TOP_PX + LANE_PX * len(lanes)
    return {
        "id": chart.name,
        "title": title,
        "empty": False,
        "wide": chart.wide,
        "unit": chart.unit,
        "description": _description(chart, drawn, divisor, unit),
        "caption": _caption(chart, drawn, divisor, unit, limit_shown),
        "height": above_px + chart.plot_px + BOTTOM_PX,
        "top": above_px,
        "plot": chart.plot_px,
        "width": WIDTH,
        "y_ticks": [{"y": short(down(v)), "label": _axis_number(v)} for v in y_ticks],
        "x_ticks": ticks_across(start_s, end_s, unit, across, divisor),
        "series": [
            {
                "name": display_text(name, 40),
                "css": f"s{k + 1}",
                "colour": _COLOURS[k],
                "dash": _DASHES[k],
                "line": _path(points, across, down),
                "area": _area(points, across, down, chart.plot_px) if len(drawn) == 1 and span_s and not bottom else "",
                "dot": _dot(points, across, down),
            }
            for k, (name, points, _) in enumerate(drawn)
        ],
        "limit": {
            "y": short(down(chart.limit)),
            "label": f"{chart.limit_label} {format_quantity(chart.limit, chart.unit)}",
        }
        if limit_shown and chart.limit is not None
        else None,
        "marks": _marks([m for m in inside if m.kind not in EVENTS], across, chart.plot_px),
        "lanes": lanes,
        "tables": [
            {
                "name": display_text(name, 80),
                "total": total,
                "rows": [(format_number(t / divisor), format_number(v, 6)) for t, v in thin(points, TABLE_LIMIT)],
            }
            for name, points, total in drawn
        ],
        "mark_rows": [
            (format_number(m.time_s / divisor), display_text(m.label, 160)) for m in _gravest(chart.marks, TABLE_LIMIT)
        ],
        "mark_total": len(chart.marks),
        "time_heading": f"time, {unit}" if unit in TIME_UNITS else unit,
    }


def spark_view(points: Iterable[Point], limit: float | None = None) -> dict[str, Any] | None:
    """Work out a sparkline of 120 by 28 pixels, or None if there is nothing to draw."""
    kept = thin(points, SPARK_LIMIT)
    if len(kept) < 2:
        return None
    low, high, limit_shown = _value_range([v for _, v in kept], limit)
    start_s, span_s = kept[0][0], (kept[-1][0] - kept[0][0]) or 1.0
    height = (high - low) or 1.0

    def place(t: float, v: float) -> tuple[float, float]:
        return 2 + 114 * (t - start_s) / span_s, 25 - 22 * (v - low) / height

    placed = [place(t, v) for t, v in kept]
    return {
        "line": "M" + "L".join(f"{short(x)} {short(y)}" for x, y in placed),
        "end": (short(placed[-1][0]), short(placed[-1][1])),
        "limit": short(25 - 22 * (limit - low) / height) if limit_shown and limit is not None else None,
        "label": f"from {format_number(kept[0][1])} to {format_number(kept[-1][1])}, "
        f"highest {format_number(max(v for _, v in kept))}",
    }


def _axis_number(value: float) -> str:
    if abs(value) >= 1e6:
        return f"{format_number(value / 1e6)}M"
    return format_number(value)


def _path(points: Sequence[Point], across: Any, down: Any) -> str:
    return "M" + "L".join(f"{short(across(t) * WIDTH / 100)} {short(down(v))}" for t, v in points)


def _area(points: Sequence[Point], across: Any, down: Any, plot_px: int) -> str:
    first, last = across(points[0][0]) * WIDTH / 100, across(points[-1][0]) * WIDTH / 100
    return f"{_path(points, across, down)}L{short(last)} {plot_px}L{short(first)} {plot_px}Z"


def _dot(points: Sequence[Point], across: Any, down: Any) -> tuple[str, str]:
    time_s, value = max(points, key=lambda p: p[1])
    return short(across(time_s)), short(down(value))


def _thinned(marks: Sequence[Mark]) -> list[Mark]:
    stride = max(1.0, len(marks) / MARK_LIMIT)
    return [marks[int(k * stride)] for k in range(min(len(marks), MARK_LIMIT))]


def _gravest(marks: Sequence[Mark], limit: int) -> list[Mark]:
    """Choose the marks to list: alarms before anything else, and those chosen in order of time."""
    order = [*EVENTS, "step"]
    ranked = sorted(marks, key=lambda m: order.index(m.kind) if m.kind in order else len(order))
    return sorted(ranked[:limit], key=lambda m: m.time_s)


def _lanes(events: Sequence[Mark], across: Any) -> list[dict[str, Any]]:
    """Work out a row of signs for each kind of event there is, gravest on top."""
    counts = Counter(mark.kind for mark in events)
    return [
        {
            "kind": kind,
            "sign": sign,
            "y": 8 + LANE_PX * row,
            "name": f"{name}{'' if counts[kind] == 1 else 's'}",
            "count": counts[kind],
            "marks": [
                {"x": short(across(mark.time_s)), "title": display_text(mark.label, 80)}
                for mark in _thinned([mark for mark in events if mark.kind == kind])
            ],
        }
        for row, (kind, (sign, name)) in enumerate((k, v) for k, v in EVENTS.items() if counts[k])
    ]


def _marks(steps: Sequence[Mark], across: Any, plot_px: int) -> list[dict[str, Any]]:
    quiet = len(steps) > QUIET_FROM
    views = []
    free_from = 0.0
    for mark in _thinned(steps):
        x = across(mark.time_s)
        label = "" if quiet else display_text(mark.label, 24)
        width = 3 + 1.6 * len(label)
        at_end = x + width > 100
        if label and (x - width if at_end else x) >= free_from:
            free_from = x if at_end else x + width
        else:
            label = ""
        views.append(
            {
                "x": short(x),
                "title": display_text(mark.label, 80),
                "from": plot_px - 8 if quiet else 0,
                "label": label,
                "anchor": "end" if at_end else "start",
                "shift": -4 if at_end else 4,
            }
        )
    return views


def _description(chart: Chart, drawn: Sequence[tuple[str, list[Point], int]], divisor: float, unit: str) -> str:
    parts = []
    for name, points, _ in drawn:
        peak_s, peak = max(points, key=lambda p: p[1])
        parts.append(
            f"{display_text(name, 40)}: from {format_quantity(points[0][1], chart.unit)} to "
            f"{format_quantity(points[-1][1], chart.unit)}, highest {format_quantity(peak, chart.unit)} at "
            f"{moment(peak_s / divisor, unit)}."
        )
    if chart.limit is not None:
        parts.append(f"{chart.limit_label.capitalize()}: {format_quantity(chart.limit, chart.unit)}.")
    counts = Counter(mark.kind for mark in chart.marks)
    parts += [
        f"{counts[kind]} {name}{'' if counts[kind] == 1 else 's'}."
        for kind, (_, name) in EVENTS.items()
        if counts[kind]
    ]
    return " ".join(parts)


def _caption(
    chart: Chart, drawn: Sequence[tuple[str, list[Point], int]], divisor: float, unit: str, limit_shown: bool
) -> str:
    parts = []
    if len(drawn) == 1:
        points = drawn[0][1]
        peak_s, peak = max(points, key=lambda p: p[1])
        parts.append(f"highest {format_quantity(peak, chart.unit)} at {moment(peak_s / divisor, unit)}")
        change = points[-1][1] - points[0][1]
        sign = "+" if change > 0 else ""
        parts.append(f"end against start {sign}{format_quantity(change, chart.unit)}")
    if chart.limit is not None and not limit_shown:
        parts.append(f"{chart.limit_label} {format_quantity(chart.limit, chart.unit)}, outside the chart")
    steps = [display_text(mark.label, 30) for mark in chart.marks if mark.kind not in EVENTS]
    if len(steps) > QUIET_FROM:
        parts.append(f"ticks on the axis: {steps[0]} … {steps[-1]}")
    return " · ".join(parts)
