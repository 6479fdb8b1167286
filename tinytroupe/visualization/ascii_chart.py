"""A chart made of characters."""

from __future__ import annotations

from collections.abc import Sequence

from tinytroupe.visualization.text import format_number

_EIGHTHS = " ▁▂▃▄▅▆▇█"


def ascii_chart(
    title: str, points: Sequence[tuple[float, float]], *, width: int, height: int, ascii_only: bool = False
) -> str:
    """Draw a curve as columns of blocks; each column shows the highest value of its span of time.

    Parameters
    ----------
    title
        The first line.
    points
        Pairs of seconds and value, in order of time.
    width, height
        Columns over all (at least 24 are used) and rows of the drawing (at least 2).
    ascii_only
        Use `#` in place of block characters, and no other character beyond ASCII.

    Returns
    -------
    str
        Lines of at most `width` characters, the last ending in a newline.
    """
    width, height = max(24, width), max(2, height)
    if ascii_only:
        title = title.encode("ascii", "replace").decode()
    if not points:
        return f"{title[:width]}\n(no snapshots)\n"
    highest = max(value for _, value in points)
    lowest = min(0.0, min(value for _, value in points))
    top, bottom = _plain(highest), _plain(lowest)
    margin = max(len(top), len(bottom))
    columns = width - margin - 2
    start_s, span_s = points[0][0], points[-1][0] - points[0][0]
    heights: list[float | None] = [None] * columns
    for time_s, value in points:
        column = min(columns - 1, int((time_s - start_s) / span_s * columns)) if span_s else 0
        share = (value - lowest) / (highest - lowest) if highest > lowest else 0.0
        heights[column] = max(share, heights[column] or 0.0)
    last = 0.0
    filled = (
        [last := last if share is None else share for share in heights] if span_s else [heights[0] or 0.0] * columns
    )
    bar = "|" if ascii_only else "│"
    lines = [title[:width]]
    for row in range(height - 1, -1, -1):
        label = top if row == height - 1 else bottom if row == 0 else ""
        lines.append(f"{label:>{margin}} {bar}" + "".join(_cell(share * height - row, ascii_only) for share in filled))
    first, final = f"{_plain(start_s)} s", f"{_plain(start_s + span_s)} s"
    lines.append(" " * (margin + 2) + first + final.rjust(columns - len(first)))
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _cell(fill: float, ascii_only: bool) -> str:
    if ascii_only:
        return "#" if fill >= 0.5 else " "
    return _EIGHTHS[max(0, min(8, round(fill * 8)))]


def _plain(value: float) -> str:
    return format_number(value).replace("\N{NARROW NO-BREAK SPACE}", "").replace("−", "-")
