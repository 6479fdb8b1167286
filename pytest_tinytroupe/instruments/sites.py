"""Which lines of code hold the heap, and which of them hold more after each repetition. Needs tracemalloc tracing."""

from __future__ import annotations

import os
import sys
import tracemalloc
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

from pytest_tinytroupe.records import Site

MB = 2**20

ENDED = "the test itself ends tracemalloc, or clears what it traced; leave that to perf tests, or ask for no heap"
"""Why there is no figure of the heap."""

TOP = 10
"""Sites in a test's record."""

Place = tuple[str, int]
"""File and line, as tracemalloc names them."""

# What runs the tests keeps books about them; tracemalloc sees its own snapshots.
_OURS = ("pytest_tinytroupe", "pytest", "_pytest", "pluggy", "xdist", "execnet", "tracemalloc")


def held(*, without_pytest: bool = False) -> dict[Place, tuple[int, int]]:
    """Return what each line holds of the heap that was allocated since tracing began: bytes and blocks.

    Parameters
    ----------
    without_pytest
        Leave out what pytest and this plugin allocate, beside tracemalloc itself.
    """
    ours = _beginnings(_OURS if without_pytest else _OURS[-1:])
    statistics = tracemalloc.take_snapshot().statistics("lineno")
    frames = [(each.traceback[0], each) for each in statistics]
    return {
        (frame.filename, frame.lineno): (each.size, each.count)
        for frame, each in frames
        if not frame.filename.startswith(ours)
    }


def witness() -> object:
    """Return something to be asked for later on with `tracing_ended`."""
    return bytearray(1)


def tracing_ended(witness: object) -> bool:
    """Whether somebody has ended tracing, or cleared what was traced, since `witness` was made."""
    return tracemalloc.get_object_traceback(witness) is None


def top_sites(root: Path, limit: int = TOP) -> tuple[Site, ...]:
    """Return the lines that hold the most, the largest first."""
    ranked = sorted(held().items(), key=lambda pair: (-pair[1][0], pair[0]))[:limit]
    return tuple(Site(shown(place, root), round(size / MB, 6), count) for place, (size, count) in ranked)


def growing(sizes: Sequence[Mapping[Place, int]]) -> dict[Place, float]:
    """Return how many bytes each line gains a repetition, of the lines that gain in every one: the median gain.

    A cache that is filled once, and a list that makes room for more now and then, do not gain every time.

    Parameters
    ----------
    sizes
        Bytes by line after each repetition, at least two.
    """
    gains = {
        place: [after.get(place, 0) - before.get(place, 0) for before, after in pairwise(sizes)] for place in sizes[-1]
    }
    return {place: median(each) for place, each in gains.items() if min(each) > 0}


def shown(place: Place, root: Path) -> str:
    """Write a place as ``path:line``, relative to where packages are installed, to `root`, or to any import path."""
    path, line = Path(place[0]), place[1]
    known = sorted((each for each in sys.path if os.path.isabs(each)), key=len, reverse=True)
    installed = [each for each in known if each.endswith("-packages")]
    for start in [*map(Path, installed), root, *map(Path, known)]:
        if path.is_relative_to(start):
            return f"{path.relative_to(start).as_posix()}:{line}"
    return f"{path}:{line}"


def _beginnings(packages: Sequence[str]) -> tuple[str, ...]:
    """Return the beginnings of the files' names of these packages."""
    files = [getattr(sys.modules.get(name), "__file__", None) for name in packages]
    return tuple(
        os.path.dirname(file) + os.sep if os.path.basename(file).startswith("__init__.") else file
        for file in files
        if file
    )
