"""Whether a run is divided into shards, into which, and where they live."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from tinytroupe.config import config_manager
from tinytroupe.environment.events import StepEvent
from tinytroupe.environment.fences import fences, reach
from tinytroupe.environment.running import Run
from tinytroupe.environment.shards.backend import LocalBackend, ShardBackend
from tinytroupe.environment.shards.driver import ShardedRun
from tinytroupe.environment.shards.partition import divided
from tinytroupe.environment.shards.ray_backend import RayBackend
from tinytroupe.runtime.cluster import check_installed

if TYPE_CHECKING:
    from tinytroupe.environment.tiny_world import TinyWorld

PEOPLE_A_SHARD = 500
"""People of a shard where nobody says how many shards there are, and they do not live in this process."""

BACKENDS = ("local", "ray")


@dataclass(frozen=True, slots=True)
class Home:
    """Where the people of a world are to live during a run.

    Attributes
    ----------
    world
        The world.
    backend
        Where the shards live.
    shards
        How many there are.
    """

    world: TinyWorld
    backend: ShardBackend
    shards: int

    async def run(self, steps: int, timedelta_per_step: timedelta | None, told: Callable[[StepEvent], None]) -> None:
        """Run so many steps; see `ShardedRun.go`."""
        groups = divided(reach(self.world), len(self.world.agents), self.shards)
        run = Run(self.world, fenced=False, timedelta_per_step=timedelta_per_step, told=told)
        await ShardedRun(run, self.backend, groups).go(steps)


def home_of(
    world: TinyWorld, asked: str | ShardBackend | None, shards: int | None, *, scheduler: str, chosen: str
) -> Home | None:
    """Return where the people of a world live during a run; None: where they are, undivided.

    Parameters
    ----------
    world
        The world.
    asked, shards
        What the program asks for; see `TinyWorld.run`.
    scheduler, chosen
        The scheduler that the program asks for, and the one that is used.

    Raises
    ------
    ValueError
        The run can't be divided; the message says why.
    """
    where = config_manager.get("backend") if asked is None else asked
    if isinstance(where, str) and where not in BACKENDS:
        raise ValueError(f"unknown backend {where!r}; there are: {', '.join(BACKENDS)}")
    number = _number(world, where, shards)
    if number == 1 and where == "local":
        return None
    if chosen == "sequential":
        if scheduler == chosen:
            raise ValueError(
                "in shards people act at once; leave out shards and backend, or ask for no 'sequential' run"
            )
        return None  # measured both ways: see `force_scheduler`
    if fenced := fences(world):
        raise ValueError(f"world {world.name!r} can't be divided into shards, because {'; '.join(fenced)}")
    return Home(world, _backend(world, where), number)


def _backend(world: TinyWorld, where: str | ShardBackend) -> ShardBackend:
    if where == "local":
        return LocalBackend(world.clock)
    if where == "ray":
        check_installed()
        return RayBackend()
    assert not isinstance(where, str)
    return where


def _number(world: TinyWorld, where: str | ShardBackend, asked: int | None) -> int:
    shards: int | None = config_manager.get("shards") if asked is None else asked
    if shards is None:
        return 1 if where == "local" else math.ceil(len(world.agents) / PEOPLE_A_SHARD)
    if not isinstance(shards, int) or isinstance(shards, bool) or shards < 1:
        raise ValueError(f"shards must be a whole number of at least 1, or None, got {shards!r}")
    return min(shards, len(world.agents))
