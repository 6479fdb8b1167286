"""Verdicts as a page shows them: the same on the index and on the pages of the tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from pytest_tinytroupe.records import TestRecord, Verdict
from tinytroupe.visualization.text import display_text, format_change, format_quantity


class Look(NamedTuple):
    """How a verdict is shown: its word, the class of its colour, and a sign for those who see no colour."""

    word: str
    css: str
    sign: str


# Gravest first: a test is as bad as the worst that is true of it.
LOOKS = {
    "error": Look("error", "bad", "✕"),
    "over limit": Look("over limit", "bad", "✕"),
    "regressed": Look("regressed", "bad", "✕"),
    "unmeasured": Look("unmeasured", "bad", "?"),
    "no baseline": Look("no baseline", "bad", "?"),
    "failed": Look("failed", "bad", "✕"),
    "improved": Look("improved", "better", "↗"),
    "new": Look("new", "", "+"),
    "xfailed": Look("expected failure", "", "–"),
    "skipped": Look("skipped", "", "–"),
    "ok": Look("ok", "good", "✓"),
    "advisory": Look("shown only", "", "·"),
}
ATTENTION = frozenset({"error", "over limit", "regressed", "unmeasured", "no baseline", "failed"})


def status_of(record: TestRecord) -> str:
    """Return the key in `LOOKS` of the worst that is true of a test."""
    present = {verdict.status for verdict in record.verdicts} | {record.outcome}
    return next((key for key in LOOKS if key in present), "ok")


def verdict_view(verdict: Verdict) -> dict[str, Any]:
    """Work out everything the templates show of a verdict."""
    metric = replace(verdict.metric, unit=display_text(verdict.metric.unit, 20))
    look = LOOKS[verdict.status]
    sign = {"max": "≤ ", "min": "≥ "}.get(verdict.limit_kind, "")
    has_baseline = verdict.baseline is not None
    digits = 7 if metric.tier == "exact" else 4  # more would pretend to a precision that is not there
    return {
        "name": metric_name(metric.name, metric.unit),
        "status": look,
        "css": look.css if look.css in ("bad", "better") and verdict.status != "over limit" else "",
        "value": format_quantity(metric.value, metric.unit) if metric.value is not None else "not measured",
        "exact": format_quantity(metric.value, metric.unit, digits) if metric.value is not None else "not measured",
        "baseline": format_quantity(verdict.baseline, metric.unit) if has_baseline else None,
        "exact_baseline": format_quantity(verdict.baseline, metric.unit, digits),
        "change": _change(verdict),
        "tolerance": _tolerance(verdict),
        "same": has_baseline and metric.value == verdict.baseline,
        "over": verdict.status == "over limit",
        "limit": f"{sign}{format_quantity(verdict.limit, metric.unit)}" if verdict.limit is not None else "",
        "tier": metric.tier,
        "note": display_text(verdict.note, 300),
    }


def metric_name(name: str, unit: str) -> str:
    """Give the name of a metric as words, without the unit its key ends in."""
    suffix = f"_{unit.lower()}" if unit else ""
    words = name.removesuffix(suffix) if suffix and name != suffix[1:] else name
    words = words.replace(f"{suffix}_per_", "_per_") if suffix else words
    return display_text(words.replace("_", " ").replace("llm", "LLM"), 40)


def _change(verdict: Verdict) -> str:
    if verdict.change is not None or verdict.baseline is None or verdict.metric.value is None:
        return format_change(verdict.change)
    return "±0" if verdict.metric.value == verdict.baseline else "from 0"


def _tolerance(verdict: Verdict) -> str:
    if verdict.baseline is None:
        return "–"
    if not verdict.tolerance:
        return "none"
    return f"±{format_quantity(verdict.tolerance, display_text(verdict.metric.unit, 20), 3)}"


def sentence(verdict: Verdict) -> str:
    """Say what was measured, and what it was held against."""
    view = verdict_view(verdict)
    parts = [f"{view['name']} {view['value']}"]
    if verdict.limit is not None:
        parts.append(f"limit {view['limit']}")
    if view["baseline"] is not None:
        parts.append(f"baseline {view['baseline']} ({view['change']})")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Write how long something took."""
    if seconds < 1:
        return format_quantity(seconds * 1000, "ms", 2 if seconds < 0.01 else 3)
    return format_quantity(seconds, "s", 3)
