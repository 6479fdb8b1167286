"""Worlds as tasks on a Ray cluster: each is lived through in a process of its own, wherever there is room."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from tinytroupe.agent.action import Action
from tinytroupe.config import config_manager
from tinytroupe.environment.remote_world import Lived, RunOptions, check, live, packed
from tinytroupe.environment.tiny_world import TinyWorld
from tinytroupe.llm.journal import current_journal
from tinytroupe.llm.remote_broker import broker_on
from tinytroupe.llm.shard_journal import ShardJournals
from tinytroupe.runtime.clock import VirtualEventLoop
from tinytroupe.runtime.cluster import check_installed, connection
from tinytroupe.runtime.deadline import all_of
from tinytroupe.runtime.threads import in_threads

MOST_SUBMITTED = 1000
"""Worlds that are handed to the cluster at once, at most, where nobody says how many."""

Told = Callable[[int, "list[dict[str, list[Action]]] | None", "Exception | None"], Awaitable[None]]
"""Is told of each world that is done: its position, its actions where they were asked for, what ended it early."""


@dataclass(frozen=True, slots=True)
class RayTasks:
    """Runs each world of `tinytroupe.run_many` in a task of its own on a Ray cluster.

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

        Where a journal is in use (`tinytroupe.control.begin`), each world keeps a part of it: what is on record is not
        asked again, and a task whose process dies is begun anew, three times. Without one it is not: it would ask
        everything once more.

        Raises
        ------
        ImportError
            Ray is not installed.
        ValueError
            A world can't be sent to another process, the journal is in mode ``cache``, or the run is on virtual time.
            Nothing has run then.
        ConnectionError
            There is no cluster at the address.
        """
        if isinstance(asyncio.get_running_loop(), VirtualEventLoop):
            raise ValueError("backend 'ray' runs on real time; on virtual time, leave it out")
        for world in worlds:
            check(world)
        journal = current_journal()
        journals = None if journal is None else ShardJournals(journal)
        check_installed()
        async with AsyncExitStack() as stack:
            ray = await stack.enter_async_context(connection(self.address))
            if journals is not None:
                await stack.enter_async_context(in_threads(journals.under_way()))
            await self._submit(ray, worlds, options, at_once, told, journals)

    async def _submit(
        self,
        ray: Any,
        worlds: Sequence[TinyWorld],
        options: RunOptions,
        at_once: int | None,
        told: Told,
        journals: ShardJournals | None,
    ) -> None:
        room = asyncio.Semaphore(at_once or MOST_SUBMITTED)
        retries = 0 if journals is None else 3
        task = ray.remote(live).options(**{"max_retries": retries, **self.task_options})
        settings = {**config_manager.as_dict(), "backend": "local", "shards": None}

        async def one(index: int, world: TinyWorld) -> None:
            actions, error = None, None
            async with room:
                try:
                    part = None if journals is None else journals.part(index)
                    reference = task.remote(packed(world, ray.cloudpickle.dumps), options, settings, leases, part)
                    try:
                        lived: Lived = pickle.loads(await reference)
                    except asyncio.CancelledError:
                        ray.cancel(reference, force=True)
                        raise
                    lived.state.take_back(world)
                    actions, error = lived.actions, lived.error
                    if journals is not None:
                        journals.count(lived.hits, lived.misses)
                except Exception as failure:
                    error = failure
            await told(index, actions, error)

        with broker_on(ray, settings["requests_per_minute"], settings["tokens_per_minute"]) as leases:
            await all_of([asyncio.ensure_future(one(index, world)) for index, world in enumerate(worlds)])
