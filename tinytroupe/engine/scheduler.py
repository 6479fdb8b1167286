"""When who acts: one after the other, or all people of a step at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from tinytroupe.engine.turn import Turn, TurnOutcome

Take = Callable[[Turn], Awaitable[TurnOutcome]]
"""Lets the person of a turn decide. Commits nothing, and never raises but for cancellation."""

Commit = Callable[[TurnOutcome], None]
"""Makes an outcome part of the world."""

SCHEDULERS = ("sequential", "parallel")


class Scheduler(Protocol):
    """Runs the turns of a step."""

    name: str

    async def run_step(
        self, turns: Sequence[Turn], take: Take, commit: Commit, *, timeout_s: float | None, slots: int
    ) -> list[TurnOutcome]:
        """Take every turn and commit its outcome in the order of the agents.

        Parameters
        ----------
        turns
            The turns of the step, in agent order.
        take, commit
            See `Take` and `Commit`.
        timeout_s
            Seconds for the whole step; a turn that is not done by then is cancelled and times out.
        slots
            Turns under way at once, at most.

        Returns
        -------
        list
            One outcome a turn, in agent order.
        """
        ...


class SequentialScheduler:
    """One after the other: everyone acts on what those before have just done."""

    name = "sequential"

    async def run_step(
        self, turns: Sequence[Turn], take: Take, commit: Commit, *, timeout_s: float | None, slots: int
    ) -> list[TurnOutcome]:
        """See `Scheduler.run_step`."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        outcomes = []
        for turn in turns:
            left_s = None if deadline is None else deadline - loop.time()
            outcome = await _within(turn, take, left_s)
            commit(outcome)
            outcomes.append(outcome)
        return outcomes


class ParallelScheduler:
    """All at once, with a barrier at the end of the step: everyone acts on what was there when the step began."""

    name = "parallel"

    async def run_step(
        self, turns: Sequence[Turn], take: Take, commit: Commit, *, timeout_s: float | None, slots: int
    ) -> list[TurnOutcome]:
        """See `Scheduler.run_step`."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        room = asyncio.Semaphore(slots) if slots < len(turns) else None
        begun_s: dict[int, float] = {}

        async def one(turn: Turn) -> TurnOutcome:
            if room is None:
                begun_s[turn.index] = started_s
                return await take(turn)
            async with room:
                begun_s[turn.index] = loop.time()
                return await take(turn)

        tasks = [loop.create_task(one(turn)) for turn in turns]
        try:
            await asyncio.wait(tasks, timeout=timeout_s)
        finally:
            late = {task for task in tasks if not task.done()}
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        now_s = loop.time()
        outcomes = [
            task.result()
            if not task.cancelled()
            else timed_out(turn, begun_s.get(turn.index), started_s, now_s)
            if task in late
            else cancelled(turn, begun_s.get(turn.index, started_s), now_s)
            for turn, task in zip(turns, tasks, strict=True)
        ]
        # Failed turns first: where one ends the run, nothing of the step has been done yet.
        for outcome in sorted(outcomes, key=lambda outcome: outcome.error is None):
            commit(outcome)
        return outcomes


async def _within(turn: Turn, take: Take, left_s: float | None) -> TurnOutcome:
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    if left_s is None:
        return await take(turn)
    if left_s <= 0:
        return timed_out(turn, None, started_s, started_s)
    task = asyncio.ensure_future(take(turn))
    try:
        await asyncio.wait([task], timeout=left_s)
    finally:
        late = not task.done()
        if late:
            task.cancel()
            await asyncio.wait([task])
    if task.cancelled():
        now_s = loop.time()
        return timed_out(turn, started_s, started_s, now_s) if late else cancelled(turn, started_s, now_s)
    return task.result()


def timed_out(turn: Turn, begun_s: float | None, started_s: float, now_s: float) -> TurnOutcome:
    """Return the outcome of a turn that was ended with the step's time.

    Parameters
    ----------
    turn
        Whose.
    begun_s
        When it got a slot; None where it never did, and so was only queued.
    started_s, now_s
        When it could have begun, and when it was ended.
    """
    what = "was not done" if begun_s is not None else "had not begun"
    error = TimeoutError(
        f"{turn.person.name} {what} in step {turn.step} after {now_s - started_s:.3g} s "
        f"(PARALLEL_EXECUTION_TIMEOUT); raise the setting, or find out what is slow"
    )
    begin_s = started_s if begun_s is None else begun_s
    queued_s = now_s - started_s if begun_s is None else 0.0
    return TurnOutcome(
        turn.person.name, turn.step, turn.index, "timed out", begin_s, now_s, queued_s=queued_s, error=error
    )


def cancelled(turn: Turn, begun_s: float, now_s: float) -> TurnOutcome:
    """Return the outcome of a turn that cancelled itself, which is a failure like any other."""
    error = RuntimeError(f"the act of {turn.person.name} was cancelled from inside")
    return TurnOutcome(turn.person.name, turn.step, turn.index, "failed", begun_s, now_s, error=error)


_forced: ContextVar[str | None] = ContextVar("tinytroupe_forced_scheduler", default=None)


@contextmanager
def force_scheduler(name: str) -> Iterator[None]:
    """Run every world in the ``with`` block with this scheduler, whatever the program asks for.

    So that one program can be measured both ways.
    """
    scheduler_named(name)
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def chosen(asked: str) -> Scheduler:
    """Return the scheduler to use where the program asks for `asked` (``auto``: parallel)."""
    return scheduler_named(_forced.get() or ("parallel" if asked == "auto" else asked))


def scheduler_named(name: str) -> Scheduler:
    """Return the scheduler of that name.

    Raises
    ------
    ValueError
        There is none; the message lists those there are.
    """
    if name == "sequential":
        return SequentialScheduler()
    if name == "parallel":
        return ParallelScheduler()
    raise ValueError(f"unknown scheduler {name!r}; there are: auto, {', '.join(SCHEDULERS)}")
