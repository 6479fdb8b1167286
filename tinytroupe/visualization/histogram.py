"""How durations are spread: counts in equal bins, with percentiles marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tinytroupe.visualization.axis import WIDTH, nice_ticks, short, ticks_across, time_unit
from tinytroupe.visualization.text import display_text, format_number, format_quantity

BIN_LIMIT = 30
"""The most bins."""

PLOT_PX, BOTTOM_PX, LABEL_PX = 150, 26, 15


def bins(values: Sequence[float], limit: int = BIN_LIMIT) -> list[tuple[float, float, int]]:
    """Count values in bins of equal, round width: from, to (not included but for the last), and how many.

    Raises
    ------
    ValueError
        There are no values.
    """
    if not values:
        raise ValueError("there is nothing to count")
    edges = nice_ticks(min(values), max(values), limit // 2)
    step = edges[1] - edges[0]
    counts = [0] * (len(edges) - 1)
    for value in values:
        counts[min(int((value - edges[0]) / step + 1e-9), len(counts) - 1)] += 1
    return [(edges[k], edges[k + 1], count) for k, count in enumerate(counts)]


def histogram_view(
    name: str, title: str, values_s: Sequence[float], percentiles: Sequence[tuple[str, float]], what: str = "turns"
) -> dict[str, Any]:
    """Work out everything the template draws.

    Parameters
    ----------
    name
        Unique on the page; ids of the drawing derive from it.
    title
        What is shown.
    values_s
        Durations in seconds; those that are not finite are left out.
    percentiles
        Label and duration in seconds of what is marked, ascending.
    what
        What took so long, in the plural.
    """
    finite = [value for value in values_s if math.isfinite(value)]
    title = display_text(title, 120)
    if not finite:
        return {"id": name, "title": title, "what": what, "empty": True}
    counted = bins(finite)
    start_s, end_s = counted[0][0], counted[-1][1]
    divisor, unit = time_unit(end_s)
    most = max(count for _, _, count in counted)
    y_ticks = nice_ticks(0, most, 4)
    y_ticks = [tick for tick in y_ticks if tick == int(tick)]
    top_px = 8 + LABEL_PX * len(percentiles)

    def across(value_s: float) -> float:
        return (value_s - start_s) / (end_s - start_s) * 100

    def down(count: float) -> float:
        return PLOT_PX * (1 - count / y_ticks[-1])

    per_percent = WIDTH / 100
    bars = [
        f"M{short(across(low) * per_percent)} {PLOT_PX}V{short(down(count))}"
        f"H{short(across(high) * per_percent)}V{PLOT_PX}z"
        for low, high, count in counted
        if count
    ]
    marks = [(label, value) for label, value in percentiles if start_s <= value <= end_s]
    told = ", ".join(f"{label} {format_quantity(value / divisor, unit)}" for label, value in percentiles)
    return {
        "id": name,
        "title": title,
        "empty": False,
        "unit": unit,
        "what": what,
        "description": f"{format_number(len(finite))} {what} from {format_quantity(min(finite) / divisor, unit)} "
        f"to {format_quantity(max(finite) / divisor, unit)}. {told}.",
        "height": top_px + PLOT_PX + BOTTOM_PX,
        "top": top_px,
        "plot": PLOT_PX,
        "width": WIDTH,
        "bars": "".join(bars),
        "y_ticks": [{"y": short(down(tick)), "label": format_number(tick)} for tick in y_ticks],
        "x_ticks": ticks_across(start_s, end_s, unit, across, divisor),
        "marks": [
            {
                "x": short(across(value)),
                "y": -4 - LABEL_PX * (len(marks) - 1 - k),
                "label": f"{label} {format_quantity(value / divisor, unit)}",
                "anchor": "end" if across(value) > 70 else "start",
                "shift": -5 if across(value) > 70 else 5,
            }
            for k, (label, value) in enumerate(marks)
        ],
        "rows": [(format_number(low / divisor), format_number(high / divisor), count) for low, high, count in counted],
        "percentiles": [(label, format_number(value / divisor)) for label, value in percentiles],
    }
