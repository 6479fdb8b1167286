"""Charts as SVG that any browser shows: no script, no inline style, no request.

The drawing stretches with the page while its text keeps its size: positions across are percentages, positions down are
pixels. Colours come from classes in the stylesheet, with presentation attributes for a page that has lost it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tinytroupe.monitoring.series import thin_indices
from tinytroupe.visualization.text import display_text, format_number, format_quantity

POINT_LIMIT = 600
"""The most points drawn of one curve."""
TABLE_LIMIT = 40
"""The most rows of one curve in the table of numbers."""
MARK_LIMIT = 60
"""The most marks drawn."""
QUIET_FROM = 8
"""More marks than this become ticks without labels: alarms above the drawing, everything else on the axis."""
SERIES_LIMIT = 6
"""The most curves in one chart; the palette has as many colours and dashes."""

TOP_PX, PLOT_PX, BOTTOM_PX = 22, 190, 26
_WIDTH = 1000
# From where to where down the drawing a tick goes, in pixels; the height tells what the colour does.
_MARK_HEIGHTS = {
    "step": (PLOT_PX - 8, PLOT_PX),
    "info": (PLOT_PX - 16, PLOT_PX),
    "warning": (-9, -2),
    "critical": (-17, -2),
}
_COLOURS = ("#0067a5", "#c2410c", "#00785a", "#8e3b8a", "#8a6100", "#4b5563")
_DASHES = ("", "7 3", "2 3", "10 3 2 3", "5 5", "1 3")

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """One curve: a name and pairs of seconds and value, in order of time."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened: when in seconds, a label, and its kind: `step`, `warning`, `critical` or `info`."""

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
    """

    name: str
    title: str
    unit: str
    series: Sequence[Series]
    marks: Sequence[Mark] = ()
    limit: float | None = None
    limit_label: str = "limit"
    axis: str = "s"


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Give round numbers (1, 2, 2.5 or 5 times a power of ten) that cover a range, about `count` of them."""
    if not (math.isfinite(low) and math.isfinite(high)) or high < low:
        raise ValueError(f"an axis needs finite ends, the lower first, not {low!r} to {high!r}")
    if high == low:
        pad = abs(low) * 0.1 or 1.0
        low, high = (0.0 if low == 0 else low - pad), high + pad
    rough = (high - low) / max(1, count - 1)
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def thin(points: Iterable[Point], limit: int) -> list[Point]:
    """Drop what cannot be drawn (not finite) and thin the rest to `limit` points that keep the extremes."""
    finite = [(t, v) for t, v in points if math.isfinite(t) and math.isfinite(v)]
    if len(finite) <= limit:
        return finite
    return [finite[i] for i in thin_indices([t for t, _ in finite], [v for _, v in finite], limit)]


def _time_unit(span_s: float) -> tuple[float, str]:
    if span_s > 7200:
        return 3600.0, "h"
    if span_s > 300:
        return 60.0, "min"
    return (1.0, "s") if span_s > 0.5 or span_s == 0 else (0.001, "ms")


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
        return {"id": chart.name, "title": title, "empty": True}
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
        return PLOT_PX * (1 - (value - bottom) / (top - bottom))

    divisor, time_unit = _time_unit(span_s) if chart.axis == "s" else (1.0, chart.axis)
    in_unit = [t for t in nice_ticks(start_s / divisor, end_s / divisor) if start_s <= t * divisor <= end_s]
    x_ticks = [
        {
            "x": _short(across(t * divisor)),
            "label": f"{format_number(t)} {time_unit}",
            "anchor": _anchor(across(t * divisor)),
        }
        for t in (in_unit if span_s else [start_s / divisor])
    ]
    return {
        "id": chart.name,
        "title": title,
        "empty": False,
        "unit": chart.unit,
        "description": _description(chart, drawn, divisor, time_unit),
        "caption": _caption(chart, drawn, divisor, time_unit, limit_shown),
        "height": TOP_PX + PLOT_PX + BOTTOM_PX,
        "top": TOP_PX,
        "plot": PLOT_PX,
        "width": _WIDTH,
        "y_ticks": [{"y": _short(down(v)), "label": _axis_number(v)} for v in y_ticks],
        "x_ticks": x_ticks,
        "series": [
            {
                "name": display_text(name, 40),
                "css": f"s{k + 1}",
                "colour": _COLOURS[k],
                "dash": _DASHES[k],
                "line": _path(points, across, down),
                "area": _area(points, across, down) if len(drawn) == 1 and span_s and bottom == 0 else "",
                "dot": _dot(points, across, down),
            }
            for k, (name, points, _) in enumerate(drawn)
        ],
        "limit": {
            "y": _short(down(chart.limit)),
            "label": f"{chart.limit_label} {format_quantity(chart.limit, chart.unit)}",
        }
        if limit_shown and chart.limit is not None
        else None,
        "marks": _marks(chart.marks, start_s, end_s, across),
        "tables": [
            {
                "name": display_text(name, 80),
                "total": total,
                "rows": [(format_number(t / divisor), format_number(v, 6)) for t, v in thin(points, TABLE_LIMIT)],
            }
            for name, points, total in drawn
        ],
        "mark_rows": [
            (format_number(m.time_s / divisor), display_text(m.label, 80)) for m in list(chart.marks)[:TABLE_LIMIT]
        ],
        "mark_total": len(chart.marks),
        "time_unit": time_unit,
    }


