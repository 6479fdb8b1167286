"""What becomes of a turn's time at the model's door, whether the turn succeeds or not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

Stage = Literal["queued", "answered", "backoff"]
"""Where a call is: waiting for a slot or a rate limit, being answered, or between two attempts."""


class Waits:
    """How long a turn has waited for its calls to be sent.

    It waits while one of its calls waits and none is being answered: calls side by side are not counted twice.

    Attributes
    ----------
    queued_s
        Seconds in which it waited for a slot or a rate limit, on the loop's clock.
    backoff_s
        Seconds in which it waited for the next attempt of a call, and for nothing else.
    """

    __slots__ = ("_calls", "_since_s", "backoff_s", "queued_s")

    def __init__(self) -> None:
        self.queued_s = self.backoff_s = self._since_s = 0.0
        self._calls = {"queued": 0, "answered": 0, "backoff": 0}

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Take in whatever calls made in the ``with`` block do."""
        token = _waits.set(self)
        try:
            yield
        finally:
            _waits.reset(token)

    def _change(self, stage: Stage, by: int) -> None:
        now_s, calls = asyncio.get_running_loop().time(), self._calls
        if not calls["answered"]:
            if calls["queued"]:
                self.queued_s += now_s - self._since_s
            elif calls["backoff"]:
                self.backoff_s += now_s - self._since_s
        self._since_s = now_s
        calls[stage] += by


_waits: ContextVar[Waits | None] = ContextVar("tinytroupe_waits", default=None)


@contextmanager
def during(stage: Stage) -> Iterator[None]:
    """Say that a call is in this stage, for the length of a ``with`` block."""
    waits = _waits.get()
    if waits is None:
        yield
        return
    waits._change(stage, 1)
    try:
        yield
    finally:
        waits._change(stage, -1)
