"""What goes to a shard and what comes back: one batch each way in a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tinytroupe.agent.life import Life
from tinytroupe.agent.memory import ConsolidationMetrics, Memory
from tinytroupe.agent.memory.event import Stimulus
from tinytroupe.engine.turn import TurnOutcome
from tinytroupe.llm import ChatModel, Usage


@dataclass(frozen=True, slots=True)
class ShardSpec:
    """Everything that a shard begins with.

    Attributes
    ----------
    shard
        Its number, from 0.
    world
        Name of the world: a journal knows exchanges by it.
    positions
        Positions of its people in the world's order of agents, ascending.
    lives
        Their lives, in the same order.
    model
        The world's model; None: the one in use where the shard lives.
    on_error
        The world's; see `TinyWorld`.
    """

    shard: int
    world: str
    positions: tuple[int, ...]
    lives: tuple[Life, ...]
    model: ChatModel | None
    on_error: str | None


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where somebody is now, and in which situation."""

    place: str
    context: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reached:
    """Whom somebody can reach now and could not before, with the relation; and who is out of reach now."""

    gained: Mapping[str, str]
    lost: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Letter:
    """What one person's turn does to a person of the shard.

    Attributes
    ----------
    source, to
        Positions in the world's order of agents.
    what
        A memory, or what else changes.
    """

    source: int
    to: int
    what: Memory | Whereabouts | Reached


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a step that a shard's people have decided ends.

    Attributes
    ----------
    committed
        Whether what they decided is done; False: the run has ended within the step, and nothing of it is.
    letters
        What reaches them one by one, ordered by source: the world's order of committing.
    said
        What was said to all, in order.
    """

    committed: bool = True
    letters: Sequence[Letter] = ()
    said: Sequence[Stimulus] = ()


@dataclass(frozen=True, slots=True)
class Inbox:
    """What a shard is sent.

    Attributes
    ----------
    settlement
        How the step before ends; None: it has been settled, or there was none.
    step
        Number of the step to begin; -1: none, only the one before is to be settled.
    moment
        What the world's calendar says in it.
    waited_for
        See `TurnOutcome`.
    timeout_s
        Seconds for the turns of the step.
    slots
        Turns that the shard may have under way at once.
    """

    settlement: Settlement | None
    step: int = -1
    moment: datetime | None = None
    waited_for: str = ""
    timeout_s: float | None = None
    slots: int = 1


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a turn that came to nothing has changed about a person all the same.

    Attributes
    ----------
    calls
        Number of the next call.
    usage
        What the person has spent so far.
    consolidation
        What was summarised so far.
    """

    calls: int
    usage: Usage
    consolidation: ConsolidationMetrics


@dataclass(slots=True)
class Outbox:
    """What comes back.

    Attributes
    ----------
    outcomes
        One a turn, in agent order, without what was decided, which stays with the shard until it is settled. Where one
        of them ends the run, those that were under way are not among them.
    left_out
        Those whose turn failed or was cut off, by position, as they are after it.
    latencies_s
        For each outcome, the seconds that each model call of the person took since the last time.
    failure
        What ends the run because of what faculties did in the settled step, and the position of the person.
    began_s, inside_s
        When the shard began, on its own clock, and seconds that it took: the rest is the cost of exchange.
    hits, misses
        Model calls that an earlier run has recorded, and that none has; counted where the driver's journal can't.
    exchanged_bytes
        Size of inbox and outbox on their way; 0 where they need not travel.
    restarts
        How often the shard was lost, and began anew elsewhere, on the way to this.
    """

    outcomes: list[TurnOutcome] = field(default_factory=list)
    left_out: dict[int, LeftOut] = field(default_factory=dict)
    latencies_s: list[list[float]] = field(default_factory=list)
    failure: tuple[int, Exception] | None = None
    began_s: float = 0.0
    inside_s: float = 0.0
    hits: int = 0
    misses: int = 0
    exchanged_bytes: int = 0
    restarts: int = 0