def spark_view(points: Iterable[Point], limit: float | None = None) -> dict[str, Any] | None:
    """Work out a sparkline of 120 by 28 pixels, or None if there is nothing to draw."""
    kept = thin(points, 48)
    if len(kept) < 2:
        return None
    low, high, limit_shown = _value_range([v for _, v in kept], limit)
    start_s, span_s = kept[0][0], (kept[-1][0] - kept[0][0]) or 1.0
    height = (high - low) or 1.0

    def place(t: float, v: float) -> tuple[float, float]:
        return 2 + 114 * (t - start_s) / span_s, 25 - 22 * (v - low) / height

    placed = [place(t, v) for t, v in kept]
    return {
        "line": "M" + "L".join(f"{_short(x)} {_short(y)}" for x, y in placed),
        "end": (_short(placed[-1][0]), _short(placed[-1][1])),
        "limit": _short(25 - 22 * (limit - low) / height) if limit_shown and limit is not None else None,
        "label": f"from {format_number(kept[0][1])} to {format_number(kept[-1][1])}, "
        f"highest {format_number(max(v for _, v in kept))}",
    }


def _axis_number(value: float) -> str:
    if abs(value) >= 1e6:
        return f"{format_number(value / 1e6)}M"
    return format_number(value)


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _anchor(percent: float) -> str:
    return "start" if percent < 6 else "end" if percent > 94 else "middle"


def _path(points: Sequence[Point], across: Any, down: Any) -> str:
    return "M" + "L".join(f"{_short(across(t) * _WIDTH / 100)} {_short(down(v))}" for t, v in points)


def _area(points: Sequence[Point], across: Any, down: Any) -> str:
    first, last = across(points[0][0]) * _WIDTH / 100, across(points[-1][0]) * _WIDTH / 100
    return f"{_path(points, across, down)}L{_short(last)} {PLOT_PX}L{_short(first)} {PLOT_PX}Z"


def _dot(points: Sequence[Point], across: Any, down: Any) -> tuple[str, str]:
    time_s, value = max(points, key=lambda p: p[1])
    return _short(across(time_s)), _short(down(value))


def _marks(marks: Sequence[Mark], start_s: float, end_s: float, across: Any) -> list[dict[str, Any]]:
    inside = sorted((m for m in marks if start_s <= m.time_s <= end_s), key=lambda m: m.time_s)
    if len(inside) > MARK_LIMIT:
        stride = len(inside) / MARK_LIMIT
        inside = [inside[int(k * stride)] for k in range(MARK_LIMIT)]
    quiet = len(inside) > QUIET_FROM
    views = []
    free_from = 0.0
    for mark in inside:
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
                "x": _short(x),
                "kind": mark.kind if mark.kind in _MARK_HEIGHTS else "step",
                "title": display_text(mark.label, 80),
                "from": _MARK_HEIGHTS.get(mark.kind, _MARK_HEIGHTS["step"])[0] if quiet else 0,
                "to": _MARK_HEIGHTS.get(mark.kind, _MARK_HEIGHTS["step"])[1] if quiet else PLOT_PX,
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
            f"{format_number(peak_s / divisor)} {unit}."
        )
    if chart.limit is not None:
        parts.append(f"{chart.limit_label.capitalize()}: {format_quantity(chart.limit, chart.unit)}.")
    if chart.marks:
        parts.append(f"{len(chart.marks)} marks.")
    return " ".join(parts)


def _caption(
    chart: Chart, drawn: Sequence[tuple[str, list[Point], int]], divisor: float, unit: str, limit_shown: bool
) -> str:
    parts = []
    if len(drawn) == 1:
        points = drawn[0][1]
        peak_s, peak = max(points, key=lambda p: p[1])
        parts.append(f"highest {format_quantity(peak, chart.unit)} at {format_number(peak_s / divisor)} {unit}")
        change = points[-1][1] - points[0][1]
        sign = "+" if change > 0 else ""
        parts.append(f"end against start {sign}{format_quantity(change, chart.unit)}")
    if chart.limit is not None and not limit_shown:
        parts.append(f"{chart.limit_label} {format_quantity(chart.limit, chart.unit)}, outside the chart")
    if len(chart.marks) > QUIET_FROM:
        alarms = sum(mark.kind in ("warning", "critical") for mark in chart.marks)
        if alarms:
            parts.append("ticks above: warnings (short) and critical alerts (tall)")
        if alarms < len(chart.marks):
            rest = [display_text(m.label, 30) for m in chart.marks if m.kind not in ("warning", "critical")]
            parts.append(
                f"ticks on the axis: {rest[0]} … {rest[-1]}" if len(rest) > 1 else f"tick on the axis: {rest[0]}"
            )
    return " · ".join(parts)
