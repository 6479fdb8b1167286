"""What a monitor knows about one agent."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from tinytroupe.monitoring.alerts import Reading
from tinytroupe.monitoring.series import BoundedSeries

RECENT_SNAPSHOTS = 20
"""Rates are averages over so many snapshots."""
TREND_SNAPSHOTS = 60
"""The trend is that of so many snapshots."""
CONSOLIDATION_LIMIT = 400
"""Consolidation events kept for each agent."""

HISTORY_COLUMNS = ("time_s", "total_size", "episodic_size", "buffer_size", "semantic_size", "max_size", "snapshot")
CONSOLIDATION_COLUMNS = ("time_s", "memories_consolidated", "count")

_FEWEST_FOR_RATES = 5


class Sizes(NamedTuple):
    """What an agent says about its own memory."""

    memory: Mapping[str, Any]
    consolidation: Mapping[str, Any]
    semantic_size: int

    @property
    def total(self) -> int:
        return int(self.memory["total_size"])

    @property
    def bound(self) -> int | None:
        maximum = self.memory.get("max_size")
        return int(maximum) if self.memory.get("is_bounded", True) and maximum is not None else None

    @property
    def consolidations(self) -> int:
        return int(self.consolidation.get("total", 0))

    @property
    def consolidated(self) -> int:
        return int(self.consolidation.get("memories_consolidated", 0))


def read_agent(agent: Any) -> tuple[str, Sizes]:
    """Ask an agent for its name and sizes.

    Raises
    ------
    TypeError
        If it has no name or no `episodic_memory` with `get_memory_stats()`.
    """
    try:
        name = agent.name
        read_stats = agent.episodic_memory.get_memory_stats
    except AttributeError as error:
        raise TypeError(
            f"cannot monitor {type(agent).__name__}: an agent needs a name and an episodic_memory with "
            f"get_memory_stats() ({error})"
        ) from error
    read_metrics = getattr(agent, "get_consolidation_metrics", None)
    semantic = getattr(agent, "semantic_memory", None)
    semantic_size = 0
    if semantic is not None:
        if hasattr(semantic, "__len__"):
            semantic_size = len(semantic)
        elif callable(count := getattr(semantic, "count", None)):
            semantic_size = int(count())
    return name, Sizes(read_stats(), read_metrics() if read_metrics is not None else {}, semantic_size)


class AgentRecord:
    """The bounded history of one agent and its running figures. Not thread-safe: the monitor holds the lock."""

    __slots__ = (
        "_consolidations",
        "_gains",
        "active",
        "consolidated",
        "history",
        "last_time_s",
        "lowest",
        "peak",
        "peak_time_s",
        "sizes",
        "snapshots",
        "totals",
    )

    def __init__(self, sizes: Sizes, history_limit: int) -> None:
        self.history = BoundedSeries(HISTORY_COLUMNS, history_limit)
        self.consolidated = BoundedSeries(CONSOLIDATION_COLUMNS, CONSOLIDATION_LIMIT)
        self.sizes = sizes
        self.snapshots = 0
        self.last_time_s = -math.inf
        self.lowest = self.peak = sizes.total
        self.peak_time_s = 0.0
        self.totals: deque[int] = deque(maxlen=TREND_SNAPSHOTS)
        self.active: set[tuple[str, str]] = set()
        self._gains = _Average()
        self._consolidations = _Average()

    def note(self, now_s: float, sizes: Sizes) -> Reading:
        """Add a snapshot and say what it means."""
        total, bound = sizes.total, sizes.bound
        fresh = max(0, sizes.consolidations - self.sizes.consolidations)
        if fresh:
            moved = max(0, sizes.consolidated - self.sizes.consolidated)
            self.consolidated.append(now_s, moved, fresh)
        if self.snapshots:
            self._consolidations.add(fresh)
            if not fresh:  # A consolidation hides what was gained.
                self._gains.add(total - self.totals[-1])
        if not self.snapshots or total > self.peak:
            self.peak, self.peak_time_s = total, now_s
        self.lowest = min(self.lowest, total) if self.snapshots else total
        self.totals.append(total)
        self.history.append(
            now_s,
            total,
            sizes.memory.get("current_size", total),
            sizes.memory.get("buffer_size", 0),
            sizes.semantic_size,
            math.nan if bound is None else bound,
            self.snapshots,
        )
        self.sizes = sizes
        self.last_time_s = now_s
        self.snapshots += 1
        usage = float(sizes.memory.get("usage_ratio") or 0.0)
        return Reading(total, bound, usage, self.growth_rate(), self.consolidation_rate())

    def growth_rate(self) -> float | None:
        """Entries gained a snapshot on average, consolidations left out; None while too few snapshots exist."""
        return self._gains.value()

    def consolidation_rate(self) -> float | None:
        """Consolidations a snapshot on average; None while too few snapshots exist."""
        return self._consolidations.value()


class _Average:
    """The mean of the last few whole numbers, with a running sum because it is asked for at every snapshot."""

    __slots__ = ("_sum", "_values")

    def __init__(self) -> None:
        self._values: deque[int] = deque()
        self._sum = 0

    def add(self, value: int) -> None:
        self._values.append(value)
        self._sum += value
        if len(self._values) > RECENT_SNAPSHOTS:
            self._sum -= self._values.popleft()

    def value(self) -> float | None:
        return self._sum / len(self._values) if len(self._values) >= _FEWEST_FOR_RATES else None
