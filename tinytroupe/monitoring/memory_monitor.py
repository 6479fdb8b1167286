"""Watching what the agents of a simulation remember: sizes, trends, alarms."""

from __future__ import annotations

import difflib
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from tinytroupe.monitoring.agent_record import AgentRecord, Sizes, held_bytes, read_agent
from tinytroupe.monitoring.alert_log import AlertLog
from tinytroupe.monitoring.alerts import SEVERITIES, Alert, AlertRules, message_for, newly_raised
from tinytroupe.monitoring.series import SMALLEST_LIMIT
from tinytroupe.monitoring.trend import trend_of


@dataclass(frozen=True, slots=True)
class MemorySnapshot:
    """The size of one agent's memory at one moment.

    Attributes
    ----------
    agent_name
        Whose memory it is.
    index
        How many snapshots of this agent came before.
    time_s
        Seconds on the monitor's time base.
    step
        The step of the world, where it is known.
    memory
        What `episodic_memory.get_memory_stats()` said.
    semantic_size
        Entries in the semantic memory; 0 without one.
    consolidations
        Consolidations so far.
    size_bytes
        What the agent's memories hold, shared objects counted once; None where it was not measured.
    """

    agent_name: str
    index: int
    time_s: float
    step: int | None
    memory: Mapping[str, Any]
    semantic_size: int
    consolidations: int
    size_bytes: int | None = None


