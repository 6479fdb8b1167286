"""One shard: people who live together and decide together; what becomes of it the driver of the run says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from tinytroupe.agent.life import Directory, Elsewhere, Life, Tables, life_of, take_up
from tinytroupe.agent.memory import Memory
from tinytroupe.agent.tiny_person import TinyPerson
from tinytroupe.engine.scheduler import ParallelScheduler
from tinytroupe.engine.turn import Turn, TurnOutcome
from tinytroupe.environment.running import Run
from tinytroupe.environment.shards.exchange import Inbox, Letter, Outbox, Settlement, ShardSpec, Whereabouts
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
    """

    def __init__(self, spec: ShardSpec, clock: Clock | None = None) -> None:
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
        began_s, outbox = loop.time(), Outbox()
        if self._run is None:
            self._run = Run(self._world, fenced=False, timedelta_per_step=None, told=lambda event: None)
        if inbox.settlement is not None:
            outbox.failure = await self._settle(self._run, inbox.settlement)
        if inbox.step >= 0:
            outbox.outcomes = await self._decide(self._run, inbox)
            outbox.latencies_s = [self._people[one.index].pop_latencies_s() for one in outbox.outcomes]
        outbox.inside_s = loop.time() - began_s
        return outbox

    async def snapshot(self, settlement: Settlement | None) -> list[Life]:
        """Settle the last step, and return everyone's life as it is then, in agent order.

        Whom they can reach is left out: the driver knows.
        """
        if settlement is not None and self._run is not None:
            await self._settle(self._run, settlement)
        tables = Tables()
        return [life_of(person, tables) for person in self._people.values()]

    # ------------------------------------------------------------------ within

    async def _decide(self, run: Run, inbox: Inbox) -> list[TurnOutcome]:
        self._world.current_datetime = inbox.moment
        turns = [Turn(person, index, inbox.step, inbox.waited_for) for index, person in self._people.items()]

        async def take(turn: Turn) -> TurnOutcome:
            outcome = self._decided[turn.index] = await run.take(turn)
            return outcome

        how = ParallelScheduler()
        outcomes = await how.run_step(
            turns, take, lambda outcome: None, timeout_s=inbox.timeout_s, slots=max(1, min(inbox.slots, len(turns)))
        )
        counted = [run.counted(outcome, inbox.waited_for) for outcome in outcomes]
        self._decided = {outcome.index: outcome for outcome in counted}
        return [replace(outcome, deliberation=None) for outcome in counted]

    async def _settle(self, run: Run, settlement: Settlement) -> tuple[int, Exception] | None:
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

    def _named(self, name: str) -> TinyPerson:
        person = self._world.get_agent_by_name(name)
        if person is None:
            person = self._elsewhere.get(name)
        if person is None:
            person = self._elsewhere[name] = Elsewhere(name)
        return person
