"""A scripted conversation through the real client: how many calls, and how much of the prompts providers can cache."""

from __future__ import annotations

import pytest

from tinytroupe.agent import TinyPerson, prompt
from tinytroupe.config import config_manager
from tinytroupe.environment import TinyWorld
from tinytroupe.examples import troupe
from tinytroupe.runtime.clock import VirtualClock, use_clock
from tinytroupe.testing import MockLLM

PEOPLE, STEPS = 5, 20
CHARACTERS_PER_TOKEN = 4.0
SAYINGS = (
    "I would want to hold it in my hands before I believe a word of that brochure.",
    "My neighbour had one, and it broke within a year, so I am careful with promises.",
    "What does it cost after the first year? Nobody ever says that on the first page.",
    "I like it more than I thought I would, if the thing with the battery is solved.",
)


def conversation(latency_s=1.0, parallelize=True):
    """Run the conversation; return the text of each person's requests, in order."""
    sent = {}
    with VirtualClock() as clock, use_clock(clock), MockLLM(latency=latency_s, max_exchanges=1000) as llm:

        def answer(call):
            sent.setdefault(call.person, []).append("\n".join(message["content"] for message in call.messages))
            turn = len(sent[call.person])
            return {
                "actions": [
                    {"type": "THINK", "content": f"Thought {turn}: let me not be too harsh.", "target": ""},
                    {"type": "TALK", "content": f"({turn}) {SAYINGS[turn % len(SAYINGS)]}", "target": ""},
                    {"type": "DONE", "content": "", "target": ""},
                ],
                "cognitive_state": {
                    "goals": "To be honest about it.",
                    "context": ["a focus group"],
                    "attention": f"what was said in round {turn}",
                    "emotions": "curious",
                },
            }

        llm.when(endpoint="chat").reply(answer)
        world = TinyWorld("Focus group", troupe(PEOPLE), on_error="raise")
        world.make_everyone_accessible()
        world.broadcast("Would you buy a kettle that knows when you wake up?")
        world.run(STEPS, parallelize=parallelize)
        return llm, world, sent


def length_in_common(one, other):
    """Return how many characters two texts begin with alike."""
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))


def stable_share(requests):
    """Characters in the longest common prefix with the same person's previous request, over all characters."""
    stable = total = 0
    for one in requests.values():
        for number, text in enumerate(one):
            total += len(text)
            if number:
                stable += length_in_common(one[number - 1], text)
    return stable / total


@pytest.mark.parametrize("parallelize", [True, False])
def test_five_people_twenty_steps_are_a_hundred_calls_and_most_of_each_prompt_is_cached(parallelize):
    llm, world, sent = conversation(parallelize=parallelize)
    assert llm.calls == PEOPLE * STEPS == 100
    assert sum(map(len, sent.values())) == 100
    assert world.usage.calls == 100
    assert world.usage.prompt_tokens == llm.prompt_tokens
    assert stable_share(sent) >= 0.70
    # What the provider says of it: it counts in blocks of 128 tokens, from 1024 on.
    assert world.usage.cached_tokens / world.usage.prompt_tokens >= 0.60


def test_the_instructions_are_short():
    bare = TinyPerson("Ann")
    text = prompt.identity("Ann", bare.persona, max_actions=config_manager.get("max_actions_per_turn"))
    assert len(text) / CHARACTERS_PER_TOKEN <= 2000
