"""Baselines: read, compare, update, unused. What a file looks like is in `pytest_tinytroupe.baseline_file`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pytest_tinytroupe import cause
from pytest_tinytroupe.baseline_file import SCHEMA, BaselineError, dump, load, write
from pytest_tinytroupe.cause import By
from pytest_tinytroupe.environment import environment_key, machine_key
from pytest_tinytroupe.records import Tier, Verdict
from pytest_tinytroupe.timing import Run
from pytest_tinytroupe.verdict import keeps_figure, tolerance_of

UP = "__up__"
"""Stands for ``..`` in the path of a baseline file: test files outside the root directory keep theirs inside, too."""

OTHER = ".other"
"""Follows the full name of a test file that does not end in ``.py``: ``guide.txt`` and ``guide.txt.py`` differ."""


@dataclass(frozen=True, slots=True)
class Entry:
    """New figures for one test.

    Attributes
    ----------
    file
        Path of the test file relative to the root directory, with forward slashes.
    test
        Id of the test within the file: what follows the first ``::``.
    environment
        Key of the Python and platform that heap and process figures belong to.
    exact, heap, process
        Metric name -> value.
    people, steps
        Metric name -> person, or number of the step -> amount: not judged, there to name the cause of a regression.
    machine
        Key of the machine that times belong to; empty where the test takes no times.
    wall
        The runs of the baseline, each as a line of text; empty also where none were fit to be kept.
    tolerances
        Metric name -> how far its value may stray, where the test judges it by a share of its own.
    """

    file: str
    test: str
    environment: str
    exact: dict[str, float] = field(default_factory=dict)
    heap: dict[str, float] = field(default_factory=dict)
    people: dict[str, dict[str, int]] = field(default_factory=dict)
    steps: dict[str, dict[str, int]] = field(default_factory=dict)
    process: dict[str, float] = field(default_factory=dict)
    machine: str = ""
    wall: tuple[str, ...] = ()
    tolerances: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the entry as JSON types."""
        return {**asdict(self), "wall": list(self.wall)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Entry:
        """Build the entry from `to_json`'s result."""
        return cls(**{**data, "wall": tuple(data["wall"])})


def entry_of(
    file: str,
    test: str,
    verdicts: Iterable[Verdict],
    people: By | None = None,
    steps: By | None = None,
    runs: Iterable[Run] | None = None,
) -> Entry:
    """Collect what the verdicts measured in the tiers that are kept, the runs behind times, and who caused it.

    Without times `runs` is None; it is empty where the machine was too busy for a baseline.
    """
    kept: dict[str, dict[str, float]] = {"exact": {}, "heap": {}, "process": {}, "wall": {}}
    verdicts = list(verdicts)
    for verdict in verdicts:
        metric = verdict.metric
        if metric.value is not None and keeps_figure(metric):
            kept[metric.tier][metric.name] = metric.value
    return Entry(
        file,
        test,
        environment_key(),
        kept["exact"],
        kept["heap"],
        cause.kept(people or {}),
        cause.kept(steps or {}, cause.STEPS),
        kept["process"],
        "" if runs is None else machine_key(),
        tuple(run.text() for run in runs or ()),
        {each.metric.name: each.tolerance for each in verdicts if each.metric.tier in ("heap", "process")},
    )


class Baselines:
    """The baseline files below one directory. Reading is cached: they do not change while tests run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._read: dict[Path, dict[str, Any] | BaselineError] = {}

    def path_of(self, file: str) -> Path:
        """Return the baseline file of a test file given relative to the root directory.

        Raises
        ------
        BaselineError
            There is no way from the root directory to the test file: it is on another drive.
        """
        if os.path.isabs(file):
            raise BaselineError(f"{file} is on another drive than the root directory; name one on its drive: --rootdir")
        *parents, name = [UP if part == ".." else part for part in file.split("/")]
        stem = name.removesuffix(".py")
        if stem == name or stem.endswith(OTHER):
            stem = name + OTHER
        return self.directory.joinpath(*parents, f"{stem}.json")

    def file_of(self, path: Path) -> str:
        """Return the test file of a baseline file, relative to the root directory: the inverse of `path_of`."""
        *parents, name = [".." if part == UP else part for part in path.relative_to(self.directory).parts]
        stem = name.removesuffix(".json")
        return "/".join([*parents, stem.removesuffix(OTHER) if stem.endswith(OTHER) else f"{stem}.py"])

    @property
    def empty(self) -> bool:
        """Whether there is no baseline file, or not even the directory."""
        return not any(self.directory.rglob("*.json"))

    def stored(self, file: str, test: str) -> dict[str, float]:
        """Return metric name -> stored value of one test in this environment; empty where there is none.

        Raises
        ------
        BaselineError
            The file exists and cannot be read or understood.
        """
        entry, here = self._entry(file, test), environment_key()
        return {
            **entry.get("exact", {}),
            **entry.get("heap", {}).get(here, {}),
            **entry.get("process", {}).get(here, {}),
        }

    def runs(self, file: str, test: str) -> dict[str, tuple[Run, ...]]:
        """Return machine -> the runs taken there; raises like `stored`."""
        found = self._entry(file, test).get("wall", {})
        return {machine: tuple(map(Run.from_text, found[machine])) for machine in sorted(found)}

    def causes(self, file: str, test: str) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]]:
        """Return metric name -> person -> amount, and the same by step, as far as kept; raises like `stored`."""
        entry = self._entry(file, test)
        return dict(entry.get("people", {})), dict(entry.get("steps", {}))

    def other_environments(self, file: str, test: str) -> list[str]:
        """Return the environments beside this one in which the test has heap figures; raises like `stored`."""
        return sorted(set(self._entry(file, test).get("heap", {})) - {environment_key()})

    def files(self) -> dict[str, list[str]]:
        """Return test file, relative to the root directory, -> ids of the tests that have a baseline.

        Files that cannot be understood are left out: no test of theirs can pass anyway.
        """
        found = {}
        for path in sorted(self.directory.rglob("*.json")):
            try:
                tests = load(path)["tests"]
            except BaselineError:
                continue
            found[self.file_of(path)] = sorted(tests)
        return found

    def prune(self, unused: Mapping[str, Iterable[str]]) -> list[Path]:
        """Remove tests by file, and files that become empty.

        Returns
        -------
        list of Path
            The files that changed or are gone, sorted.

        Raises
        ------
        BaselineError
            A file cannot be understood or written.
        """
        changed = []
        for file in sorted(unused):
            path = self.path_of(file)
            document = load(path)
            document["schema"] = SCHEMA
            for test in unused[file]:
                document["tests"].pop(test, None)
            write(path, dump(document) if document["tests"] else None)
            changed.append(path)
        return changed

    def _entry(self, file: str, test: str) -> dict[str, Any]:
        path = self.path_of(file)
        if path not in self._read:
            try:
                self._read[path] = load(path)
            except BaselineError as error:
                self._read[path] = error
        document = self._read[path]
        if isinstance(document, BaselineError):
            raise document
        entry: dict[str, Any] = document["tests"].get(test, {})
        return entry

    def update(self, entries: Iterable[Entry], *, only_new: bool = False) -> list[Path]:
        """Write new figures, leaving those of other tests and environments as they are.

        Parameters
        ----------
        entries
            The figures.
        only_new
            Whether figures that are there already stay as they are.

        Returns
        -------
        list of Path
            The files that changed, sorted.

        Raises
        ------
        BaselineError
            A file cannot be understood or written. It is left untouched; files before it may have been written.
        """
        by_path: dict[Path, list[Entry]] = {}
        for entry in entries:
            by_path.setdefault(self.path_of(entry.file), []).append(entry)
        changed = []
        for path in sorted(by_path):
            document = load(path)
            before = dump(document)
            for entry in by_path[path]:
                (_fill if only_new else _merge)(document["tests"], entry)
            document["schema"] = SCHEMA
            after = dump(document)
            if after != before:
                write(path, after)
                changed.append(path)
        return changed


def _merge(tests: dict[str, Any], entry: Entry) -> None:
    stored = tests.setdefault(entry.test, {})
    stored["exact"] = dict(entry.exact)
    for part, amounts in (("people", entry.people), ("steps", entry.steps)):
        stored.pop(part, None)
        if amounts:
            stored[part] = amounts
    if entry.heap:
        _merge_environment(stored.setdefault("heap", {}), "heap", entry, entry.heap)
    elif stored.get("heap", {}).pop(entry.environment, None) and not stored["heap"]:
        del stored["heap"]
    # What a test does not ask for any more, it asks for nowhere.
    if entry.process:
        _merge_environment(stored.setdefault("process", {}), "process", entry, entry.process)
    else:
        stored.pop("process", None)
    if entry.wall:
        stored.setdefault("wall", {})[entry.machine] = list(entry.wall)
    elif not entry.machine:
        stored.pop("wall", None)


def _merge_environment(kept: dict[str, Any], tier: Tier, entry: Entry, figures: Mapping[str, float]) -> None:
    old = kept.get(entry.environment, {})
    kept[entry.environment] = {
        name: _steady(old.get(name), value, tolerance_of(name, tier, value), entry.tolerances.get(name))
        for name, value in figures.items()
    }


def _fill(tests: dict[str, Any], entry: Entry) -> None:
    """Add what is not there yet."""
    new: dict[str, Any] = {}
    _merge(new, entry)
    tests[entry.test] = _filled(tests.get(entry.test, {}), new[entry.test], depth=3)


def _filled(known: Any, new: Any, depth: int) -> Any:
    """Return `known` with what only `new` has, so many levels deep."""
    if not depth or not isinstance(known, dict):
        return known
    return {**new, **{key: _filled(value, new.get(key, {}), depth - 1) for key, value in known.items()}}


def _steady(old: float | None, new: float, usual: float, tolerance: float | None) -> float:
    """Keep a figure that still holds, so that an update without news changes no file.

    A new one is rounded to a power of two of at most a quarter of its tolerance, and of the tier's `usual` one: where a
    test ran, and after which others, moves it by less than that, and the file is to be the same.
    """
    if tolerance is None:
        tolerance = usual
    if old is not None and abs(new - old) <= tolerance:
        return old
    finest = min(tolerance, usual)
    if not finest > 0:
        return new
    grain = 2.0 ** math.floor(math.log2(finest / 4))
    return round(new / grain) * grain
