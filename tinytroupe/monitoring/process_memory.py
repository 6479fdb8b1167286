"""How much memory the process holds: now, at its highest, and over time. The one place that knows psutil.

1 MB is 2**20 bytes throughout.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from tinytroupe.monitoring.series import BoundedSeries

if TYPE_CHECKING:
    from typing_extensions import Self

MB = 2**20
VMHWM = "VmHWM after a clear_refs reset"
LIFETIME_PEAK = "lifetime peak of the process, which rose meanwhile"
SAMPLED = "highest of samples every 20 ms (shorter peaks can be missed)"

_ON_LINUX = sys.platform.startswith("linux")


def rss_bytes() -> int:
    """Give the resident set size of this process in bytes (about 10 µs)."""
    if _ON_LINUX:
        # /proc/self is resolved anew each time, so the answer is right after a fork too.
        with open("/proc/self/statm", "rb", buffering=0) as statm:
            return int(statm.read(128).split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import psutil

    return int(psutil.Process().memory_info().rss)


def release_free_memory() -> None:
    """Collect garbage, and give back to the system what the allocator holds in reserve, where it can be asked to.

    Before a measurement, so that what it allocates is new to the process. Takes tens of milliseconds.
    """
    import ctypes
    import gc

    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if _ON_LINUX else None  # glibc has it, others need not
    if trim is not None:
        trim(0)


class SharedPeak:
    """Lets measurements that overlap share one high-water mark which any of them may reset.

    Each measurement that begins resets the mark; what the mark said until then is credited to all that are running.

    Parameters
    ----------
    read
        Gives the mark in bytes since the last reset.
    reset
        Lowers the mark to the current value.
    """

    def __init__(self, read: Callable[[], int], reset: Callable[[], None]) -> None:
        self._read = read
        self._reset = reset
        self._lock = threading.Lock()
        self._running: dict[int, int] = {}
        self._next = 0

    def begin(self) -> int:
        """Start a measurement and return its ticket. Raises OSError where the mark cannot be reset."""
        with self._lock:
            self._credit()
            self._reset()
            self._next += 1
            self._running[self._next] = 0
            return self._next

    def end(self, ticket: int) -> int:
        """Finish a measurement and return its peak in bytes."""
        with self._lock:
            self._credit()
            return self._running.pop(ticket)

    def _credit(self) -> None:
        if self._running:
            mark = self._read()
            for ticket, seen in self._running.items():
                self._running[ticket] = max(seen, mark)


def _read_vmhwm() -> int:
    with open("/proc/self/status", "rb", buffering=0) as status:
        text = status.read(8192)
    line = text[text.index(b"VmHWM:") :].split(maxsplit=2)
    return int(line[1]) * 1024


def _reset_vmhwm() -> None:
    with open("/proc/self/clear_refs", "wb", buffering=0) as clear_refs:
        clear_refs.write(b"5")


_vmhwm = SharedPeak(_read_vmhwm, _reset_vmhwm)

heap_peak = SharedPeak(lambda: tracemalloc.get_traced_memory()[1], tracemalloc.reset_peak)
"""The highest Python heap, shared by all who look at it while tracemalloc traces."""


def _lifetime_peak_bytes() -> int:
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024


class HighWaterMark:
    """Measures the highest resident memory of the process while the context is open.

    On Linux the kernel keeps the mark, so that a peak of two milliseconds is not missed; where it cannot be reset
    (no `/proc`, or not writable) a thread samples instead and the process's lifetime peak is used if it rose.
    Contexts may be nested and may overlap between threads.

    Attributes
    ----------
    start_bytes
        Resident memory when the context was entered.
    peak_bytes
        The highest since; 0 until the context is left.
    method
        How the peak was found, for the report.

    Examples
    --------
    >>> with HighWaterMark() as mark:
    ...     block = bytearray(50 * MB)
    >>> mark.peak_bytes - mark.start_bytes > 45 * MB
    True
    """

    def __init__(self) -> None:
        self.start_bytes = 0
        self.peak_bytes = 0
        self.method = ""
        self._ticket: int | None = None
        self._sampler: TimelineSampler | None = None
        self._lifetime_bytes = 0

    def __enter__(self) -> Self:
        self.start_bytes, self.peak_bytes = rss_bytes(), 0
        try:
            self._ticket = _vmhwm.begin()
            self.method = VMHWM
        except (OSError, ValueError):
            self._ticket = None
            self._lifetime_bytes = _lifetime_peak_bytes()
            self._sampler = TimelineSampler()
            self._sampler.start()
            self.method = SAMPLED
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ticket is not None:
            self.peak_bytes = max(_vmhwm.end(self._ticket), self.start_bytes)
            self._ticket = None
            return
        assert self._sampler is not None
        self._sampler.stop()
        lifetime = _lifetime_peak_bytes()
        if lifetime > self._lifetime_bytes:
            self.peak_bytes, self.method = lifetime, LIFETIME_PEAK
        else:
            self.peak_bytes = max(self.start_bytes, int(self._sampler.peak_mb * MB))
        self._sampler = None

    @property
    def peak_mb(self) -> float:
        """The peak in MB."""
        return self.peak_bytes / MB


class TimelineSampler:
    """Samples the process's memory in a background thread, for the chart of a test.

    The number of samples is bounded: when the series is full it is thinned, and its extremes stay.

    Parameters
    ----------
    interval_s
        Seconds between two samples.
    limit
        The most samples and the most marks kept.
    clock
        Gives the time in seconds; only differences matter.

    Examples
    --------
    >>> with TimelineSampler() as sampler:
    ...     sampler.mark("loaded")
    >>> len(sampler.values) >= 2
    True
    """

    def __init__(
        self, interval_s: float = 0.02, *, limit: int = 2000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not (math.isfinite(interval_s) and interval_s > 0):
            raise ValueError(f"the sampling interval must be a positive number of seconds, not {interval_s!r}")
        self.interval_s = interval_s
        self._limit = limit
        self._clock = clock
        self._rss = BoundedSeries(("time_s", "rss_mb"), limit)
        self._heap = BoundedSeries(("time_s", "heap_mb"), limit)
        self._marks: list[tuple[float, str]] = []
        self._noted = 0
        self._mark_every = 1
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._started_s: float | None = None

    def start(self) -> None:
        """Take the first sample and begin. Raises RuntimeError if it is running already."""
        if self._thread is not None:
            raise RuntimeError("this TimelineSampler is running already: stop() it before you start() it again")
        if self._started_s is None:
            self._started_s = self._clock()
        self._stopping.clear()
        self.sample()
        self._thread = threading.Thread(target=self._run, name="memory-timeline", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and take the last sample; does nothing if it is not running."""
        if self._thread is None:
            return
        self._stopping.set()
        self._thread.join()
        self._thread = None
        self.sample()

    def sample(self) -> None:
        """Take one sample now, from the calling thread."""
        rss_mb = rss_bytes() / MB
        heap_mb = tracemalloc.get_traced_memory()[0] / MB if tracemalloc.is_tracing() else None
        with self._lock:
            # Read under the lock, so that times never go backwards between two threads.
            now_s = self._elapsed_s()
            self._rss.append(now_s, rss_mb)
            if heap_mb is not None:
                self._heap.append(now_s, heap_mb)

    def mark(self, label: str) -> None:
        """Note what happens now, for example `"step 3"`; beyond the limit every second, fourth, … note is kept."""
        with self._lock:
            if len(self._marks) >= self._limit:
                del self._marks[1::2]
                self._mark_every *= 2
            if self._noted % self._mark_every == 0:
                self._marks.append((self._elapsed_s(), label))
            self._noted += 1

    @property
    def values(self) -> list[tuple[float, float]]:
        """Pairs of seconds since the start and resident memory in MB."""
        with self._lock:
            return [(t, v) for t, v in self._rss.rows()]

    @property
    def heap_values(self) -> list[tuple[float, float]]:
        """Pairs of seconds since the start and traced heap in MB; empty unless tracemalloc was tracing."""
        with self._lock:
            return [(t, v) for t, v in self._heap.rows()]

    @property
    def marks(self) -> list[tuple[float, str]]:
        """Pairs of seconds since the start and a label."""
        with self._lock:
            return list(self._marks)

    @property
    def peak_mb(self) -> float:
        """The highest resident memory sampled, in MB; 0 before the first sample."""
        return max((value for _, value in self.values), default=0.0)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _elapsed_s(self) -> float:
        if self._started_s is None:
            self._started_s = self._clock()
        return self._clock() - self._started_s

    def _run(self) -> None:
        while not self._stopping.wait(self.interval_s):
            self.sample()
