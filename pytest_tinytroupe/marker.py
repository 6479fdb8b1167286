"""``@pytest.mark.perf(…)`` as a frozen value, with everything that is not understood refused."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import pytest

from pytest_tinytroupe.phases import GATE, MARKER, MARKER_ERROR
from pytest_tinytroupe.xdist import is_worker

if TYPE_CHECKING:
    from pytest_tinytroupe.records import LimitKind

NAME = "perf"
SKIP_REASON = "needs --perf; run: pytest --perf"


class MarkerError(ValueError):
    """A perf marker that cannot be understood. The message names the test."""


@dataclass(frozen=True, slots=True)
class PerfMarker:
    """What a test's perf markers say, merged from module, class and function; the nearest wins, key by key.

    Attributes
    ----------
    min_speedup
        Least ratio of sequential to parallel time on virtual time.
    min_efficiency
        Least ratio of the lower bound of the makespan to the makespan, 0 to 1.
    max_time_s
        Most seconds of the call: virtual where the test runs on virtual time, else real.
    max_peak_memory_mb
        Highest resident memory of the process during the call, in MB (2**20 bytes).
    max_heap_mb
        Highest Python heap above that at the start of the call, in MB.
    max_llm_calls, max_tokens
        Most model calls, and most prompt and completion tokens together.
    baseline
        Whether the metrics are held against a baseline.
    seed
        Seed of the random generators in every pass.
    """

    min_speedup: float | None = None
    min_efficiency: float | None = None
    max_time_s: float | None = None
    max_peak_memory_mb: float | None = None
    max_heap_mb: float | None = None
    max_llm_calls: float | None = None
    max_tokens: float | None = None
    baseline: bool = True
    seed: int = 0

    def limits(self) -> dict[str, tuple[LimitKind, float]]:
        """Return metric name -> (``max`` or ``min``, threshold) of every limit that is set."""
        found: dict[str, tuple[LimitKind, float]] = {}
        for keyword in LIMITS:
            value = getattr(self, keyword)
            if value is not None:
                found[keyword[4:]] = ("max" if keyword.startswith("max_") else "min", float(value))
        return found


KEYWORDS = tuple(field.name for field in fields(PerfMarker))
LIMITS = tuple(name for name in KEYWORDS if name.startswith(("max_", "min_")))


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

    Parameters
    ----------
    item
        The collected test.

    Raises
    ------
    MarkerError
        A positional argument, an unknown keyword or a value of the wrong kind.
    """
    merged: dict[str, object] = {}
    for node in item.listchain():  # from the session down to the test: the nearest comes last
        for mark in node.own_markers:
            if mark.name == NAME:
                _check(item.nodeid, mark.args, mark.kwargs)
                merged.update(mark.kwargs)
    return PerfMarker(**merged)  # type: ignore[arg-type]


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
    if value is None:  # drops a limit inherited from the class or the module
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        return "must be a finite number, not negative"
    return ""


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    # Without the unit and the direction a slip such as `max_calls` still finds its keyword.
    close = get_close_matches(name, KEYWORDS, n=1) or [known for known in LIMITS if name[4:] and name[4:] in known][:1]
    return f"; did you mean {close[0]!r}?" if close else ""


def _known() -> str:
    return ", ".join(KEYWORDS)
