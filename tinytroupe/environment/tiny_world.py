"""A world: people who share a place and a time, and act step by step."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from tinytroupe.agent.action import Action
from tinytroupe.agent.tiny_person import TinyPerson
from tinytroupe.config import config_manager
from tinytroupe.engine.metrics import EngineMetrics, step_cost
from tinytroupe.engine.scheduler import Scheduler, chosen
from tinytroupe.engine.taking import replaced_act, take_turn, threads_for
from tinytroupe.engine.turn import Turn, TurnOutcome
from tinytroupe.environment import display
from tinytroupe.environment.calendar import Calendar
from tinytroupe.environment.stateful import StatefulSociety
from tinytroupe.llm import ChatModel, ModelError, RefusalError, Usage, model_in_use
from tinytroupe.llm.asking import ReplyError
from tinytroupe.llm.journal import JournalError
from tinytroupe.runtime.clock import Clock, current_clock

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.getLogger("tinytroupe.world")

DEFAULT_START = datetime(2026, 1, 5, 9, 0)
"""Where a world's calendar starts unless told otherwise: fixed, so that a program run twice asks the same questions."""

EVENTS = ("step", "turn", "action")


class SimulationError(RuntimeError):
    """A run can't go on. The cause is chained."""


class Steering(Protocol):
    """Acts on a world at the beginning of a step: an `Intervention`, or a batch of them."""

    async def execute_async(self) -> Any:
        """Look whether it is time, and if so act."""
        ...


@dataclass(frozen=True, slots=True)
class StepEvent:
    """A step that was committed.

    Attributes
    ----------
    world
        The world.
    step
        Its number, from 0, over all runs.
    outcomes
        One a turn, in agent order.
    elapsed_s
        Seconds on the world's clock since the run began.
    """

    world: TinyWorld
    step: int
    outcomes: tuple[TurnOutcome, ...]
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class ActionEvent:
    """Something that a person has done."""

    world: TinyWorld
    step: int
    person: str
    action: Action


