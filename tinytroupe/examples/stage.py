"""What the runnable examples share: offline on a mock model and virtual time, or online with a key."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinytroupe.agent import Action
    from tinytroupe.testing import Call

OFFLINE_NOTE = (
    "Offline: a mock model improvises from the personas; it shows how this works, not what people think.\n"
    "Set OPENAI_API_KEY and add --online to ask a real model.\n"
)
_LATENCY_S = (0.5, 2.5)

Improvise = Callable[["Call"], str]
"""What a person says in reply to a call, when the mock model answers."""


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser that knows ``--online``."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--online", action="store_true", help="ask the model of the settings (needs OPENAI_API_KEY)")
    return result


@contextmanager
def stage(online: bool, improvise: Improvise) -> Iterator[None]:
    """Let people inside the ``with`` block be answered by a real model, or by `improvise` in simulated time."""
    if online:
        yield
        return
    from tinytroupe.llm import use_model
    from tinytroupe.runtime.clock import VirtualClock, use_clock
    from tinytroupe.testing import DirectModel, MockLLM, Uniform

    print(OFFLINE_NOTE)
    mock = MockLLM(latency=Uniform(*_LATENCY_S))
    mock.when(endpoint="chat").reply(lambda call: _turn(improvise(call)))
    with ExitStack() as stack:
        stack.enter_context(use_clock(stack.enter_context(VirtualClock())))
        stack.enter_context(use_model(DirectModel(mock)))
        yield


def perform(play: Callable[[], None], online: bool, improvise: Improvise) -> int:
    """Run an example; a model that can't be asked is one line on stderr and exit code 1."""
    from tinytroupe.environment import SimulationError
    from tinytroupe.llm import ModelError

    try:
        with stage(online, improvise):
            play()
    except (ModelError, SimulationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def said(actions: Iterable[Action] | None) -> str:
    """Return what was said in a turn, aloud."""
    return " ".join(action.content for action in actions or () if action.type == "TALK")


def _turn(speech: str) -> dict[str, Any]:
    """A turn in the reply schema: say this to everyone, and be done."""
    return {
        "actions": [
            {"type": "TALK", "content": speech, "target": ""},
            {"type": "DONE", "content": "", "target": ""},
        ],
        "cognitive_state": {"goals": "", "context": [], "attention": "", "emotions": ""},
    }
