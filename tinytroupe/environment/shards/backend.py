"""Where shards live: the protocol, and this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from tinytroupe.agent.life import Life
from tinytroupe.environment.events import SimulationError
from tinytroupe.environment.shards.exchange import Inbox, Outbox, Settlement, ShardSpec
from tinytroupe.environment.shards.shard import Shard
from tinytroupe.runtime.clock import Clock


class ShardError(SimulationError):
    """A shard is lost and could not be brought back. The cause is chained; the last committed step is kept."""


@runtime_checkable
class ShardBackend(Protocol):
    """Keeps the shards of one run at a time: started, stepped all at once, stopped at the end whatever happened."""

    async def start(self, specs: Sequence[ShardSpec]) -> None:
        """Bring the shards to life; where this fails, nothing of it is left, and `stop` is not called.

        Raises
        ------
        RuntimeError
            It keeps the shards of another run.
        """
        ...

    async def step(self, shard: int, inbox: Inbox) -> Outbox:
        """Send a shard its inbox and return its outbox. The driver asks all shards at once, and none of them twice.

        Raises
        ------
        ShardError
            The shard is lost and could not be brought back.
        """
        ...

    async def snapshot(self, shard: int, settlement: Settlement | None) -> list[Life]:
        """Settle what the shard has decided last, and return the lives of its people; see `Shard.snapshot`.

        After a `step` that failed or was cancelled, `settlement` says that nothing of it is committed.

        Raises
        ------
        ShardError
            The shard is lost, and the last committed step can't be had again.
        """
        ...

    async def stop(self) -> None:
        """End the shards. Nothing is left behind: no process, no file."""
        ...


def check_free(backend: ShardBackend, world: str | None) -> None:
    """Look whether a backend can be started: not while it keeps the shards of a world.

    Raises
    ------
    RuntimeError
        It does.
    """
    if world is not None:
        raise RuntimeError(
            f"this {type(backend).__name__} keeps the shards of world {world!r}, which is running; give each of the "
            "worlds that run at the same time a backend of its own"
        )


class LocalBackend:
    """Shards in this process, on the loop of the run.

    Parameters
    ----------
    clock
        The world's.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock
        self._shards: list[Shard] = []

    async def start(self, specs: Sequence[ShardSpec]) -> None:
        """See `ShardBackend.start`."""
        check_free(self, self._shards[0].world if self._shards else None)
        self._shards = [Shard(spec, self._clock) for spec in specs]

    async def step(self, shard: int, inbox: Inbox) -> Outbox:
        """See `ShardBackend.step`."""
        return await self._shards[shard].step(inbox)

    async def snapshot(self, shard: int, settlement: Settlement | None) -> list[Life]:
        """See `ShardBackend.snapshot`."""
        return await self._shards[shard].snapshot(settlement)

    async def stop(self) -> None:
        """See `ShardBackend.stop`."""
        self._shards = []
