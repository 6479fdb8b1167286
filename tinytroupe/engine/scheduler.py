"""When who acts: one after the other, all people of a step at once, or everyone as soon as nobody can interfere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Protocol

from tinytroupe.engine.turn import Status, Turn, TurnOutcome
from tinytroupe.runtime.deadline import end

Take = Callable[[Turn], Awaitable[TurnOutcome]]
"""Lets the person of a turn decide, and commits nothing. Raises only where the run is to end with this turn: then no
further turn begins, and those under way are cancelled."""

Commit = Callable[[TurnOutcome], None]
"""Makes an outcome part of the world."""

SCHEDULERS = ("sequential", "parallel", "dependency")


class Scheduler(Protocol):
    """Runs the turns of a step.

    `tinytroupe.engine.dependency.DependencyScheduler` runs many steps at once, where a world can do without barriers;
    where it can't, its steps are run like those of `ParallelScheduler`.
    """

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
            outcome = await within(turn, take, left_s)
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
            async with room or nullcontext():
                begun_s[turn.index] = started_s if room is None else loop.time()
                try:
                    return _with_its_wait(await take(turn), started_s, begun_s[turn.index])
                except Exception:
                    # Now, and not when the step hears of it: meanwhile others would get a free place, and begin.
                    for task in tasks:
                        if task is not asyncio.current_task():
                            task.cancel()
                    raise

        tasks = [loop.create_task(one(turn)) for turn in turns]
        try:
            await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            late = {task for task in tasks if not task.done()}
            await end(late)
        now_s = loop.time()
        errors = [task.exception() for task in tasks if not task.cancelled()]
        if (ending := next((error for error in errors if error is not None), None)) is not None:
            raise ending
        outcomes = [
            task.result()
            if not task.cancelled()
            else (timed_out if task in late else cancelled)(turn, begun_s.get(turn.index), started_s, now_s)
            for turn, task in zip(turns, tasks, strict=True)
        ]
        # Failed turns first: where one ends the run, nothing of the step has been done yet.
        for outcome in sorted(outcomes, key=lambda outcome: outcome.error is None):
            commit(outcome)
        return outcomes


async def within(
    turn: Turn, take: Take, timeout_s: float | None, room: AbstractAsyncContextManager[Any] | None = None
) -> TurnOutcome:
    """Take a turn in a task of its own, which is cancelled when its time is over.

    Parameters
    ----------
    turn, take
        Whose, and how.
    timeout_s
        Seconds from now on, the waiting for `room` included; None: any number.
    room
        What to hold while the turn is taken.
    """
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    if timeout_s is not None and timeout_s <= 0:
        return timed_out(turn, None, started_s, started_s)
    begun_s: list[float] = []

    async def one() -> TurnOutcome:
        async with room or nullcontext():
            begun_s.append(started_s if room is None else loop.time())
            return _with_its_wait(await take(turn), started_s, begun_s[0])

    task = loop.create_task(one())
    try:
        await asyncio.wait([task], timeout=timeout_s)
    finally:
        late = not task.done()
        if late:
            await end([task])
    if not task.cancelled():
        return task.result()
    begin_s = begun_s[0] if begun_s else None
    now_s = loop.time()
    return (timed_out if late else cancelled)(turn, begin_s, started_s, now_s)


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
    return _ended(turn, "timed out", begun_s, started_s, now_s, error)


def cancelled(turn: Turn, begun_s: float | None, started_s: float, now_s: float) -> TurnOutcome:
    """Return the outcome of a turn that cancelled itself, which is a failure like any other; see `timed_out`."""
    error = RuntimeError(f"the act of {turn.person.name} was cancelled from inside")
    return _ended(turn, "failed", begun_s, started_s, now_s, error)


def _ended(
    turn: Turn, status: Status, begun_s: float | None, started_s: float, now_s: float, error: Exception
) -> TurnOutcome:
    waited_s = (now_s if begun_s is None else begun_s) - started_s
    return TurnOutcome(
        *(turn.person.name, turn.step, turn.index, status, started_s, now_s),
        queued_s=waited_s + turn.waits.queued_s,
        backoff_s=turn.waits.backoff_s,
        error=error,
    )


def _with_its_wait(outcome: TurnOutcome, started_s: float, begun_s: float) -> TurnOutcome:
    """Return an outcome with the time for which it waited for a place among the workers."""
    waited_s = begun_s - started_s
    return replace(outcome, started_s=started_s, queued_s=outcome.queued_s + waited_s) if waited_s else outcome


_forced: ContextVar[str | None] = ContextVar("tinytroupe_forced_scheduler", default=None)


@contextmanager
def force_scheduler(name: str) -> Iterator[None]:
    """Run every world in the ``with`` block with this scheduler, whatever the program asks for.

    So that one program can be measured both ways.
    """
    _check(name)
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def chosen(asked: str) -> str:
    """Return the name of the scheduler to use where the program asks for `asked`: that one, or the forced one.

    Raises
    ------
    ValueError
        There is none of that name; the message lists those there are.
    """
    name = _forced.get() or asked
    if name != "auto":
        _check(name)
    return name


def scheduler_named(name: str) -> Scheduler:
    """Return the scheduler of that name for single steps; ``dependency``, where it can't run ahead, is ``parallel``.

    Raises
    ------
    ValueError
        There is none; the message lists those there are.
    """
    _check(name)
    return SequentialScheduler() if name == "sequential" else ParallelScheduler()


def _check(name: str) -> None:
    if name not in SCHEDULERS:
        raise ValueError(f"unknown scheduler {name!r}; there are: auto, {', '.join(SCHEDULERS)}")
