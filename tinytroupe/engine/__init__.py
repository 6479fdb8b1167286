"""When people act: turns, schedulers, and what a step cost."""

from tinytroupe.engine.bound import Capacity, LowerBound
from tinytroupe.engine.dependency import DependencyScheduler
from tinytroupe.engine.histogram import Histogram
from tinytroupe.engine.metrics import EngineMetrics
from tinytroupe.engine.scheduler import ParallelScheduler, Scheduler, SequentialScheduler, force_scheduler
from tinytroupe.engine.turn import Turn, TurnOutcome

__all__ = [
    "Capacity",
    "DependencyScheduler",
    "EngineMetrics",
    "Histogram",
    "LowerBound",
    "ParallelScheduler",
    "Scheduler",
    "SequentialScheduler",
    "Turn",
    "TurnOutcome",
    "force_scheduler",
]
