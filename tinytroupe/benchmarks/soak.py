"""A long run against a server that misbehaves, and the books afterwards: nothing lost, nothing twice, nothing left."""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import tempfile
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tinytroupe.benchmarks.load import STORM, ModelServer, crowd
from tinytroupe.config import config_manager
from tinytroupe.llm.journal import Journal, use_journal
from tinytroupe.llm.openai_model import OpenAIModel
from tinytroupe.monitoring import rss_bytes
from tinytroupe.runtime.clock import WallClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tinytroupe.environment import StepEvent

MOST_GROWTH = 0.03
"""Share by which memory may grow between the second and the last quarter of the steps and still be called flat."""


@dataclass(frozen=True, slots=True)
class Soak:
    """What a soak came to.

    Attributes
    ----------
    people, steps
        Its size.
    elapsed_s
        How long it took, seconds.
    acted, skipped
        Turns that were decided, and those counted as failed or timed out.
    committed
        Turns that people have done, by their own memory.
    requests
        Requests that arrived at the server, those that went wrong there included.
    answered
        Requests that the server answered as it should.
    journaled
        Exchanges in the journal that have a reply.
    doubled
        Questions that the server answered as it should more than once.
    in_use_peak, bound
        Most calls in flight, and the most allowed.
    memory_mb
        Resident memory after each step.
    left
        What was still there at the end: tasks, threads, open files and sockets, temporary files.
    """

    people: int
    steps: int
    elapsed_s: float
    acted: int
    skipped: int
    committed: int
    requests: int
    answered: int
    journaled: int
    doubled: int
    in_use_peak: int
    bound: int
    memory_mb: tuple[float, ...]
    left: tuple[str, ...]

    @property
    def growth(self) -> float:
        """Share by which memory grew between the second and the last quarter of the steps."""
        quarter = max(len(self.memory_mb) // 4, 1)
        early, late = self.memory_mb[quarter : 2 * quarter], self.memory_mb[-quarter:]
        return statistics.median(late) / statistics.median(early or late) - 1

    @property
    def problems(self) -> tuple[str, ...]:
        """What should not be, in words; empty where all is well. Whether memory is flat is said by `growth` alone."""
        found = [f"left behind: {each}" for each in self.left]
        if self.acted + self.skipped != self.people * self.steps:
            found.append(f"{self.people * self.steps} turns, but {self.acted} acted and {self.skipped} were skipped")
        if self.committed != self.acted:
            found.append(f"{self.acted} turns acted, {self.committed} were committed")
        if self.doubled:
            found.append(f"{self.doubled} questions were answered more than once")
        if not self.answered == self.journaled == self.acted:
            found.append(
                f"the server gave {self.answered} answers, the journal has {self.journaled}, {self.acted} turns acted"
            )
        if self.in_use_peak > self.bound:
            found.append(f"{self.in_use_peak} calls were in flight, {self.bound} are allowed")
        return tuple(found)


def soak(
    people: int,
    steps: int,
    *,
    latency: float | str = "lognormal:0.05,0.5",
    faults: Mapping[str, float] = STORM,
    bound: int = 16,
    attempts: int = 5,
    timeout_s: float = 3.0,
    seed: int = 0,
) -> Soak:
    """Run a crowd against a server that misbehaves, in a process of its own, and go through the books.

    Parameters
    ----------
    people, steps
        How many, and how long.
    latency, faults, seed
        Of the server; see `ModelServer`.
    bound
        Most calls in flight.
    attempts, timeout_s
        Settings ``MAX_ATTEMPTS`` and ``TIMEOUT``.
    """
    acted: Counter[bool] = Counter()
    committed = 0
    memory_mb: list[float] = []

    def look(event: StepEvent) -> None:
        nonlocal committed
        acted.update(outcome.error is None for outcome in event.outcomes)
        for person in event.world.agents:
            committed += sum(action.type == "DONE" for action in person.pop_latest_actions())
        memory_mb.append(rss_bytes() / 2**20)

    settings = {
        "max_adaptive_model_calls": bound,
        "max_attempts": attempts,
        "timeout": timeout_s,
        "seed": seed,
        "loglevel": "ERROR",
        "max_episodic_memory_size": 20,  # full long before the end: from then on nothing should grow
        "auto_consolidate_on_threshold": False,
        "recent_memories_in_prompt": 20,
    }
    with _scratch() as folder, config_manager.override(**settings):
        log, journal = folder / "served", folder / "journal"
        with ModelServer(latency, seed, faults, log=log) as server:
            before = _held()
            with WallClock() as clock, Journal(journal) as kept, use_journal(kept):
                model = OpenAIModel(base_url=server.base_url, api_key="x")
                world = crowd(people, model=model, clock=clock)
                world.on("step", look)
                world.run(steps, timedelta(hours=1))
                elapsed_s = world.get_parallel_metrics()["elapsed_s"]
                in_use_peak, tasks = clock.portal.call(_at_the_end, model)
                journaled = kept.stats().exchanges
            gc.collect()
            left = [*tasks, *(each for each in _held() if each not in before)]
        served = server.served()
        kept_files = {"served", "journal", "journal-wal", "journal-shm"}
        left += [f"file {path.name}" for path in folder.iterdir() if path.name not in kept_files]
    right = Counter((one.person, one.asked) for one in served if not one.fault)
    return Soak(
        people=people,
        steps=steps,
        elapsed_s=elapsed_s,
        acted=acted[True],
        skipped=acted[False],
        committed=committed,
        requests=len(served),
        answered=right.total(),
        journaled=journaled,
        doubled=sum(times > 1 for times in right.values()),
        in_use_peak=in_use_peak,
        bound=bound,
        memory_mb=tuple(memory_mb),
        left=tuple(left),
    )


async def _at_the_end(model: OpenAIModel) -> tuple[int, list[str]]:
    await asyncio.sleep(0.1)  # what is being cancelled has ended
    others = asyncio.all_tasks() - {asyncio.current_task()}
    return model.gate.in_use_peak, [f"task {task.get_name()}: {task.get_coro()!r}" for task in others]


def _held() -> list[str]:
    """Return the threads and, where the system tells, the open files and sockets of this process."""
    held = [f"thread {thread.name}" for thread in threading.enumerate()]
    with suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):  # the listing's own
                held.append(f"open {os.readlink(f'/proc/self/fd/{name}')}")
    return held


@contextmanager
def _scratch() -> Iterator[Path]:
    """Yield a folder in which temporary files of the run would lie, too."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        try:
            yield Path(folder)
        finally:
            tempfile.tempdir = before
