"""Conversations and progress, for those who watch in a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tinytroupe.agent.display import Row, print_rows, rows, wanted

if TYPE_CHECKING:
    from tinytroupe.environment.tiny_world import StepEvent

__all__ = ["Progress", "conversation", "print_step", "wanted"]


def conversation(event: StepEvent) -> list[Row]:
    """Return who did what in a step."""
    return [row for outcome in event.outcomes for row in rows(outcome.person, outcome.actions)]


def print_step(event: StepEvent) -> None:
    """Print what was done in a step."""
    print_rows(conversation(event), [agent.name for agent in event.world.agents])


class Progress:
    """One line in the terminal that says how far a run has come."""

    def __init__(self, name: str, steps: int) -> None:
        self._name, self._steps = name, steps

    def step(self, done: int) -> None:
        """Show that so many steps are done."""
        sys.stderr.write(f"\r{self._name}: step {done} of {self._steps}")
        sys.stderr.flush()

    def close(self) -> None:
        """Take the line away."""
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
