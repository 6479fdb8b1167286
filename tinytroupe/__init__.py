"""Simulate people with language models: fast, bounded and observable.

>>> from tinytroupe import TinyPerson, TinyWorld
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tinytroupe._version import __version__

if TYPE_CHECKING:
    from tinytroupe.agent import Action, CognitiveState, ReplyError, TinyPerson
    from tinytroupe.config import ConfigError, config_manager
    from tinytroupe.environment import SimulationError, TinySocialNetwork, TinyWorld, run_many
    from tinytroupe.llm import ChatModel, ModelError, RefusalError, use_model
    from tinytroupe.runtime.clock import VirtualClock, WallClock, use_clock

__all__ = [
    "Action",
    "ChatModel",
    "CognitiveState",
    "ConfigError",
    "ModelError",
    "RefusalError",
    "ReplyError",
    "SimulationError",
    "TinyPerson",
    "TinySocialNetwork",
    "TinyWorld",
    "VirtualClock",
    "WallClock",
    "__version__",
    "config_manager",
    "run_many",
    "use_clock",
    "use_model",
]

# Resolved at first use: importing the package costs next to nothing, and openai is not imported before it is needed.
_HOMES = {
    "tinytroupe.agent": ("Action", "CognitiveState", "ReplyError", "TinyPerson"),
    "tinytroupe.config": ("ConfigError", "config_manager"),
    "tinytroupe.environment": ("SimulationError", "TinySocialNetwork", "TinyWorld", "run_many"),
    "tinytroupe.llm": ("ChatModel", "ModelError", "RefusalError", "use_model"),
    "tinytroupe.runtime.clock": ("VirtualClock", "WallClock", "use_clock"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tinytroupe' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
