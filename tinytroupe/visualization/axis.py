"""What all drawings share: round numbers on an axis, units of time, curves made short enough to draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from tinytroupe.monitoring.series import thin_indices
from tinytroupe.visualization.text import format_number

WIDTH = 1000
"""Units across a drawing that stretches with the page."""

TIME_UNITS = ("ms", "s", "min", "h")

Point = tuple[float, float]


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


def time_unit(span_s: float) -> tuple[float, str]:
    """Give the unit that suits a span of time: how many seconds it has, and its name."""
    if span_s > 7200:
        return 3600.0, "h"
    if span_s > 300:
        return 60.0, "min"
    return (1.0, "s") if span_s > 0.5 or span_s == 0 else (0.001, "ms")


def moment(value: float, unit: str) -> str:
    """Write a place on an axis: a time with its unit behind it, or a count of something, such as ``step 3``."""
    number = format_number(value)
    return f"{number}\N{NO-BREAK SPACE}{unit}" if unit in TIME_UNITS else f"{unit} {number}".strip()


def short(value: float) -> str:
    """Write a coordinate: a tenth of a unit is far below what can be seen."""
    return f"{value:.1f}".removesuffix(".0")


def ticks_across(
    start: float, end: float, unit: str, across: Callable[[float], float], divisor: float = 1.0, count: int = 5
) -> list[dict[str, Any]]:
    """Work out the labels below a drawing.

    Parameters
    ----------
    start, end
        What the axis covers.
    unit
        Of the numbers; see `moment`.
    across
        Gives the place of a value, in percent from the left.
    divisor
        How much of the axis one `unit` is.
    count
        About so many.
    """
    values = [start / divisor] if start == end else nice_ticks(start / divisor, end / divisor, count)
    counts = unit not in TIME_UNITS  # of steps, say: there is none between two of them
    inside = [v for v in values if start <= v * divisor <= end and not (counts and v % 1)]
    places = [across(v * divisor) for v in inside]
    return [
        {
            "x": short(place),
            "label": format_number(value) if counts and place > places[0] else moment(value, unit),
            "anchor": "start" if place < 6 else "end" if place > 94 else "middle",
        }
        for value, place in zip(inside, places, strict=True)
    ]
