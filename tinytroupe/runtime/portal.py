"""The one door from synchronous code into an event loop."""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from tinytroupe.runtime.clock import VirtualEventLoop

if TYPE_CHECKING:
    from tinytroupe.runtime.clock import Clock

T = TypeVar("T")

logger = logging.getLogger("tinytroupe.portal")

_CLOSING_S = 5.0

Closer = Callable[[], Coroutine[Any, Any, None]]
_closers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, list[Closer]] = weakref.WeakKeyDictionary()


def at_loop_close(closer: Closer) -> None:
    """Have ``closer()`` awaited when the running loop's portal closes.

    Loops without a portal know no such moment: there, the owner of the loop closes what it opened.
    """
    _closers.setdefault(asyncio.get_running_loop(), []).append(closer)


class Calls:
    """The calls that a worker thread makes through portals, so that who gives the thread up can cancel them.

    A thread can't be stopped. What it still asks for, or asks for later, ends in a CancelledError for the thread.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._given_up = False

    def inside(self, function: Callable[[], T]) -> Callable[[], T]:
        """Return `function` as it has to be called in the worker thread for its calls to be among these."""
        context = contextvars.copy_context()
        context.run(_calls.set, self)
        return lambda: context.run(function)

    def cancel(self) -> None:
        """Cancel those under way, and those to come."""
        self._given_up = True
        for task in list(self._tasks):
            self._cancel(task)

    def _add(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._given_up:
            self._cancel(task)

    @staticmethod
    def _cancel(task: asyncio.Task[Any]) -> None:
        with suppress(RuntimeError):  # its loop is closed: nothing runs any more
            task.get_loop().call_soon_threadsafe(task.cancel)


_calls: contextvars.ContextVar[Calls | None] = contextvars.ContextVar("tinytroupe_calls", default=None)


class Portal:
    """An event loop in a thread of its own, which synchronous code calls into.

    It works from any thread, also from one that runs an event loop of its own (a notebook), and Ctrl-C in the calling
    thread cancels the call. A portal does not survive a fork: its clock makes a new one.
    """

    def __init__(self, clock: Clock) -> None:
        self._pid = os.getpid()
        self._loop = clock.new_loop()
        self._callers = 0
        self._lock = threading.Lock()
        self._closing = False
        self._pending: set[Future[Any]] = set()
        self._set_paused(True)
        self._thread = threading.Thread(target=self._run, name=f"tinytroupe {clock!r}", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def lost(self) -> bool:
        """True where the thread is not there: closed, or left behind in the parent process by a fork."""
        return self._closing or os.getpid() != self._pid or not self._thread.is_alive()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop behind the door."""
        return self._loop

    def call(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T:
        """Run ``function(*args, **kwargs)`` on the loop and wait for its result.

        The coroutine sees the caller's context variables.

        Raises
        ------
        RuntimeError
            Called from inside the loop itself, where waiting would never end; or the loop was closed.
        BaseException
            Whatever the coroutine raises. An exception in the waiting caller (Ctrl-C) cancels the coroutine first.
        """
        if threading.current_thread() is self._thread:
            name = getattr(function, "__name__", repr(function))
            raise RuntimeError(
                f"{name} was called through its synchronous form from inside the simulation's event loop, which would "
                "wait for itself. Await the form with the suffix _async there, or call it from a worker thread."
            )
        future: Future[T] = Future()
        task: list[asyncio.Task[T]] = []
        loop = self._loop
        worker = loop.calling_worker if isinstance(loop, VirtualEventLoop) else None

        def start() -> None:
            self._enter()
            try:
                task.append(self._loop.create_task(function(*args, **kwargs)))
            except BaseException as error:
                self._leave()
                future.set_exception(error)
                return
            task[0].add_done_callback(settle)
            if worker is not None:
                worker.wait()
            if (calls := _calls.get()) is not None:
                calls._add(task[0])

        def settle(done: asyncio.Task[T]) -> None:
            # Before the caller learns of it: otherwise the loop might let time pass until the caller says goodbye.
            self._leave()
            if worker is not None:
                worker.begin()
            _settle(done, future)

        try:
            with self._lock:
                if self._closing:
                    future.set_exception(RuntimeError("the event loop behind this clock has been closed"))
                else:
                    self._pending.add(future)
                    self._loop.call_soon_threadsafe(start, context=contextvars.copy_context())
            return _wait(future)
        except BaseException:
            # Ctrl-C, or whatever else a signal handler raises in here: what nobody waits for must not run on.
            if not future.done():
                self._cancel(task, future)
            raise
        finally:
            self._pending.discard(future)

    def close(self) -> None:
        """Cancel what still runs, release what was named to `at_loop_close`, end the loop and its thread."""
        atexit.unregister(self.close)
        if self.lost or threading.current_thread() is self._thread:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSING_S)

    def _run(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            with self._lock:
                self._closing = True
            self._set_paused(False)
            try:
                loop.run_until_complete(self._wind_up())
            except Exception:
                logger.exception("the event loop did not wind up cleanly")
            finally:
                asyncio.set_event_loop(None)
                loop.close()
                for future in list(self._pending):
                    if not future.done():
                        future.set_exception(RuntimeError("the event loop was closed during the call"))

    async def _wind_up(self) -> None:
        rest = asyncio.all_tasks(self._loop) - {asyncio.current_task(self._loop)}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        for closer in _closers.pop(self._loop, []):
            await closer()
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()

    # Only ever called on the loop's own thread.

    def _enter(self) -> None:
        self._callers += 1
        self._set_paused(False)

    def _leave(self) -> None:
        self._callers -= 1
        self._set_paused(self._callers == 0)

    def _set_paused(self, paused: bool) -> None:
        # Between calls virtual time stands still: what an idle connection pool has scheduled must not move it.
        if isinstance(self._loop, VirtualEventLoop):
            self._loop.paused = paused

    def _cancel(self, task: list[asyncio.Task[T]], future: Future[T]) -> None:
        # In this order, the loop has begun the coroutine before it is told to cancel it, if it ever was told to begin.
        def stop() -> None:
            if task:
                task[0].cancel()
            elif not future.done():
                future.set_exception(asyncio.CancelledError())

        try:
            self._loop.call_soon_threadsafe(stop)
        except RuntimeError:  # the loop is closed: nothing runs any more
            return
        # The coroutine gets the time to clean up; a second Ctrl-C ends the wait.
        try:
            future.exception(_CLOSING_S)
        except FutureTimeoutError:
            logger.warning("a cancelled call did not end within %g s", _CLOSING_S)


def _settle(task: asyncio.Task[T], future: Future[T]) -> None:
    if future.done():
        return
    if task.cancelled():
        future.set_exception(asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(task.result())


def _wait(future: Future[T]) -> T:
    # On Windows Ctrl-C does not interrupt the wait for a lock, so look up from time to time.
    pause_s = 0.2 if sys.platform == "win32" else None
    while True:
        try:
            return future.result(pause_s)
        except FutureTimeoutError:
            if future.done():
                return future.result()
