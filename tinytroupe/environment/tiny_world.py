"""A world: people who share a place and a time, and act step by step."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from tinytroupe.agent.action import Action
from tinytroupe.agent.tiny_person import TinyPerson
from tinytroupe.config import config_manager
from tinytroupe.engine.dependency import DependencyScheduler
from tinytroupe.engine.metrics import EngineMetrics
from tinytroupe.engine.scheduler import chosen, scheduler_named
from tinytroupe.engine.taking import Workers, replaced_act
from tinytroupe.engine.turn import TurnOutcome
from tinytroupe.environment import display
from tinytroupe.environment.ahead import Ahead
from tinytroupe.environment.calendar import Calendar
from tinytroupe.environment.events import StepEvent, Watched
from tinytroupe.environment.fences import fences, reach
from tinytroupe.environment.running import Run
from tinytroupe.environment.stateful import StatefulSociety
from tinytroupe.llm import ChatModel, Usage, model_in_use
from tinytroupe.runtime.clock import Clock, current_clock
from tinytroupe.runtime.telemetry import operation

if TYPE_CHECKING:
    from typing_extensions import Self

    from tinytroupe.environment.shards.backend import ShardBackend

logger = logging.getLogger("tinytroupe.world")

DEFAULT_START = datetime(2026, 1, 5, 9, 0)
"""Where a world's calendar starts unless told otherwise: fixed, so that a program run twice asks the same questions."""


class Steering(Protocol):
    """Acts on a world at the beginning of a step: an `Intervention`, or a batch of them."""

    async def execute_async(self) -> Any:
        """Look whether it is time, and if so act."""
        ...


class TinyWorld(StatefulSociety, Calendar, Watched):
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
        StatefulSociety.__init__(self, name, initial_datetime, broadcast_if_no_target)
        Watched.__init__(self)
        self.interventions = list(interventions)
        self.clock = clock
        self.model = model
        self.on_error = on_error
        self.show = show
        self._metrics = EngineMetrics(config_manager.get("timeline_length"))
        self._workers = Workers()
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
        backend: str | ShardBackend | None = None,
        shards: int | None = None,
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
            ``sequential``, ``parallel`` (a barrier after every step), ``dependency`` (without barriers, as far as the
            world leaves room; the results are those of ``parallel``) or ``auto``, which is ``dependency`` where that
            gains anything. Wins over `parallelize`. Default: setting ``SCHEDULER``.
        backend
            Where the shards live: ``local`` is this process. Default: setting ``BACKEND``.
        shards
            Parts that the people are divided into; 1 in this process: they are not. The results are the same for any
            number; they are those of ``parallel``. Default: setting ``SHARDS``.

        Raises
        ------
        ValueError
            No people, fewer than one step, an unknown scheduler or backend; shards of a world in which something looks
            at everybody between two steps (interventions, listeners, tools, a replaced `act`).
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
            backend=backend,
            shards=shards,
        )

    async def run_async(
        self,
        steps: int,
        timedelta_per_step: timedelta | None = None,
        return_actions: bool = False,
        *,
        parallelize: bool | None = None,
        scheduler: str | None = None,
        backend: str | ShardBackend | None = None,
        shards: int | None = None,
    ) -> list[dict[str, list[Action]]] | None:
        """See `run`."""
        from tinytroupe.environment.shards.choice import home_of  # a shard is made of a world

        name = self.check_run(steps, parallelize=parallelize, scheduler=scheduler)
        home = home_of(self, backend, shards, scheduler=scheduler or self._asked(parallelize), chosen=name)
        prepare = getattr(model_in_use(self.model), "prepare", None)
        if prepare is not None and any(replaced_act(agent) is None for agent in self.agents):
            await prepare()
        history: list[dict[str, list[Action]]] = []
        workflow = {"gen_ai.workflow.name": self.name, "tinytroupe.steps": steps, "tinytroupe.scheduler": name}
        with operation("invoke_workflow", self.name, workflow), display.following(self, steps) as show:

            def told(event: StepEvent) -> None:
                if return_actions:
                    history.append({outcome.person: list(outcome.actions) for outcome in event.outcomes})
                show(event)

            if home is None:
                await self._run(name, steps, timedelta_per_step, told)
            else:
                await home.run(steps, timedelta_per_step, told)
        return history if return_actions else None

    def check_run(self, steps: int, *, parallelize: bool | None = None, scheduler: str | None = None) -> str:
        """Return the name of the scheduler that `run` would use with these arguments.

        Raises
        ------
        ValueError
            `run` would not begin.
        """
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
            raise ValueError(f"steps must be a whole number of at least 1, got {steps!r}")
        if not self.agents:
            raise ValueError(f"world {self.name!r} has no people; add some with add_agents([...]) before running it")
        return chosen(scheduler or self._asked(parallelize))

    async def _run(
        self, name: str, steps: int, timedelta_per_step: timedelta | None, told: Callable[[StepEvent], None]
    ) -> None:
        fenced = fences(self)
        run = Run(self, fenced=bool(fenced), timedelta_per_step=timedelta_per_step, told=told)
        graph = reach(self) if name in ("auto", "dependency") and steps > 1 and not fenced else None
        if fenced and name == "dependency":
            logger.info("%s: people wait for each other after every step, because %s", self.name, "; ".join(fenced))
        self._workers.open()
        if graph is not None:
            await Ahead(run, graph).go(steps, DependencyScheduler(config_manager.get("max_steps_ahead")))
            return
        how, waited_for = scheduler_named("parallel" if name == "auto" else name), ""
        for _ in range(steps):
            waited_for = await run.step(how, waited_for)

    @staticmethod
    def _asked(parallelize: bool | None) -> str:
        if parallelize is not None:
            return "parallel" if parallelize else "sequential"
        asked: str = config_manager.get("scheduler")
        return asked if asked != "auto" or config_manager.get("parallel_agent_actions") else "sequential"

    # ------------------------------------------------------------------ what can be known of it

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
