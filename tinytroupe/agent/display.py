"""A person's memories as people like to read them."""

from __future__ import annotations

from collections.abc import Sequence

from tinytroupe.agent import prompt
from tinytroupe.agent.memory import Memory


def pretty(
    name: str,
    memories: Sequence[Memory],
    *,
    first_n: int | None = None,
    last_n: int | None = None,
    max_content_length: int = 4000,
) -> str:
    """Return memories as lines, oldest first.

    Parameters
    ----------
    name
        Whose they are.
    memories
        What to show.
    first_n, last_n
        Show only so many from the beginning and from the end; what is left out between them is said.
    max_content_length
        Longer contents are cut in the middle.
    """
    shown = list(memories)
    left_out = 0
    head: list[Memory] = shown
    tail: list[Memory] = []
    if first_n is not None or last_n is not None:
        head = shown[: first_n or 0]
        tail = shown[max(len(head), len(shown) - (last_n or 0)) :] if last_n else []
        left_out = len(shown) - len(head) - len(tail)
    lines = [line for memory in head for line in prompt.events(memory, name, max_content_length, "I")]
    if left_out:
        lines.append(f"({left_out} left out)")
    lines += [line for memory in tail for line in prompt.events(memory, name, max_content_length, "I")]
    return "\n".join([f"{name} remembers:", *(f"  {line}" for line in lines or ["nothing"])])
