"""Ways of measuring. Each instrument watches the call of one pass; no two in one pass disturb each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pytest_tinytroupe.records import Metric, Site, Timeline, TurnSpan

if TYPE_CHECKING:
    from tinytroupe.visualization.agent_memory import AgentMemory


class Reading(NamedTuple):
    """What an instrument has found."""

    metrics: Sequence[Metric] = ()
    timelines: Sequence[Timeline] = ()
    notes: Sequence[str] = ()
    sites: Sequence[Site] = ()
    agents: Sequence[AgentMemory] = ()
    turns: Sequence[TurnSpan] = ()
    calls_s: Sequence[tuple[float, int]] = ()


class Instrument(Protocol):
    """Measures while the call of a pass runs: `start`, the call, `stop`, `read`.

    `stop` always follows `start`, whatever the call raised, and releases everything; `read` follows only where the call
    came to its end.
    """

    def start(self) -> None:
        """Begin to measure."""
        ...

    def stop(self) -> None:
        """End, and release what was started."""
        ...

    def read(self) -> Reading:
        """Return what was found."""
        ...
