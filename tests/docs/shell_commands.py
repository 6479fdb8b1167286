"""Tells what is wrong with a command of the documentation without running it: programs, options, files, packages."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Collection
from importlib.metadata import metadata
from pathlib import Path

from tinytroupe.cli import _parser as tinytroupe_parser

ROOT = Path(__file__).parents[2]

# Others' programs: what they take is theirs to say.
OTHERS = {
    "awk",
    "bash",
    "cat",
    "check-wheel-contents",
    "docker",
    "echo",
    "export",
    "git",
    "ls",
    "npm",
    "open",
    "printf",
    "ray",
    "sed",
    "source",
    "touch",
    "tox",
}
OTHER_MODULES = {"build", "mkdocs", "mypy", "pip", "ruff", "twine", "venv"}


def problems(text: str, pytest_options: Collection[str], directory: Path = ROOT) -> list[str]:
    """Return what is wrong with the commands of a script: lines joined at a backslash, comments left out."""
    found = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        line = re.sub(r"(^|\s)#.*$", "", line).strip().removeprefix("$ ")
        for command in re.split(r"\s*(?:&&|\|\||[|;])\s*", line):
            try:
                words = shlex.split(command)
            except ValueError as error:
                found.append(f"{command!r}: {error}")
                continue
            while words and re.fullmatch(r"\w+=.*", words[0]):  # variables for the command
                words.pop(0)
            if words[:1] == ["cd"]:
                directory = directory / words[1]
            elif words:
                found += [f"{command!r}: {what}" for what in _about(words, pytest_options, directory)]
    return found


def _about(words: list[str], pytest_options: Collection[str], directory: Path) -> list[str]:
    program, arguments = Path(words[0]).name, words[1:]
    if program in ("python", "python3", "py"):
        if arguments[:1] == ["-m"]:
            return _about_module(arguments[1], arguments[2:], pytest_options)
        if arguments and arguments[0].endswith(".py"):
            return _about_script(directory / arguments[0], arguments[1:])
        return []
    if program in ("pip", "pytest", "mypy", "ruff", "twine", "mkdocs"):
        return _about_module(program, arguments, pytest_options)
    if program == "tinytroupe":
        return _about_parser(tinytroupe_parser(), arguments)
    return [] if program in OTHERS else [f"there is no program {program!r}"]


def _about_module(module: str, arguments: list[str], pytest_options: Collection[str]) -> list[str]:
    if module == "pytest":
        given = [word.partition("=")[0] for word in arguments if word.startswith("--")]
        return [f"pytest has no option {option}" for option in given if option not in pytest_options]
    if module == "pytest_tinytroupe":
        from pytest_tinytroupe.commands import _parser

        return _about_parser(_parser(), arguments)
    if module == "pip" and arguments[:1] == ["install"]:
        known = set(metadata("pytest-tinytroupe").get_all("Provides-Extra") or ())
        extras = [re.search(r"^pytest-tinytroupe\[([\w,-]+)\]", word) for word in arguments]
        asked = {extra for match in extras if match for extra in match[1].split(",")}
        return [f"pytest-tinytroupe has no extra {extra!r}" for extra in sorted(asked - known)]
    return [] if module in OTHER_MODULES else [f"there is no module {module!r}"]


def _about_parser(parser, arguments: list[str]) -> list[str]:
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
        try:
            parser.parse_args(arguments)
        except SystemExit as end:
            return [told.getvalue().strip()] if end.code else []
    return []


def _about_script(script: Path, arguments: list[str]) -> list[str]:
    if not script.is_file():
        own = script.name in SCRIPTS_OF_READERS
        return [] if own else [f"there is no {script.name}"]
    source = script.read_text("utf-8")
    if "tinytroupe.benchmarks.command" in source:
        source += (ROOT / "tinytroupe" / "benchmarks" / "command.py").read_text("utf-8")
    given = [word.partition("=")[0] for word in arguments if word.startswith("--")]
    return [f"{script.name} has no option {option}" for option in given if f'"{option}"' not in source]


SCRIPTS_OF_READERS = {"cafe.py", "market.py", "record.py"}
"""What tutorials have their readers write."""
