"""The driver of a run in shards: an inbox to each, a commit in agent order, and everybody back home."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from tinytroupe.agent.life import Tables, come_back, life_of
from tinytroupe.agent.memory import EpisodicMemory, Memory
from tinytroupe.agent.tiny_person import TinyPerson
from tinytroupe.config import config_manager
from tinytroupe.engine.turn import TurnOutcome
from tinytroupe.environment.running import Run
from tinytroupe.environment.shards.backend import ShardBackend
from tinytroupe.environment.shards.exchange import (
    Inbox,
    Letter,
    Outbox,
    Reached,
    Settlement,
    ShardSpec,
    Whereabouts,
)
from tinytroupe.runtime.deadline import end

if TYPE_CHECKING:
    from tinytroupe.environment.tiny_world import TinyWorld

SHARDED = "parallel"
"""How a run in shards counts in the metrics: people act at once, with a barrier after every step."""


class Away:
    """Stands where the memory of a person was who lives in a shard: what is to be remembered is sent there.

    Looking goes on as before, at what was remembered when the person left.
    """

    def __init__(self, memory: EpisodicMemory, send: Callable[[Memory], None]) -> None:
        self._memory, self._send = memory, send

    def store(self, entry: Memory) -> Memory:
        """Send what is to be remembered."""
        self._send(entry)
        return entry

    def __len__(self) -> int:
        return len(self._memory)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._memory, name)


class ShardedRun:
    """One run of a world whose people live in shards.

    The people of the world stay here as addressees: who can reach whom is decided here, by the world's own `effects`,
    and what reaches somebody travels on as letters. When the run ends, however it does, everyone's life comes back.

    Parameters
    ----------
    run
        The run.
    backend
        Where the shards live.
    groups
        Positions of the people of each shard.
    """

    def __init__(self, run: Run, backend: ShardBackend, groups: list[list[int]]) -> None:
        self._run, self._backend, self._groups = run, backend, groups
        self._world: TinyWorld = run.world
        self._people = list(run.world.agents)
        self._shard_of = {index: shard for shard, group in enumerate(groups) for index in group}
        self._positions = {person.name: index for index, person in enumerate(self._people)}
        self._letters: list[list[Letter]] = [[] for _ in groups]
        self._source = 0
        self._arrived: list[TurnOutcome] = []
        self._settlements: list[Settlement | None] = [None for _ in groups]
        self._settles_apart = any(person.mental_faculties for person in self._people)

    async def go(self, steps: int) -> None:
        """Run so many steps.

        Raises
        ------
        SimulationError
            A failure ended the run, or a shard was lost for good. All steps before it are complete and kept.
        """
        memories = [person.episodic_memory for person in self._people]
        await self._backend.start(self._specs())
        try:
            for index, person in enumerate(self._people):
                person.episodic_memory = cast("EpisodicMemory", Away(memories[index], self._sender(index)))
            try:
                waited_for = ""
                for _ in range(steps):
                    waited_for = await self._step(waited_for)
            finally:
                for person, memory in zip(self._people, memories, strict=True):
                    person.episodic_memory = memory
                await self._come_back()
        finally:
            await self._backend.stop()

    # ------------------------------------------------------------------ leaving and coming back

    def _specs(self) -> list[ShardSpec]:
        tables = Tables()
        return [
            ShardSpec(
                shard,
                self._world.name,
                tuple(group),
                tuple(life_of(self._people[index], tables) for index in group),
                self._world.model,
                self._world.on_error,
            )
            for shard, group in enumerate(self._groups)
        ]

    async def _come_back(self) -> None:
        asked = [self._backend.snapshot(shard, one) for shard, one in enumerate(self._settlements)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        lost: BaseException | None = None
        for group, lives in zip(self._groups, found, strict=True):
            if isinstance(lives, BaseException):
                lost = lost or lives
                continue
            for index, life in zip(group, lives, strict=True):
                come_back(self._people[index], life)
        if lost is not None:
            raise lost

    # ------------------------------------------------------------------ steps

    async def _step(self, waited_for: str) -> str:
        world, run = self._world, self._run
        started_s = asyncio.get_running_loop().time()
        slots = self._slots()
        timeout_s = config_manager.get("parallel_execution_timeout")
        self._arrived, ordered = [], list[TurnOutcome]()
        reached: list[tuple[str, str | None]] = []
        complete = False
        inboxes = [
            Inbox(settlement, world._step, world.current_datetime, waited_for, timeout_s, slots[shard])
            for shard, settlement in enumerate(self._settlements)
        ]
        self._settlements = [Settlement(committed=False) for _ in self._groups]
        try:
            await self._exchange(inboxes)
            ordered = sorted(self._arrived, key=lambda outcome: outcome.index)
            self._commit(ordered, reached)
            complete = True
        finally:
            ordered = ordered or sorted(self._arrived, key=lambda outcome: outcome.index)
            world._said_to_all.clear()
            run._follow(ordered, reached)
            if not complete:
                run.account(ordered, SHARDED, started_s, complete=False)
        failure = await self._settle() if self._settles_apart else None
        await run.completed(ordered, SHARDED, started_s, goes_on=failure is None)
        if failure is not None:
            raise failure
        return max(ordered, key=lambda outcome: outcome.finished_s).person

    def _commit(self, outcomes: list[TurnOutcome], reached: list[tuple[str, str | None]]) -> None:
        """Let everything that was decided reach whom it concerns, in agent order; letters say how it does."""
        self._letters = [[] for _ in self._groups]
        for outcome in outcomes:
            if outcome.error is None:
                self._source = outcome.index
                person = self._people[outcome.index]
                for action in outcome.actions:
                    for to, effect in self._world.effects(person, action):
                        self._take_effect(to, effect)
                        reached.append((person.name, None if to is None else to.name))
        said = tuple(self._world._said_to_all)
        self._settlements = [Settlement(letters=letters, said=said) for letters in self._letters]

    def _take_effect(self, to: TinyPerson | None, effect: Callable[[], object]) -> None:
        if to is None:
            effect()
            return
        reach, place, context = to._reach, to._place, to._context
        effect()
        if to._reach is not reach:
            self._send(to, _difference(reach, to._reach))
        if (to._place, to._context) != (place, context):
            self._send(to, Whereabouts(to._place, to._context))

    def _send(self, to: TinyPerson, what: Memory | Whereabouts | Reached) -> None:
        index = self._positions.get(to.name, -1)
        if index >= 0 and self._people[index] is to:  # else somebody of another world, who has changed here already
            self._letters[self._shard_of[index]].append(Letter(self._source, index, what))

    def _sender(self, index: int) -> Callable[[Memory], None]:
        shard = self._shard_of[index]
        return lambda memory: self._letters[shard].append(Letter(self._source, index, memory))

    async def _settle(self) -> BaseException | None:
        """Have the step settled at once: what faculties do in it may end the run, or take longer than the step."""
        settlements, self._settlements = self._settlements, [None for _ in self._groups]
        outboxes = await self._exchange([Inbox(settlement) for settlement in settlements])
        failures = [outbox.failure for outbox in outboxes if outbox.failure is not None]
        return max(failures, key=lambda failure: failure[0])[1] if failures else None

    async def _exchange(self, inboxes: list[Inbox]) -> list[Outbox]:
        """Send all shards their inboxes, and return their outboxes; each is looked at as it comes."""
        tasks = [asyncio.ensure_future(self._one(shard, inbox)) for shard, inbox in enumerate(inboxes)]
        try:
            return await asyncio.gather(*tasks)
        finally:
            await end(task for task in tasks if not task.done())

    async def _one(self, shard: int, inbox: Inbox) -> Outbox:
        loop = asyncio.get_running_loop()
        sent_s = loop.time()
        outbox = await self._backend.step(shard, inbox)
        exchange_s = max(0.0, loop.time() - sent_s - outbox.inside_s)
        self._world._metrics.exchanged(exchange_s, outbox.exchanged_bytes, outbox.restarts)
        for outcome, latencies_s in zip(outbox.outcomes, outbox.latencies_s, strict=True):
            person = self._people[outcome.index]
            person.usage += outcome.usage
            person._latencies_s.extend(latencies_s)
        self._arrived += outbox.outcomes
        for outcome in outbox.outcomes:
            if (failure := self._run.failure(outcome)) is not None:  # what others are about to ask is spared
                raise failure
        return outbox

    def _slots(self) -> list[int]:
        """Turns under way at once, shared out; a shard has at least one."""
        shards = len(self._groups)
        size, more = divmod(self._run.workers, shards)
        return [max(1, size + (shard < more)) for shard in range(shards)]


def _difference(before: Mapping[str, tuple[TinyPerson, str]], after: Mapping[str, tuple[TinyPerson, str]]) -> Reached:
    gained = {name: relation for name, (other, relation) in after.items() if before.get(name) != (other, relation)}
    return Reached(gained, tuple(name for name in before if name not in after))
