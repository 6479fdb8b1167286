"""What people do, and remember, as others like to read it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from tinytroupe.agent import prompt
from tinytroupe.agent.action import DONE, Action
from tinytroupe.agent.memory import Memory
from tinytroupe.agent.memory.event import stimuli_of

Row = tuple[str, str, str]
"""Who, what kind of thing to whom, and the words."""

_SHOWN_CHARACTERS = 1000
_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")


def wanted(asked: bool | None, setting: str, stream: TextIO) -> bool:
    """Tell whether to show something: as asked, else as the setting says; ``auto`` means in a terminal."""
    if asked is not None:
        return asked
    return stream.isatty() if setting == "auto" else setting == "on"


def rows(name: str, actions: Iterable[Action], max_content_length: int | None = None) -> list[Row]:
    """Return what somebody did, but for ``DONE``; longer contents (default: 1000 characters) are cut."""
    return [
        (name, f"{action.type}{action.target and f' to {action.target}'}", _cut(action.content, max_content_length))
        for action in actions
        if action.type != DONE
    ]


def perceived_rows(name: str, memories: Iterable[Memory], max_content_length: int | None = None) -> list[Row]:
    """Return what somebody perceived."""
    return [
        (each.source or "Somebody", f"{each.type} to {name}", _cut(each.content, max_content_length))
        for memory in memories
        if memory.kind == "stimulus"
        for each in stimuli_of(memory.event) or ()
    ]


def print_rows(shown: Sequence[Row], names: Sequence[str] = ()) -> None:
    """Print what was done: with `rich` in colour where it is installed, else plainly.

    Parameters
    ----------
    shown
        What to print.
    names
        Of the people, in an order that decides their colours; default: in the order in which they appear.
    """
    if not shown:
        return
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        sys.stdout.write("".join(f"{name} [{kind}] {words}\n" for name, kind, words in shown))
        sys.stdout.flush()
        return
    console = Console(file=sys.stdout, highlight=False)
    order = {name: index for index, name in enumerate(dict.fromkeys(names or (name for name, _, _ in shown)))}
    for name, kind, words in shown:
        colour = _COLOURS[order[name] % len(_COLOURS)] if name in order else "white"
        console.print(Text.assemble((name, f"bold {colour}"), (f" [{kind}] ", "dim"), words))


def _cut(text: str, most: int | None) -> str:
    most = _SHOWN_CHARACTERS if most is None else most
    return text if len(text) <= most else text[:most] + "…"


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

    def told(part: Sequence[Memory]) -> list[str]:
        groups = ((memory, prompt.events(memory, name, max_content_length, "I")) for memory in part)
        return list(prompt.timed(groups))

    lines = [*told(head), *([f"({left_out} left out)"] if left_out else ()), *told(tail)]
    return "\n".join([f"{name} remembers:", *(f"  {line}" for line in lines or ["nothing"])])
