"""Shards on a Ray cluster: an actor for each, and what it takes to lose one."""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from tinytroupe.agent.life import Life
from tinytroupe.config import config_manager
from tinytroupe.environment.shards.backend import ShardError, check_free
from tinytroupe.environment.shards.exchange import Inbox, Outbox, Settlement, ShardSpec
from tinytroupe.environment.shards.host import Host, HostSpec, LostHistoryError, Past, digest_of, pack, unpacked
from tinytroupe.llm import current_model
from tinytroupe.llm.journal import current_journal
from tinytroupe.llm.remote_broker import broker_on
from tinytroupe.llm.shard_journal import ShardJournals
from tinytroupe.runtime.clock import VirtualEventLoop
from tinytroupe.runtime.cluster import connection, ray_exceptions
from tinytroupe.runtime.deadline import all_of, end, within
from tinytroupe.runtime.threads import in_threads

logger = logging.getLogger("tinytroupe.shards")

STEPS_KEPT = 50
"""Steps that a lost shard goes through once more, at most: after so many, the lives of its people are put by anew."""

WAITING_S = 30.0
"""Seconds after which the log tells of shards that have not begun so far, and again and again."""
CLOSING_S = 10.0
"""Seconds that a shard has to let go of its connections; its journal is complete before."""

_ATTEMPTS = 5


@dataclass(slots=True)
class _Tenant:
    """One shard, as the driver knows it.

    Attributes
    ----------
    spec, base
        How the shard began, or was put by last: without its lives, and pickled in the cluster's object store.
    host
        What its host begins with.
    actor
        Where it lives.
    number
        How many steps it has been through.
    past
        Those since it was put by last.
    pending
        The step that was sent last and has not been answered.
    lives
        Whether the actor has begun to: it can't be asked anything before, nor be waited for.
    restarts_left
        How often it may be lost.
    """

    spec: ShardSpec
    base: Any
    host: HostSpec
    actor: Any
    restarts_left: int
    number: int = 0
    past: list[Past] = field(default_factory=list)
    pending: Inbox | None = None
    lives: bool = False


