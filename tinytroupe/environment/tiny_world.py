"""A world: the people in it, its time, and how what they do reaches others."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tinytroupe.agent.action import REACH_OUT, TALK, Action, ReplyError
from tinytroupe.agent.tiny_person import TinyPerson, stimulus
from tinytroupe.config import config_manager
from tinytroupe.engine.metrics import EngineMetrics, step_cost
from tinytroupe.engine.scheduler import Scheduler, chosen
from tinytroupe.engine.turn import Turn, TurnOutcome
from tinytroupe.llm import ChatModel, ModelError, RefusalError, model_in_use
from tinytroupe.llm.journal import JournalError
from tinytroupe.runtime.clock import Clock, current_clock

logger = logging.getLogger("tinytroupe.world")

DEFAULT_START = datetime(2026, 1, 5, 9, 0)
"""Where a world's calendar starts unless told otherwise: fixed, so that a program run twice asks the same questions."""

_MAX_THREADS = 256


class SimulationError(RuntimeError):
    """A run can't go on. The cause is chained."""


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


class TinyWorld:
    """People who share a place and a time.

    Parameters
    ----------
    name
        For messages and records.
    agents
        People to add.
    initial_datetime
        Where the world's calendar starts.
    broadcast_if_no_target
        Whether what is said to nobody in particular, or to somebody who is not there, is heard by all.
    clock
        Time the world runs on; default: the current clock when it runs.
    model
        Who answers for people without a model of their own; default: the one of the settings.
    on_error
        ``skip`` (a failed turn is counted and left out) or ``raise``; default: setting ``ON_ERROR``.

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
        broadcast_if_no_target: bool = True,
        *,
        clock: Clock | None = None,
        model: ChatModel | None = None,
        on_error: str | None = None,
    ) -> None:
        if on_error not in (None, "skip", "raise"):
            raise ValueError(f"on_error must be 'skip' or 'raise', got {on_error!r}")
        self.name = name
        self.current_datetime = initial_datetime
        self.broadcast_if_no_target = broadcast_if_no_target
        self.clock = clock
        self.model = model
        self.on_error = on_error
        self.agents: list[TinyPerson] = []
        self._by_name: dict[str, TinyPerson] = {}
        self._step = 0
        self._said_to_all: list[dict[str, Any]] = []
        self._metrics = EngineMetrics(config_manager.get("timeline_length"))
        self._listeners: dict[str, list[Callable[[Any], None]]] = {}
        self.add_agents(agents)

    def __repr__(self) -> str:
        return f"TinyWorld(name={self.name!r}, agents={len(self.agents)})"

    # ------------------------------------------------------------------ people

    def add_agent(self, agent: TinyPerson) -> TinyWorld:
        """Add a person.

        Raises
        ------
        ValueError
            There is another person of that name here, or the person lives in another world.
        """
        there = self._by_name.get(agent.name)
        if there is agent:
            return self
        if there is not None:
            raise ValueError(f"world {self.name!r} has a person named {agent.name!r} already; names must be unique")
        if agent.environment is not None:
            raise ValueError(f"{agent.name} lives in world {agent.environment.name!r}; remove_agent there first")
        agent.environment = self
        self.agents.append(agent)
        self._by_name[agent.name] = agent
        return self

    def add_agents(self, agents: Iterable[TinyPerson]) -> TinyWorld:
        """Add people: all of them, or none where one can't be added."""
        added: list[TinyPerson] = []
        try:
            for agent in agents:
                known = agent.name in self._by_name
                self.add_agent(agent)
                if not known:
                    added.append(agent)
        except BaseException:
            for agent in added:
                self.remove_agent(agent)
            raise
        return self

    def remove_agent(self, agent: TinyPerson) -> TinyWorld:
        """Take a person out of the world."""
        if self._by_name.pop(agent.name, None) is not None:
            self.agents.remove(agent)
            agent.environment = None
        return self

    def remove_all_agents(self) -> TinyWorld:
        """Take everyone out of the world."""
        for agent in list(self.agents):
            self.remove_agent(agent)
        return self

    def get_agent_by_name(self, name: str) -> TinyPerson | None:
        """Return the person of that name, None where there is none."""
        return self._by_name.get(name)

    def make_everyone_accessible(self) -> TinyWorld:
        """Let everyone reach everyone."""
        for agent in self.agents:
            agent.make_agents_accessible(self.agents)
        return self

    # ------------------------------------------------------------------ what reaches people

    def broadcast(self, speech: str, source: TinyPerson | str | None = None) -> TinyWorld:
        """Say something that all hear but the one who says it. All share one stimulus."""
        return self._perceive(stimulus("CONVERSATION", speech, source or self.name), source)

    def broadcast_thought(self, thought: str) -> TinyWorld:
        """Have a thought come to everyone's mind."""
        return self._perceive(stimulus("THOUGHT", thought))

    def broadcast_internal_goal(self, goal: str) -> TinyWorld:
        """Have everyone take on a goal."""
        return self._perceive(stimulus("INTERNAL_GOAL_FORMULATION", goal))

    def broadcast_context_change(self, context: Sequence[str]) -> TinyWorld:
        """Change the situation around everyone."""
        for agent in self.agents:
            agent.change_context(context)
        return self

    def _perceive(self, one: dict[str, Any], but: TinyPerson | str | None = None) -> TinyWorld:
        content = {"stimuli": [one]}
        for agent in self.agents:
            if agent is not but:
                agent.perceive_all(content)
        return self

    def _deliver(self, source: TinyPerson, action: Action) -> None:
        target = self._by_name.get(action.target)
        if action.type == TALK:
            if target is not None:
                target.listen(action.content, source)
            elif self.broadcast_if_no_target:
                self._said_to_all.append(stimulus("CONVERSATION", action.content, source))
            else:
                logger.debug("%s: nobody named %r hears %s", self.name, action.target, source.name)
        elif action.type == REACH_OUT:
            self._reach_out(source, target, action)

    def _deliver_said_to_all(self) -> None:
        """Let everyone hear what was said to all, as one memory that all share.

        A step in which N people speak to all so costs N entries, not N².
        """
        said, self._said_to_all = self._said_to_all, []
        if not said:
            return
        content = {"stimuli": said}
        for agent in self.agents:
            if len(said) > 1 or said[0]["source"] != agent.name:
                agent.perceive_all(content)

    def _reach_out(self, source: TinyPerson, target: TinyPerson | None, action: Action) -> None:
        if target is None:
            source.socialize(f"{action.target or 'Nobody in particular'} is not there to be reached.", self.name)
            return
        source.make_agent_accessible(target)
        target.make_agent_accessible(source)
        source.socialize(f"{target.name} was reached and can be talked to now.", target)
        target.socialize(f"{source.name} reaches out to you: {action.content}", source)

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
        if prepare is not None:
            await prepare()
        history: list[dict[str, list[Action]]] = []
        began_s = asyncio.get_running_loop().time()
        threads = self._threads()
        try:
            for _ in range(steps):
                outcomes = await self._run_step(how, began_s, threads)
                if timedelta_per_step is not None and self.current_datetime is not None:
                    self.current_datetime += timedelta_per_step
                if return_actions:
                    history.append({outcome.person: list(outcome.actions) for outcome in outcomes})
        finally:
            if threads is not None:
                threads.shutdown(wait=False, cancel_futures=True)
        return history if return_actions else None

    @staticmethod
    def _asked(parallelize: bool | None) -> str:
        if parallelize is not None:
            return "parallel" if parallelize else "sequential"
        asked: str = config_manager.get("scheduler")
        return asked if asked != "auto" or config_manager.get("parallel_agent_actions") else "sequential"

    def _threads(self) -> ThreadPoolExecutor | None:
        """Threads for those whose `act` was replaced by a plain function; none where nobody's was."""
        replaced = [act for agent in self.agents if (act := _replaced_act(agent)) is not None]
        plain = [act for act in replaced if not inspect.iscoroutinefunction(act)]
        if not plain:
            return None
        most = config_manager.get("max_workers") or min(len(plain), _MAX_THREADS)
        return ThreadPoolExecutor(most, thread_name_prefix="tinytroupe act")

    async def _run_step(self, how: Scheduler, began_s: float, threads: ThreadPoolExecutor | None) -> list[TurnOutcome]:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        turns = [Turn(agent, index, self._step) for index, agent in enumerate(self.agents)]
        slots = min(len(turns), config_manager.get("max_workers") or len(turns))
        consolidations = [
            asyncio.ensure_future(agent.consolidate_episode_memories_async())
            for agent in self.agents
            if agent.should_consolidate()
        ]

        async def take(turn: Turn) -> TurnOutcome:
            return await self._take(turn, threads)

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
            for task in consolidations:
                task.cancel()
        elapsed_s = loop.time() - started_s
        cost = step_cost(outcomes, parallel=how.name != "sequential", elapsed_s=elapsed_s, slots=slots)
        self._metrics.add(cost, outcomes if config_manager.get("collect_parallel_metrics") else ())
        logger.debug(
            "%s: step %d took %.3f s (%s; busy %.3f s, lower bound %.3f s, %d errors, %d time-outs)",
            *(self.name, self._step, elapsed_s, how.name, cost.busy_s, cost.lower_bound_s, cost.errors, cost.timeouts),
        )
        left_out = [outcome for outcome in outcomes if outcome.error is not None]
        if left_out:
            logger.warning(
                "%s: %d of %d turns of step %d are left out; the first, of %s, %s: %s",
                *(self.name, len(left_out), len(outcomes), self._step),
                *(left_out[0].person, left_out[0].status, left_out[0].error),
            )
        event = StepEvent(self, self._step, tuple(outcomes), loop.time() - began_s)
        self._step += 1
        if self._listeners.get("step"):
            # Listeners may use the synchronous verbs, which wait for this loop: so not from inside it.
            await asyncio.to_thread(self._emit, "step", event)
        return outcomes

    async def _settle(self, consolidations: Sequence[asyncio.Future[bool]]) -> None:
        # Summaries are asked for while people act, and are there when the step ends, whoever was faster.
        for result in await asyncio.gather(*consolidations, return_exceptions=True):
            if isinstance(result, ModelError):
                logger.warning("%s: memories stay as they are, their summary failed: %s", self.name, result)
            elif isinstance(result, BaseException):
                raise result

    async def _take(self, turn: Turn, threads: ThreadPoolExecutor | None) -> TurnOutcome:
        loop = asyncio.get_running_loop()
        person, started_s = turn.person, loop.time()
        try:
            replaced = _replaced_act(person)
            if replaced is None:
                decided = await person.deliberate(model=self.model, step=turn.step)
                return TurnOutcome(
                    person.name,
                    turn.step,
                    turn.index,
                    "acted",
                    started_s,
                    loop.time(),
                    queued_s=decided.queued_s,
                    usage=decided.usage,
                    deliberation=decided,
                    actions=decided.reply.actions,
                )
            before = person.usage
            if inspect.iscoroutinefunction(replaced):
                await replaced()
            else:
                await loop.run_in_executor(threads, replaced)
            return TurnOutcome(
                person.name,
                turn.step,
                turn.index,
                "acted",
                started_s,
                loop.time(),
                usage=person.usage - before,
                actions=tuple(person.pop_latest_actions()),
            )
        except Exception as error:
            return TurnOutcome(person.name, turn.step, turn.index, "failed", started_s, loop.time(), error=error)

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
        replaced = person is not None and _replaced_act(person) is not None
        return not (replaced or isinstance(error, (ReplyError, TimeoutError)))

    # ------------------------------------------------------------------ what can be known of it

    def on(self, event: str, callback: Callable[[Any], None]) -> Callable[[], None]:
        """Have ``callback(event)`` called, in a worker thread, whenever something has happened.

        Parameters
        ----------
        event
            ``step``: after each committed step, with a `StepEvent`.
        callback
            Its errors are logged and do not stop the run.

        Returns
        -------
        Callable
            Ends it.
        """
        if event != "step":
            raise ValueError(f"unknown event {event!r}; there is: step")
        listeners = self._listeners.setdefault(event, [])
        listeners.append(callback)
        return lambda: listeners.remove(callback) if callback in listeners else None

    def _emit(self, event: str, what: StepEvent) -> None:
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


def _replaced_act(person: TinyPerson) -> Callable[[], Any] | None:
    """Return the person's `act` (or `act_async`) where a subclass or the instance replaces it."""
    for name in ("act", "act_async"):
        if name in vars(person) or getattr(type(person), name) is not getattr(TinyPerson, name):
            replaced: Callable[[], Any] = getattr(person, name)
            return replaced
    return None
