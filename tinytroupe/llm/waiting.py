"""What becomes of a turn's time at the model's door, whether the turn succeeds or not."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Literal

Stage = Literal["queued", "answered", "backoff"]
"""Where a call is: waiting for a slot or a rate limit, being answered, or between two attempts."""


class Waits:
    """How long a turn has waited for its calls to be sent: those made in its ``with`` block.

    It waits while one of its calls waits and none is being answered: calls side by side are not counted twice.

    Attributes
    ----------
    queued_s
        Seconds in which it waited for a slot or a rate limit, on the loop's clock.
    backoff_s
        Seconds in which it waited for the next attempt of a call, and for nothing else.
    """

    __slots__ = ("_answered", "_backoff", "_queued", "_since_s", "_token", "backoff_s", "queued_s")

    def __init__(self) -> None:
        self.queued_s = self.backoff_s = self._since_s = 0.0
        self._queued = self._answered = self._backoff = 0
        self._token: Token[Waits | None] | None = None

    def __enter__(self) -> Waits:
        self._token = _waits.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        token, self._token = self._token, None
        if token is not None:
            _waits.reset(token)

    def _change(self, stage: Stage, by: int) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._answered == 0:
            if self._queued:
                self.queued_s += now_s - self._since_s
            elif self._backoff:
                self.backoff_s += now_s - self._since_s
        self._since_s = now_s
        if stage == "answered":
            self._answered += by
        elif stage == "queued":
            self._queued += by
        else:
            self._backoff += by


_waits: ContextVar[Waits | None] = ContextVar("tinytroupe_waits", default=None)


class during:
    """Say that a call is in a stage, for the length of a ``with`` block; a class, since every call goes through it."""

    __slots__ = ("_stage", "_waits")

    def __init__(self, stage: Stage) -> None:
        self._stage: Stage = stage
        self._waits = _waits.get()

    def __enter__(self) -> None:
        if self._waits is not None:
            self._waits._change(self._stage, 1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._waits is not None:
            self._waits._change(self._stage, -1)
