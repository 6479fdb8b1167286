"""Where people live: worlds, and networks of relations."""

from tinytroupe.environment.events import ActionEvent, SimulationError, StepEvent
from tinytroupe.environment.tiny_social_network import TinySocialNetwork
from tinytroupe.environment.tiny_world import TinyWorld

__all__ = ["ActionEvent", "SimulationError", "StepEvent", "TinySocialNetwork", "TinyWorld"]
