"""``@pytest.mark.perf(…)`` as a frozen value, with everything that is not understood refused."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from pytest_tinytroupe.metrics import CATALOGUE, kind_of
from pytest_tinytroupe.phases import GATE, MARKER, MARKER_ERROR
from pytest_tinytroupe.xdist import is_worker

if TYPE_CHECKING:
    from pytest_tinytroupe.records import LimitKind

NAME = "perf"
SKIP_REASON = "needs --perf; run: pytest --perf"

LIMITS = tuple(f"{bound}_{name}" for name in CATALOGUE for bound in ("max", "min"))
KEYWORDS = (*LIMITS, "tolerance", "baseline", "seed")

_NO_BASELINE_TIERS = ("process", "wall", "price")


class MarkerError(ValueError):
    """A perf marker that cannot be understood. The message names the test."""


@dataclass(frozen=True, slots=True)
class PerfMarker:
    """What a test's perf markers say, merged from module, class and function; the nearest wins, key by key.

    Attributes
    ----------
    thresholds
        Keyword -> threshold in the metric's unit: ``max_…`` or ``min_…`` and the name of a metric of the catalogue.
        ``max_time_s`` is virtual where the test runs on virtual time, else real; MB are 2**20 bytes.
    tolerance
        Metric name -> how far it may stray from its baseline, as a share of the baseline.
    baseline
        Whether the metrics are held against a baseline.
    seed
        Seed of the random generators in every pass.
    """

    thresholds: Mapping[str, float] = field(default_factory=dict)
    tolerance: Mapping[str, float] = field(default_factory=dict)
    baseline: bool = True
    seed: int = 0

    def limits(self) -> dict[str, list[tuple[LimitKind, float]]]:
        """Return metric name -> its limits, each ``max`` or ``min`` with the threshold."""
        found: dict[str, list[tuple[LimitKind, float]]] = {}
        for keyword in LIMITS:
            value = self.thresholds.get(keyword)
            if value is not None:
                found.setdefault(keyword[4:], []).append(("max" if keyword[:3] == "max" else "min", float(value)))
        return found

    def wants(self, metric: str) -> bool:
        """Whether a limit asks for this metric."""
        return f"max_{metric}" in self.thresholds or f"min_{metric}" in self.thresholds


def prepare(config: pytest.Config, perf_tests: Iterable[pytest.Item]) -> None:
    """Keep each perf test's merged marker in its stash, and skip the test without ``--perf``.

    Raises
    ------
    pytest.UsageError
        A marker is wrong. On a worker of a parallel run, where this would end the worker without a word, the test
        fails with the message instead.
    """
    problems = []
    for item in perf_tests:
        try:
            item.stash[MARKER] = read_marker(item)
        except MarkerError as error:
            problems.append(str(error))
            item.stash[MARKER_ERROR] = str(error)
            continue
        if GATE not in config.stash:
            item.add_marker(pytest.mark.skip(reason=SKIP_REASON))
    if problems and not is_worker(config):
        raise pytest.UsageError("\n".join(problems))


def read_marker(item: pytest.Item) -> PerfMarker:
    """Merge the perf markers of a test.

    Raises
    ------
    MarkerError
        An unknown keyword or a value of the wrong kind.
    """
    merged: dict[str, object] = {}
    tolerance: dict[str, float | None] = {}
    for node in item.listchain():  # from the session down to the test: the nearest comes last
        for mark in node.own_markers:
            if mark.name == NAME:
                _check(item.nodeid, mark.args, mark.kwargs)
                merged.update(mark.kwargs)
                tolerance.update(mark.kwargs.get("tolerance") or {})
    return PerfMarker(
        {name: value for name, value in merged.items() if name in LIMITS and value is not None},  # type: ignore[misc]
        {name: float(value) for name, value in tolerance.items() if value is not None},
        bool(merged.get("baseline", True)),
        int(merged.get("seed", 0)),  # type: ignore[call-overload]
    )


def _check(nodeid: str, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
    if args:
        raise MarkerError(f"{nodeid}: @pytest.mark.perf takes keywords only, not {args[0]!r}; known: {_known()}")
    for name, value in kwargs.items():
        if name not in KEYWORDS:
            raise MarkerError(f"{nodeid}: @pytest.mark.perf has no keyword {name!r}{_nearest(name)}; known: {_known()}")
        problem = _problem(name, value)
        if problem:
            raise MarkerError(f"{nodeid}: @pytest.mark.perf({name}={value!r}): {problem}")


def _problem(name: str, value: object) -> str:
    if name == "baseline":
        return "" if isinstance(value, bool) else "must be True or False"
    if name == "seed":
        return "" if isinstance(value, int) and not isinstance(value, bool) else "must be a whole number"
    if name == "tolerance":
        return _tolerance_problem(value)
    return "" if value is None or _is_amount(value) else "must be a finite number, not negative"


def _tolerance_problem(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, Mapping):
        return "must be a dict of metric names and shares, such as {'heap_mb': 0.05}"
    for name, share in value.items():
        if not isinstance(name, str):
            return f"{name!r} is not the name of a metric"
        if name in CATALOGUE and (kind_of(name).tier in _NO_BASELINE_TIERS or not kind_of(name).kept):
            return f"{name} keeps no baseline, so that a tolerance means nothing; use a limit"
        if share is not None and not _is_amount(share):
            return f"the share of {name} must be a finite number, not negative; 0.05 is 5 %"
    return ""


def _is_amount(value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= 0  # type: ignore[arg-type,operator]


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    # Without the unit and the direction a slip such as `max_calls` still finds its keyword.
    close = get_close_matches(name, KEYWORDS, n=1)
    if not name.startswith(("max_", "min_")) or (close and close[0][:4] != name[:4]) or not close:
        close = [known for known in LIMITS if name[4:] and known[:4] == name[:4] and name[4:] in known][:1] or close
    return f"; did you mean {close[0]!r}?" if close else ""


def _known() -> str:
    return f"max_… and min_… of {', '.join(CATALOGUE)}; tolerance, baseline, seed"
