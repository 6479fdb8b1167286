"""One run of a world: its steps, what they make of turns, and what they cost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING

from tinytroupe.agent.tiny_person import TinyPerson
from tinytroupe.config import config_manager
from tinytroupe.engine.bound import LowerBound
from tinytroupe.engine.scheduler import Scheduler
from tinytroupe.engine.taking import replaced_act, take_turn
from tinytroupe.engine.turn import Turn, TurnOutcome
from tinytroupe.environment.capacity import capacity
from tinytroupe.environment.events import SimulationError, StepEvent
from tinytroupe.environment.fences import private
from tinytroupe.llm import ModelError, RefusalError, Usage
from tinytroupe.llm.asking import ReplyError
from tinytroupe.llm.journal import JournalError
from tinytroupe.runtime.deadline import end, to_its_end, within
from tinytroupe.runtime.telemetry import operation

if TYPE_CHECKING:
    from tinytroupe.environment.tiny_world import TinyWorld

logger = logging.getLogger("tinytroupe.world")

FINISHING_S = 0.4
"""Seconds that faculties and tools at work have left to finish when a run is cancelled, so that no turn is half."""


class Run:
    """What all schedulers share: how a turn is taken, whether a failure ends the run, what a step costs.

    Parameters
    ----------
    world
        Whose run it is.
    fenced
        Whether everyone's next turn comes after everyone's last.
    timedelta_per_step
        How far the calendar moves a step.
    told
        Called with each step that is complete.
    """

    def __init__(
        self,
        world: TinyWorld,
        *,
        fenced: bool,
        timedelta_per_step: timedelta | None,
        told: Callable[[StepEvent], None],
    ) -> None:
        self.world = world
        self.timedelta_per_step = timedelta_per_step
        self.bound = LowerBound()
        self._fenced, self._told = fenced, told
        self._began_s = asyncio.get_running_loop().time()
        self._spent_before: dict[str, tuple[TinyPerson, Usage]] = {}
        world._metrics.begin_run()

    @property
    def workers(self) -> int:
        """Turns that may be under way at once: ``MAX_WORKERS``, else as many as there are people."""
        people = max(1, len(self.world.agents))
        return min(people, config_manager.get("max_workers") or people)

    # ------------------------------------------------------------------ turns

    async def take(self, turn: Turn) -> TurnOutcome:
        """Let the person of a turn decide, and have old memories summarised meanwhile where that is due."""
        where = {"tinytroupe.world": self.world.name, "tinytroupe.step": turn.step}
        with operation("invoke_agent", turn.person.name, {"gen_ai.agent.name": turn.person.name, **where}) as op:
            outcome = await self._take(turn)
            op.excluded_s = outcome.queued_s
            if outcome.error is not None:
                op.failed(outcome.error)
            return outcome

    async def _take(self, turn: Turn) -> TurnOutcome:
        person = turn.person
        started_s = asyncio.get_running_loop().time()
        self._spent_before[person.name] = (person, person.usage)
        if not person.should_consolidate():
            return await take_turn(turn, self.world.model, self.world._workers)
        summary = asyncio.ensure_future(person.consolidate_episode_memories_async())
        try:
            # Its calls get their numbers before those of the turn, whoever is faster: in one round of the loop the
            # summary begins, in the next its calls do.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            outcome = await take_turn(turn, self.world.model, self.world._workers)
        except BaseException:
            await end([summary])
            raise
        limit_s = config_manager.get("turn_timeout")
        left_s = None if limit_s is None else started_s + limit_s - asyncio.get_running_loop().time()
        # Where the time is over, of the turn or of the step, the turn is decided all the same: it counts, and only the
        # summary is given up. Where it is the run that was cancelled, nobody asks for the outcome any more.
        with suppress(asyncio.CancelledError):
            # Before the turn takes effect, so that what a full memory drops does not depend on who was faster.
            await asyncio.wait([summary], timeout=left_s)
        if not summary.done():
            await end([summary])
        self._look_at(summary, person)
        return outcome

    def _look_at(self, summary: asyncio.Future[bool], person: TinyPerson) -> None:
        error = TimeoutError("it was not there in time") if summary.cancelled() else summary.exception()
        if isinstance(error, (ModelError, ValueError, TimeoutError)) and not isinstance(error, JournalError):
            what = "%s: memories of %s stay as they are, their summary failed: %s"
            logger.warning(what, self.world.name, person.name, error)
        elif error is not None:
            raise error

    def counted(self, outcome: TurnOutcome, waited_for: str) -> TurnOutcome:
        """Return an outcome with everything that was spent on the turn: failures and summaries cost as well."""
        person, before = self._spent_before.pop(outcome.person, (None, Usage()))
        besides = Usage() if person is None else person.usage - before
        if outcome.deliberation is None:
            return replace(outcome, usage=besides, waited_for=waited_for)
        # What was decided costs the person nothing before it is committed, or discarded.
        usage = outcome.usage if besides == Usage() else outcome.usage + besides
        return replace(outcome, usage=usage, waited_for=waited_for)

    def discarded(self, outcome: TurnOutcome) -> None:
        """Take note that what was decided is not going to be done; it has cost something all the same."""
        person = self.world.get_agent_by_name(outcome.person)
        if person is not None and outcome.deliberation is not None:
            person.usage += outcome.deliberation.usage

    def failure(self, outcome: TurnOutcome) -> SimulationError | None:
        """Return the error that ends the run because of a turn, if it does."""
        if outcome.error is None or not self._ends_run(outcome, outcome.error):
            return None
        return _caused(
            f"world {self.world.name!r}, step {outcome.step}: the turn of {outcome.person} {outcome.status}: "
            f"{outcome.error}",
            outcome.error,
        )

    def _ends_run(self, outcome: TurnOutcome, error: BaseException) -> bool:
        """Tell whether a failed turn ends the run.

        What may pass, or concerns one person alone, can be left out. A wrong key concerns every further turn; an
        error of any other kind is a bug, and going on would hide it. A replaced `act` may raise what it likes.
        """
        if (self.world.on_error or config_manager.get("on_error")) == "raise":
            return True
        if isinstance(error, JournalError):  # what was recorded does not fit what is asked
            return True
        if isinstance(error, ModelError):
            return not error.transient and error.status in (401, 403, 404, None) and not isinstance(error, RefusalError)
        person = self.world.get_agent_by_name(outcome.person)
        replaced = person is not None and replaced_act(person) is not None
        return not (replaced or isinstance(error, (ReplyError, TimeoutError)))

    async def exercise(self, outcomes: Sequence[TurnOutcome]) -> SimulationError | None:
        """Let people's faculties and tools do what was decided, as if in agent order.

        Neighbours in that order whose faculties concern nobody else do it at the same time. What they did stays done,
        so that a failure which ends the run is returned, to be raised when the step is over.
        """
        doing = [
            (person, outcome)
            for outcome in outcomes
            if outcome.deliberation is not None
            and (person := self.world.get_agent_by_name(outcome.person)) is not None
            and person.mental_faculties
        ]
        ended: SimulationError | None = None
        for at_once, group in groupby(doing, lambda one: private(one[0].mental_faculties)):
            ones = list(group)
            for some in [ones] if at_once else [[one] for one in ones]:
                try:
                    done = await asyncio.gather(
                        *(person.exercise(outcome.actions) for person, outcome in some), return_exceptions=True
                    )
                except asyncio.CancelledError:
                    what = "%s: cut off in step %d, while doing what they had decided: %s"
                    logger.warning(what, self.world.name, some[0][1].step, ", ".join(person.name for person, _ in some))
                    raise
                for (person, outcome), error in zip(some, done, strict=True):
                    if isinstance(error, asyncio.CancelledError):  # were it the run's, gather would have raised it
                        inside = RuntimeError(f"what {person.name} did was cancelled from inside")
                        inside.__cause__ = error
                        ended = self._not_done(person, outcome, inside) or ended
                    elif error is not None:
                        ended = self._not_done(person, outcome, error) or ended
        return ended

    def _not_done(self, person: TinyPerson, outcome: TurnOutcome, error: BaseException) -> SimulationError | None:
        if not isinstance(error, Exception):
            raise error
        what = f"world {self.world.name!r}, step {outcome.step}: what {person.name} decided could not be done: {error}"
        if self._ends_run(outcome, error):
            return _caused(what, error)
        logger.warning("%s", what)
        return None

    async def finish_off(self, committed: Sequence[TurnOutcome], error: BaseException) -> None:
        """Where `error` breaks the run off, let faculties and tools do what has been committed: no turn stays half."""
        try:
            async with within(FINISHING_S if isinstance(error, asyncio.CancelledError) else None):
                failure = await self.exercise(committed)
        except TimeoutError:  # `exercise` has told of it
            return
        if failure is not None:
            logger.error("%s; the run had ended before, with: %s", failure, error)

    # ------------------------------------------------------------------ steps

    async def step(self, how: Scheduler, waited_for: str = "") -> str:
        """Run one step with a barrier at its end; returns the name of the person who was last to decide."""
        world = self.world
        for one in world.interventions:
            await one.execute_async()
        started_s = asyncio.get_running_loop().time()
        turns = [Turn(agent, index, world._step, waited_for) for index, agent in enumerate(world.agents)]
        outcomes: dict[int, TurnOutcome] = {}
        undone: dict[int, TurnOutcome] = {}
        reached: list[tuple[str, str | None]] = []

        async def take(turn: Turn) -> TurnOutcome:
            outcome = await self.take(turn)
            undone[turn.index] = outcome
            if (failure := self.failure(outcome)) is not None:
                raise failure
            return outcome

        def commit(outcome: TurnOutcome) -> None:
            outcomes[outcome.index] = counted = self.counted(outcome, waited_for)
            if (failure := self.failure(counted)) is not None:
                raise failure
            undone.pop(outcome.index, None)
            self._commit(counted, reached)
            if how.name == "sequential":  # whoever acts next has heard it
                world._deliver_said_to_all()

        def all_taken() -> list[TurnOutcome]:
            """Deliver what is said to all, discard what is not to be done, and return everybody's outcomes."""
            for index, outcome in list(undone.items()):
                if index not in outcomes:
                    outcomes[index] = counted = self.counted(outcome, waited_for)
                    if outcome.error is None and outcome.deliberation is None:  # a replaced `act` has done it already
                        self._commit(counted, reached)
                self.discarded(outcome)
            world._deliver_said_to_all()
            ordered = [outcomes[index] for index in sorted(outcomes)]
            self._follow(ordered, reached)
            return ordered

        try:
            timeout_s = config_manager.get("parallel_execution_timeout")
            await how.run_step(turns, take, commit, timeout_s=timeout_s, slots=min(self.workers, max(1, len(turns))))
        except BaseException as error:
            ordered = all_taken()
            self.account(ordered, how.name, started_s, complete=False)
            await self.finish_off([outcome for outcome in ordered if outcome.index not in undone], error)
            raise
        ordered = all_taken()
        await to_its_end(self._finish(ordered, how.name, started_s), FINISHING_S)
        return max(ordered, key=lambda outcome: outcome.finished_s).person if ordered else ""

    async def _finish(self, outcomes: Sequence[TurnOutcome], how: str, started_s: float) -> None:
        failure: SimulationError | None = None
        try:
            failure = await self.exercise(outcomes)
        finally:  # also where that is cut off: everyone has taken the step
            await self.completed(outcomes, how, started_s, goes_on=failure is None)
        if failure is not None:
            raise failure

    def _commit(self, outcome: TurnOutcome, reached: list[tuple[str, str | None]]) -> None:
        person = self.world.get_agent_by_name(outcome.person)
        if outcome.error is not None or person is None:  # None: removed during the step
            return
        # Whom it reaches is asked first: where the world can't tell, nothing of the turn has been done.
        effects = [effect for action in outcome.actions for effect in self.world.effects(person, action)]
        if outcome.deliberation is not None:
            person.commit(outcome.deliberation)
        for to, effect in effects:
            effect()
            reached.append((person.name, None if to is None else to.name))

    def _follow(self, outcomes: Sequence[TurnOutcome], reached: Sequence[tuple[str, str | None]]) -> None:
        chains_s = {outcome.person: self.bound.taken(outcome) for outcome in outcomes}
        for name, chain_s in chains_s.items():
            self.bound.reached([name], chain_s)
        to_all_s = max((chains_s.get(source, 0.0) for source, to in reached if to is None), default=0.0)
        for source, to in reached:
            if to is not None:
                self.bound.reached([to], chains_s.get(source, 0.0))
        everyone = [agent.name for agent in self.world.agents]
        if self._fenced:
            self.bound.fence(everyone)
        elif to_all_s:
            self.bound.reached(everyone, to_all_s)

    async def completed(self, outcomes: Sequence[TurnOutcome], how: str, started_s: float, *, goes_on: bool) -> None:
        """Take note that everybody is done with a step, and tell; where the run goes on, the calendar moves."""
        world = self.world
        event = StepEvent(world, world._step, tuple(outcomes), asyncio.get_running_loop().time() - self._began_s)
        world._step += 1
        self.account(outcomes, how, started_s)
        if world.is_watched:
            # Listeners may use the synchronous verbs, which wait for this loop: so not from inside it.
            await asyncio.to_thread(world.tell, event)
        if goes_on:
            if self.timedelta_per_step is not None and world.current_datetime is not None:
                world.current_datetime += self.timedelta_per_step
            self._told(event)

    def account(self, outcomes: Sequence[TurnOutcome], how: str, started_s: float, *, complete: bool = True) -> None:
        """Add what a step has cost to the world's metrics, and say what was left out."""
        world, elapsed_s = self.world, asyncio.get_running_loop().time() - started_s
        people = [world.get_agent_by_name(outcome.person) for outcome in outcomes]
        lower_bound_s = self.bound.seconds(capacity(world, self.workers, self.bound.calls))
        world._metrics.add(
            outcomes,
            parallel=how != "sequential",
            elapsed_s=elapsed_s,
            lower_bound_s=lower_bound_s,
            calls_s=[call_s for person in people if person is not None for call_s in person.pop_latencies_s()],
            complete=complete,
            timeline=config_manager.get("collect_parallel_metrics"),
        )
        left_out = [outcome for outcome in outcomes if outcome.error is not None]
        logger.debug(
            "%s: step %d took %.3f s (%s; lower bound of the run so far: %.3f s)",
            *(world.name, outcomes[0].step if outcomes else world._step, elapsed_s, how, lower_bound_s),
        )
        if left_out and complete:
            logger.warning(
                "%s: %d of %d turns of step %d are left out; the first, of %s, %s: %s",
                *(world.name, len(left_out), len(outcomes), left_out[0].step),
                *(left_out[0].person, left_out[0].status, left_out[0].error),
            )


def _caused(message: str, cause: BaseException) -> SimulationError:
    error = SimulationError(message)
    error.__cause__ = cause
    return error
