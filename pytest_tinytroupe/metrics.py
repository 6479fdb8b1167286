"""The metrics the plugin knows by itself: one catalogue, from which markers, verdicts and reports take theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_tinytroupe.records import Better, Metric, Tier

_NO_MODEL = "no model was watched: add the fixture mock_llm, and let the people of the test ask no other model"
_NOT_TIMED = "nothing measured it: ask for it with clock='wall', a limit or a tolerance"
_NO_WORLD = "no world took a step: run the simulation in a `world` (or make_world)"


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a metric before it is measured.

    Attributes
    ----------
    unit, tier, better
        As in `Metric`.
    why
        Why it can be missing, and what to do.
    headline
        Whether it is shown in the one line of a passing test.
    kept
        Whether it can be held against a baseline at all.
    """

    unit: str = ""
    tier: Tier = "exact"
    better: Better = "lower"
    why: str = "nothing measured it"
    headline: bool = False
    kept: bool = True


# In the order in which they are shown.
CATALOGUE: dict[str, Kind] = {
    "speedup": Kind(
        "x",
        better="higher",
        why="nothing ran on virtual time: run the simulation in a `world` (or make_world) with mock_llm.latency set",
        headline=True,
    ),
    "efficiency": Kind(better="higher", why=_NO_WORLD),
    "time_s": Kind(
        "s",
        why="the virtual clock stood still during the call: set mock_llm.latency, or drop the limit",
        headline=True,
    ),
    "p95_turn_latency_s": Kind(
        "s", why="no turn was timed on virtual time: run a `world` (or make_world) with COLLECT_PARALLEL_METRICS=True"
    ),
    "llm_calls": Kind(why=_NO_MODEL, headline=True),
    "tokens": Kind(why=_NO_MODEL, headline=True),
    "prompt_tokens": Kind(why=_NO_MODEL),
    "completion_tokens": Kind(why=_NO_MODEL),
    # Fewer calls are an improvement, and yet leave less to be cached: only a limit can judge this.
    "cached_tokens": Kind(better="higher", why=_NO_MODEL, kept=False),
    "cost_usd": Kind("USD", tier="price", why=_NO_MODEL, headline=True, kept=False),
    "errors": Kind(why=_NO_WORLD),
    "timeouts": Kind(why=_NO_WORLD),
    "memory_entries": Kind(why=_NO_WORLD),
    "heap_mb": Kind("MB", tier="heap", headline=True),
    "memory_growth_mb_per_step": Kind(
        "MB",
        tier="heap",
        why="there was no step: run the simulation in a `world` (or make_world), or mark steps with perf.step()",
    ),
    "leaked_mb": Kind("MB", tier="heap", why="the test was not repeated", kept=False),
    "peak_memory_mb": Kind("MB", tier="process"),
    # Next to nothing in most tests, of which a few percent would mean nothing: only a limit can judge it.
    "memory_increase_mb": Kind("MB", tier="process", kept=False),
    "wall_s": Kind("s", tier="wall", why=_NOT_TIMED, headline=True),
    "cpu_s": Kind("s", tier="wall", why=_NOT_TIMED, headline=True),
}

TIMED = ("wall_s", "cpu_s")
"""Measured in fresh processes: on wall time, and where a marker asks for it."""

ON_DEMAND = frozenset({"speedup", "cost_usd", "memory_growth_mb_per_step", "leaked_mb", "memory_increase_mb"})
"""Measured only where the marker limits them: they take passes or a price list, or say little alone."""

_PLACES = {name: place for place, name in enumerate(CATALOGUE)}


def kind_of(name: str) -> Kind:
    """Return what is known of a metric; of one that a test records itself, nothing in particular."""
    return CATALOGUE.get(name, Kind(why="the test did not record it with perf.record or perf.measure"))


def place_of(name: str) -> tuple[int, str]:
    """Return a sort key: the catalogue's order, then the test's own metrics by name."""
    return (_PLACES.get(name, len(_PLACES)), name)


def metric(name: str, value: float | None) -> Metric:
    """Return a `Metric` of the catalogue."""
    from pytest_tinytroupe.records import Metric

    kind = kind_of(name)
    return Metric(name, value, kind.unit, kind.tier, kind.better)
