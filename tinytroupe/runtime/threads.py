"""Threads that nobody waits for, functions that end whatever they raise, and contexts that do not hold up a loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


def stopping(function: Callable[..., T]) -> Callable[..., T]:
    """Return `function` as it can be awaited in a thread: a StopIteration becomes a RuntimeError.

    A future of asyncio can't hold a StopIteration: whoever waits for it would wait for ever.
    """

    def stops(*args: Any, **kwargs: Any) -> T:
        try:
            return function(*args, **kwargs)
        except StopIteration as error:
            name = getattr(function, "__qualname__", repr(function))
            raise RuntimeError(f"{name} raised StopIteration") from error

    return stops


class DaemonThreads(Executor):
    """Runs every function in a new thread, for which the end of the interpreter does not wait.

    The threads of a `ThreadPoolExecutor` are joined at exit, whatever they do: a program would hang for as long as a
    function goes on that it has given up long ago.

    Parameters
    ----------
    name
        Of the threads.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """See `concurrent.futures.Executor.submit`."""
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=work, name=self._name, daemon=True).start()
        return future


@asynccontextmanager
async def in_threads(context: AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter and leave a context in worker threads, so that the event loop goes on meanwhile."""
    entering = asyncio.ensure_future(asyncio.to_thread(context.__enter__))
    try:
        entered = await asyncio.shield(entering)
    except asyncio.CancelledError:
        await entering  # a thread can't be stopped, and what it has begun has to be ended
        await asyncio.to_thread(context.__exit__, None, None, None)
        raise
    try:
        yield entered
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)
