"""What one agent remembered over time, as plain values: from a monitor to a page, a file, or another process."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import asdict, dataclass
from typing import Any

from tinytroupe.monitoring.memory_monitor import MemoryMonitor
from tinytroupe.monitoring.series import thin_indices

EVENT_LIMIT = 60
"""The most events of one kind kept of one agent."""

STORES = ("total", "episodic", "buffer", "semantic")


@dataclass(frozen=True, slots=True)
class AgentMemory:
    """The memory of one agent.

    Attributes
    ----------
    name
        Whose it is.
    axis
        Unit of every first number below: ``s`` (seconds on the monitor's time base) or ``snapshot``.
    bound
        Entries it may hold; None: unbounded.
    now, peak
        Entries in episodic memory at the last snapshot, and at the most.
    snapshots
        Snapshots taken.
    trend, growth
        ``increasing``, ``decreasing`` or ``stable``, and entries gained a snapshot.
    consolidations, evictions
        Consolidations, and entries dropped because memory was full.
    warnings, criticals
        Alerts of these severities.
    x
        When the points of the curves were taken.
    total, episodic, buffer, semantic
        Entries at these times: all of episodic memory, its committed part, its buffer, and the semantic memory.
    consolidated, evicted
        ``(x, entries)``: when entries were summarised or dropped since the snapshot before, and how many.
    alerts
        ``(x, severity, kind, message)``.
    """

    name: str
    axis: str = "s"
    bound: int | None = None
    now: int = 0
    peak: int = 0
    snapshots: int = 0
    trend: str = "stable"
    growth: float = 0.0
    consolidations: int = 0
    evictions: int = 0
    warnings: int = 0
    criticals: int = 0
    x: tuple[float, ...] = ()
    total: tuple[int, ...] = ()
    episodic: tuple[int, ...] = ()
    buffer: tuple[int, ...] = ()
    semantic: tuple[int, ...] = ()
    consolidated: tuple[tuple[float, int], ...] = ()
    evicted: tuple[tuple[float, int], ...] = ()
    alerts: tuple[tuple[float, str, str, str], ...] = ()

    def curve(self, store: str) -> list[tuple[float, float]]:
        """Return the points of one of `STORES`."""
        return list(zip(self.x, getattr(self, store), strict=True))

    def to_json(self) -> dict[str, Any]:
        """Return the memory as JSON types."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> AgentMemory:
        """Build the memory from `to_json`'s result."""
        return cls(**{key: _frozen(value) for key, value in data.items()})


def agent_memory(monitor: MemoryMonitor, name: str, *, points: int, by_snapshot: bool = False) -> AgentMemory:
    """Take what a monitor knows about an agent, its curves thinned to `points` that keep the extremes.

    Parameters
    ----------
    monitor
        Who watched.
    name
        The agent.
    points
        The most points of each curve, at least 4.
    by_snapshot
        Whether the axis counts snapshots, which suits a clock that hardly moves.

    Raises
    ------
    LookupError
        No agent of this name is tracked.
    """
    stats = monitor.get_agent_stats(name)
    history = monitor.get_history(name)
    memory, by_severity = stats["current_memory"], stats["alerts_by_severity"]
    times_s = history["time_s"]
    axis = history["snapshot"] if by_snapshot else times_s
    kept = thin_indices(times_s, history["total_size"], points)

    def column(key: str) -> tuple[int, ...]:
        return tuple(int(history[key][k]) for k in kept)

    def rises(key: str) -> tuple[tuple[float, int], ...]:
        counts = [0.0, *history[key]]
        found = [(axis[k], int(counts[k + 1] - counts[k])) for k in range(len(axis)) if counts[k + 1] > counts[k]]
        return _gathered(found, EVENT_LIMIT)

    def place(time_s: float, step: int | None) -> float:
        if not by_snapshot or not axis:
            return time_s
        # On a clock that stands still the time of an alert tells nothing; then the step does.
        at = bisect_left(times_s, time_s)
        same = at + 1 < len(times_s) and times_s[at + 1] == times_s[at]
        return min(float(step), axis[-1]) if same and step is not None else axis[min(at, len(axis) - 1)]

    alerts = monitor.get_alerts(name)[-EVENT_LIMIT:]
    return AgentMemory(
        name=name,
        axis="snapshot" if by_snapshot else "s",
        bound=memory.get("max_size") if memory.get("is_bounded", True) else None,
        now=int(memory["total_size"]),
        peak=int(stats["peak_size"]),
        snapshots=stats["snapshots"],
        trend=stats["memory_trend"],
        growth=round(float(stats["growth_rate"]), 4),
        consolidations=int(stats["consolidation"].get("total", 0)),
        evictions=int(stats["evicted"]),
        warnings=by_severity["warning"],
        criticals=by_severity["critical"],
        x=tuple(round(axis[k], 6) for k in kept),
        total=column("total_size"),
        episodic=column("episodic_size"),
        buffer=column("buffer_size"),
        semantic=column("semantic_size"),
        consolidated=rises("consolidated"),
        evicted=rises("evicted"),
        alerts=tuple((place(a.time_s, a.step), a.severity, a.kind, a.message) for a in alerts),
    )


def _gathered(events: list[tuple[float, int]], limit: int) -> tuple[tuple[float, int], ...]:
    """Put neighbouring events together until there are no more than `limit`: no entry is lost."""
    size = math.ceil(len(events) / limit) if events else 1
    groups = [events[k : k + size] for k in range(0, len(events), size)]
    return tuple((group[0][0], sum(entries for _, entries in group)) for group in groups)


def _plain(value: Any) -> Any:
    return [_plain(each) for each in value] if isinstance(value, (tuple, list)) else value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value
