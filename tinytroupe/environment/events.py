"""What happens in a world, and telling those who want to know."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tinytroupe.agent.action import Action
from tinytroupe.engine.turn import TurnOutcome

if TYPE_CHECKING:
    from tinytroupe.environment.tiny_world import TinyWorld

logger = logging.getLogger("tinytroupe.world")

EVENTS = ("step", "turn", "action")


class SimulationError(RuntimeError):
    """A run can't continue. The cause is chained."""


@dataclass(frozen=True, slots=True)
class StepEvent:
    """A step that was committed.

    Attributes
    ----------
    world
        The world.
    step
        Its number, from 0, over all runs.
    outcomes
        One a turn, in agent order.
    elapsed_s
        Seconds on the world's clock since the run began.
    """

    world: TinyWorld
    step: int
    outcomes: tuple[TurnOutcome, ...]
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class ActionEvent:
    """Something that a person has done."""

    world: TinyWorld
    step: int
    person: str
    action: Action


class Watched:
    """Something that can be listened to."""

    name: str

    def __init__(self) -> None:
        self._listeners: dict[str, list[Callable[[Any], None]]] = {}

    def on(self, event: str, callback: Callable[[Any], None]) -> Callable[[], None]:
        """Have ``callback(event)`` called, in a worker thread, whenever something has happened.

        Parameters
        ----------
        event
            ``step``: after each committed step, with a `StepEvent`; ``turn``: for each turn of it, with a
            `TurnOutcome`; ``action``: for each action, with an `ActionEvent`.
        callback
            Its errors are logged and do not stop the run. It may look at everyone and change anything, so that people
            wait for each other after every step while there is one.

        Returns
        -------
        Callable
            Ends it.
        """
        if event not in EVENTS:
            raise ValueError(f"unknown event {event!r}; there are: {', '.join(EVENTS)}")
        listeners = self._listeners.setdefault(event, [])
        listeners.append(callback)
        return lambda: listeners.remove(callback) if callback in listeners else None

    @property
    def is_watched(self) -> bool:
        """Whether anybody listens."""
        return any(self._listeners.values())

    def tell(self, event: StepEvent) -> None:
        """Tell the listeners of a step, its turns and its actions; blocks as long as they do."""
        for outcome in event.outcomes:
            self._emit("turn", outcome)
            for action in outcome.actions:
                self._emit("action", ActionEvent(event.world, event.step, outcome.person, action))
        self._emit("step", event)

    def _emit(self, event: str, what: Any) -> None:
        for callback in list(self._listeners.get(event, ())):
            try:
                callback(what)
            except Exception:
                logger.exception("%s: a listener to %r failed", self.name, event)
