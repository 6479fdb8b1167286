"""Where people live: worlds, and networks of relations."""

from tinytroupe.environment.tiny_social_network import TinySocialNetwork
from tinytroupe.environment.tiny_world import ActionEvent, SimulationError, StepEvent, TinyWorld

__all__ = ["ActionEvent", "SimulationError", "StepEvent", "TinySocialNetwork", "TinyWorld"]
