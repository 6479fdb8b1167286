"""One person's act in one step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tinytroupe.llm.usage import Usage
from tinytroupe.llm.waiting import Waits

if TYPE_CHECKING:
    from tinytroupe.agent.action import Action
    from tinytroupe.agent.deliberating import Deliberation
    from tinytroupe.agent.tiny_person import TinyPerson

Status = Literal["acted", "failed", "timed out"]


@dataclass(frozen=True, slots=True)
class Turn:
    """A person's chance to act.

    Attributes
    ----------
    person
        Who may act.
    index
        Position in the world's order of agents; outcomes are committed in this order.
    step
        The world's step, from 0.
    waited_for
        See `TurnOutcome`.
    waits
        How long its calls have waited so far.
    """

    person: TinyPerson
    index: int
    step: int
    waited_for: str = ""
    waits: Waits = field(default_factory=Waits, compare=False)


@dataclass(frozen=True, slots=True)
class TurnOutcome:
    """The outcome of a turn.

    Attributes
    ----------
    person
        Name of the person.
    step, index
        As in `Turn`.
    status
        ``acted``; ``failed`` and ``timed out`` leave no trace but this.
    deliberation
        What the person decided, to be committed; None where nothing is to be committed.
    started_s, finished_s
        On the clock of the run; it starts when it could have begun.
    queued_s, backoff_s
        Parts of that spent waiting for a place among the workers, a slot or a rate limit, and for the next attempt of
        a call, whatever became of the turn.
    usage
        Calls and tokens of the turn, of a failed one, too, and of a summary of memories that was made beside it.
    error
        Why it failed.
    waited_for
        Name of the person whose turn of the step before was the last that this one had to wait for, itself possible;
        empty in the first step of a run. Followed back from the turn that ended last, it gives the chain that decided
        how long the run took.
    slot_s
        Part of the time spent at a slot; None where the model does not tell.
    """

    person: str
    step: int
    index: int
    status: Status
    started_s: float
    finished_s: float
    queued_s: float = 0.0
    backoff_s: float = 0.0
    usage: Usage = Usage()
    deliberation: Deliberation | None = None
    actions: tuple[Action, ...] = ()
    error: BaseException | None = None
    waited_for: str = ""
    slot_s: float | None = None

    @property
    def elapsed_s(self) -> float:
        """Seconds from start to end, waiting included."""
        return self.finished_s - self.started_s

    @property
    def busy_s(self) -> float:
        """Seconds in which a model worked for it, or it computed: without waiting for a slot or the next attempt."""
        return max(0.0, self.elapsed_s - self.queued_s - self.backoff_s)

    @property
    def occupied_s(self) -> float:
        """Seconds that it took up a slot for certain; 0 of a turn that failed: it may have computed all the time."""
        if self.slot_s is not None:
            return self.slot_s
        return self.busy_s if self.status == "acted" else 0.0
