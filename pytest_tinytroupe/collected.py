"""Which baselines nobody uses. Tests that were merely not run never count: skipped, deselected, not asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pytest_tinytroupe import marker, xdist


@dataclass(slots=True)
class Collected:
    """What one process saw while it collected.

    Attributes
    ----------
    tests
        Ids of the perf tests that keep a baseline, deselected ones included.
    files
        Test files, relative to the root directory, that were collected.
    doubtful
        Files of which that is not known in full, because they were skipped or broken at import.
    marked
        The tests that are marked perf, deselected ones included: pytest's id, with the group that ``--dist loadgroup``
        hangs on it -> ours, as in `pytest_tinytroupe.xdist.nodeid_of`.
    selected
        Ours of those that are about to run.
    done
        Whether collecting came to its end: else files count as collected whose tests are not known.
    """

    tests: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    doubtful: set[str] = field(default_factory=set)
    marked: dict[str, str] = field(default_factory=dict)
    selected: set[str] = field(default_factory=set)
    done: bool = False

    def add_items(self, items: Iterable[pytest.Item]) -> None:
        """Take in all tests, also those about to be deselected: collecting is over."""
        self.done = True
        for item in items:
            if item.get_closest_marker(marker.NAME) is None:
                continue
            self.marked[item.nodeid] = xdist.nodeid_of(item)
            if _keeps_baseline(item):
                self.tests.add(xdist.nodeid_of(item))

    def add_node(self, node: pytest.Collector, *, passed: bool) -> None:
        """Take in how collecting a file, or a class in it, went."""
        (self.files if passed else self.doubtful).add(xdist.file_of(node))

    def merge(self, other: Collected) -> None:
        """Take in what another process saw."""
        self.tests |= other.tests
        self.files |= other.files
        self.doubtful |= other.doubtful
        self.marked |= other.marked
        self.selected |= other.selected
        self.done |= other.done

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "tests": sorted(self.tests),
            "files": sorted(self.files),
            "doubtful": sorted(self.doubtful),
            "marked": dict(sorted(self.marked.items())),
            "selected": sorted(self.selected),
            "done": self.done,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Collected:
        """Build it from `to_json`'s result."""
        tests, files, doubtful, selected = (set(data[part]) for part in ("tests", "files", "doubtful", "selected"))
        return cls(tests, files, doubtful, dict(data["marked"]), selected, data["done"])

    def unused(self, file: str, tests: Iterable[str], *, asked_for: bool, exists: bool) -> list[str]:
        """Return which of a file's stored tests are used by nobody.

        Parameters
        ----------
        file
            The test file, relative to the root directory.
        tests
            Ids within the file that have a baseline.
        asked_for
            Whether the arguments of the run cover the whole file.
        exists
            Whether the test file is still there.
        """
        if not asked_for or file in self.doubtful or (exists and file not in self.files):
            return []
        return [test for test in sorted(tests) if f"{file}::{test}" not in self.tests]


def coverage(config: pytest.Config) -> Callable[[str], bool]:
    """Return a function that tells whether the run's arguments cover a whole file, given relative to the root."""
    if config.getoption("lf", False):  # then pytest leaves files out that did not fail
        return lambda file: False
    roots = [Path(config.invocation_params.dir, argument).resolve() for argument in config.args if "::" not in argument]

    def covered(file: str) -> bool:
        path = (config.rootpath / file).resolve()
        return any(path.is_relative_to(root) for root in roots)

    return covered


def _keeps_baseline(item: pytest.Item) -> bool:
    try:
        return marker.read_marker(item).baseline
    except marker.MarkerError:
        return True  # refused elsewhere
