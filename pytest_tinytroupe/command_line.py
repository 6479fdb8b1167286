"""The commands to suggest: what was given, asking for something else. Pure but for reading the configuration."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any

import pytest

OPTION = "perf_command_line"
"""Attribute of the options by which workers and fresh processes learn what the user typed."""

_NOT_REPEATED = (
    *("--perf", "--perf-update", "--perf-update-new", "--perf-prune", "--perf-strict", "--no-perf-strict"),
    "--no-perf-report",
)
_NOT_REPEATED_WITH_VALUE = ("--perf-report", "--perf-json", "--perf-markdown", "--perf-history")


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What the user typed, as far as it decides what is measured and against what.

    Attributes
    ----------
    options
        All options but those that say what to do with the figures.
    paths
        Files, directories and tests, as they were given.
    root, here
        The root directory, which the ids of tests are relative to, and the directory that the command was given in.
    """

    options: Sequence[str] = ()
    paths: Sequence[str] = ()
    root: str = "."
    here: str = "."

    def accepting(self, nodeids: Iterable[str], option: str = "--perf-update") -> str:
        """Return the command that makes the measured figures the new baselines of these tests."""
        return shlex.join(["pytest", "--perf", option, *self.options, *map(self._from_here, nodeids)])

    def pruning(self) -> str:
        """Return the command that removes the baselines which this run found unused."""
        return shlex.join(["pytest", "--perf", "--perf-prune", *self.options, *self.paths])

    def _from_here(self, nodeid: str) -> str:
        file, separator, test = nodeid.partition("::")
        path = os.path.normpath(os.path.join(self.root, file))
        with suppress(ValueError):  # another drive
            path = os.path.relpath(path, self.here)
        return PurePath(path).as_posix() + separator + test


def command_line(config: pytest.Config) -> CommandLine:
    """Return what the user typed; on workers and in fresh processes what `tell` has left."""
    left: dict[str, Any] | None = getattr(config.option, OPTION, None)
    if left is not None:
        return CommandLine(**left)
    paths = [str(path) for path in getattr(config.option, "file_or_dir", None) or ()]
    given = config.invocation_params
    return CommandLine(repeated(given.args, paths), paths, str(config.rootpath), str(given.dir))


def tell(config: pytest.Config, command: CommandLine) -> None:
    """Leave it for workers and fresh processes, which take over the options."""
    setattr(config.option, OPTION, asdict(command))


def repeated(arguments: Iterable[str | os.PathLike[str]], paths: Iterable[str]) -> list[str]:
    """Return the options among the arguments that a suggested command repeats.

    Parameters
    ----------
    arguments
        As they were given, each option's value in the same argument or in the next.
    paths
        Which of them are no options.

    Examples
    --------
    >>> repeated(["--perf", "-c", "x.ini", "--perf-json", "a.json", "--perf-baseline-dir=b", "t.py"], ["t.py"])
    ['-c', 'x.ini', '--perf-baseline-dir=b']
    """
    left = [os.fspath(each) for each in arguments]
    for path in paths:
        places = [place for place, each in enumerate(left) if each == path]
        # `pytest --rootdir . .`: the value of an option may read like a path.
        free = [place for place in places if not place or not left[place - 1].startswith("-")]
        for place in (free or places)[:1]:
            del left[place]
    kept = []
    rest = iter(left)
    for argument in rest:
        name, assigned, _ = argument.partition("=")
        if name in _NOT_REPEATED_WITH_VALUE:
            if not assigned:
                next(rest, None)
        elif name not in _NOT_REPEATED and name != "--":
            kept.append(argument)
    return kept
