"""Where time and heap go: a decorator and a context manager for functions of any kind."""

from __future__ import annotations

import functools
import gc
import inspect
import math
import sys
import threading
import time
import tracemalloc
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO, TypeVar, cast

from tinytroupe.monitoring.process_memory import MB, heap_peak

if TYPE_CHECKING:
    from typing_extensions import Self

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Who is running now, outermost first: recursion is told apart from calls that merely overlap in other tasks or threads.
_running: ContextVar[tuple[_Entry, ...]] = ContextVar("memory_profiler_running", default=())
_tracing_lock = threading.Lock()
_tracing_users = 0


@dataclass(slots=True, eq=False)
class _Entry:
    name: str
    calls: int = 0
    recursive_calls: int = 0
    errors: int = 0
    total_s: float = 0.0
    summed_s: float = 0.0
    min_s: float = math.inf
    max_s: float = 0.0
    peak_heap_bytes: int = 0
    net_heap_bytes: int = 0

    def stats(self, traced: bool) -> dict[str, Any]:
        stats: dict[str, Any] = {
            "calls": self.calls,
            "recursive_calls": self.recursive_calls,
            "errors": self.errors,
            "total_s": self.total_s,
            "avg_s": self.summed_s / self.calls if self.calls else 0.0,
            "min_s": self.min_s if self.calls else 0.0,
            "max_s": self.max_s,
        }
        if traced:
            stats["peak_heap_mb"] = self.peak_heap_bytes / MB
            stats["net_heap_mb"] = self.net_heap_bytes / MB
        return stats


class _HeapSpan:
    """Peak and net heap of one call; starts tracing for the outermost one and stops it again."""

    __slots__ = ("_before", "_owns_tracing", "_ticket", "net_bytes", "peak_bytes")

    def __init__(self) -> None:
        global _tracing_users
        with _tracing_lock:
            self._owns_tracing = _tracing_users > 0 or not tracemalloc.is_tracing()
            if self._owns_tracing:
                _tracing_users += 1
                if not tracemalloc.is_tracing():
                    gc.collect()
                    tracemalloc.start()
        self._ticket = heap_peak.begin()
        self._before = tracemalloc.get_traced_memory()[0]

    def close(self) -> None:
        global _tracing_users
        self.net_bytes = tracemalloc.get_traced_memory()[0] - self._before
        self.peak_bytes = max(0, heap_peak.end(self._ticket) - self._before)
        if self._owns_tracing:
            with _tracing_lock:
                _tracing_users -= 1
                if not _tracing_users:
                    tracemalloc.stop()


