"""Real time and CPU time of one call, and beside them how fast, and how busy, the machine was just then."""

from __future__ import annotations

import gc
import time

from pytest_tinytroupe.instruments import Reading
from pytest_tinytroupe.queueing import queued, queued_between
from pytest_tinytroupe.timing import Run

WORK = 36_000
"""Rounds of calibration before the call, and as many after it: 10 to 20 ms each."""

STOOD_STILL = "perf: time.perf_counter stood still during the call; freeze time inside the test, not around it"


class Timed:
    """Measures the call between two halves of a calibration loop.

    Parameters
    ----------
    rounds
        Where the measured round goes.
    """

    def __init__(self, rounds: list[Run]) -> None:
        self._rounds = rounds
        self._run = Run(0.0, 0.0, 0.0)
        self._before_s = 0.0
        self._wall_s = 0.0
        self._cpu_s = 0.0
        self._queued: dict[str, int] = {}

    def start(self) -> None:
        """Calibrate, and begin."""
        gc.collect()  # what was left by others is not collected at this test's cost
        self._before_s = calibrate()
        self._queued = queued()
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """End, and calibrate again."""
        cpu_s, wall_s = time.process_time() - self._cpu_s, time.perf_counter() - self._wall_s
        queued_s = queued_between(self._queued, queued())
        gc.collect()
        # What others on the machine took from the call is not the call's.
        alone_s = max(wall_s - queued_s, min(cpu_s, wall_s), 1e-9)
        self._wall_s = wall_s
        self._run = Run(alone_s, cpu_s, (self._before_s + calibrate()) / 2, queued_s)

    def read(self) -> Reading:
        """Hand over the round; a single one is no metric yet.

        Raises
        ------
        RuntimeError
            Somebody has frozen the time: a call that takes none would satisfy any limit.
        """
        if not self._wall_s > 0:
            raise RuntimeError(STOOD_STILL)
        self._rounds.append(self._run)
        return Reading()


def set_aside() -> None:
    """Keep all objects that exist out of the garbage collector's sight, as long as the process lives.

    To look through what pytest, its plugins and imports have left takes longer than many a call, and whether a
    collection falls into one is chance.
    """
    gc.collect()
    gc.freeze()


def calibrate() -> float:
    """Return the CPU time of a piece of work that never changes, in seconds."""
    start = time.process_time()
    work(WORK)
    return time.process_time() - start


def work(rounds: int) -> int:
    """Do what programs like the measured ones do: dictionaries, strings, tuples, sorting, calls of functions."""
    counts: dict[str, int] = {}
    kept: list[tuple[int, str]] = []
    total = 0
    for number in range(rounds):
        key = f"key{number % 97}"
        counts[key] = counts.get(key, 0) + number
        kept.append((number, key))
        if number % 50 == 0:
            kept.sort(key=lambda pair: pair[0])
            total += sum(counts.values()) % 7
            kept.clear()
    return total
