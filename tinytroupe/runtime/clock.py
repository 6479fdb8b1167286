"""Time, real or virtual. Whatever waits in the core waits on the running loop, and the clock owns the loop."""

from __future__ import annotations

import asyncio
import selectors
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from tinytroupe.runtime.threads import DaemonThreads

if TYPE_CHECKING:
    from typing_extensions import Self

    from tinytroupe.runtime.portal import Portal

T = TypeVar("T")

_EMPTY_POLLS = 1000
_NUDGE_S = 1e-6
_RESOLUTION_S = 1e-9


class VirtualTimeError(RuntimeError):
    """Something was asked of virtual time that only real time can give: a socket, a subprocess."""


class Clock:
    """A source of time with an event loop that runs on it.

    Synchronous code enters the loop through `portal`, which starts a thread on first use. `close` ends it.
    """

    virtual: bool

    def __init__(self) -> None:
        self._portal: Portal | None = None
        self._lock = threading.Lock()

    def now(self) -> float:
        """Return the time in seconds. Only differences mean something."""
        raise NotImplementedError

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Return a new event loop that runs on this clock."""
        raise NotImplementedError

    @property
    def portal(self) -> Portal:
        """The door from synchronous code into this clock's loop."""
        from tinytroupe.runtime.portal import Portal

        with self._lock:
            if self._portal is None or self._portal.lost:
                self._portal = Portal(self)
            return self._portal

    def close(self) -> None:
        """Stop the loop's thread, cancelling what still runs. The clock may be used again."""
        with self._lock:
            portal, self._portal = self._portal, None
        if portal is not None:
            portal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class WallClock(Clock):
    """Real time: the system's monotonic clock."""

    virtual = False

    def now(self) -> float:
        """Return the monotonic time in seconds."""
        return time.monotonic()

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Return a new event loop of the platform's usual kind."""
        return asyncio.new_event_loop()

    def __repr__(self) -> str:
        return "<WallClock>"


class VirtualClock(Clock):
    """Simulated time: it stands still while anything runs, and jumps to the next timer when nothing does.

    Parameters
    ----------
    start_s
        Time at the beginning, in seconds.

    Notes
    -----
    `asyncio.sleep`, time-outs and everything else built on the loop's timers take no real time and are exact.
    ``time.sleep`` and work in threads stay real: while a worker thread of the loop is busy, virtual time waits for it.
    """

    virtual = True

    def __init__(self, start_s: float = 0.0) -> None:
        super().__init__()
        self._now = float(start_s)

    def now(self) -> float:
        """Return the virtual time in seconds."""
        return self._now

    def new_loop(self) -> VirtualEventLoop:
        """Return a new event loop that runs on this clock."""
        return VirtualEventLoop(self)

    def run(self, main: Awaitable[T]) -> T:
        """Run a coroutine to its end on this clock and return its result, like ``asyncio.run``."""
        result: T = self.portal.call(_awaited, main)
        return result

    def _advance_to(self, when: float) -> None:
        self._now = max(self._now, when)

    def __repr__(self) -> str:
        return f"<VirtualClock at {self._now:g} s>"


async def _awaited(main: Awaitable[T]) -> T:
    return await main


class _VirtualSelector(selectors.BaseSelector):
    """Polls real I/O, and lets virtual time jump when there is none to wait for."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.loop: VirtualEventLoop | None = None
        self._empty_polls = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        loop = self.loop
        assert loop is not None
        events = self._real.select(0)
        if events:
            self._empty_polls = 0
            return events
        next_timer = loop._next_timer()
        if timeout is not None and timeout <= 0:
            # Either callbacks are ready, or a timer is due. A timer that is due again and again without time ever
            # passing would spin for ever (rate limiters that round their wait to "now"): push time a little.
            if next_timer is not None and next_timer <= loop.time() + _RESOLUTION_S:
                self._empty_polls += 1
                if self._empty_polls > _EMPTY_POLLS:
                    loop._jump_to(loop.time() + _NUDGE_S)
            return events
        if loop._learns_of_anyio():
            return events
        if next_timer is None or loop._time_stands_still():
            return self._real.select(None)
        self._empty_polls = 0
        loop._jump_to(next_timer)
        return events

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Any:
        return self._real.get_map()


class Worker:
    """A function at work in a thread of a virtual loop, whose time stands still for it until it ends, or is given up.

    For the loop's own thread. Were it the worker that says that it waits or goes on, time could pass between an answer
    and its word.
    """

    def __init__(self, busy: set[Worker]) -> None:
        self._busy = busy
        self._ended = False

    def begin(self) -> None:
        """Go on: time stands still."""
        if not self._ended:
            self._busy.add(self)

    def wait(self) -> None:
        """Wait for the loop itself, whose time may pass."""
        self._busy.discard(self)

    def end(self) -> None:
        """Have nothing more to do with the loop's time."""
        self._ended = True
        self._busy.discard(self)


