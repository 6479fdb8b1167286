"""What a monitor knows about one agent."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from tinytroupe.monitoring.alerts import Reading
from tinytroupe.monitoring.deep_size import deep_size_bytes
from tinytroupe.monitoring.series import BoundedSeries

RECENT_SNAPSHOTS = 20
"""Rates are averages over so many snapshots."""
TREND_SNAPSHOTS = 60
"""The trend is that of so many snapshots."""

# With the letter that `array` stores each as: counts that only grow get eight bytes, `max_size` may be NaN.
_HISTORY = {
    "time_s": "d",
    "total_size": "i",
    "episodic_size": "i",
    "buffer_size": "i",
    "semantic_size": "i",
    "max_size": "d",
    "snapshot": "q",
    "evicted": "q",
    "consolidated": "q",
    "consolidations": "q",
}
_BYTES = {"time_s": "d", "size_bytes": "q"}

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
    def evicted(self) -> int:
        return int(self.memory.get("evicted", 0))

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


def held_bytes(agent: Any) -> int:
    """Return the bytes of an agent's memories, what they share counted once."""
    return deep_size_bytes(agent.episodic_memory, getattr(agent, "semantic_memory", None))


class AgentRecord:
    """The bounded history of one agent and its running figures. Not thread-safe: the monitor holds the lock."""

    __slots__ = (
        "_consolidation_counts",
        "_gains",
        "active",
        "bytes_history",
        "consolidated",
        "consolidations",
        "evicted",
        "history",
        "last_time_s",
        "lowest",
        "peak",
        "peak_bytes",
        "peak_time_s",
        "size_bytes",
        "sizes",
        "snapshots",
        "totals",
    )

    def __init__(self, sizes: Sizes, history_limit: int) -> None:
        self.history = BoundedSeries(tuple(_HISTORY), history_limit, "".join(_HISTORY.values()))
        self.bytes_history = BoundedSeries(tuple(_BYTES), history_limit, "".join(_BYTES.values()))
        self.sizes = sizes
        self.evicted = self.consolidated = self.consolidations = 0
        self.snapshots = 0
        self.last_time_s = -math.inf
        self.lowest = self.peak = sizes.total
        self.peak_time_s = 0.0
        self.size_bytes: int | None = None
        self.peak_bytes: int | None = None
        self.totals: deque[int] = deque(maxlen=TREND_SNAPSHOTS)
        self.active: set[tuple[str, str]] = set()
        self._gains = _Average()
        self._consolidation_counts = _Average()

    def note(self, now_s: float, sizes: Sizes, size_bytes: int | None = None) -> Reading:
        """Add a snapshot and say what it means."""
        total, bound = sizes.total, sizes.bound
        # Counts that went back belong to a memory that was restored: nothing happened in between.
        fresh = max(0, sizes.consolidations - self.sizes.consolidations)
        self.consolidations += fresh
        self.consolidated += max(0, sizes.consolidated - self.sizes.consolidated)
        self.evicted += max(0, sizes.evicted - self.sizes.evicted)
        if size_bytes is not None:
            self.size_bytes = size_bytes
            self.peak_bytes = max(self.peak_bytes or 0, size_bytes)
            self.bytes_history.append(now_s, size_bytes)
        if self.snapshots:
            self._consolidation_counts.add(fresh)
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
            self.evicted,
            self.consolidated,
            self.consolidations,
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
        return self._consolidation_counts.value()

    def increments(self, **counts: str) -> dict[str, list[float]]:
        """Give when the first of some counts of the history rose, and by how much each of them did.

        Parameters
        ----------
        **counts
            Columns of the history that count up, by the name each increment shall have.
        """
        columns = self.history.columns()
        rises = [
            [after - before for before, after in zip([0.0, *columns[name]], columns[name], strict=False)]
            for name in counts.values()
        ]
        when = [position for position, rise in enumerate(rises[0]) if rise]
        found = {"time_s": [columns["time_s"][position] for position in when]}
        return found | {name: [rise[position] for position in when] for name, rise in zip(counts, rises, strict=True)}


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
