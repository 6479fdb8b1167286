"""One shard: people who live together and decide together; what becomes of it the driver of the run says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from tinytroupe.agent.life import Directory, Elsewhere, Life, Tables, life_of, take_up
from tinytroupe.agent.memory import Memory
from tinytroupe.agent.tiny_person import TinyPerson
from tinytroupe.engine.scheduler import ParallelScheduler
from tinytroupe.engine.turn import Turn, TurnOutcome
from tinytroupe.environment.events import SimulationError
from tinytroupe.environment.running import Run
from tinytroupe.environment.shards.exchange import Inbox, LeftOut, Letter, Outbox, Settlement, ShardSpec, Whereabouts
from tinytroupe.environment.tiny_world import TinyWorld
from tinytroupe.runtime.clock import Clock


class Shard:
    """Some of the people of a world, in a world of their own.

    Parameters
    ----------
    spec
        What it begins with.
    clock
        Time that its people live on outside of turns; None: the current clock.

    Attributes
    ----------
    model
        Who answers for people without a model of their own; None: the one in use.
    world
        Name of the world.
    """

    def __init__(self, spec: ShardSpec, clock: Clock | None = None) -> None:
        self.model, self.world = spec.model, spec.world
        people = [take_up(life) for life in spec.lives]
        self._people = dict(zip(spec.positions, people, strict=True))
        self._elsewhere: dict[str, Elsewhere] = {}
        self._world = TinyWorld(spec.world, people, None, clock=clock, model=spec.model, on_error=spec.on_error)
        directory = Directory(self._named)
        for person, life in zip(people, spec.lives, strict=True):
            person.share_reach(directory.of(life.relations))
        self._decided: dict[int, TurnOutcome] = {}
        self._run: Run | None = None

    async def step(self, inbox: Inbox) -> Outbox:
        """Settle the step before, and let everyone decide what to do in the next.

        What was decided waits here. Where this is cancelled, whatever was decided until then can be settled all the
        same, as not committed.
        """
        loop = asyncio.get_running_loop()
        outbox = Outbox(began_s=loop.time())
        if inbox.settlement is not None:
            outbox.failure = await self.settle(inbox.settlement)
        if inbox.step >= 0:
            outbox.outcomes = await self._decide(inbox, self._people)
            acted = {outcome.index for outcome in outbox.outcomes if outcome.error is None}
            outbox.left_out = {at: _left_out(one) for at, one in self._people.items() if at not in acted}
            outbox.latencies_s = [self._people[one.index].pop_latencies_s() for one in outbox.outcomes]
        outbox.inside_s = loop.time() - outbox.began_s
        return outbox

    async def relive(self, inbox: Inbox, left_out: Mapping[int, LeftOut]) -> list[TurnOutcome]:
        """Go through a step once more as it went before, with a journal that knows all that was asked then.

        Parameters
        ----------
        inbox, left_out
            What the shard was sent, and `Outbox.left_out` of what it sent back. Whoever was left out does not act
            again, however soon replies come now; memories that were summarised beside the turn are so again.
        """
        if inbox.settlement is not None:
            await self.settle(inbox.settlement)
        if inbox.step < 0:
            return []
        acting = [index for index in self._people if index not in left_out]
        outcomes = await self._decide(replace(inbox, timeout_s=None), acting)
        for index, was in left_out.items():
            person = self._people[index]
            if person._consolidation != was.consolidation:
                await person.consolidate_episode_memories_async()
            person._calls, person.usage = was.calls, was.usage
        for person in self._people.values():
            person.pop_latencies_s()
        return outcomes

    async def snapshot(self, settlement: Settlement | None) -> list[Life]:
        """Settle the last step, and return everyone's life as it is then, in agent order."""
        if settlement is not None:
            await self.settle(settlement)
        tables = Tables()
        return [life_of(person, tables) for person in self._people.values()]

    async def settle(self, settlement: Settlement) -> tuple[int, Exception] | None:
        """End a step that was decided here; returns what ends the run, see `Outbox.failure`."""
        run = self._its_run()
        decided, self._decided = self._decided, {}
        if not settlement.committed:
            for outcome in decided.values():
                run.discarded(outcome)
            return None
        doing = iter(sorted(decided))
        following = next(doing, None)
        for letter in settlement.letters:
            while following is not None and following <= letter.source:
                self._commit(decided[following])
                following = next(doing, None)
            self._deliver(letter)
        while following is not None:
            self._commit(decided[following])
            following = next(doing, None)
        self._world._said_to_all = list(settlement.said)
        self._world._deliver_said_to_all()
        return await self._exercise(run, [decided[index] for index in sorted(decided)])

    # ------------------------------------------------------------------ within

    async def _decide(self, inbox: Inbox, who: Iterable[int]) -> list[TurnOutcome]:
        run = self._its_run()
        self._world.current_datetime = inbox.moment
        turns = [Turn(self._people[index], index, inbox.step, inbox.waited_for) for index in who]

        async def take(turn: Turn) -> TurnOutcome:
            outcome = self._decided[turn.index] = await run.take(turn)
            if (failure := run.failure(outcome)) is not None:
                raise failure
            return outcome

        if not turns:  # all were left out
            return []
        try:
            outcomes = await ParallelScheduler().run_step(
                turns, take, lambda outcome: None, timeout_s=inbox.timeout_s, slots=inbox.slots
            )
        except SimulationError:  # the driver sees the turn with which the run ends, and those before it
            outcomes = [self._decided[index] for index in sorted(self._decided)]
        counted = [run.counted(outcome, inbox.waited_for) for outcome in outcomes]
        self._decided = {outcome.index: outcome for outcome in counted}
        return [replace(outcome, deliberation=None) for outcome in counted]

    def _commit(self, outcome: TurnOutcome) -> None:
        if outcome.error is None and outcome.deliberation is not None:
            self._people[outcome.index].commit(outcome.deliberation)

    def _deliver(self, letter: Letter) -> None:
        person, what = self._people[letter.to], letter.what
        if isinstance(what, Memory):
            person.episodic_memory.store(what)
        elif isinstance(what, Whereabouts):
            person.move_to(what.place, what.context)
        else:
            for name in what.lost:
                person.make_agent_inaccessible(self._named(name))
            if what.gained:
                person.share_reach({name: (self._named(name), relation) for name, relation in what.gained.items()})

    async def _exercise(self, run: Run, outcomes: Sequence[TurnOutcome]) -> tuple[int, Exception] | None:
        # Shards are for worlds where faculties concern nobody but who has them, so all do it at the same time.
        doing = [outcome for outcome in outcomes if self._people[outcome.index].mental_faculties]
        ended = await asyncio.gather(*(run.exercise([outcome]) for outcome in doing))
        failures = [(one.index, error) for one, error in zip(doing, ended, strict=True) if error is not None]
        return failures[-1] if failures else None

    def _its_run(self) -> Run:
        # It begins on the loop that it is for, and not where a shard is made.
        if self._run is None:
            self._run = Run(self._world, fenced=False, timedelta_per_step=None, told=lambda event: None)
        return self._run

    def _named(self, name: str) -> TinyPerson:
        person = self._world.get_agent_by_name(name)
        if person is None:
            person = self._elsewhere.get(name)
        if person is None:
            person = self._elsewhere[name] = Elsewhere(name)
        return person


def _left_out(person: TinyPerson) -> LeftOut:
    return LeftOut(person._calls, person.usage, person._consolidation)