class VirtualEventLoop(asyncio.SelectorEventLoop):
    """An asyncio loop whose time is a `VirtualClock`'s.

    It jumps to the next timer when nothing is ready, no I/O is pending and no worker thread is busy.
    """

    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, clock: VirtualClock | None = None) -> None:
        self.clock = clock or VirtualClock()
        self._busy_workers: set[Worker] = set()
        self._of_thread = threading.local()
        self._anyio_asked = False
        self._anyio_limiter: Any = None
        self.paused = False
        selector = _VirtualSelector()
        super().__init__(selector)
        selector.loop = self
        self._clock_resolution = _RESOLUTION_S

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self.clock.now()

    def _next_timer(self) -> float | None:
        return self._scheduled[0].when() if self._scheduled else None

    def _jump_to(self, when: float) -> None:
        self.clock._advance_to(when)

    def _time_stands_still(self) -> bool:
        anyio_workers = self._anyio_limiter.borrowed_tokens if self._anyio_limiter is not None else 0
        return self.paused or bool(self._busy_workers) or anyio_workers > 0

    def _learns_of_anyio(self) -> bool:
        # anyio keeps worker threads of its own, outside run_in_executor. Its limiter, which knows how many are at
        # work, can only be asked for inside a task: start one, once, before time may pass.
        if self._anyio_asked or "anyio.to_thread" not in sys.modules:
            return False
        self._anyio_asked = True

        async def ask() -> None:
            from anyio.to_thread import current_default_thread_limiter

            self._anyio_limiter = current_default_thread_limiter()

        self._anyio_task = self.create_task(ask())
        return True

    # Worker threads do real work in real time: virtual time must not run ahead of them.

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Run `func` in a worker thread; virtual time stands still until it returns."""
        if executor is not None and not isinstance(executor, (ThreadPoolExecutor, DaemonThreads)):
            _refuse("a process pool")

        worker = Worker(self._busy_workers)

        def work() -> T:
            self._of_thread.worker = worker
            try:
                return func(*args)
            finally:
                self._of_thread.worker = None

        worker.begin()
        try:
            future = super().run_in_executor(executor, work)
        except BaseException:
            worker.end()
            raise
        future.add_done_callback(lambda _: worker.end())
        return future

    @property
    def calling_worker(self) -> Worker | None:
        """What the calling thread is doing for this loop; None where it is no worker of it."""
        return getattr(self._of_thread, "worker", None)


# What would tie virtual time to the outside world is refused rather than answered wrongly.
_REFUSED = {
    "a network connection": ("create_connection", "create_datagram_endpoint", "create_unix_connection", "getaddrinfo"),
    "a server": ("create_server", "create_unix_server"),
    "a socket": ("sock_connect", "sock_accept", "sock_recv", "sock_recv_into", "sock_recvfrom", "sock_sendall"),
    "a subprocess": ("subprocess_exec", "subprocess_shell"),
    "a pipe": ("connect_read_pipe", "connect_write_pipe"),
    "a watched file descriptor": ("add_reader", "add_writer"),
}


def _refuse(what: str) -> NoReturn:
    raise VirtualTimeError(
        f"{what} can't be used on virtual time: its replies take real time, which virtual time does not wait for. "
        "Answer model calls with MockLLM (fixture mock_llm), or use a WallClock."
    )


def _refusal(what: str) -> Callable[..., NoReturn]:
    def refused(self: VirtualEventLoop, *args: object, **kwargs: object) -> NoReturn:
        _refuse(what)

    return refused


for _what, _methods in _REFUSED.items():
    for _method in _methods:
        setattr(VirtualEventLoop, _method, _refusal(_what))


_clock: ContextVar[Clock | None] = ContextVar("tinytroupe_clock", default=None)
_wall = WallClock()


def current_clock() -> Clock:
    """Return the clock set by `use_clock`, else the process's wall clock."""
    return _clock.get() or _wall


@contextmanager
def use_clock(clock: Clock) -> Iterator[Clock]:
    """Make `clock` the one that worlds and persons use inside the ``with`` block, unless they have their own."""
    token = _clock.set(clock)
    try:
        yield clock
    finally:
        _clock.reset(token)
