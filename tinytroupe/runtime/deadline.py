"""A bound on how long a block may take, on the running loop's clock; and the end of tasks whose time is over."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

_AGAIN_S = None if sys.version_info >= (3, 11) else 0.1


async def end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks, and wait until they are done.

    Before Python 3.11 a task can't tell two cancellations of one instant from each other: where a `within` of its own
    runs out just then, it takes both for that one and goes on. So what is not done soon is cancelled again.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_AGAIN_S)


async def all_of(tasks: Sequence[asyncio.Future[T]]) -> list[T]:
    """Return the results of tasks; where one fails or this is cancelled, the others are cancelled, once each.

    Unlike with ``asyncio.gather``, nobody is cancelled twice, who then could not finish anything; and nobody goes on
    unseen.
    """
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        unfinished = [task for task in tasks if not task.done()]
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
    failed = [task for task in tasks if not task.cancelled() and task.exception() is not None]
    return [task.result() for task in failed or tasks]


async def to_its_end(work: Coroutine[Any, Any, T], grace_s: float) -> T:
    """Await what should not stop half-way: a cancellation holds only when it is done, or after `grace_s` seconds."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        try:
            await asyncio.wait([task], timeout=grace_s)
        finally:  # also where it is cancelled again meanwhile
            await end([task])
            if not task.cancelled():
                task.exception()  # seen: the cancellation is what is raised
        raise


class within:
    """Cancel an ``async with`` block that takes too long, and raise TimeoutError in its place.

    Parameters
    ----------
    seconds
        How long; None = as long as it takes.

    Attributes
    ----------
    expired
        Whether the time was up.

    Notes
    -----
    ``asyncio.timeout`` for Python 3.10 too. A cancellation from elsewhere stays one.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self.expired = False
        self._cancelling = 0

    async def __aenter__(self) -> within:
        task = asyncio.current_task()
        if self._seconds is not None and task is not None:
            if sys.version_info >= (3, 11):
                self._cancelling = task.cancelling()
            self._timer = asyncio.get_running_loop().call_later(max(self._seconds, 0.0), self._expire, task)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self.expired:
            return
        elsewhere = False
        if sys.version_info >= (3, 11):
            task = asyncio.current_task()
            elsewhere = task is not None and task.uncancel() > self._cancelling
        if isinstance(error, asyncio.CancelledError) and not elsewhere:
            raise TimeoutError(f"not done within {self._seconds:g} s") from error

    def _expire(self, task: asyncio.Task[object]) -> None:
        self.expired = True
        task.cancel()
