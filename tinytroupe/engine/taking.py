"""How a person takes a turn: by asking its model, or by the `act` that somebody put in its place."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tinytroupe.agent.tiny_person import TinyPerson
from tinytroupe.config import config_manager
from tinytroupe.engine.turn import Turn, TurnOutcome
from tinytroupe.llm import ChatModel, Usage
from tinytroupe.llm.waiting import during
from tinytroupe.runtime.deadline import within
from tinytroupe.runtime.portal import Calls
from tinytroupe.runtime.threads import DaemonThreads, stopping

MAX_THREADS = 256
"""Plain `act` functions at work at once where ``MAX_WORKERS`` says nothing."""


def replaced_act(person: TinyPerson) -> Callable[[], Any] | None:
    """Return the person's `act` (or `act_async`) where a subclass or the instance replaces it."""
    for name in ("act", "act_async"):
        if name in vars(person) or getattr(type(person), name) is not getattr(TinyPerson, name):
            replaced: Callable[[], Any] = getattr(person, name)
            return replaced
    return None


class Workers:
    """Worker threads for plain `act` functions, at most so many at work at once.

    A thread can't be stopped. One whose turn has timed out is given up: what it asks the simulation for is cancelled,
    but it counts until it returns, in later runs, too, and where such threads fill the bound, turns wait for them. The
    end of the program does not.
    """

    def __init__(self) -> None:
        self._most = MAX_THREADS
        self._threads = DaemonThreads("tinytroupe act")
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._at_work = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def open(self) -> None:
        """Get ready for a run; ``MAX_WORKERS`` is the bound from now on."""
        if os.getpid() != self._pid:  # a fork leaves the threads behind, and the lock as it happened to be
            self._begin_anew()
        self._most = config_manager.get("max_workers") or MAX_THREADS

    @property
    def at_work(self) -> int:
        """Threads at work, those given up included."""
        return self._at_work

    async def call(self, function: Callable[[], Any]) -> None:
        """Run a function in a thread, when one is free; a cancelled call gives it up."""
        loop = asyncio.get_running_loop()
        while not self._begin():
            with during("queued"):
                await self._one_returns()
        calls = Calls()
        started, given_up = threading.Event(), threading.Event()

        def work() -> None:
            with self._lock:
                if given_up.is_set():
                    return
                started.set()
            try:
                stopping(function)()
            finally:
                self._end()

        try:
            await loop.run_in_executor(self._threads, calls.inside(work))
        except BaseException as error:
            with self._lock:
                given_up.set()
            if not started.is_set():  # cancelled before, or no thread could be had
                self._end()
            if isinstance(error, asyncio.CancelledError):
                calls.cancel()
            raise

    def _begin(self) -> bool:
        with self._lock:
            free = self._at_work < self._most
            self._at_work += free
            return free

    def _end(self) -> None:
        with self._lock:
            self._at_work -= 1
            waiting, self._waiting = self._waiting, deque()
        for future in waiting:
            with suppress(RuntimeError):  # its loop is closed: nobody waits any more
                future.get_loop().call_soon_threadsafe(_wake, future)

    async def _one_returns(self) -> None:
        future = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._at_work < self._most:
                return
            self._waiting.append(future)
        try:
            await future
        except asyncio.CancelledError:
            with self._lock, suppress(ValueError):  # woken in the same instant
                self._waiting.remove(future)
            raise


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def take_turn(turn: Turn, model: ChatModel | None, workers: Workers) -> TurnOutcome:
    """Let the person decide. Commits nothing, and raises nothing but cancellation: errors are part of the outcome.

    Parameters
    ----------
    turn
        Whose turn it is.
    model
        The world's model.
    workers
        Where plain functions run.
    """
    loop = asyncio.get_running_loop()
    person, waits, started_s = turn.person, turn.waits, loop.time()

    def outcome(*, queued_s: float = 0.0, **details: Any) -> TurnOutcome:
        return TurnOutcome(
            *(person.name, turn.step, turn.index),
            started_s=started_s,
            finished_s=loop.time(),
            queued_s=max(queued_s, waits.queued_s),  # a model with a gate of its own tells it in its replies
            backoff_s=waits.backoff_s,
            **details,
        )

    limit_s = config_manager.get("turn_timeout")
    limit = within(limit_s)
    try:
        with waits:
            async with limit:
                return outcome(status="acted", **await _acted(turn, model, workers))
    except Exception as error:
        if not limit.expired:
            return outcome(status="failed", error=error)
        what = f"{person.name} was not done in step {turn.step} within {limit_s:g} s (TURN_TIMEOUT)"
        return outcome(status="timed out", error=TimeoutError(f"{what}; raise the setting, or find out what is slow"))


async def _acted(turn: Turn, model: ChatModel | None, workers: Workers) -> dict[str, Any]:
    person, replaced = turn.person, replaced_act(turn.person)
    if replaced is None:
        decided = await person.deliberate(model=model, step=turn.step)
        return {
            "queued_s": decided.queued_s,
            "slot_s": decided.slot_s,
            "usage": decided.usage,
            "deliberation": decided,
            "actions": decided.reply.actions,
        }
    before: Usage = person.usage
    person.pop_latest_actions()  # what was done before is none of this turn
    try:
        if inspect.iscoroutinefunction(replaced):
            await replaced()
        else:
            await workers.call(replaced)
    finally:
        actions = tuple(person.pop_latest_actions())  # where it failed, nobody gets to hear of them
    return {"usage": person.usage - before, "actions": actions}
