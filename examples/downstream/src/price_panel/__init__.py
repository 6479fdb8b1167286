"""Ask a panel of simulated people what they would pay, and have a model sum it up."""

from __future__ import annotations

import openai

from tinytroupe import TinyWorld


def ask_panel(world: TinyWorld, question: str, rounds: int = 2) -> dict[str, list[str]]:
    """Put a question to everyone and return what each has said, by name."""
    world.broadcast(question)
    said: dict[str, list[str]] = {person.name: [] for person in world.agents}
    for actions_by_person in world.run(rounds, return_actions=True) or ():
        for name, actions in actions_by_person.items():
            said[name] += [action.content for action in actions if action.type == "TALK"]
    return said


def sum_up(said: dict[str, list[str]], client: openai.OpenAI) -> str:
    """Sum up a discussion in one sentence; one call of the model."""
    lines = "\n".join(f"{name}: {text}" for name, texts in said.items() for text in texts)
    messages = [
        {"role": "system", "content": "You sum up discussions in one sentence."},
        {"role": "user", "content": lines},
    ]
    answer = client.chat.completions.create(model="gpt-5-mini", messages=messages)
    return answer.choices[0].message.content or ""
