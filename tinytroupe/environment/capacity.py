"""What limits how fast the people of a world can ask their model."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from tinytroupe.config import config_manager
from tinytroupe.engine.bound import Capacity
from tinytroupe.llm import ModelError, model_in_use
from tinytroupe.llm.journal import JournaledModel

if TYPE_CHECKING:
    from tinytroupe.environment.tiny_world import TinyWorld


def capacity(world: TinyWorld, workers: int, calls: int) -> Capacity:
    """Return what limits the turns of a world, as far as it is known: slots, and the rates of the gate they pass.

    Parameters
    ----------
    world
        The world.
    workers
        Turns that may be under way at once.
    calls
        Calls of the model so far: without any, no gate limits anything, and to look for it would build the client.
    """
    gate = None
    if calls and all(agent.model is None for agent in world.agents):  # else several servers: no limit is that of all
        model = model_in_use(world.model)
        with suppress(ModelError):  # no connection, and so no calls of this model
            gate = getattr(model.model if isinstance(model, JournaledModel) else model, "gate", None)
    if gate is None:
        return Capacity(workers)
    most = config_manager.get("max_concurrent_model_calls") or config_manager.get("max_adaptive_model_calls")
    return Capacity(
        slots=min(workers, most),
        requests_per_s=gate.requests.rate_per_s if gate.requests else None,
        tokens_per_s=gate.tokens.rate_per_s if gate.tokens else None,
        request_burst=gate.requests.capacity if gate.requests else 0.0,
        token_burst=gate.tokens.capacity if gate.tokens else 0.0,
    )
