"""The broker as an actor on a cluster, and how other processes there reach it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tinytroupe.llm.broker import Broker
from tinytroupe.llm.leases import SLICE_S, Claim, Lease, Report

_AT_ONCE = 100_000  # claims that may be waiting: each gate has one at most


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
    """Keep one broker on the cluster inside the ``with`` block; None where nothing is limited.

    It lives on the driver's own machine where it can: that one's loss ends everything anyway.

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
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=True
    )
    options = {"num_cpus": 0, "max_concurrency": _AT_ONCE, "scheduling_strategy": here}
    actor = ray.remote(Broker).options(**options).remote(rpm, tpm, slice_s)
    try:
        yield RemoteBroker(actor)
    finally:
        ray.kill(actor)
