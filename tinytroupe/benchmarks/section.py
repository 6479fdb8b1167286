"""A benchmark's answer as data: a table, what its figures are held against, and how it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tinytroupe.benchmarks.results import table

ClockName = Literal["virtual", "wall"]
Row = Mapping[str, Any]

QUICK_MOST_AGENTS = 50
"""The most people of a quick run, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the user chose; None leaves it to each benchmark.

    Attributes
    ----------
    clock
        ``virtual`` (exact) or ``wall`` (real time, against a server on 127.0.0.1).
    agents
        Sizes to run instead of a benchmark's own.
    steps
        Steps to run instead of a benchmark's own.
    latency
        Seconds a model call takes, or text such as ``lognormal:1.0,0.5``.
    seed
        Of people, mock model and simulation.
    quick
        Fewer steps and sizes, for a look.
    """

    clock: ClockName = "virtual"
    agents: tuple[int, ...] | None = None
    steps: int | None = None
    latency: str | None = None
    seed: int = 0
    quick: bool = False

    def sizes(self, *usual: int) -> tuple[int, ...]:
        """Return the sizes to run: the user's, else the `usual` ones, without the largest where it is to be quick."""
        return self.agents or tuple(size for size in usual if not self.quick or size <= QUICK_MOST_AGENTS)

    def steps_or(self, usual: int, quick: int, wall: int | None = None) -> int:
        """Return the steps to run: the user's, else those for a usual run, a quick one, or one in real time."""
        if self.steps is not None:
            return self.steps
        if self.clock == "wall" and wall is not None:
            return wall
        return quick if self.quick else usual

    def latency_or(self, usual: float | str, wall: float | None = None) -> str:
        """Return the latency as text: the user's, else the one for real time, else the usual one."""
        return self.latency or str(wall if wall is not None and self.clock == "wall" else usual)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: the key in each row, its heading, and how values are written (a format)."""

    key: str
    heading: str
    form: str = "{}"

    def write(self, row: Row) -> str:
        """Return the cell of a row; a value that is not there is a dash."""
        value = row.get(self.key)
        return "-" if value is None else self.form.format(value)


@dataclass(frozen=True, slots=True)
class Check:
    """A figure held against a bound: the guide's floor, or what must be true of any run.

    Attributes
    ----------
    what
        What the figure is.
    value, bound
        The figure, and what it has to reach or to stay within.
    at_least
        Whether more is better.
    """

    what: str
    value: float
    bound: float
    at_least: bool = True

    @property
    def met(self) -> bool:
        """Whether the figure keeps the bound; equal is enough."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return f"{'ok    ' if self.met else 'MISSED'} {self.what}: {self.value:.4g} (has to be {sign} {self.bound:.4g})"


@dataclass(frozen=True, slots=True)
class Section:
    """What one benchmark found.

    Attributes
    ----------
    name, title
        As it is chosen with ``--only``, and its heading.
    about
        What is compared with what, in a sentence or two.
    columns, rows
        The table; rows hold numbers, columns say how they are written.
    checks
        What the figures are held against.
    """

    name: str
    title: str
    about: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    checks: Sequence[Check] = field(default=())

    @property
    def met(self) -> bool:
        """Whether every bound is kept."""
        return all(check.met for check in self.checks)

    def cells(self) -> list[list[str]]:
        """Return the table's rows as they are written."""
        return [[column.write(row) for column in self.columns] for row in self.rows]

    def as_text(self) -> str:
        """Return heading, table and checks for a terminal."""
        lines = [self.title, self.about, "", table([column.heading for column in self.columns], self.cells())]
        return "\n".join([*lines, *map(str, self.checks)])

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it; see ``docs/benchmarks_json.md``."""
        return {
            "name": self.name,
            "title": self.title,
            "about": self.about,
            "rows": [dict(row) for row in self.rows],
            "checks": [
                {"what": c.what, "value": c.value, "bound": c.bound, "at_least": c.at_least, "met": c.met}
                for c in self.checks
            ],
        }
