"""Where people live: worlds, networks of relations, and several of them at once."""

from tinytroupe.environment.events import ActionEvent, SimulationError, StepEvent
from tinytroupe.environment.many import WorldRun, run_many, run_many_async
from tinytroupe.environment.ray_tasks import RayTasks
from tinytroupe.environment.tiny_social_network import TinySocialNetwork
from tinytroupe.environment.tiny_world import TinyWorld

__all__ = [
    "ActionEvent",
    "RayTasks",
    "SimulationError",
    "StepEvent",
    "TinySocialNetwork",
    "TinyWorld",
    "WorldRun",
    "run_many",
    "run_many_async",
]
