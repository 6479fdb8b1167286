"""What loops hand over to the one thread of a journal, and how they wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from tinytroupe.llm.model import ModelError

T = TypeVar("T")


class Work(Generic[T]):
    """Something to do in the journal's thread, and what came of it."""

    __slots__ = ("do", "error", "result")

    def __init__(self, do: Callable[[], T]) -> None:
        self.do = do
        self.result: T | None = None
        self.error: BaseException | None = None

    def attempt(self) -> None:
        try:
            self.result = self.do()
        except (ModelError, ValueError, TypeError, OverflowError) as error:
            self.error = error  # this asker's own (no match, a name that can't be stored): the others' work goes on

    def outcome(self) -> T:
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]


class Drain:
    """One visit of the journal's thread to the queue.

    Parameters
    ----------
    done
        What the loop waits for; None: nobody waits, or no longer.
    """

    __slots__ = ("done", "started")

    def __init__(self, done: asyncio.Future[None] | None = None) -> None:
        self.started = False
        self.done = done

    def end(self, _: object = None) -> None:
        """Let whoever waits go on."""
        done, self.done = self.done, None  # which would keep its loop alive
        if done is not None and not done.done():
            done.set_result(None)
