"""``@pytest.mark.perf(…)`` as a frozen value, with everything that is not understood refused."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pytest

from pytest_tinytroupe.metrics import CATALOGUE, TIMED, kind_of
from pytest_tinytroupe.phases import GATE, MARKER, MARKER_ERROR
from pytest_tinytroupe.xdist import is_worker

if TYPE_CHECKING:
    from pytest_tinytroupe.records import LimitKind

NAME = "perf"
SKIP_REASON = "needs --perf; run: pytest --perf"

LIMITS = tuple(f"{bound}_{name}" for name in CATALOGUE for bound in ("max", "min"))
SYNONYMS = {"p95_turn_latency_s": "max_p95_turn_latency_s"}
KEYWORDS = (*LIMITS, *SYNONYMS, "tolerance", "baseline", "seed", "clock", "rounds", "warmup", "isolate")

_CLOCKS = ("virtual", "wall")
_ONLY_VIRTUAL = ("speedup", "efficiency", "p95_turn_latency_s")
_PLAIN = ("baseline", "seed", "clock", "rounds", "warmup", "isolate")
_LEAST = {"rounds": 1, "warmup": 0}


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
    clock
        On ``virtual`` time simulated latency costs nothing and is exact; on ``wall`` time worlds and `mock_llm` really
        wait, and ``wall_s`` and ``cpu_s`` are measured.
    rounds, warmup
        How often each fresh process that measures ``wall_s`` or ``cpu_s`` runs the test, and how often before that
        without counting; None for as often as it takes.
    isolate
        Whether the test runs alone in a fresh interpreter, where ``peak_memory_mb`` is steady enough for a baseline.
    """

    thresholds: Mapping[str, float] = field(default_factory=dict)
    tolerance: Mapping[str, float] = field(default_factory=dict)
    baseline: bool = True
    seed: int = 0
    clock: Literal["virtual", "wall"] = "virtual"
    rounds: int | None = None
    warmup: int | None = None
    isolate: bool = False

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

    @property
    def timed(self) -> tuple[str, ...]:
        """The times to be measured in fresh processes: all on wall time, else those that a limit or tolerance names."""
        return tuple(name for name in TIMED if self.clock == "wall" or self.wants(name) or name in self.tolerance)

    @property
    def contradiction(self) -> str:
        """What in the marker excludes something else in it, or nothing."""
        if self.clock == "wall":
            asked = [name for name in _ONLY_VIRTUAL if self.wants(name) or name in self.tolerance]
            if asked:
                return f"clock='wall' and {asked[0]}: that is exact on virtual time only; compare with perf.compare"
        if not self.timed and (self.rounds is not None or self.warmup is not None):
            word = "rounds" if self.rounds is not None else "warmup"
            return f"{word}: only wall_s and cpu_s take rounds; ask for them with clock='wall' or a limit on one"
        if "peak_memory_mb" in self.tolerance and not self.isolate:
            return "tolerance of peak_memory_mb: it keeps no baseline but with isolate=True; or use a limit"
        return ""


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
        for mark in _own(node):
            if mark.name == NAME:
                _check(item.nodeid, mark.args, mark.kwargs)
                merged.update({SYNONYMS.get(name, name): value for name, value in mark.kwargs.items()})
                tolerance.update(mark.kwargs.get("tolerance") or {})
    marker = PerfMarker(
        {name: value for name, value in merged.items() if name in LIMITS and value is not None},  # type: ignore[misc]
        {name: float(value) for name, value in tolerance.items() if value is not None},
        # What is None was taken back by the nearest marker.
        **{name: merged[name] for name in _PLAIN if merged.get(name) is not None},  # type: ignore[arg-type]
    )
    if marker.contradiction:
        raise MarkerError(f"{item.nodeid}: @pytest.mark.perf: {marker.contradiction}")
    return marker


def changed_since(item: pytest.Item, marker: PerfMarker) -> str:
    """Say that a test's perf markers are not those any more by which it was measured, or nothing."""
    try:
        if read_marker(item) == marker:
            return ""
    except MarkerError as error:
        return f"perf: {error}"
    return "perf: not judged: its perf marker was changed when the test was about to run; mark it when it is collected"


def _own(node: Any) -> list[pytest.Mark]:
    """Return a node's markers, the nearest last.

    A class has those of its base classes before its own, a test those of its parameters after all others. Of stacked
    decorators the lowest is the nearest.
    """
    if isinstance(node, pytest.Class):
        declared = [vars(each).get("pytestmark", ()) for each in reversed(node.obj.__mro__)]
        listed = [each if isinstance(each, (list, tuple)) else [each] for each in declared]
        groups = [[getattr(mark, "mark", mark) for mark in each] for each in listed]
    else:
        callspec = getattr(node, "callspec", None)
        groups = [list(callspec.marks)] if callspec is not None else []
    grouped = {id(mark) for group in groups for mark in group}
    others = [mark for mark in node.own_markers if id(mark) not in grouped]
    return [mark for group in (others, *groups) for mark in reversed(group)]


def _check(nodeid: str, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
    if args:
        raise MarkerError(f"{nodeid}: @pytest.mark.perf takes keywords only, not {args[0]!r}; known: {_known()}")
    for name, value in kwargs.items():
        if name not in KEYWORDS:
            raise MarkerError(f"{nodeid}: @pytest.mark.perf has no keyword {name!r}; {_nearest(name)}")
        problem = _problem(name, value)
        if problem:
            raise MarkerError(f"{nodeid}: @pytest.mark.perf({name}={value!r}): {problem}")
        if SYNONYMS.get(name) in kwargs:
            raise MarkerError(f"{nodeid}: @pytest.mark.perf: {name} and {SYNONYMS[name]} mean the same; give one")


def _problem(name: str, value: object) -> str:
    if name in ("baseline", "isolate"):
        return "" if isinstance(value, bool) else "must be True or False"
    whole = isinstance(value, int) and not isinstance(value, bool)
    if name == "seed":
        return "" if whole else "must be a whole number"
    if name == "clock":
        return "" if value in _CLOCKS else "must be 'virtual' or 'wall'"
    if name in _LEAST:
        fits = value is None or (whole and value >= _LEAST[name])  # type: ignore[operator]
        return "" if fits else f"must be a whole number, at least {_LEAST[name]}"
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
        if name in CATALOGUE and not kind_of(name).kept:
            return f"{name} keeps no baseline, so that a tolerance means nothing; use a limit"
        if share is not None and not _is_amount(share):
            return f"the share of {name} must be a finite number, not negative; 0.05 is 5 %"
    return ""


def _is_amount(value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= 0  # type: ignore[arg-type,operator]


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    bound, rest = name[:4], name[4:]
    if bound not in ("max_", "min_"):
        close = get_close_matches(name, KEYWORDS, n=1)
        return f"did you mean {close[0]!r}?" if close else f"known: {_known()}"
    # What only lacks a part, such as `max_calls`, is more likely meant than what merely looks alike.
    whole = [known for known in LIMITS if rest and known[:4] == bound and rest in known]
    close = sorted(whole, key=len)[:1] or [bound + each for each in get_close_matches(rest, CATALOGUE, n=1)]
    if close:
        return f"did you mean {close[0]!r}?"
    return f"what a test records itself has a baseline, and no limit but the test's own assert; known: {_known()}"


def _known() -> str:
    return f"max_… and min_… of {', '.join(CATALOGUE)}; {', '.join(KEYWORDS[len(LIMITS) :])}"
