"""A run without barriers: what people decide waits before those whom it reaches, until they have come so far."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from tinytroupe.config import config_manager
from tinytroupe.engine.dependency import DependencyScheduler
from tinytroupe.engine.turn import Turn, TurnOutcome
from tinytroupe.environment.events import SimulationError
from tinytroupe.environment.running import Run


@dataclass(slots=True)
class _Letter:
    """What one person's turn does to another, or to that person."""

    source: int
    chain_s: float
    effects: list[Callable[[], object]] = field(default_factory=list)


class Ahead:
    """The world's side of `DependencyScheduler`: a `tinytroupe.engine.dependency.Stage`.

    Parameters
    ----------
    run
        The run.
    reach
        For each person, the positions of those whom this person can address.
    """

    def __init__(self, run: Run, reach: list[set[int]]) -> None:
        self._run, self._reach = run, reach
        self._people = list(run.world.agents)
        self._positions = {person.name: index for index, person in enumerate(self._people)}
        self._mail: list[dict[int, list[_Letter]]] = [{} for _ in self._people]
        self._outcomes: dict[int, dict[int, TurnOutcome]] = {}
        self._failed: set[int] = set()
        self._completed_s = asyncio.get_running_loop().time()
        self._first = run.world._step
        self._start = run.world.current_datetime

    async def go(self, steps: int, scheduler: DependencyScheduler) -> None:
        """Run so many steps.

        Raises
        ------
        SimulationError
            A failure ended the run. All steps before it are complete; who was ahead has done more.
        """
        world = self._run.world
        try:
            await scheduler.run(
                self._people,
                range(self._first, self._first + steps),
                self._reach,
                self,
                timeout_s=config_manager.get("parallel_execution_timeout"),
                slots=self._run.workers,
            )
        finally:
            world._moments.clear()
            self._hand_over_all()

    async def take(self, turn: Turn) -> TurnOutcome:
        """See `Stage.take`."""
        return await self._run.take(turn)

    def publish(self, turn: Turn, outcome: TurnOutcome) -> BaseException | None:
        """See `Stage.publish`."""
        outcome = self._run.counted(outcome, turn.waited_for)
        self._outcomes.setdefault(turn.step, {})[turn.index] = outcome
        chain_s = self._run.bound.taken(outcome)
        failure = self._run.failure(outcome)
        if failure is None:
            for index, letter in self._letters(turn, outcome, chain_s).items():
                self._mail[index].setdefault(turn.step, []).append(letter)
        return failure

    def _letters(self, turn: Turn, outcome: TurnOutcome, chain_s: float) -> dict[int, _Letter]:
        person, world = turn.person, self._run.world
        letters = {turn.index: _Letter(turn.index, chain_s)}
        if outcome.error is not None:
            return letters
        if outcome.deliberation is not None:
            decided = outcome.deliberation
            letters[turn.index].effects.append(lambda: person.commit(decided))
        for action in outcome.actions:
            for to, effect in world.effects(person, action):
                index = -1 if to is None else self._positions.get(to.name, -1)
                if index != turn.index and index not in self._reach[turn.index]:
                    raise SimulationError(
                        f"world {world.name!r}: {action.type} of {person.name} reaches "
                        f"{'everyone' if to is None else to.name}, whom {type(world).__name__}.can_address() does not "
                        "name; it must name all whom effects() can reach, or return None"
                    )
                letters.setdefault(index, _Letter(turn.index, chain_s)).effects.append(effect)
        return letters

    async def settle(self, turn: Turn) -> BaseException | None:
        """See `Stage.settle`."""
        self._hand_over(turn.index, turn.step)
        person, failure = turn.person, None
        if person.mental_faculties:
            failure = await self._run.exercise([self._outcomes[turn.step][turn.index]])
            if failure is not None:
                self._failed.add(turn.step)
        delta = self._run.timedelta_per_step
        if delta is not None and self._start is not None:
            self._run.world._moments[person.name] = self._start + (turn.step + 1 - self._first) * delta
        return failure

    def _hand_over(self, index: int, step: int) -> None:
        name = self._people[index].name
        for letter in sorted(self._mail[index].pop(step, ()), key=lambda letter: letter.source):
            for effect in letter.effects:
                effect()
            self._run.bound.reached([name], letter.chain_s)

    async def complete(self, step: int) -> None:
        """See `Stage.complete`."""
        outcomes = self._outcomes.pop(step)
        began_s, self._completed_s = self._completed_s, asyncio.get_running_loop().time()
        ordered = [outcomes[index] for index in range(len(self._people))]
        await self._run.completed(ordered, "dependency", began_s, goes_on=step not in self._failed)

    def _hand_over_all(self) -> None:
        """Where the run was broken off: let everything that was decided take effect everywhere, so no turn is half."""
        for index, mail in enumerate(self._mail):
            for step in sorted(mail):
                self._hand_over(index, step)
        left = [outcome for step in sorted(self._outcomes) for _, outcome in sorted(self._outcomes[step].items())]
        if left:
            self._run.account(left, "dependency", self._completed_s, complete=False)
