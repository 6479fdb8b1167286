"""The broker as an actor on a cluster, and how other processes there reach it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tinytroupe.llm.broker import Broker
from tinytroupe.llm.leases import SLICE_S, Claim, Lease, Report

_AT_ONCE = 100_000  # claims that may be waiting: each gate has one at most

_Limits = tuple[float | None, float | None, float]
_lock = threading.Lock()
_actors: dict[_Limits, Any] = {}
_users: Counter[_Limits] = Counter()


class RemoteBroker:
    """A `LeaseSource` that asks the broker of the cluster. It can be sent to other processes there.

    Parameters
    ----------
    actor
        Handle of the actor.
    """

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def lease(self, claim: Claim) -> Lease:
        """See `LeaseSource.lease`."""
        lease: Lease = await self._actor.lease.remote(claim)
        return lease

    async def settle(self, report: Report) -> None:
        """See `LeaseSource.settle`."""
        await self._actor.settle.remote(report)


@contextmanager
def broker_on(
    ray: Any, rpm: float | None, tpm: float | None, slice_s: float = SLICE_S
) -> Iterator[RemoteBroker | None]:
    """Keep a broker on the cluster inside the ``with`` block; None where nothing is limited.

    Blocks at the same time share it, since they share the limit. It lives on the driver's own machine where it can:
    that one's loss ends everything anyway.

    Parameters
    ----------
    ray
        The module, connected; see `tinytroupe.runtime.cluster.connected`.
    rpm, tpm, slice_s
        As of `Broker`.
    """
    if rpm is None and tpm is None:
        yield None
        return
    limits = (rpm, tpm, slice_s)
    with _lock:
        if not _users[limits]:
            _actors[limits] = _new_actor(ray, limits)
        _users[limits] += 1
        actor = _actors[limits]
    try:
        yield RemoteBroker(actor)
    finally:
        with _lock:
            _users[limits] -= 1
            if not _users[limits]:
                ray.kill(_actors.pop(limits))


def _new_actor(ray: Any, limits: _Limits) -> Any:
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=True
    )
    options = {"num_cpus": 0, "max_concurrency": _AT_ONCE, "scheduling_strategy": here}
    return ray.remote(Broker).options(**options).remote(*limits)
