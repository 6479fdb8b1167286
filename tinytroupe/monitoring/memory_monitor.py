"""Watching what the agents of a simulation remember: sizes, trends, alarms."""

from __future__ import annotations

import difflib
import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from tinytroupe.monitoring.agent_record import AgentRecord, read_agent
from tinytroupe.monitoring.alerts import SEVERITIES, Alert, AlertRules, message_for, newly_raised
from tinytroupe.monitoring.series import SMALLEST_LIMIT
from tinytroupe.monitoring.trend import trend_of

logger = logging.getLogger(__name__)

ALERT_LIMIT = 10_000
"""Alarms kept; the counts stay exact beyond it."""


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
    """

    agent_name: str
    index: int
    time_s: float
    step: int | None
    memory: Mapping[str, Any]
    semantic_size: int
    consolidations: int


class MemoryMonitor:
    """Keeps an eye on the memory of agents, and says so before it hurts.

    Agents are known by name. A snapshot costs some ten microseconds, the history of an agent is bounded and keeps its
    extremes, and all methods may be called from any thread.

    Parameters
    ----------
    alert_threshold
        Share of the bound at which a warning is raised, above 0 and at most 1. Critical is 0.95.
    growth_rate_threshold
        Entries gained a snapshot, averaged over the last 20, at which a warning is raised.
    consolidation_frequency_threshold
        Consolidations a snapshot, averaged over the last 20, at which a warning is raised.
    history_limit
        Snapshots kept for each agent (56 bytes each), at least 8.
    forecast_snapshots
        An alarm is critical, too, if growth will reach the bound within so many snapshots; 0 switches that off.
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
        history_limit: int = 1000,
        *,
        forecast_snapshots: int = 10,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if history_limit < SMALLEST_LIMIT:
            raise ValueError(f"history_limit must be at least {SMALLEST_LIMIT} snapshots, not {history_limit!r}")
        self.rules = AlertRules(
            alert_threshold, growth_rate_threshold, consolidation_frequency_threshold, forecast_snapshots
        )
        self.history_limit = history_limit
        self._clock = clock
        self._started_s = clock()
        self._lock = threading.Lock()
        self._records: dict[str, AgentRecord] = {}
        self._alerts: deque[Alert] = deque(maxlen=ALERT_LIMIT)
        self._alert_counts: Counter[tuple[str, str]] = Counter()
        self._callbacks: list[Callable[[Alert], object]] = []
        self._delivering = threading.local()
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
        name, sizes = read_agent(agent)
        with self._lock:
            if name not in self._records:
                self._records[name] = AgentRecord(sizes, self.history_limit)

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

    def record_snapshot(self, agent: Any, *, time_s: float | None = None, step: int | None = None) -> MemorySnapshot:
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

        Raises
        ------
        TypeError
            If the agent cannot be read.
        ValueError
            If `time_s` is not finite or lies before the last snapshot.
        """
        name, sizes = read_agent(agent)
        with self._lock:
            record = self._records.get(name)
            if record is None:
                record = self._records[name] = AgentRecord(sizes, self.history_limit)
            now_s = self._time_for(name, record, time_s)
            reading = record.note(now_s, sizes)
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
            for alert in alerts:
                self._alerts.append(alert)
                self._alert_counts[name, alert.severity] += 1
            index = record.snapshots - 1
        if alerts:
            self._deliver(alerts)
        return MemorySnapshot(name, index, now_s, step, sizes.memory, sizes.semantic_size, sizes.consolidations)

    # ------------------------------------------------------------------ what it found

    def get_agent_stats(self, agent_name: str) -> dict[str, Any]:
        """Summarise one agent.

        Returns
        -------
        dict
            `agent_name`, `current_memory` (the keys of `get_memory_stats()` and `semantic_size`), `memory_trend`
            (`"increasing"`, `"decreasing"` or `"stable"`), `growth_rate` (entries a snapshot), `peak_size`,
            `peak_time_s`, `lowest_size`, `snapshots`, `consolidation` (the agent's own metrics),
            `consolidation_rate` (a snapshot), `total_alerts`, `alerts_by_severity`, `active_alerts`.

        Raises
        ------
        LookupError
            If no agent of this name is tracked.
        """
        with self._lock:
            record = self._record(agent_name)
            totals = list(record.totals)
            by_severity = {severity: self._alert_counts[agent_name, severity] for severity in SEVERITIES}
            stats = {
                "agent_name": agent_name,
                "current_memory": {**record.sizes.memory, "semantic_size": record.sizes.semantic_size},
                "memory_trend": "stable",
                "growth_rate": record.growth_rate() or 0.0,
                "peak_size": record.peak,
                "peak_time_s": record.peak_time_s,
                "lowest_size": record.lowest,
                "snapshots": record.snapshots,
                "consolidation": dict(record.sizes.consolidation),
                "consolidation_rate": record.consolidation_rate() or 0.0,
                "total_alerts": sum(by_severity.values()),
                "alerts_by_severity": by_severity,
                "active_alerts": sorted({kind for kind, _ in record.active}),
            }
        stats["memory_trend"] = trend_of(totals)  # Outside the lock: some hundred microseconds.
        return stats

    def get_history(self, agent_name: str) -> dict[str, list[float]]:
        """Give the thinned history of one agent as columns; `max_size` is NaN where memory had no bound."""
        with self._lock:
            return self._record(agent_name).history.columns()

    def get_consolidations(self, agent_name: str) -> dict[str, list[float]]:
        """Give the consolidations of one agent as columns: when, how many memories, how many consolidations."""
        with self._lock:
            return self._record(agent_name).consolidated.columns()

    def get_alerts(self, agent_name: str | None = None, severity: str | None = None) -> list[Alert]:
        """Give the alarms raised so far, oldest first, of one agent or of one severity if asked.

        Raises
        ------
        ValueError
            If the severity is not `"info"`, `"warning"` or `"critical"`.
        """
        if severity is not None and severity not in SEVERITIES:
            raise ValueError(f"no severity {severity!r}: choose one of {', '.join(SEVERITIES)}")
        with self._lock:
            return [
                alert
                for alert in self._alerts
                if agent_name in (None, alert.agent_name) and severity in (None, alert.severity)
            ]

    def clear_alerts(self, agent_name: str | None = None) -> None:
        """Forget the alarms of one agent, or all. A condition that still lasts is not announced again."""
        with self._lock:
            kept = [alert for alert in self._alerts if agent_name is not None and alert.agent_name != agent_name]
            self._alerts.clear()
            self._alerts.extend(kept)
            for name, severity in list(self._alert_counts):
                if agent_name in (None, name):
                    del self._alert_counts[name, severity]

    def register_alert_callback(self, callback: Callable[[Alert], object]) -> Callable[[], None]:
        """Have a function called with each new alarm, in the thread that took the snapshot.

        An exception in it is logged with its traceback and goes no further. It may record snapshots and force
        consolidation: alarms raised meanwhile are handed over after it returns, each kind of alarm of an agent once.

        Returns
        -------
        callable
            Ends the registration.
        """
        with self._lock:
            self._callbacks.append(callback)

        def unregister() -> None:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return unregister

    def generate_report(self) -> str:
        """Describe all tracked agents and the latest alarms in plain text."""
        from tinytroupe.monitoring.report import text_report

        return text_report(self)

    # ------------------------------------------------------------------ inside

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

    def _deliver(self, alerts: list[Alert]) -> None:
        waiting: deque[Alert] | None = getattr(self._delivering, "queue", None)
        if waiting is not None:
            waiting.extend(alerts)  # A callback is running further up in this thread; it delivers these afterwards.
            return
        queue = self._delivering.queue = deque(alerts)
        handed_over: set[tuple[str, str, str]] = set()
        try:
            while queue:
                alert = queue.popleft()
                key = (alert.agent_name, alert.kind, alert.severity)
                if key in handed_over:  # Callbacks that cause the alarm they answer must not go on for ever.
                    continue
                handed_over.add(key)
                with self._lock:
                    callbacks = list(self._callbacks)
                for callback in callbacks:
                    _call(callback, alert)
        finally:
            self._delivering.queue = None


def _call(callback: Callable[[Alert], object], alert: Alert) -> None:
    try:
        callback(alert)
    except Exception:
        logger.exception("the alert callback %r raised on: %s", callback, alert.message)
