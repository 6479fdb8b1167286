"""Where people live: worlds, and networks of relations."""

from tinytroupe.environment.tiny_social_network import TinySocialNetwork
from tinytroupe.environment.tiny_world import SimulationError, StepEvent, TinyWorld

__all__ = ["SimulationError", "StepEvent", "TinySocialNetwork", "TinyWorld"]
