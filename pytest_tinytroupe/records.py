"""The values that cross the plugin's seams: from instruments to verdicts, from workers to the controller, to reports.

Each is frozen, holds plain values only, and turns itself into JSON types and back (`to_json`, `from_json`), because on
a parallel run they travel from the worker to the controller as an attribute of an ordinary test report.
"""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from tinytroupe.visualization.agent_memory import AgentMemory

Tier = Literal["exact", "heap", "ratio", "process", "wall", "price"]
Better = Literal["lower", "higher"]
Status = Literal["ok", "regressed", "improved", "new", "no baseline", "over limit", "advisory", "unmeasured"]
LimitKind = Literal["max", "min", ""]

FAILING: frozenset[Status] = frozenset({"regressed", "over limit", "unmeasured", "no baseline"})


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured value.

    Attributes
    ----------
    name
        Key of the metric, equal to the marker's keyword without ``max_`` or ``min_``: ``llm_calls``, ``time_s``, …
    value
        The measured value in `unit`; None where a limit or a baseline asked for it and nothing measured it.
    unit
        ``s``, ``MB`` (2**20 bytes), ``x`` (a ratio), or empty for a count.
    tier
        How far the value can be trusted: ``exact`` (identical from run to run), ``heap`` (within 2 % on one Python and
        platform), ``ratio`` (two things measured in turn on one machine), ``process`` and ``wall`` (depend on the
        machine and its load), ``price`` (depends on the price list).
    better
        Which direction is an improvement.
    steady
        Whether a figure of the tier ``process`` or ``wall`` was taken so that it can be held against a baseline all the
        same: in fresh processes of their own.
    """

    name: str
    value: float | None
    unit: str = ""
    tier: Tier = "exact"
    better: Better = "lower"
    steady: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the metric as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Metric:
        """Build the metric from `to_json`'s result."""
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A metric held against its limit and its baseline.

    Attributes
    ----------
    metric
        What was measured.
    status
        ``regressed``, ``over limit``, ``unmeasured`` and ``no baseline`` fail the test; the others do not.
    limit, limit_kind
        The marker's threshold in the metric's unit and its direction; None and empty where there is none.
    baseline
        The stored value in the metric's unit; None where there is none.
    tolerance
        How far the value may stray from `baseline` in the metric's unit; 0 for exact metrics.
    change
        ``(value - baseline) / baseline``; None without a baseline or where that is 0.
    note
        A remark for the reader: why it was not measured, what to do.
    p_value
        Of times that were measured again: the chance of a difference like this where nothing changed; else None.
    """

    metric: Metric
    status: Status
    limit: float | None = None
    limit_kind: LimitKind = ""
    baseline: float | None = None
    tolerance: float = 0.0
    change: float | None = None
    note: str = ""
    p_value: float | None = None

    @property
    def failed(self) -> bool:
        """Whether this verdict fails the test."""
        return self.status in FAILING

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Verdict:
        """Build the verdict from `to_json`'s result."""
        return cls(**{**data, "metric": Metric.from_json(data["metric"])})