class TinyWorld(StatefulSociety, Calendar):
    """People who share a place and a time.

    Parameters
    ----------
    name
        For messages and records.
    agents
        People to add.
    initial_datetime
        Where the world's calendar starts; None: no calendar.
    interventions
        What acts on the world at the beginning of each step; see `tinytroupe.steering`.
    broadcast_if_no_target
        Whether what is said to nobody in particular, or to somebody who is not there, is heard by all.
    clock
        Time the world runs on; default: the current clock when it runs.
    model
        Who answers for people without a model of their own; default: the one of the settings.
    on_error
        ``skip`` (a failed turn is counted and left out) or ``raise``; default: setting ``ON_ERROR``.
    show
        Print what people do, step by step, and the progress; default: settings ``DISPLAY`` and ``PROGRESS``.

    Raises
    ------
    ValueError
        Two people of one name.
    """

    def __init__(
        self,
        name: str = "A TinyWorld",
        agents: Iterable[TinyPerson] = (),
        initial_datetime: datetime | None = DEFAULT_START,
        interventions: Iterable[Steering] = (),
        broadcast_if_no_target: bool = True,
        *,
        clock: Clock | None = None,
        model: ChatModel | None = None,
        on_error: str | None = None,
        show: bool | None = None,
    ) -> None:
        if on_error not in (None, "skip", "raise"):
            raise ValueError(f"on_error must be 'skip' or 'raise', got {on_error!r}")
        super().__init__(name, initial_datetime, broadcast_if_no_target)
        self.interventions = list(interventions)
        self.clock = clock
        self.model = model
        self.on_error = on_error
        self.show = show
        self._metrics = EngineMetrics(config_manager.get("timeline_length"))
        self._listeners: dict[str, list[Callable[[Any], None]]] = {}
        self.add_agents(agents)

    def add_intervention(self, intervention: Steering) -> Self:
        """Have an intervention looked at from the next step on."""
        self.interventions.append(intervention)
        return self

    # ------------------------------------------------------------------ running

    def run(
        self,
        steps: int,
        timedelta_per_step: timedelta | None = None,
        return_actions: bool = False,
        *,
        parallelize: bool | None = None,
        scheduler: str | None = None,
    ) -> list[dict[str, list[Action]]] | None:
        """Let everyone act, step after step.

        Parameters
        ----------
        steps
            How many, at least 1.
        timedelta_per_step
            How far the world's calendar moves a step.
        return_actions
            Return, for each step, the actions of each person by name.
        parallelize
            True: all people of a step at once, False: one after the other. Default: setting ``PARALLEL_AGENT_ACTIONS``.
        scheduler
            ``auto``, ``sequential`` or ``parallel``; wins over `parallelize`. Default: setting ``SCHEDULER``.

        Raises
        ------
        ValueError
            No people, fewer than one step, an unknown scheduler.
        SimulationError
            A turn failed and ``on_error`` is ``raise``, or failed in a way that every further turn would, too (invalid
            key, unknown model). Steps before it are kept; nothing of the failed turn is.
        """
        clock = self.clock or current_clock()
        return clock.portal.call(
            self.run_async,
            steps,
            timedelta_per_step,
            return_actions,
            parallelize=parallelize,
            scheduler=scheduler,
        )

    async def run_async(
        self,
        steps: int,
        timedelta_per_step: timedelta | None = None,
        return_actions: bool = False,
        *,
        parallelize: bool | None = None,
        scheduler: str | None = None,
    ) -> list[dict[str, list[Action]]] | None:
        """See `run`."""
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
            raise ValueError(f"steps must be a whole number of at least 1, got {steps!r}")
        if not self.agents:
            raise ValueError(f"world {self.name!r} has no people; add some with add_agents([...]) before running it")
        how = chosen(scheduler or self._asked(parallelize))
        prepare = getattr(model_in_use(self.model), "prepare", None)
        if prepare is not None and any(replaced_act(agent) is None for agent in self.agents):
            await prepare()
        shown = display.wanted(self.show, config_manager.get("display"), sys.stdout)
        counted = display.wanted(self.show, config_manager.get("progress"), sys.stderr) and not shown
        progress = display.Progress(self.name, steps) if counted and steps > 1 else None
        history: list[dict[str, list[Action]]] = []
        began_s = asyncio.get_running_loop().time()
        threads = threads_for(self.agents)
        try:
            for done in range(1, steps + 1):
                event = await self._run_step(how, began_s, threads)
                if timedelta_per_step is not None and self.current_datetime is not None:
                    self.current_datetime += timedelta_per_step
                if return_actions:
                    history.append({outcome.person: list(outcome.actions) for outcome in event.outcomes})
                if shown:
                    display.print_step(event)
                if progress is not None:
                    progress.step(done)
        finally:
            if progress is not None:
                progress.close()
            if threads is not None:
                threads.shutdown(wait=False, cancel_futures=True)
        return history if return_actions else None

    @staticmethod
    def _asked(parallelize: bool | None) -> str:
        if parallelize is not None:
            return "parallel" if parallelize else "sequential"
        asked: str = config_manager.get("scheduler")
        return asked if asked != "auto" or config_manager.get("parallel_agent_actions") else "sequential"

    async def _run_step(self, how: Scheduler, began_s: float, threads: ThreadPoolExecutor | None) -> StepEvent:
        loop = asyncio.get_running_loop()
        for one in self.interventions:
            await one.execute_async()
        started_s = loop.time()
        turns = [Turn(agent, index, self._step) for index, agent in enumerate(self.agents)]
        limits = (config_manager.get("max_workers"), config_manager.get("max_concurrent_model_calls"))
        workers = limits[0] or len(turns)
        slots = max(1, min(len(turns), workers))
        possible = max(1, min(slots, limits[1] or slots))  # turns that can be asking the model at once
        consolidations = [
            asyncio.ensure_future(agent.consolidate_episode_memories_async())
            for agent in self.agents
            if agent.should_consolidate()
        ]

        async def take(turn: Turn) -> TurnOutcome:
            return await take_turn(turn, self.model, threads)

        def commit(outcome: TurnOutcome) -> None:
            self._commit(outcome)
            if how.name == "sequential":  # whoever acts next has heard it
                self._deliver_said_to_all()

        try:
            outcomes = await how.run_step(
                turns, take, commit, timeout_s=config_manager.get("parallel_execution_timeout"), slots=slots
            )
            self._deliver_said_to_all()
            await self._settle(consolidations)
        finally:
            self._said_to_all.clear()  # where the step was broken off: nothing of it is heard in the next one
            for task in consolidations:
                task.cancel()
        failure = await self._exercise(outcomes)
        event = StepEvent(self, self._step, tuple(outcomes), loop.time() - began_s)
        self._step += 1
        self._account(event, how, loop.time() - started_s, possible)
        if any(self._listeners.values()):
            # Listeners may use the synchronous verbs, which wait for this loop: so not from inside it.
            await asyncio.to_thread(self._tell, event)
        if failure is not None:
            raise failure
        return event

    async def _exercise(self, outcomes: Sequence[TurnOutcome]) -> SimulationError | None:
        """Let people's faculties and tools do what was decided, in agent order.

        What they did stays done, so that a failure which ends the run is returned, to be raised when the step is over.
        """
        failure: SimulationError | None = None
        for outcome in outcomes:
            person = self._by_name.get(outcome.person)
            if outcome.deliberation is None or person is None:
                continue
            try:
                await person.exercise(outcome.actions)
            except Exception as error:
                what = (
                    f"world {self.name!r}, step {outcome.step}: what {person.name} decided could not be done: {error}"
                )
                if not self._stops_run(outcome, error):
                    logger.warning("%s", what)
                elif failure is None:
                    failure = SimulationError(what)
                    failure.__cause__ = error
        return failure

    def _account(self, event: StepEvent, how: Scheduler, elapsed_s: float, slots: int) -> None:
        outcomes = event.outcomes
        cost = step_cost(outcomes, parallel=how.name != "sequential", elapsed_s=elapsed_s, slots=slots)
        self._metrics.add(cost, outcomes if config_manager.get("collect_parallel_metrics") else ())
        logger.debug(
            "%s: step %d took %.3f s (%s; busy %.3f s, lower bound %.3f s, %d errors, %d time-outs)",
            *(self.name, event.step, elapsed_s, how.name, cost.busy_s, cost.lower_bound_s, cost.errors, cost.timeouts),
        )
        left_out = [outcome for outcome in outcomes if outcome.error is not None]
        if left_out:
            logger.warning(
                "%s: %d of %d turns of step %d are left out; the first, of %s, %s: %s",
                *(self.name, len(left_out), len(outcomes), event.step),
                *(left_out[0].person, left_out[0].status, left_out[0].error),
            )

    async def _settle(self, consolidations: Sequence[asyncio.Future[bool]]) -> None:
        # Summaries are asked for while people act, and are there when the step ends, whoever was faster.
        for result in await asyncio.gather(*consolidations, return_exceptions=True):
            if isinstance(result, JournalError):
                raise result
            if isinstance(result, (ModelError, ValueError)):
                logger.warning("%s: memories stay as they are, their summary failed: %s", self.name, result)
            elif isinstance(result, BaseException):
                raise result

    def _commit(self, outcome: TurnOutcome) -> None:
        if outcome.error is not None:
            if self._stops_run(outcome, outcome.error):
                raise SimulationError(
                    f"world {self.name!r}, step {outcome.step}: the turn of {outcome.person} {outcome.status}: "
                    f"{outcome.error}"
                ) from outcome.error
            return
        person = self._by_name.get(outcome.person)
        if person is None:
            return  # removed during the step
        if outcome.deliberation is not None:
            person.commit(outcome.deliberation)
        for action in outcome.actions:
            self._deliver(person, action)

    def _stops_run(self, outcome: TurnOutcome, error: BaseException) -> bool:
        """Tell whether a failed turn ends the run.

        What may pass, or concerns one person alone, can be left out. A wrong key concerns every further turn; an
        error of any other kind is a bug, and going on would hide it. A replaced `act` may raise what it likes.
        """
        if (self.on_error or config_manager.get("on_error")) == "raise":
            return True
        if isinstance(error, JournalError):  # what was recorded does not fit what is asked
            return True
        if isinstance(error, ModelError):
            return not error.transient and error.status in (401, 403, 404, None) and not isinstance(error, RefusalError)
        person = self._by_name.get(outcome.person)
        replaced = person is not None and replaced_act(person) is not None
        return not (replaced or isinstance(error, (ReplyError, TimeoutError)))

    # ------------------------------------------------------------------ what can be known of it

    def on(self, event: str, callback: Callable[[Any], None]) -> Callable[[], None]:
        """Have ``callback(event)`` called, in a worker thread, whenever something has happened.

        Parameters
        ----------
        event
            ``step``: after each committed step, with a `StepEvent`; ``turn``: for each turn of it, with a
            `TurnOutcome`; ``action``: for each action, with an `ActionEvent`.
        callback
            Its errors are logged and do not stop the run.

        Returns
        -------
        Callable
            Ends it.
        """
        if event not in EVENTS:
            raise ValueError(f"unknown event {event!r}; there are: {', '.join(EVENTS)}")
        listeners = self._listeners.setdefault(event, [])
        listeners.append(callback)
        return lambda: listeners.remove(callback) if callback in listeners else None

    def _tell(self, event: StepEvent) -> None:
        for outcome in event.outcomes:
            self._emit("turn", outcome)
            for action in outcome.actions:
                self._emit("action", ActionEvent(self, event.step, outcome.person, action))
        self._emit("step", event)

    def _emit(self, event: str, what: Any) -> None:
        for callback in list(self._listeners.get(event, ())):
            try:
                callback(what)
            except Exception:
                logger.exception("%s: a listener to %r failed", self.name, event)

    def get_parallel_metrics(self) -> dict[str, Any]:
        """Return what the runs so far cost; see `tinytroupe.engine.metrics.EngineMetrics.as_dict`."""
        return self._metrics.as_dict()

    def reset_parallel_metrics(self) -> None:
        """Start counting again."""
        self._metrics.reset()

    def timeline(self) -> tuple[TurnOutcome, ...]:
        """Return the last turns, oldest first; setting ``TIMELINE_LENGTH`` says how many are kept."""
        return self._metrics.timeline()

    def usage_by_agent(self) -> dict[str, Usage]:
        """Return what each person has spent, in turns and in summaries."""
        return {agent.name: agent.usage for agent in self.agents}

    @property
    def usage(self) -> Usage:
        """What all people together have spent; `tinytroupe.llm.prices.cost_usd` turns it into money."""
        return sum(self.usage_by_agent().values(), Usage())

    def pretty_current_interactions(self, **options: Any) -> str:
        """Return the memories of everyone as text; options as of `TinyPerson.pretty_current_interactions`."""
        return "\n\n".join(agent.pretty_current_interactions(**options) for agent in self.agents)

    def pp_current_interactions(self, **options: Any) -> None:
        """Print the memories of everyone."""
        sys.stdout.write(self.pretty_current_interactions(**options) + "\n")
