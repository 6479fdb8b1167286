"""Running and skipping by the world's calendar: a step a minute, an hour, a day, …"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

MINUTE, HOUR, DAY, WEEK = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1), timedelta(weeks=1)
MONTH, YEAR = timedelta(days=30), timedelta(days=365)
"""As a step: calendars differ, simulations should not."""


class Calendar:
    """Verbs that count in units of time. Options are those of `run`."""

    current_datetime: datetime | None
    run: Callable[..., Any]

    def run_minutes(self, minutes: int, **options: Any) -> Any:
        """Run a step a minute."""
        return self.run(minutes, MINUTE, **options)

    def run_hours(self, hours: int, **options: Any) -> Any:
        """Run a step an hour."""
        return self.run(hours, HOUR, **options)

    def run_days(self, days: int, **options: Any) -> Any:
        """Run a step a day."""
        return self.run(days, DAY, **options)

    def run_weeks(self, weeks: int, **options: Any) -> Any:
        """Run a step a week."""
        return self.run(weeks, WEEK, **options)

    def run_months(self, months: int, **options: Any) -> Any:
        """Run a step a month of 30 days."""
        return self.run(months, MONTH, **options)

    def run_years(self, years: int, **options: Any) -> Any:
        """Run a step a year of 365 days."""
        return self.run(years, YEAR, **options)

    def skip(self, steps: int, timedelta_per_step: timedelta) -> None:
        """Let time pass in which nobody acts.

        Raises
        ------
        ValueError
            Fewer than one step, or a world without a calendar.
        """
        if steps < 1:
            raise ValueError(f"steps must be a whole number of at least 1, got {steps!r}")
        if self.current_datetime is None:
            raise ValueError("this world has no calendar; give it an initial_datetime")
        self.current_datetime += steps * timedelta_per_step

    def skip_minutes(self, minutes: int) -> None:
        """Let minutes pass."""
        self.skip(minutes, MINUTE)

    def skip_hours(self, hours: int) -> None:
        """Let hours pass."""
        self.skip(hours, HOUR)

    def skip_days(self, days: int) -> None:
        """Let days pass."""
        self.skip(days, DAY)

    def skip_weeks(self, weeks: int) -> None:
        """Let weeks pass."""
        self.skip(weeks, WEEK)

    def skip_months(self, months: int) -> None:
        """Let months of 30 days pass."""
        self.skip(months, MONTH)

    def skip_years(self, years: int) -> None:
        """Let years of 365 days pass."""
        self.skip(years, YEAR)
