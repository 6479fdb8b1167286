"""Conversations and progress, for those who watch in a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from tinytroupe.agent.action import DONE

if TYPE_CHECKING:
    from tinytroupe.environment.tiny_world import StepEvent

_SHOWN_CHARACTERS = 1000
_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")


def wanted(asked: bool | None, setting: str, stream: TextIO) -> bool:
    """Tell whether to show something: as asked, else as the setting says; ``auto`` means in a terminal."""
    if asked is not None:
        return asked
    return stream.isatty() if setting == "auto" else setting == "on"


def conversation(event: StepEvent) -> list[tuple[str, str, str]]:
    """Return who did what in a step: name, what kind of thing to whom, and its words."""
    return [
        (
            outcome.person,
            f"{action.type}{f' to {action.target}' if action.target else ''}",
            action.content if len(action.content) <= _SHOWN_CHARACTERS else action.content[:_SHOWN_CHARACTERS] + "…",
        )
        for outcome in event.outcomes
        for action in outcome.actions
        if action.type != DONE
    ]


def print_step(event: StepEvent) -> None:
    """Print what was done in a step: with `rich` in colour where it is installed, else plainly."""
    rows = conversation(event)
    if not rows:
        return
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        sys.stdout.write("".join(f"{name} [{kind}] {words}\n" for name, kind, words in rows))
        sys.stdout.flush()
        return
    console = Console(file=sys.stdout, highlight=False)
    names = {agent.name: _COLOURS[index % len(_COLOURS)] for index, agent in enumerate(event.world.agents)}
    for name, kind, words in rows:
        console.print(Text.assemble((name, f"bold {names.get(name, 'white')}"), (f" [{kind}] ", "dim"), words))


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
