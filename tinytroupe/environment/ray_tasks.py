"""Worlds as tasks on a Ray cluster: each is lived through in a process of its own, wherever there is room."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tinytroupe.agent.action import Action
from tinytroupe.config import config_manager
from tinytroupe.environment.remote_world import Lived, RunOptions, check, live, packed
from tinytroupe.environment.tiny_world import TinyWorld
from tinytroupe.llm.remote_broker import broker_on
from tinytroupe.runtime.clock import VirtualEventLoop
from tinytroupe.runtime.cluster import check_installed, connection
from tinytroupe.runtime.deadline import all_of

MOST_SUBMITTED = 1000
"""Worlds that are handed to the cluster at once, at most, where nobody says how many."""

Told = Callable[[int, "list[dict[str, list[Action]]] | None", "Exception | None"], Awaitable[None]]
"""Is told of each world that is done: its position, its actions where they were asked for, what ended it early."""


@dataclass(frozen=True, slots=True)
class RayTasks:
    """Where worlds are lived through, for `tinytroupe.run_many`.

    Attributes
    ----------
    address
        The cluster; see `tinytroupe.runtime.cluster.connected`.
    task_options
        Of each task, as Ray names them: ``num_cpus``, ``resources``, … A world takes one CPU unless told otherwise,
        and waits for its model most of the time: ``{"num_cpus": 0.1}`` lets ten share one.
    """

    address: str | None = None
    task_options: Mapping[str, Any] = field(default_factory=dict)

    async def run(self, worlds: Sequence[TinyWorld], options: RunOptions, at_once: int | None, told: Told) -> None:
        """Live through worlds; each goes on here with what has become of it when its task is done.

        A task that dies is not begun anew: it would ask everything once more.

        Raises
        ------
        ImportError
            Ray is not installed.
        ValueError
            A world can't be sent to another process, or the run is on virtual time. Nothing has run then.
        ConnectionError
            There is no cluster at the address.
        """
        if isinstance(asyncio.get_running_loop(), VirtualEventLoop):
            raise ValueError("backend 'ray' runs on real time; on virtual time, leave it out")
        for world in worlds:
            check(world)
        check_installed()
        async with connection(self.address) as ray:
            await self._submit(ray, worlds, options, at_once, told)

    async def _submit(
        self, ray: Any, worlds: Sequence[TinyWorld], options: RunOptions, at_once: int | None, told: Told
    ) -> None:
        room = asyncio.Semaphore(at_once or MOST_SUBMITTED)
        task = ray.remote(live).options(**{"max_retries": 0, **self.task_options})
        settings = {**config_manager.as_dict(), "backend": "local", "shards": None}

        async def one(index: int, world: TinyWorld) -> None:
            actions, error = None, None
            async with room:
                try:
                    reference = task.remote(packed(world, ray.cloudpickle.dumps), options, settings, leases)
                    try:
                        lived: Lived = pickle.loads(await reference)
                    except asyncio.CancelledError:
                        ray.cancel(reference, force=True)
                        raise
                    lived.state.take_back(world)
                    actions, error = lived.actions, lived.error
                except Exception as failure:
                    error = failure
            await told(index, actions, error)

        with broker_on(ray, settings["requests_per_minute"], settings["tokens_per_minute"]) as leases:
            await all_of([asyncio.ensure_future(one(index, world)) for index, world in enumerate(worlds)])