class MemoryMonitor:
    """Keeps an eye on the memory of agents, and says so before it hurts.

    Agents are known by name. A snapshot costs some ten microseconds, the history of an agent is bounded and keeps its
    extremes, and all methods may be called from any thread.

    Parameters
    ----------
    alert_threshold
        Share of the bound at which a warning is raised, above 0 and at most 1. At 0.95 the alarm is critical.
    growth_rate_threshold
        Entries gained a snapshot, averaged over the last 20, at which a warning is raised.
    consolidation_frequency_threshold
        Consolidations a snapshot, averaged over the last 20, at which a warning is raised.
    history_limit
        Snapshots kept for each agent (64 bytes each), at least 8: the rest is thinned out, extremes stay.
    forecast_snapshots
        An alarm is critical, too, if growth will reach the bound within so many snapshots; 0 switches that off.
    bytes_every
        Measure bytes, too, at every so many snapshots of an agent, from its first on; 0: only where
        `record_snapshot` is asked to. It takes about 0.3 µs an object, some milliseconds for a thousand memories.
    clock
        Gives the time in seconds for snapshots taken without `time_s`; the time base starts with the monitor.

    Examples
    --------
    >>> monitor = MemoryMonitor(alert_threshold=0.8)
    >>> monitor.get_alerts()
    []
    """

    def __init__(
        self,
        alert_threshold: float = 0.8,
        growth_rate_threshold: float = 50.0,
        consolidation_frequency_threshold: float = 0.5,
        history_limit: int = 400,
        *,
        forecast_snapshots: int = 10,
        bytes_every: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if history_limit < SMALLEST_LIMIT:
            raise ValueError(f"history_limit must be at least {SMALLEST_LIMIT} snapshots, not {history_limit!r}")
        if bytes_every < 0:
            raise ValueError(f"bytes_every must be 0 (on demand) or a number of snapshots, not {bytes_every!r}")
        self.rules = AlertRules(
            alert_threshold, growth_rate_threshold, consolidation_frequency_threshold, forecast_snapshots
        )
        self.history_limit = history_limit
        self.bytes_every = bytes_every
        self._clock = clock
        self._started_s = clock()
        self._lock = threading.RLock()
        self._records: dict[str, AgentRecord] = {}
        self._alerts = AlertLog()
        self._watching: WeakKeyDictionary[Any, list[object]] = WeakKeyDictionary()

    # ------------------------------------------------------------------ what is watched

    @property
    def agent_names(self) -> list[str]:
        """Names of the tracked agents, in the order they came."""
        with self._lock:
            return list(self._records)

    def track_agent(self, agent: Any) -> None:
        """Begin to watch an agent; does nothing if one of this name is watched already.

        Raises
        ------
        TypeError
            If the agent has no name or no `episodic_memory` with `get_memory_stats()`.
        """
        with self._lock:
            self._tracked(*read_agent(agent))

    def untrack_agent(self, agent: Any) -> None:
        """Forget an agent (or a name) and its history; its alarms stay. Unknown agents are no error."""
        name = agent if isinstance(agent, str) else agent.name
        with self._lock:
            self._records.pop(name, None)

    def watch(self, world: Any) -> Callable[[], None]:
        """Track the agents of a world, also those who join later, and take a snapshot of each at every step.

        A world that is watched twice still gets one snapshot a step.

        Parameters
        ----------
        world
            Has `agents` and `on("step", callback)`, which returns a function that ends the subscription.

        Returns
        -------
        callable
            Ends the watching; the history stays.
        """
        for agent in list(world.agents):
            self.track_agent(agent)
        turn = object()
        with self._lock:
            self._watching.setdefault(world, []).append(turn)

        def after_step(event: Any = None) -> None:
            with self._lock:
                if self._watching.get(world, [])[:1] != [turn]:
                    return  # Someone else watches this world with this monitor: one snapshot a step is enough.
            step = getattr(event, "step", None)
            for agent in list(world.agents):
                self.record_snapshot(agent, step=step if isinstance(step, int) else None)

        unsubscribe: Callable[[], None] = world.on("step", after_step)

        def stop() -> None:
            unsubscribe()
            with self._lock:
                if turn in self._watching.get(world, ()):
                    self._watching[world].remove(turn)

        return stop

    def record_snapshot(
        self, agent: Any, *, time_s: float | None = None, step: int | None = None, measure_bytes: bool = False
    ) -> MemorySnapshot:
        """Note how much an agent remembers now, and raise alarms if need be. Tracks the agent if it is new.

        Parameters
        ----------
        agent
            Has `name` and `episodic_memory.get_memory_stats()`; `semantic_memory` (with a length) and
            `get_consolidation_metrics()` are used where they exist.
        time_s
            Time of the snapshot in seconds, not before the agent's last one; by default the monitor's clock decides.
        step
            The step of the world, for the alarms.
        measure_bytes
            Measure what its memories hold in bytes, whatever `bytes_every` says.

        Raises
        ------
        TypeError
            If the agent cannot be read.
        ValueError
            If `time_s` is not finite or lies before the last snapshot.
        """
        # Read under the lock: of two threads that look at one agent, the later record is then the later reading.
        with self._lock:
            name, sizes = read_agent(agent)
            record = self._tracked(name, sizes)
            now_s = self._time_for(name, record, time_s)
            due = measure_bytes or (self.bytes_every and record.snapshots % self.bytes_every == 0)
            size_bytes = held_bytes(agent) if due else None
            reading = record.note(now_s, sizes, size_bytes)
            alerts = [
                Alert(
                    name,
                    raised.severity,
                    message_for(name, raised, reading, self.rules),
                    raised.kind,
                    now_s,
                    step,
                    raised.value,
                    raised.limit,
                )
                for raised in newly_raised(reading, self.rules, record.active)
            ]
            self._alerts.add(alerts)
            index = record.snapshots - 1
        if alerts:
            self._alerts.deliver(alerts)
        return MemorySnapshot(
            name, index, now_s, step, sizes.memory, sizes.semantic_size, sizes.consolidations, size_bytes
        )

    # ------------------------------------------------------------------ what it found

    def get_agent_stats(self, agent_name: str) -> dict[str, Any]:
        """Summarise one agent.

        Returns
        -------
        dict
            `agent_name`, `current_memory` (the keys of `get_memory_stats()` and `semantic_size`), `memory_trend`
            (`"increasing"`, `"decreasing"` or `"stable"`), `growth_rate` (entries a snapshot), `peak_size`,
            `peak_time_s`, `lowest_size`, `size_bytes` and `peak_bytes` (as last measured and at most; None before
            the first time), `snapshots`, `evicted` (memories dropped while tracked), `consolidation` (the agent's own
            metrics), `consolidation_rate` (a snapshot), `total_alerts`, `alerts_by_severity`, `active_alerts`.

        Raises
        ------
        LookupError
            If no agent of this name is tracked.
        """
        with self._lock:
            record = self._record(agent_name)
            totals = list(record.totals)
            by_severity = self._alerts.counts(agent_name)
            stats = {
                "agent_name": agent_name,
                "current_memory": {**record.sizes.memory, "semantic_size": record.sizes.semantic_size},
                "memory_trend": "stable",
                "growth_rate": record.growth_rate() or 0.0,
                "peak_size": record.peak,
                "peak_time_s": record.peak_time_s,
                "lowest_size": record.lowest,
                "size_bytes": record.size_bytes,
                "peak_bytes": record.peak_bytes,
                "snapshots": record.snapshots,
                "evicted": record.evicted,
                "consolidation": dict(record.sizes.consolidation),
                "consolidation_rate": record.consolidation_rate() or 0.0,
                "total_alerts": sum(by_severity.values()),
                "alerts_by_severity": by_severity,
                "active_alerts": sorted({kind for kind, _ in record.active}),
            }
        stats["memory_trend"] = trend_of(totals)  # Outside the lock: some hundred microseconds.
        return stats

    def get_history(self, agent_name: str) -> dict[str, list[float]]:
        """Give the thinned history of one agent as columns.

        Returns
        -------
        dict of list
            `time_s`, `total_size`, `episodic_size`, `buffer_size`, `semantic_size`, `max_size` (NaN where memory had
            no bound), `snapshot` (how many came before), and counted up since tracking began `evicted` and
            `consolidated` (memories) and `consolidations`.
        """
        with self._lock:
            return self._record(agent_name).history.columns()

    def get_consolidations(self, agent_name: str) -> dict[str, list[float]]:
        """Give the consolidations of one agent as columns: `time_s`, `memories_consolidated` and `count`.

        The times are those of the snapshots kept; consolidations between two of them stand in one row.
        """
        with self._lock:
            return self._record(agent_name).increments(count="consolidations", memories_consolidated="consolidated")

    def get_evictions(self, agent_name: str) -> dict[str, list[float]]:
        """Give the evictions of one agent as columns: `time_s` of the snapshot after them, and `memories_evicted`."""
        with self._lock:
            return self._record(agent_name).increments(memories_evicted="evicted")

    def get_bytes(self, agent_name: str) -> dict[str, list[float]]:
        """Give the thinned history of one agent in bytes as columns: `time_s` and `size_bytes`, where measured."""
        with self._lock:
            return self._record(agent_name).bytes_history.columns()

    def get_alerts(self, agent_name: str | None = None, severity: str | None = None) -> list[Alert]:
        """Give the alarms raised so far, oldest first, of one agent or of one severity if asked.

        Raises
        ------
        ValueError
            If the severity is not `"info"`, `"warning"` or `"critical"`.
        """
        if severity is not None and severity not in SEVERITIES:
            raise ValueError(f"no severity {severity!r}: choose one of {', '.join(SEVERITIES)}")
        return self._alerts.find(agent_name, severity)

    def clear_alerts(self, agent_name: str | None = None) -> None:
        """Forget the alarms of one agent, or all. A condition that still lasts is not announced again."""
        self._alerts.clear(agent_name)

    def register_alert_callback(self, callback: Callable[[Alert], object]) -> Callable[[], None]:
        """Have a function called with each new alarm, in the thread that took the snapshot.

        An exception in it is logged with its traceback and goes no further. It may record snapshots and force
        consolidation: alarms raised meanwhile are handed over after it returns, each kind of alarm of an agent once.

        Returns
        -------
        callable
            Ends the registration.
        """
        return self._alerts.register(callback)

    def generate_report(self) -> str:
        """Describe all tracked agents and the latest alarms in plain text."""
        from tinytroupe.monitoring.report import text_report

        return text_report(self)

    # ------------------------------------------------------------------ inside

    def _tracked(self, name: str, sizes: Sizes) -> AgentRecord:
        record = self._records.get(name)
        if record is None:
            record = self._records[name] = AgentRecord(sizes, self.history_limit)
        return record

    def _record(self, agent_name: str) -> AgentRecord:
        try:
            return self._records[agent_name]
        except KeyError:
            near = difflib.get_close_matches(str(agent_name)[:200], list(self._records), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "call track_agent(agent) first"
            raise LookupError(f"no agent named {agent_name!r} is tracked by this MemoryMonitor: {hint}") from None

    def _time_for(self, name: str, record: AgentRecord, time_s: float | None) -> float:
        if time_s is None:
            # A clock that was behind an explicit time must not make the history run backwards.
            return max(self._clock() - self._started_s, record.last_time_s)
        if not math.isfinite(time_s):
            raise ValueError(f"time_s of a snapshot must be a finite number of seconds, not {time_s!r}")
        if time_s < record.last_time_s:
            raise ValueError(
                f"the snapshot of {name!r} at {time_s:g} s lies before its last one at {record.last_time_s:g} s: "
                "use one time base for one monitor"
            )
        return time_s