class RayBackend:
    """Keeps each shard in an asynchronous actor that lives as long as the run: clients, caches and memories stay there.

    An actor is lost when its process or its machine is. Then another takes its place, wherever there is room, begins as
    it began, and goes through the steps so far with its journal, which answers everything that was answered before:
    nothing on record is asked twice. Journals lie beside the one of the run (`tinytroupe.control.begin`), which takes
    them in at the end; without one, in a temporary directory. To survive a machine, they must lie on storage that all
    machines share. ``REQUESTS_PER_MINUTE`` and ``TOKENS_PER_MINUTE`` hold for all shards together.

    Parameters
    ----------
    address
        The cluster; see `tinytroupe.runtime.cluster.connected`.
    restarts
        How often each shard may be lost.
    actor_options
        Where actors may live, as Ray names it: ``num_cpus``, ``resources``, ``scheduling_strategy``, … By default they
        are spread over all machines and take up no CPU, since they wait for a model most of the time.
    """

    def __init__(
        self, address: str | None = None, *, restarts: int = 3, actor_options: Mapping[str, Any] | None = None
    ) -> None:
        if restarts < 0:
            raise ValueError(f"restarts must be at least 0, got {restarts!r}")
        self._address, self._restarts = address, restarts
        self._actor_options = {
            "num_cpus": 0,
            "scheduling_strategy": "SPREAD",
            **(actor_options or {}),
            "max_restarts": 0,
        }
        self._world: str | None = None
        self._tenants: list[_Tenant] = []
        self._open = AsyncExitStack()
        self._journals: ShardJournals | None = None
        self._lost: tuple[type[BaseException], ...] = ()
        self._ray: Any = None
        self._hosts: Any = None

    async def start(self, specs: Sequence[ShardSpec]) -> None:
        """See `ShardBackend.start`.

        Raises
        ------
        ImportError
            Ray is not installed.
        ValueError
            Something can't be sent to another process, or the run is on virtual time.
        """
        check_free(self, self._world)
        if isinstance(asyncio.get_running_loop(), VirtualEventLoop):
            raise ValueError("backend 'ray' runs on real time; on virtual time, take backend 'local'")
        self._world = specs[0].world
        try:
            await self._start(specs)
        except BaseException:
            await self.stop()
            raise

    async def step(self, shard: int, inbox: Inbox) -> Outbox:
        """See `ShardBackend.step`."""
        tenant = self._tenants[shard]
        if len(tenant.past) >= STEPS_KEPT:
            await self._put_by(tenant, inbox.settlement)
            inbox = replace(inbox, settlement=None)
        return await self._step(tenant, inbox)

    async def snapshot(self, shard: int, settlement: Settlement | None) -> list[Life]:
        """See `ShardBackend.snapshot`.

        A shard that is lost and may not begin anew elsewhere does so in this process, to be looked at once more.
        """
        tenant = self._tenants[shard]
        last = None if tenant.pending is None else tenant.pending.settlement
        asked = (tenant.number + (tenant.pending is not None), pack(last), pack(settlement))
        try:
            received, _ = await self._call(tenant, lambda: tenant.actor.snapshot.remote(*asked))
        except ShardError as error:
            try:
                received = await self._look(tenant, asked)
            except Exception as another:
                raise ShardError(f"{error}; its people are as they were before the run: {another}") from another
        lives: list[Life] = pickle.loads(received)
        return lives

    async def stop(self) -> None:
        """See `ShardBackend.stop`."""
        tenants, self._tenants = self._tenants, []
        try:
            async with self._open:
                try:
                    await asyncio.gather(*(self._end(tenant) for tenant in tenants))
                finally:
                    for tenant in tenants:
                        self._kill(tenant)
        finally:
            self._world = None

    # ------------------------------------------------------------------ within

    async def _start(self, specs: Sequence[ShardSpec]) -> None:
        self._ray = await self._open.enter_async_context(connection(self._address))
        exceptions = ray_exceptions()
        self._lost = (exceptions.RayActorError, exceptions.WorkerCrashedError, exceptions.NodeDiedError)
        self._journals = await self._open.enter_async_context(in_threads(ShardJournals(current_journal()).under_way()))
        self._hosts = self._ray.remote(Host)
        settings = config_manager.as_dict()
        leases = self._open.enter_context(
            broker_on(self._ray, settings["requests_per_minute"], settings["tokens_per_minute"])
        )
        telling = asyncio.ensure_future(self._tell_who_waits())
        self._open.push_async_callback(end, [telling])
        for given in specs:
            spec = replace(given, model=given.model or current_model())
            base = self._ray.put(self._packed(spec))
            host = HostSpec(settings, self._journals.part(spec.shard), leases)
            tenant = _Tenant(replace(spec, lives=()), base, host, None, self._restarts)
            tenant.actor = self._new_actor(tenant)
            self._tenants.append(tenant)
        await all_of([asyncio.ensure_future(self._begin(tenant)) for tenant in self._tenants])

    async def _step(self, tenant: _Tenant, inbox: Inbox) -> Outbox:
        tenant.pending = inbox
        number, sent = tenant.number + 1, pack(inbox)
        began_s = asyncio.get_running_loop().time()
        received, restarts = await self._call(tenant, lambda: tenant.actor.step.remote(number, sent))
        outbox = unpacked(received)
        tenant.pending = None
        tenant.number = number
        tenant.past.append(Past(sent, outbox.left_out, digest_of(outbox.outcomes)))
        assert self._journals is not None
        self._journals.count(outbox.hits, outbox.misses)
        outbox.exchanged_bytes, outbox.restarts = len(sent) + len(received), restarts
        # The clock of another machine shows another time: turns are told as if the step had begun when it was sent.
        shift_s = began_s - outbox.began_s
        outbox.outcomes = [
            replace(one, started_s=one.started_s + shift_s, finished_s=one.finished_s + shift_s)
            for one in outbox.outcomes
        ]
        return outbox

    async def _call(self, tenant: _Tenant, call: Callable[[], Any]) -> tuple[bytes, int]:
        """Call the actor, and whoever takes its place, until one answers; returns how often it was lost, too."""
        restarts = 0
        while True:
            reference = call()
            try:
                return await reference, restarts
            except self._lost as error:
                await self._revive(tenant, error)
                restarts += 1
            except asyncio.CancelledError:
                self._ray.cancel(reference)
                raise

    async def _begin(self, tenant: _Tenant) -> None:
        """Wait until a shard lives, wherever there is room."""
        try:
            await self._settled_in(tenant)
        except self._lost as error:
            await self._revive(tenant, error)

    async def _settled_in(self, tenant: _Tenant) -> None:
        try:
            await tenant.actor.ready.remote()
        except self._lost as error:
            if getattr(error, "actor_init_failed", False):
                raise ShardError(f"{self._named(tenant)} can't begin: {error}") from error
            raise
        tenant.lives = True

    async def _tell_who_waits(self) -> None:
        """Say now and then who has not begun, for a cluster without room lets everybody wait in silence."""
        while True:
            await asyncio.sleep(WAITING_S)
            waiting = [self._named(tenant) for tenant in self._tenants if not tenant.lives]
            if waiting:
                logger.warning(
                    "%d of %d shards have not begun so far, the first of them %s: their processes are starting still, "
                    "or no machine of the cluster has room for %s",
                    *(len(waiting), len(self._tenants), waiting[0], self._actor_options),
                )

    async def _revive(self, tenant: _Tenant, error: BaseException) -> None:
        if not tenant.restarts_left:
            raise ShardError(f"{self._named(tenant)} is lost, and may not begin anew once more: {error}") from error
        tenant.restarts_left -= 1
        logger.warning("%s is lost and begins anew elsewhere: %s", self._named(tenant), error)
        for attempt in range(_ATTEMPTS):
            self._kill(tenant)
            tenant.actor = self._new_actor(tenant, attempt)
            try:
                await self._settled_in(tenant)
                await tenant.actor.relive.remote(tenant.past, tenant.number)
                return
            except self._lost as again:  # where it was to begin is lost, too: the cluster takes a while to learn of it
                error = again
            except LostHistoryError as failure:
                raise ShardError(f"{self._named(tenant)} is lost and can't go on as it was: {failure}") from failure
        raise ShardError(f"{self._named(tenant)} is lost, and found no place to begin anew: {error}") from error

    async def _look(self, tenant: _Tenant, asked: tuple[int, bytes, bytes]) -> bytes:
        """Bring a lost shard back in this process, to see how its people were when it was lost. Nothing is asked."""
        host = Host(replace(tenant.host, settings=None), await tenant.base)
        try:
            await host.relive(tenant.past, tenant.number)
            return await host.snapshot(*asked)
        finally:
            await host.leave()

    async def _put_by(self, tenant: _Tenant, settlement: Settlement | None) -> None:
        """Keep the lives as they are after a step in place of all that led there."""
        if settlement is not None:
            await self._step(tenant, Inbox(settlement))
        received, _ = await self._call(
            tenant, lambda: tenant.actor.snapshot.remote(tenant.number, pack(None), pack(None))
        )
        spec = replace(tenant.spec, lives=tuple(pickle.loads(received)))
        tenant.base = self._ray.put(self._packed(spec))
        tenant.past = []

    def _new_actor(self, tenant: _Tenant, attempt: int = 0) -> Any:
        spec, lost = tenant.spec, self._restarts - tenant.restarts_left
        # For whoever operates the cluster. The mark is of this run alone, since names must be.
        again = f", restart {lost}.{attempt}" if lost else ""
        name = f"{spec.world} {tenant.host.journal.mark[:8]}{again}, shard {spec.shard}"
        tenant.lives = False
        return self._hosts.options(name=name, **self._actor_options).remote(tenant.host, tenant.base)

    async def _end(self, tenant: _Tenant) -> None:
        if tenant.lives:
            with suppress(*self._lost, TimeoutError):
                async with within(CLOSING_S):
                    await tenant.actor.close.remote()

    def _kill(self, tenant: _Tenant) -> None:
        with suppress(Exception):  # dead already, or out of reach
            self._ray.kill(tenant.actor)

    def _packed(self, spec: ShardSpec) -> bytes:
        for life in spec.lives:
            if life.semantic.by_meaning and not life.asks_for_vectors:
                raise ValueError(
                    f"the semantic memory of {life.name} has an embedder of its own, which can't leave here"
                )
        try:
            packed: bytes = self._ray.cloudpickle.dumps(spec)
        except Exception as error:
            raise ValueError(
                f"shard {spec.shard} of world {spec.world!r} can't be sent to another process, because its model, "
                f"faculties or memories hold what pickle can't take: {error}"
            ) from error
        return packed

    @staticmethod
    def _named(tenant: _Tenant) -> str:
        people = len(tenant.spec.positions)
        return (
            f"shard {tenant.spec.shard} of world {tenant.spec.world!r} ({people} people, after {tenant.number} steps)"
        )
