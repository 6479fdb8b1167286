"""Conversations and progress, for those who watch in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from tinytroupe.agent.display import Row, print_rows, rows, wanted
from tinytroupe.config import config_manager

if TYPE_CHECKING:
    from tinytroupe.environment.events import StepEvent
    from tinytroupe.environment.tiny_world import TinyWorld

__all__ = ["Progress", "conversation", "counting", "following", "one_line", "print_step", "wanted"]

_line: ContextVar[Callable[[StepEvent], None] | None] = ContextVar("tinytroupe_progress", default=None)


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

    def show(self, text: str) -> None:
        """Say something else of it."""
        sys.stderr.write(f"\r\x1b[K{self._name}: {text}")
        sys.stderr.flush()

    def close(self) -> None:
        """Take the line away."""
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


@contextmanager
def following(world: TinyWorld, steps: int) -> Iterator[Callable[[StepEvent], None]]:
    """Yield what to call with each step of a run, so that those who watch in a terminal see it."""
    shared = _line.get()
    shown = wanted(world.show, config_manager.get("display"), sys.stdout)
    counted = wanted(world.show, config_manager.get("progress"), sys.stderr) and not shown and shared is None
    progress = Progress(world.name, steps) if counted and steps > 1 else None
    done = 0

    def follow(event: StepEvent) -> None:
        nonlocal done
        done += 1
        if shown:
            print_step(event)
        if shared is not None:
            shared(event)
        if progress is not None:
            progress.step(done)

    try:
        yield follow
    finally:
        if progress is not None:
            progress.close()


@contextmanager
def one_line(name: str, steps: int) -> Iterator[None]:
    """Show one progress for all runs inside the block, of `steps` steps together, where progress is wanted."""
    progress = Progress(name, steps) if wanted(None, config_manager.get("progress"), sys.stderr) else None
    done = 0

    def follow(event: StepEvent) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress.step(done)

    token = _line.set(follow)
    try:
        yield
    finally:
        _line.reset(token)
        if progress is not None:
            progress.close()


@contextmanager
def counting(name: str, many: int) -> Iterator[Callable[[bool], None]]:
    """Yield what to call with each of `many` things that is done, and whether it failed, where progress is wanted."""
    progress = Progress(name, many) if wanted(None, config_manager.get("progress"), sys.stderr) else None
    done = failed = 0

    def count(has_failed: bool) -> None:
        nonlocal done, failed
        done, failed = done + 1, failed + has_failed
        if progress is not None:
            progress.show(f"{done} of {many} done" + (f", {failed} failed" if failed else ""))

    try:
        yield count
    finally:
        if progress is not None:
            progress.close()
