"""A calendar: events are put in and looked up."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import TYPE_CHECKING, ClassVar

from tinytroupe.tools.tiny_tool import Fields, TinyTool, ToolError, text_in, texts_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tinytroupe.agent.tiny_person import TinyPerson

CREATE_EVENT = "CREATE_EVENT"
FIND_EVENTS = "FIND_EVENTS"

_SHOWN = 20
_END_OF_DAY = time(23, 59, 59, 999999)


@dataclass(frozen=True, slots=True, order=True)
class CalendarEvent:
    """Something that takes place on a day. Events sort by time.

    Attributes
    ----------
    date
        The day.
    start_time, end_time
        None for both: the whole day. Without an end it is a moment.
    title, description
        What it is.
    owner
        Name of who put it in.
    mandatory_attendees, optional_attendees
        Names.
    """

    date: date
    sort_key: tuple[time, str] = field(init=False, repr=False)
    title: str = field(compare=False)
    description: str = field(default="", compare=False)
    owner: str = field(default="", compare=False)
    mandatory_attendees: tuple[str, ...] = field(default=(), compare=False)
    optional_attendees: tuple[str, ...] = field(default=(), compare=False)
    start_time: time | None = field(default=None, compare=False)
    end_time: time | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        # Time and title decide the order, so that what is put in at once comes out the same in every run.
        object.__setattr__(self, "sort_key", (self.start_time or time.min, self.title))

    def takes_place_at(self, hour: int, minute: int | None = None) -> bool:
        """Tell whether it is under way at some moment of an hour, or at a minute of it."""
        first, last = time(hour, minute or 0), time(hour, 59 if minute is None else minute, 59, 999999)
        start = self.start_time or time.min
        end = self.end_time or (_END_OF_DAY if self.start_time is None else None)
        return start <= last and (start >= first if end is None or end == start else end > first)

    def __str__(self) -> str:
        hours = "-".join(f"{moment:%H:%M}" for moment in (self.start_time, self.end_time) if moment is not None)
        who = ", ".join((*self.mandatory_attendees, *(f"{name} (optional)" for name in self.optional_attendees)))
        parts = [f"{self.date}", hours, self.title, f"with {who}" if who else "", self.description]
        return " ".join(part for part in parts if part)


class TinyCalendar(TinyTool):
    """A calendar, of one person or shared.

    Parameters
    ----------
    owner
        The only person who may use it; None: everyone who has it.
    max_events
        Events it holds; beyond it the earliest go.
    """

    actions: ClassVar[Mapping[str, str]] = {
        CREATE_EVENT: "put an event into your calendar; content is a JSON object with title and date (YYYY-MM-DD), and "
        "as needed start_time and end_time (HH:MM), description, mandatory_attendees and optional_attendees "
        "(lists of names). No target.",
        FIND_EVENTS: "look up a day in your calendar; content is a JSON object with date (YYYY-MM-DD). You see what is "
        "there in your next turn. No target.",
    }

    def __init__(self, owner: TinyPerson | None = None, *, max_events: int = 1000) -> None:
        super().__init__("calendar", "Keeps events and tells what takes place when.", owner)
        if max_events < 1:
            raise ValueError(f"max_events must be at least 1, got {max_events!r}")
        self.max_events = max_events
        self._events: list[CalendarEvent] = []

    @property
    def events(self) -> tuple[CalendarEvent, ...]:
        """All events, earliest first."""
        return tuple(self._events)

    def add_event(
        self,
        date: date | str,
        title: str,
        description: str | None = None,
        owner: TinyPerson | str | None = None,
        mandatory_attendees: Iterable[str] | None = None,
        optional_attendees: Iterable[str] | None = None,
        start_time: time | str | None = None,
        end_time: time | str | None = None,
    ) -> CalendarEvent:
        """Put an event in and return it.

        Parameters
        ----------
        date
            The day, also as ISO text (``2026-01-05``).
        start_time, end_time
            Also as text (``09:30``).

        Raises
        ------
        ToolError
            No title, no such date or time, or an end before the start.
        """
        if not title.strip():
            raise ToolError("an event needs a title")
        start, end = _time(start_time, "start_time"), _time(end_time, "end_time")
        if end is not None and (start is None or end < start):
            raise ToolError(
                f"an event can't end at {end:%H:%M} when it starts {f'at {start:%H:%M}' if start else 'never'}"
            )
        event = CalendarEvent(
            _date(date),
            title,
            description or "",
            owner if isinstance(owner, str) else owner.name if owner is not None else "",
            tuple(mandatory_attendees or ()),
            tuple(optional_attendees or ()),
            start,
            end,
        )
        bisect.insort(self._events, event)
        del self._events[: max(0, len(self._events) - self.max_events)]
        return event

    def find_events(
        self,
        year: int,
        month: int | None = None,
        day: int | None = None,
        hour: int | None = None,
        minute: int | None = None,
    ) -> list[CalendarEvent]:
        """Return the events of a year, a month, a day, or those under way at an hour or minute, earliest first."""
        return [
            event
            for event in self._events
            if event.date.year == year
            and (month is None or event.date.month == month)
            and (day is None or event.date.day == day)
            and (hour is None or event.takes_place_at(hour, minute))
        ]

    def use(self, agent: TinyPerson, kind: str, fields: Fields) -> None:
        """See `TinyTool.use`."""
        if kind == CREATE_EVENT:
            self.add_event(
                text_in(fields, "date", needed=True),
                text_in(fields, "title", needed=True),
                text_in(fields, "description", most=10_000),
                agent,
                texts_in(fields, "mandatory_attendees"),
                texts_in(fields, "optional_attendees"),
                text_in(fields, "start_time") or None,
                text_in(fields, "end_time") or None,
            )
            return
        day = _date(text_in(fields, "date", needed=True))
        found = self.find_events(day.year, day.month, day.day)
        shown = "; ".join(map(str, found[:_SHOWN])) or "nothing"
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        agent.see(f"The calendar has for {day}: {shown}{more}")


def _date(value: date | str) -> date:
    if isinstance(value, date):
        return value
    try:
        return datetime.strptime(value, "%Y-%m-%d").date()
    except (TypeError, ValueError) as error:
        raise ToolError(f"{str(value)[:80]!r} is no date; write it as YYYY-MM-DD") from error


def _time(value: time | str | None, name: str) -> time | None:
    if value is None:
        return None
    if isinstance(value, time):
        return value.replace(tzinfo=None)  # a calendar's hours are those of its place
    for form in ("%H:%M", "%H:%M:%S"):
        try:
            return datetime.strptime(value, form).time()
        except (TypeError, ValueError):
            continue
    raise ToolError(f"{name} {str(value)[:80]!r} is no time; write it as HH:MM")