class MemoryProfiler:
    """Measures how often, how long and (if asked) with how much heap things run.

    Every call counts, recursive ones too. The total is the time the outermost calls took, so recursion is not counted
    twice; average, minimum and maximum are over all calls. A coroutine is timed from its first step to its end,
    waiting included; a generator only while it is the one that runs. Exceptions pass through and are counted.

    Parameters
    ----------
    trace_heap
        Measure peak and net heap with tracemalloc, which makes code three to five times slower.
    clock
        Gives the time in seconds; only differences matter.

    Examples
    --------
    >>> profiler = MemoryProfiler()
    >>> @profiler.profile
    ... def work() -> int:
    ...     return 42
    >>> work()
    42
    >>> profiler.get_stats("work")["calls"]
    1
    """

    def __init__(self, trace_heap: bool = False, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.trace_heap = trace_heap
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._blocks: list[Any] = []

    def profile(self, function: _Function) -> _Function:
        """Decorate a function, method, coroutine function or (async) generator function."""
        if not callable(function):
            raise TypeError(f"profile() decorates functions, not {type(function).__name__}")
        entry = self._entry_for(function)
        if inspect.isasyncgenfunction(function):
            wrapper: Callable[..., Any] = self._wrap_async_generator(function, entry)
        elif inspect.iscoroutinefunction(function):
            wrapper = self._wrap_coroutine(function, entry)
        elif inspect.isgeneratorfunction(function):
            wrapper = self._wrap_generator(function, entry)
        else:
            wrapper = self._wrap_function(function, entry)
        return cast("_Function", functools.wraps(function)(wrapper))

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Measure a block under a name of its own."""
        with self._measured(self._entry(("", name))):
            yield

    def __enter__(self) -> Self:
        block = self.measure("block")
        block.__enter__()
        self._blocks.append(block)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blocks.pop().__exit__(kind, error, trace)

    def get_stats(self, name: str | None = None) -> dict[str, Any]:
        """Give what was measured: for one function, or for all by name.

        Returns
        -------
        dict
            `calls`, `recursive_calls`, `errors`, `total_s`, `avg_s`, `min_s`, `max_s`, and with `trace_heap`
            `peak_heap_mb` (above what was held when the call began, the highest of all calls) and `net_heap_mb`
            (what outermost calls left behind, in sum).

        Raises
        ------
        LookupError
            If nothing of that name was measured.
        """
        with self._lock:
            stats = {entry.name: entry.stats(self.trace_heap) for entry in self._entries.values()}
        if name is None:
            return stats
        if name not in stats:
            raise LookupError(
                f"nothing named {name!r} was profiled; known: {', '.join(sorted(stats)) or 'nothing yet'}"
            )
        return stats[name]

    def print_stats(self, *, file: TextIO | None = None) -> None:
        """Print what was measured, in the order of decoration, to `file` or standard output."""
        blocks = []
        for name, stats in self.get_stats().items():
            lines = [f"Function: {name}", f"  Calls: {stats['calls']}"]
            lines += [
                f"  {key.capitalize() + ':':6} {stats[key + '_s']:.2f}s" for key in ("total", "avg", "min", "max")
            ]
            if self.trace_heap:
                lines.append(f"  Peak heap: {stats['peak_heap_mb']:.2f} MB")
                lines.append(f"  Net heap:  {stats['net_heap_mb']:+.2f} MB")
            blocks.append("\n".join(lines) + "\n")
        (file if file is not None else sys.stdout).write("\n".join(blocks))

    def reset(self) -> None:
        """Forget the figures; decorated functions stay decorated."""
        with self._lock:
            for key, entry in self._entries.items():
                fresh = _Entry(entry.name)
                for slot in _Entry.__slots__:
                    setattr(self._entries[key], slot, getattr(fresh, slot))

    # ------------------------------------------------------------------ inside

    def _entry_for(self, function: Callable[..., Any]) -> _Entry:
        qualified = getattr(function, "__qualname__", type(function).__qualname__)
        return self._entry((getattr(function, "__module__", "") or "", qualified.rsplit("<locals>.", 1)[-1]))

    def _entry(self, key: tuple[str, str]) -> _Entry:
        with self._lock:
            if key not in self._entries:
                taken = {entry.name for entry in self._entries.values()}
                module, name = key
                self._entries[key] = _Entry(name if name not in taken else f"{module or 'block'}.{name}")
            return self._entries[key]

    def _wrap_function(self, function: Callable[..., Any], entry: _Entry) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self._measured(entry):
                return function(*args, **kwargs)

        return wrapper

    def _wrap_coroutine(self, function: Callable[..., Any], entry: _Entry) -> Callable[..., Any]:
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self._measured(entry):
                return await function(*args, **kwargs)

        return wrapper

    def _wrap_generator(self, function: Callable[..., Any], entry: _Entry) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            call = _PausedCall(self, entry)
            try:
                return (yield from _TimedGenerator(call, function(*args, **kwargs)))
            finally:
                call.finish()

        return wrapper

    def _wrap_async_generator(self, function: Callable[..., Any], entry: _Entry) -> Callable[..., Any]:
        async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            call = _PausedCall(self, entry)
            generator = function(*args, **kwargs)
            advance, argument = generator.asend, None
            try:
                while True:
                    with call.active():
                        try:
                            value = await advance(argument)
                        except StopAsyncIteration:
                            return
                    try:
                        advance, argument = generator.asend, (yield value)
                    except GeneratorExit:
                        raise
                    except BaseException as error:
                        advance, argument = generator.athrow, error
            finally:
                with call.active():
                    await generator.aclose()
                call.finish()

        return wrapper

    @contextmanager
    def _measured(self, entry: _Entry) -> Iterator[None]:
        call = _PausedCall(self, entry)
        try:
            with call.active():
                yield
        finally:
            call.finish()

    def _count(self, entry: _Entry, call: _PausedCall) -> None:
        with self._lock:
            entry.calls += 1
            entry.recursive_calls += call.recursive
            entry.errors += call.failed
            entry.summed_s += call.elapsed_s
            entry.min_s = min(entry.min_s, call.elapsed_s)
            entry.max_s = max(entry.max_s, call.elapsed_s)
            entry.peak_heap_bytes = max(entry.peak_heap_bytes, call.peak_heap_bytes)
            if not call.recursive:
                entry.total_s += call.elapsed_s
                entry.net_heap_bytes += call.net_heap_bytes


class _PausedCall:
    """One call, which may be left and entered again (a generator's)."""

    __slots__ = (
        "_entry",
        "_profiler",
        "elapsed_s",
        "failed",
        "net_heap_bytes",
        "peak_heap_bytes",
        "recursive",
    )

    def __init__(self, profiler: MemoryProfiler, entry: _Entry) -> None:
        self._profiler = profiler
        self._entry = entry
        self.elapsed_s = 0.0
        self.failed = False
        self.recursive = False
        self.peak_heap_bytes = 0
        self.net_heap_bytes = 0

    @contextmanager
    def active(self) -> Iterator[None]:
        outer = _running.get()
        self.recursive = self.recursive or self._entry in outer
        token = _running.set((*outer, self._entry))
        heap = _HeapSpan() if self._profiler.trace_heap else None
        clock = self._profiler._clock
        started_s = clock()
        try:
            yield
        except GeneratorExit:
            raise
        except BaseException:
            self.failed = True
            raise
        finally:
            self.elapsed_s += clock() - started_s
            if heap is not None:
                heap.close()
                self.peak_heap_bytes = max(self.peak_heap_bytes, heap.peak_bytes)
                self.net_heap_bytes += heap.net_bytes
            # A coroutine that is thrown away unfinished is closed in whatever context collects it.
            with suppress(ValueError):
                _running.reset(token)

    def finish(self) -> None:
        self._profiler._count(self._entry, self)


class _TimedGenerator(Generator[Any, Any, Any]):
    """Passes everything on to a generator and times only its own work."""

    def __init__(self, call: _PausedCall, generator: Generator[Any, Any, Any]) -> None:
        self._call = call
        self._generator = generator

    def send(self, value: Any) -> Any:
        # StopIteration must not cross a context manager made from a generator: it would become a RuntimeError.
        ended: StopIteration | None = None
        with self._call.active():
            try:
                return self._generator.send(value)
            except StopIteration as stop:
                ended = stop
        raise ended

    def throw(self, kind: Any, value: Any = None, trace: Any = None) -> Any:
        error = value if isinstance(value, BaseException) else kind
        ended: StopIteration | None = None
        with self._call.active():
            try:
                return self._generator.throw(error)
            except StopIteration as stop:
                ended = stop
        raise ended
