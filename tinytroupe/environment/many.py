"""Several worlds at once in one process: the base of replicated experiments."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tinytroupe.agent.action import Action
from tinytroupe.environment import display
from tinytroupe.environment.tiny_world import TinyWorld
from tinytroupe.runtime.clock import Clock, current_clock


@dataclass(frozen=True, slots=True)
class WorldRun:
    """What became of one of several worlds.

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

    Returns
    -------
    list of WorldRun
        One a world, in the order given.

    Raises
    ------
    ValueError
        No worlds, one of them twice or two of one name, on different clocks, or an argument that no world could run
        with. Nothing has run then.

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
) -> list[WorldRun]:
    """See `run_many`."""
    given = list(worlds)
    _clock_of(given)
    if at_once is not None and at_once < 1:
        raise ValueError(f"at_once must be at least 1, or None for all worlds, got {at_once!r}")
    for world in given:
        world.check_run(steps, parallelize=parallelize, scheduler=scheduler)
    room = asyncio.Semaphore(at_once or len(given))

    async def one(world: TinyWorld) -> WorldRun:
        options: dict[str, Any] = {"parallelize": parallelize, "scheduler": scheduler}
        async with room:
            try:
                actions = await world.run_async(steps, timedelta_per_step, return_actions, **options)
            except Exception as error:
                return WorldRun(world, error=error)
            return WorldRun(world, actions)

    with display.one_line(f"{len(given)} worlds", steps * len(given)):
        tasks = [asyncio.ensure_future(one(world)) for world in given]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:  # where this very run is cancelled (Ctrl-C), none goes on unseen
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


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