@dataclass(frozen=True, slots=True)
class Timeline:
    """A value over the course of the test's call.

    Attributes
    ----------
    name
        What is drawn, for example ``process memory``.
    unit
        Unit of the second number of each point.
    points
        ``(seconds since the start of the call, value)`` in order of time; bounded in number.
    marks
        ``(seconds since the start of the call, label)`` of noteworthy moments.
    axis
        Unit of the first number of each point and mark, where it is not seconds.
    """

    name: str
    unit: str
    points: tuple[tuple[float, float], ...] = ()
    marks: tuple[tuple[float, str], ...] = ()
    axis: str = "s"

    def to_json(self) -> dict[str, Any]:
        """Return the timeline as JSON types."""
        return {
            "name": self.name,
            "unit": self.unit,
            "points": [list(point) for point in self.points],
            "marks": [list(mark) for mark in self.marks],
            "axis": self.axis,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Timeline:
        """Build the timeline from `to_json`'s result."""
        return cls(
            data["name"],
            data["unit"],
            tuple((t, value) for t, value in data["points"]),
            tuple((t, label) for t, label in data["marks"]),
            data["axis"],
        )


@dataclass(frozen=True, slots=True)
class Site:
    """A line of code that had allocated heap.

    Attributes
    ----------
    place
        ``path:line``, the path relative to the root directory or to where packages are installed.
    mb
        What of it was still held, in MB.
    count
        In how many blocks.
    """

    place: str
    mb: float
    count: int


@dataclass(frozen=True, slots=True)
class TurnSpan:
    """One person's turn, as a report draws it.

    Attributes
    ----------
    person, step, status, waited_for
        As in `tinytroupe.engine.TurnOutcome`.
    started_s, finished_s
        Seconds since the first turn of the test began.
    queued_s, backoff_s
        The parts of that spent waiting for a slot or a rate limit, and for the next attempt of a call.
    """

    person: str
    step: int
    status: str
    started_s: float
    finished_s: float
    queued_s: float = 0.0
    waited_for: str = ""
    backoff_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TestRecord:
    """Everything a report says about one perf test.

    Attributes
    ----------
    nodeid
        The test's id as pytest prints it.
    outcome
        ``passed``, ``failed``, ``skipped``, ``xfailed`` or ``error`` (set-up or teardown failed).
    duration_s
        Real seconds of the call in the main pass.
    verdicts
        One a metric, in a fixed order.
    timelines, notes
        Curves and remarks on the run.
    worker
        Name of the xdist worker (``gw0``); empty outside of a parallel run.
    line
        Where the test begins in its file, from 1; 0 where that is not known.
    people
        ``(name, model calls, tokens)`` of those who caused the most calls; bounded in number.
    sites
        The lines that held the most heap when there was most of it, the largest first; at most 10. Looked at where
        steps end and where the call does, and not in between.
    attachments
        ``(label, path)`` of files written beside the report, relative to its directory, with forward slashes.
    agents
        What people remembered, as the test's `memory_monitor` saw it; bounded in number and size.
    turns
        Who acted when: the latest turns, as far as the worlds keep them; bounded in number.
    calls_s
        ``(seconds, count)``: how many model calls took how long, ascending, to three digits.
    """

    __test__ = False  # the name is the field's, yet pytest must not collect it

    nodeid: str
    outcome: str
    duration_s: float
    verdicts: tuple[Verdict, ...] = ()
    timelines: tuple[Timeline, ...] = ()
    notes: tuple[str, ...] = ()
    worker: str = ""
    line: int = 0
    people: tuple[tuple[str, int, int], ...] = ()
    sites: tuple[Site, ...] = ()
    attachments: tuple[tuple[str, str], ...] = ()
    agents: tuple[AgentMemory, ...] = ()
    turns: tuple[TurnSpan, ...] = ()
    calls_s: tuple[tuple[float, int], ...] = ()

    @property
    def attention(self) -> bool:
        """Whether the test did not do what it should: failed, or could not run."""
        return self.outcome in ("failed", "error")

    @property
    def reason(self) -> str:
        """Why it failed or could not run, where none of its figures says so: the first of its notes."""
        told = not self.attention or any(verdict.failed for verdict in self.verdicts)
        return "" if told else next(iter(self.notes), "")

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON types."""
        return {
            "nodeid": self.nodeid,
            "outcome": self.outcome,
            "duration_s": self.duration_s,
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            "timelines": [timeline.to_json() for timeline in self.timelines],
            "notes": list(self.notes),
            "worker": self.worker,
            "line": self.line,
            "people": [list(person) for person in self.people],
            "sites": [asdict(site) for site in self.sites],
            "attachments": [list(pair) for pair in self.attachments],
            "agents": [agent.to_json() for agent in self.agents],
            "turns": [list(astuple(turn)) for turn in self.turns],
            "calls_s": [list(pair) for pair in self.calls_s],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TestRecord:
        """Build the record from `to_json`'s result."""
        from tinytroupe.visualization.agent_memory import AgentMemory  # the core is loaded where it is needed

        return cls(
            data["nodeid"],
            data["outcome"],
            data["duration_s"],
            tuple(Verdict.from_json(verdict) for verdict in data["verdicts"]),
            tuple(Timeline.from_json(timeline) for timeline in data["timelines"]),
            tuple(data["notes"]),
            data["worker"],
            data["line"],
            tuple((name, calls, tokens) for name, calls, tokens in data["people"]),
            tuple(Site(**site) for site in data.get("sites", ())),  # files of before have none
            tuple((label, path) for label, path in data.get("attachments", ())),
            tuple(AgentMemory.from_json(agent) for agent in data.get("agents", ())),
            tuple(TurnSpan(*turn) for turn in data.get("turns", ())),
            tuple((seconds, count) for seconds, count in data.get("calls_s", ())),
        )


@dataclass(frozen=True, slots=True)
class SessionReport:
    """One run of ``pytest --perf``.

    Attributes
    ----------
    title
        Heading of the report.
    started
        When the run started, ISO 8601 with offset.
    records
        The perf tests that ran, in order of their ids.
    environment
        ``(what, value)`` pairs: Python, platform, versions.
    baseline_dir
        Where the baselines are, relative to the root directory where possible.
    command
        The command line, to run it again.
    """

    title: str
    started: str
    records: tuple[TestRecord, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    baseline_dir: str = ""
    command: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return {
            "title": self.title,
            "started": self.started,
            "records": [record.to_json() for record in self.records],
            "environment": [list(pair) for pair in self.environment],
            "baseline_dir": self.baseline_dir,
            "command": self.command,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> SessionReport:
        """Build the report from `to_json`'s result."""
        return cls(
            data["title"],
            data["started"],
            tuple(TestRecord.from_json(record) for record in data["records"]),
            tuple((what, value) for what, value in data["environment"]),
            data["baseline_dir"],
            data["command"],
        )
