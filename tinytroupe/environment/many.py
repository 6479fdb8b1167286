"""Several worlds at once, in one process or on a cluster: replicated experiments."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tinytroupe.agent.action import Action
from tinytroupe.environment import display
from tinytroupe.environment.ray_tasks import RayTasks
from tinytroupe.environment.remote_world import RunOptions
from tinytroupe.environment.tiny_world import TinyWorld
from tinytroupe.runtime.clock import Clock, current_clock
from tinytroupe.runtime.deadline import all_of

logger = logging.getLogger("tinytroupe.world")

_FAILURES_TOLD = 10


@dataclass(frozen=True, slots=True)
class WorldRun:
    """The outcome of one of several worlds.

    Attributes
    ----------
    world
        The world; its state, metrics and timeline are those of this run alone.
    actions
        As `TinyWorld.run` returns them: for each step, the actions of each person by name; None where they were not
        asked for, or the run failed.
    error
        What ended its run early; None where it ended well. The other worlds went on.
    """

    world: TinyWorld
    actions: list[dict[str, list[Action]]] | None = None
    error: Exception | None = None


def run_many(
    worlds: Iterable[TinyWorld],
    steps: int,
    timedelta_per_step: timedelta | None = None,
    return_actions: bool = False,
    *,
    parallelize: bool | None = None,
    scheduler: str | None = None,
    at_once: int | None = None,
    backend: str | RayTasks | None = None,
    on_done: Callable[[WorldRun], None] | None = None,
) -> list[WorldRun]:
    """Run several worlds at once.

    They share the model's client, connections and gate, and the gate serves them in turn: a small world does not wait
    behind the calls of a large one. Everything else is each world's own, so that every world ends as it would have
    ended alone, and a failure ends the run of its own world only.

    Parameters
    ----------
    worlds
        The worlds, of different names: a journal knows exchanges by the name of the world.
    steps, timedelta_per_step, return_actions, parallelize, scheduler
        As of `TinyWorld.run`, for each of them.
    at_once
        How many of them run at once, at most; the others wait in order. None: all.
    backend
        ``local``, the default: in this process. ``ray``, or `RayTasks` with particulars: each world in a process of
        its own on a cluster (extra ``ray``). Limits a minute (``REQUESTS_PER_MINUTE``, ``TOKENS_PER_MINUTE``) are
        kept by all of them together; calls in flight are each world's own. Worlds and people go on here with what has
        become of them. A journal in use takes in what all of them have asked, so that a study can be resumed.
    on_done
        Called with each `WorldRun` as soon as it is there, in a worker thread, one at a time.

    Returns
    -------
    list of WorldRun
        One a world, in the order given.

    Raises
    ------
    ValueError
        No worlds, one of them twice or two of one name, on different clocks, or an argument that no world could run
        with; with ``ray``, a world that can't be sent to another process. Nothing has run then.
    ImportError
        ``ray`` is not installed.

    Examples
    --------
    >>> from tinytroupe import TinyPerson, TinyWorld, run_many
    >>> from tinytroupe.testing import MockLLM
    >>> towns = [TinyWorld(f"Town {number}", [TinyPerson(f"Ann {number}")]) for number in range(3)]
    >>> with MockLLM():
    ...     [each.error for each in run_many(towns, 2)]
    [None, None, None]
    """
    given = list(worlds)
    return _clock_of(given).portal.call(
        run_many_async,
        given,
        steps,
        timedelta_per_step,
        return_actions,
        parallelize=parallelize,
        scheduler=scheduler,
        at_once=at_once,
        backend=backend,
        on_done=on_done,
    )


async def run_many_async(
    worlds: Iterable[TinyWorld],
    steps: int,
    timedelta_per_step: timedelta | None = None,
    return_actions: bool = False,
    *,
    parallelize: bool | None = None,
    scheduler: str | None = None,
    at_once: int | None = None,
    backend: str | RayTasks | None = None,
    on_done: Callable[[WorldRun], None] | None = None,
) -> list[WorldRun]:
    """See `run_many`."""
    given = list(worlds)
    _clock_of(given)
    if at_once is not None and at_once < 1:
        raise ValueError(f"at_once must be at least 1, or None for all worlds, got {at_once!r}")
    if isinstance(backend, str) and backend not in ("local", "ray"):
        raise ValueError(f"unknown backend {backend!r}; there are: local, ray")
    for world in given:
        world.check_run(steps, parallelize=parallelize, scheduler=scheduler)
    options = RunOptions(steps, timedelta_per_step, return_actions, parallelize, scheduler)
    one_by_one = asyncio.Lock()

    async def done(run: WorldRun) -> None:
        if on_done is not None:
            async with one_by_one:
                await asyncio.to_thread(on_done, run)

    if backend in (None, "local"):
        runs = await _run_here(given, options, at_once, done)
    else:
        runs = await _run_on(RayTasks() if isinstance(backend, str) else backend, given, options, at_once, done)
    _tell(runs)
    return runs


async def _run_here(
    given: Sequence[TinyWorld], options: RunOptions, at_once: int | None, done: Callable[[WorldRun], Any]
) -> list[WorldRun]:
    room = asyncio.Semaphore(at_once or len(given))

    async def one(world: TinyWorld) -> WorldRun:
        async with room:
            try:
                actions = await world.run_async(
                    options.steps,
                    options.timedelta_per_step,
                    options.return_actions,
                    parallelize=options.parallelize,
                    scheduler=options.scheduler,
                )
            except Exception as error:
                run = WorldRun(world, error=error)
            else:
                run = WorldRun(world, actions)
        await done(run)
        return run

    with display.one_line(f"{len(given)} worlds", options.steps * len(given)):
        return await all_of([asyncio.ensure_future(one(world)) for world in given])


async def _run_on(
    tasks: RayTasks,
    given: Sequence[TinyWorld],
    options: RunOptions,
    at_once: int | None,
    done: Callable[[WorldRun], Any],
) -> list[WorldRun]:
    runs: dict[int, WorldRun] = {}
    with display.counting(f"{len(given)} worlds", len(given)) as count:

        async def told(index: int, actions: list[dict[str, list[Action]]] | None, error: Exception | None) -> None:
            runs[index] = WorldRun(given[index], actions, error)
            count(error is not None)
            await done(runs[index])

        await tasks.run(given, options, at_once, told)
    return [runs[index] for index in range(len(given))]


def _tell(runs: Sequence[WorldRun]) -> None:
    failed = [run for run in runs if run.error is not None]
    if failed:
        shown = [f"{run.world.name}: {run.error}" for run in failed[:_FAILURES_TOLD]]
        more = [f"and {len(failed) - len(shown)} more"] if len(failed) > len(shown) else []
        logger.warning("%d of %d worlds failed: %s", len(failed), len(runs), "; ".join([*shown, *more]))


def _clock_of(worlds: Sequence[TinyWorld]) -> Clock:
    if not worlds:
        raise ValueError("there are no worlds to run")
    twice = [name for name, times in Counter(world.name for world in worlds).items() if times > 1]
    if twice:
        raise ValueError(f"more than one world is named {', '.join(map(repr, twice))}; give each a name of its own")
    clocks = {id(world.clock): world.clock for world in worlds if world.clock is not None}
    if len(clocks) > 1 or (clocks and any(world.clock is None for world in worlds)):
        raise ValueError("the worlds live on different clocks; worlds that run at once share one")
    return next(iter(clocks.values())) if clocks else current_clock()
