"""Who acted when, as bars on a time axis, and the chain of turns that decided how long it took."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from tinytroupe.visualization.axis import WIDTH, short, ticks_across, time_unit
from tinytroupe.visualization.text import cut_to_width, display_text, format_number, format_quantity

ROW_LIMIT = 24
"""The most people in the drawing that is always open; the others follow in one to unfold."""
FULL_ROW_LIMIT = 100
"""The most people in the drawing of everybody."""
TURN_LIMIT = 2000
"""The most turns drawn: the latest."""
LIST_LIMIT = 40
"""The most turns in the table of numbers."""
NAME_WIDTH = 15
"""Columns that a name may take."""
SIGN_LIMIT = 200
"""The most signs of failed turns drawn."""

ROW_PX, BAR_PX, WAIT_PX = 18, 11, 3
TOP_PX, BOTTOM_PX = 6, 26
SIGNS = {"failed": "M-3.5-3.5L3.5 3.5M3.5-3.5L-3.5 3.5", "timed out": "M-4-4H4L-4 4H4Z"}
"""What stands at the end of a turn that came to nothing: a cross, or an hour-glass."""


class TurnSpan(Protocol):
    """A turn with its times in seconds; `tinytroupe.engine.TurnOutcome` is one."""

    @property
    def person(self) -> str:
        """Who acted."""
        ...

    @property
    def step(self) -> int:
        """In which step."""
        ...

    @property
    def status(self) -> str:
        """``acted``, ``failed`` or ``timed out``."""
        ...

    @property
    def started_s(self) -> float:
        """When the turn began."""
        ...

    @property
    def finished_s(self) -> float:
        """When it ended."""
        ...

    @property
    def queued_s(self) -> float:
        """Part of that spent waiting for a slot or a rate limit."""
        ...

    @property
    def backoff_s(self) -> float:
        """Part of that spent waiting for the next attempt of a call."""
        ...

    @property
    def waited_for(self) -> str:
        """Whose turn of the step before had to end first; empty where that is not known."""
        ...


def critical_path(turns: Sequence[TurnSpan]) -> list[int]:
    """Find the chain of turns that decided when the last one ended.

    From the turn that ended last it goes back to the turn that this one waited for; where none is named (in the first
    step of a run), to the one that ended last before it got going.

    Returns
    -------
    list of int
        Positions in `turns`, earliest first.
    """
    order = sorted(range(len(turns)), key=lambda k: (turns[k].finished_s, k))
    ends_s = [turns[k].finished_s for k in order]
    by_name = {(turns[k].person, turns[k].step): place for place, k in enumerate(order)}
    place = len(order) - 1
    path: list[int] = []
    while place >= 0:
        turn = turns[order[place]]
        path.append(order[place])
        named = by_name.get((turn.waited_for, turn.step - 1), place) if turn.waited_for else place
        begun_s = turn.started_s + 1e-9 * max(1.0, abs(turn.started_s))
        # Always further back, so that turns without duration cannot go round in circles.
        place = named if named < place else min(bisect_right(ends_s, begun_s), place) - 1
    return path[::-1]


def gantt_view(name: str, turns: Sequence[TurnSpan], total: int | None = None) -> dict[str, Any]:
    """Work out everything the template draws.

    Parameters
    ----------
    name
        Unique on the page; ids of the drawing derive from it.
    turns
        The turns, on one clock. Of more than `TURN_LIMIT` the latest are shown.
    total
        How many there were, where `turns` are not all.
    """
    total = len(turns) if total is None else total
    shown = sorted(turns, key=lambda t: t.started_s)[-TURN_LIMIT:]
    if not shown:
        return {"id": name, "empty": True}
    start_s, end_s = min(t.started_s for t in shown), max(t.finished_s for t in shown)
    critical = set(critical_path(shown))
    divisor, unit = time_unit(end_s - start_s)
    people = list(dict.fromkeys(turn.person for turn in shown))
    lead = _lead(people, shown, critical)
    counts = Counter(turn.status for turn in shown)
    fewer = f"The latest {format_number(len(shown))} of {format_number(total)} turns. " if len(shown) < total else ""
    picture = _Picture(shown, critical, start_s, end_s)
    return {
        "id": name,
        "empty": False,
        "people": len(people),
        "caption": fewer + _caption(shown, critical, divisor, unit),
        "description": (
            f"{format_number(len(shown))} turns of {format_number(len(people))} people from "
            f"{format_number(0)} to {format_number((end_s - start_s) / divisor)} {unit}: "
            f"{counts['acted']} acted, {counts['failed']} failed, {counts['timed out']} timed out."
        ),
        "kinds": [
            ("busy", "busy"),
            ("critical", "on the critical path"),
            *([("waiting", "waiting")] if any(_waited_s(t) > 0 for t in shown) else []),
            *((kind.replace(" ", "-"), kind) for kind in SIGNS if counts[kind]),
        ],
        "signs": {kind.replace(" ", "-"): sign for kind, sign in SIGNS.items()},
        "x_ticks": ticks_across(0.0, end_s - start_s, unit, picture.across, divisor),
        "bar": BAR_PX,
        "lead": picture.rows(lead),
        "everyone": picture.rows(people[:FULL_ROW_LIMIT]) if len(people) > len(lead) else None,
        "left_out": max(0, len(people) - FULL_ROW_LIMIT),
        "unit": unit,
        "turns": [
            {
                "person": display_text(turn.person, 60),
                "step": turn.step + 1,
                "from": format_number((turn.started_s - start_s) / divisor),
                "queued": format_number(turn.queued_s / divisor),
                "backoff": format_number(turn.backoff_s / divisor),
                "busy": format_number(_busy_s(turn) / divisor),
                "status": turn.status,
                "critical": k in critical,
            }
            for k, turn in _worth_listing(shown, critical)
        ],
        "turn_total": total,
    }


class _Picture:
    """Turns into bars: positions across in percent or of `WIDTH`, down in pixels."""

    def __init__(self, turns: Sequence[TurnSpan], critical: set[int], start_s: float, end_s: float) -> None:
        self._turns, self._critical = turns, critical
        self._start_s, self._span_s = start_s, (end_s - start_s) or 1.0

    def across(self, seconds: float) -> float:
        return seconds / self._span_s * 100

    def _x(self, time_s: float) -> float:
        return (time_s - self._start_s) / self._span_s * WIDTH

    def rows(self, people: Sequence[str]) -> dict[str, Any]:
        """Draw these people, one below the other."""
        tops = {person: TOP_PX + ROW_PX * row + (ROW_PX - BAR_PX) / 2 for row, person in enumerate(people)}
        paths: dict[str, list[str]] = {}
        signs: list[dict[str, str]] = []
        link: list[str] = []
        for k, turn in enumerate(self._turns):
            if turn.person not in tops:
                continue
            top = tops[turn.person]
            begun_s = turn.started_s + min(_waited_s(turn), turn.finished_s - turn.started_s)
            if begun_s > turn.started_s:
                paths.setdefault("waiting", []).append(
                    _bar(self._x(turn.started_s), self._x(begun_s), top + (BAR_PX - WAIT_PX) / 2, WAIT_PX)
                )
            kind = turn.status.replace(" ", "-") if turn.status in SIGNS else "busy"
            if kind == "busy" and k in self._critical:
                kind = "critical"
            if turn.finished_s > begun_s or kind != "busy":
                paths.setdefault(kind, []).append(_bar(self._x(begun_s), self._x(turn.finished_s), top, BAR_PX))
            if turn.status in SIGNS and len(signs) < SIGN_LIMIT:
                x = self.across(turn.finished_s - self._start_s)
                signs.append({"x": short(x), "y": short(top + BAR_PX / 2), "kind": kind})
            if k in self._critical:
                y = short(top + BAR_PX / 2)
                link.append(f"{short(self._x(turn.started_s))} {y}L{short(self._x(turn.finished_s))} {y}")
        return {
            "names": [
                {"label": cut_to_width(person, NAME_WIDTH), "y": short(tops[person] + BAR_PX - 2)} for person in people
            ],
            "plot": TOP_PX + ROW_PX * len(people),
            "height": TOP_PX + ROW_PX * len(people) + BOTTOM_PX,
            "paths": [
                (kind, "".join(paths[kind])) for kind in ("waiting", "busy", "critical", *_END_KINDS) if kind in paths
            ],
            "link": "M" + "L".join(link) if link else "",
            "signs": signs,
        }


_END_KINDS = tuple(kind.replace(" ", "-") for kind in SIGNS)


def _bar(left: float, right: float, top: float, height: float) -> str:
    width = max(right - left, 1.0)
    return f"M{short(left)} {short(top)}h{short(width)}v{short(height)}h-{short(width)}z"


def _waited_s(turn: TurnSpan) -> float:
    return turn.queued_s + turn.backoff_s


def _busy_s(turn: TurnSpan) -> float:
    return max(0.0, turn.finished_s - turn.started_s - _waited_s(turn))


def _lead(people: Sequence[str], turns: Sequence[TurnSpan], critical: set[int]) -> list[str]:
    """Choose who is always shown: those on the critical path, those who failed, then the busiest; in their order."""
    if len(people) <= ROW_LIMIT:
        return list(people)
    weight = dict.fromkeys(people, 0.0)
    for k, turn in enumerate(turns):
        weight[turn.person] += _busy_s(turn) + (1e12 if k in critical else 0) + (1e9 if turn.status in SIGNS else 0)
    chosen = set(sorted(people, key=lambda person: -weight[person])[:ROW_LIMIT])
    return [person for person in people if person in chosen]


def _worth_listing(turns: Sequence[TurnSpan], critical: set[int]) -> list[tuple[int, TurnSpan]]:
    """Choose the turns of the table: what failed, the critical path, then the longest; in order of time."""
    ranked = sorted(
        enumerate(turns), key=lambda pair: (pair[1].status not in SIGNS, pair[0] not in critical, -_busy_s(pair[1]))
    )
    return sorted(ranked[:LIST_LIMIT])


def _caption(turns: Sequence[TurnSpan], critical: set[int], divisor: float, unit: str) -> str:
    busy_s = sum(_busy_s(turn) for turn in turns)
    waited_s = {"queued": sum(t.queued_s for t in turns), "between attempts": sum(t.backoff_s for t in turns)}
    on_path = [turns[k] for k in sorted(critical)]
    parts = [
        f"critical path: {format_number(len(on_path))} turns, "
        f"{format_quantity(sum(_busy_s(t) for t in on_path) / divisor, unit)} busy",
        f"all turns: {format_quantity(busy_s / divisor, unit)} busy",
    ]
    waits = [f"{format_quantity(seconds / divisor, unit)} {how}" for how, seconds in waited_s.items() if seconds > 0]
    if waits:
        parts.append(f"{' and '.join(waits)} (drawn before the work of each turn)")
    return " · ".join(parts)
