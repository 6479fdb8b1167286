"""A run without barriers: what people decide waits before those whom it reaches, until they have come so far."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tinytroupe.agent.tiny_person import TinyPerson
from tinytroupe.config import config_manager
from tinytroupe.engine.dependency import DependencyScheduler
from tinytroupe.engine.turn import Turn, TurnOutcome
from tinytroupe.environment.events import SimulationError
from tinytroupe.environment.running import FINISHING_S, Run
from tinytroupe.runtime.deadline import to_its_end


@dataclass(slots=True)
class _Decided:
    """A person's turn, which is as good as done from the moment in which it has reached anybody."""

    outcome: TurnOutcome
    chain_s: float
    reached: bool = False


@dataclass(slots=True)
class _Letter:
    """What one person's turn does to another, or to that person."""

    turn: _Decided
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
        self._unpublished: dict[int, tuple[Turn, TurnOutcome]] = {}
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
        except BaseException as error:
            await self._run.finish_off(self._break_off(), error)
            raise
        finally:
            world._moments.clear()

    async def take(self, turn: Turn) -> TurnOutcome:
        """See `Stage.take`."""
        outcome = await self._run.take(turn)
        self._unpublished[turn.index] = (turn, outcome)
        if (failure := self._run.failure(outcome)) is not None:
            raise failure
        return outcome

    def publish(self, turn: Turn, outcome: TurnOutcome) -> BaseException | None:
        """See `Stage.publish`."""
        outcome = self._run.counted(outcome, turn.waited_for)
        decided = _Decided(outcome, self._run.bound.taken(outcome))
        failure = self._run.failure(outcome)
        if failure is None:
            for index, letter in self._letters(turn, decided).items():
                self._mail[index].setdefault(turn.step, []).append(letter)
        self._unpublished.pop(turn.index, None)
        self._outcomes.setdefault(turn.step, {})[turn.index] = outcome
        return failure

    def _letters(self, turn: Turn, decided: _Decided) -> dict[int, _Letter]:
        person, world, outcome = turn.person, self._run.world, decided.outcome
        letters = {turn.index: _Letter(decided)}
        if outcome.error is not None:
            return letters
        if (deliberation := outcome.deliberation) is not None:
            letters[turn.index].effects.append(lambda: person.commit(deliberation))
        for action in outcome.actions:
            for to, effect in world.effects(person, action):
                index = -1 if to is None else self._positions.get(to.name, -1)
                if index != turn.index and index not in self._reach[turn.index]:
                    raise SimulationError(
                        f"world {world.name!r}: {action.type} of {person.name} reaches "
                        f"{'everyone' if to is None else to.name}, whom {type(world).__name__}.can_address() does not "
                        "name; it must name all whom effects() can reach, or return None"
                    )
                letters.setdefault(index, _Letter(decided)).effects.append(effect)
        return letters

    async def settle(self, turn: Turn) -> BaseException | None:
        """See `Stage.settle`."""
        self._hand_over(turn.index, self._mail[turn.index].pop(turn.step, ()))
        person, failure = turn.person, None
        if person.mental_faculties:
            doing = self._run.exercise([self._outcomes[turn.step][turn.index]])
            failure = await to_its_end(doing, FINISHING_S)
            if failure is not None:
                self._failed.add(turn.step)
        self._go_to(person, turn.step + 1)
        return failure

    def _hand_over(self, index: int, letters: Iterable[_Letter]) -> None:
        name = self._people[index].name
        for letter in sorted(letters, key=lambda letter: letter.turn.outcome.index):
            letter.turn.reached = True
            for effect in letter.effects:
                effect()
            self._run.bound.reached([name], letter.turn.chain_s)

    def _go_to(self, person: TinyPerson, step: int) -> None:
        """Let it be for a person what it is in a step on the world's calendar."""
        delta = self._run.timedelta_per_step
        if delta is not None and self._start is not None:
            self._run.world._moments[person.name] = self._start + (step - self._first) * delta

    async def complete(self, step: int) -> None:
        """See `Stage.complete`."""
        outcomes = self._outcomes.pop(step)
        began_s, self._completed_s = self._completed_s, asyncio.get_running_loop().time()
        ordered = [outcomes[index] for index in range(len(self._people))]
        await self._run.completed(ordered, "dependency", began_s, goes_on=step not in self._failed)

    def _break_off(self) -> list[TurnOutcome]:
        """Leave no turn half: what has reached anybody reaches everybody, what has not is discarded.

        Returns the turns that are committed only with this, and still to be exercised.
        """
        committed: list[TurnOutcome] = []
        for index, (person, mail) in enumerate(zip(self._people, self._mail, strict=True)):
            for step, letters in sorted(mail.items()):
                self._go_to(person, step)
                self._hand_over(index, [letter for letter in letters if letter.turn.reached])
                for decided in (letter.turn for letter in letters if letter.turn.outcome.index == index):
                    if decided.reached:
                        committed.append(decided.outcome)
                    else:
                        self._run.discarded(decided.outcome)
            mail.clear()
        for outcome in committed:
            self._go_to(self._people[outcome.index], outcome.step)
        left = [outcome for _, outcomes in sorted(self._outcomes.items()) for _, outcome in sorted(outcomes.items())]
        for turn, outcome in self._unpublished.values():
            left.append(self._run.counted(outcome, turn.waited_for))
            self._run.bound.taken(left[-1])
            self._run.discarded(outcome)
        if left:
            self._run.account(left, "dependency", self._completed_s, complete=False)
        return committed
