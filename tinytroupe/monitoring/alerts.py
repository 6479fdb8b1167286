"""When the memory of an agent deserves an alarm: pure decisions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")

CRITICAL_USAGE = 0.95
"""Share of the bound from which an alarm is critical."""

_USAGE_MARGIN = 0.05
_RATE_MARGIN = 0.8


@dataclass(frozen=True, slots=True)
class Alert:
    """One alarm about the memory of one agent.

    Attributes
    ----------
    agent_name
        Whose memory it is.
    severity
        `"info"`, `"warning"` or `"critical"`.
    message
        What is wrong, in a sentence with its figures.
    kind
        `"usage"`, `"forecast"`, `"growth"`, `"consolidation"` or `"unbounded"`.
    time_s
        When the snapshot was taken, in seconds on the monitor's time base.
    step
        The step of the world, where it is known.
    value, limit
        What was measured and the limit it reached, in the unit of the kind (see `AlertRules`).
    """

    agent_name: str
    severity: Severity
    message: str
    kind: str
    time_s: float
    step: int | None
    value: float
    limit: float


@dataclass(frozen=True, slots=True)
class AlertRules:
    """The limits alarms are raised at; an alarm is raised at the limit, not only above it.

    Attributes
    ----------
    alert_threshold
        Warning: share of the bound in use, above 0 and at most 1. At 0.95 of the bound the alarm is critical, also
        where the threshold is higher.
    growth_rate_threshold
        Warning: entries gained a snapshot, on average, consolidations left out.
    consolidation_frequency_threshold
        Warning: consolidations a snapshot, on average.
    forecast_snapshots
        Critical: the bound will be reached within so many snapshots if growth goes on.
    """

    alert_threshold: float = 0.8
    growth_rate_threshold: float = 50.0
    consolidation_frequency_threshold: float = 0.5
    forecast_snapshots: int = 10

    def __post_init__(self) -> None:
        if not 0 < self.alert_threshold <= 1:
            raise ValueError(
                f"alert_threshold is a share of the memory's bound, above 0 and at most 1, not {self.alert_threshold!r}"
            )
        for name in ("growth_rate_threshold", "consolidation_frequency_threshold"):
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"{name} must be above 0 (math.inf switches the alarm off), not {value!r}")
        if self.forecast_snapshots < 0:
            raise ValueError(f"forecast_snapshots must be 0 (no forecast) or more, not {self.forecast_snapshots!r}")


class Reading(NamedTuple):
    """What a snapshot says about one agent; rates are None while too few snapshots exist."""

    total_size: int
    max_size: int | None
    usage_ratio: float
    growth_rate: float | None = None
    consolidation_rate: float | None = None


class Condition(NamedTuple):
    """One thing watched: it is on from `limit` upwards and off again only below `rearm`."""

    kind: str
    severity: Severity
    value: float
    limit: float
    rearm: float


def conditions(reading: Reading, rules: AlertRules) -> Iterator[Condition]:
    """Give everything watched for a reading, gravest first."""
    bounded = reading.max_size is not None
    if not bounded:
        yield Condition("unbounded", "info", 1.0, 1.0, 1.0)
    elif reading.max_size:
        warning = rules.alert_threshold
        usage = reading.usage_ratio
        yield Condition("usage", "critical", usage, CRITICAL_USAGE, CRITICAL_USAGE - _USAGE_MARGIN)
        if reading.growth_rate is not None and rules.forecast_snapshots:
            gain = max(0.0, reading.growth_rate) * rules.forecast_snapshots
            projected = (reading.total_size + gain) / reading.max_size if gain else min(usage, 0.999)
            yield Condition("forecast", "critical", projected, 1.0, 1.0 - _USAGE_MARGIN)
        yield Condition("usage", "warning", usage, warning, warning - min(_USAGE_MARGIN, warning / 2))
    if reading.growth_rate is not None:
        limit = rules.growth_rate_threshold
        yield Condition("growth", "warning", reading.growth_rate, limit, _RATE_MARGIN * limit)
    if reading.consolidation_rate is not None:
        limit = rules.consolidation_frequency_threshold
        yield Condition("consolidation", "warning", reading.consolidation_rate, limit, _RATE_MARGIN * limit)


def newly_raised(reading: Reading, rules: AlertRules, active: set[tuple[str, str]]) -> list[Condition]:
    """Update the set of conditions that are on, and give those to announce.

    A condition that lasts is announced once. Where several alarms say that the bound is near, only the gravest that is
    new is announced.
    """
    raised: list[Condition] = []
    bound_is_announced = False
    for condition in conditions(reading, rules):
        key = (condition.kind, condition.severity)
        about_bound = condition.kind in ("usage", "forecast")
        if key in active:
            if condition.value < condition.rearm:
                active.discard(key)
            elif about_bound:
                bound_is_announced = True
        elif condition.value >= condition.limit and math.isfinite(condition.limit):
            active.add(key)
            if not (about_bound and bound_is_announced):
                raised.append(condition)
            bound_is_announced = bound_is_announced or about_bound
    return raised


def message_for(agent_name: str, condition: Condition, reading: Reading, rules: AlertRules) -> str:
    """Say in a sentence what a condition means and what to do."""
    if condition.kind == "usage":
        return (
            f"{agent_name}: memory is at {reading.usage_ratio:.1%} of its bound "
            f"({reading.total_size} of {reading.max_size} entries): consolidate, or raise max_size"
        )
    if condition.kind == "forecast":
        return (
            f"{agent_name}: memory grows by {reading.growth_rate:.1f} entries a snapshot and reaches its bound "
            f"({reading.total_size} of {reading.max_size} entries) within {rules.forecast_snapshots} snapshots"
        )
    if condition.kind == "growth":
        return (
            f"{agent_name}: memory grows by {condition.value:.1f} entries a snapshot (limit {condition.limit:g}): "
            "consolidate more often, or perceive less"
        )
    if condition.kind == "consolidation":
        return (
            f"{agent_name}: {condition.value:.2f} consolidations a snapshot (limit {condition.limit:g}): "
            "raise the consolidation threshold, each one costs model calls"
        )
    return f"{agent_name}: memory has no bound and can grow until the process dies: set max_size"
