"""When people act: turns, schedulers, and what a step cost."""

from tinytroupe.engine.metrics import EngineMetrics, StepCost, step_cost
from tinytroupe.engine.scheduler import ParallelScheduler, Scheduler, SequentialScheduler, force_scheduler
from tinytroupe.engine.turn import Turn, TurnOutcome

__all__ = [
    "EngineMetrics",
    "ParallelScheduler",
    "Scheduler",
    "SequentialScheduler",
    "StepCost",
    "Turn",
    "TurnOutcome",
    "force_scheduler",
    "step_cost",
]
