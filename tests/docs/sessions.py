"""Does what a page says: writes its files, applies its diffs, runs its sessions, and compares what they print."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pages import Block

Run = Callable[[str], str]
"""Runs a command in the reader's directory and returns its output."""


def follow(blocks: Sequence[Block], directory: Path, run: Run) -> int:
    """Do what the blocks of a page say, from top to bottom, and return how many commands were run.

    Raises
    ------
    AssertionError
        A command printed something else than the page shows, or a diff does not fit.
    """
    commands = 0
    for block in blocks:
        if block.directive in ("file", "append"):
            path = directory / block.value
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a" if block.directive == "append" else "w", encoding="utf-8") as file:
                file.write(block.code)
        elif block.language == "diff" and block.directive != "no-run":
            _apply(block, directory)
        elif block.directive == "run":
            for command, shown in _sessions(block.code):
                _compare(block, command, shown, run(command))
                commands += 1
    return commands


def _apply(block: Block, directory: Path) -> None:
    """Apply a diff that names its file in its first line: ``--- FILE``."""
    name, *lines = block.code.splitlines()
    path = directory / name.removeprefix("--- ")
    before = "".join(f"{line[1:]}\n" for line in lines if line[:1] in (" ", "-"))
    after = "".join(f"{line[1:]}\n" for line in lines if line[:1] in (" ", "+"))
    text = path.read_text("utf-8")
    assert text.count(before) == 1, f"{block.place} does not fit {path.name}"
    path.write_text(text.replace(before, after), "utf-8")


def _sessions(code: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block with the output shown for it."""
    for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def _compare(block: Block, command: str, shown: str, out: str) -> None:
    """Hold output against what is shown: every line of it, in that order.

    ``…`` in a line stands for anything, a line of ``…`` alone for any lines; nothing else may be left out.
    """
    printed = [_plain(line) for line in out.splitlines() if line.strip()]
    skip = False
    for line in filter(None, map(_plain, shown.splitlines())):
        if line == "…":
            skip = True
            continue
        pattern = ".*".join(map(re.escape, line.split("…")))
        while skip and printed and not re.fullmatch(pattern, printed[0]):
            printed.pop(0)
        skip = False
        told = printed.pop(0) if printed else ""
        assert re.fullmatch(pattern, told), f"{block.place}: {command!r} did not print {line!r}\n{out}"
    assert skip or not printed, f"{block.place}: {command!r} printed more: {printed[0]!r}\n{out}"


def _plain(line: str) -> str:
    """Return a line without what hangs on the width of the terminal, or of a column beside it."""
    return re.sub(r"(?<=\S) {2,}", "  ", re.sub(r"^=+ (.*) =+$", r"=== \1 ===", line.rstrip()))
