"""Two results of ``--perf-json`` against each other, without running anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import isclose

from pytest_tinytroupe.records import Metric, SessionReport, TestRecord, Tier, Verdict
from pytest_tinytroupe.report.text import HEADINGS, align, row
from pytest_tinytroupe.verdict import BASELINE_TIERS, judge, tolerance_of


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed in one test.

    Attributes
    ----------
    nodeid
        The test.
    verdicts
        Metrics that differ, the one result taken as the baseline of the other.
    note
        What else there is to say: that it is gone, or new.
    failed
        Whether it is worse: a metric regressed or is not measured any more, the test fails now, is skipped or gone.
    """

    nodeid: str
    verdicts: tuple[Verdict, ...] = ()
    note: str = ""
    failed: bool = False


def differences(
    before: SessionReport, after: SessionReport, *, same_environment: bool = True, allow_missing: bool = False
) -> list[Difference]:
    """Hold one result against another.

    Parameters
    ----------
    before, after
        The results; `before` is the baseline.
    same_environment
        Whether Python and platform are the same; if not, heap figures say nothing and are left out.
    allow_missing
        Whether tests that are gone or skipped are no reason to fail: `after` is meant to be a part.
    """
    tiers = BASELINE_TIERS if same_environment else BASELINE_TIERS - {"heap"}
    old, new = ({record.nodeid: record for record in each.records} for each in (before, after))
    found = []
    for nodeid in sorted(old | new):
        if nodeid not in new:
            lost = old[nodeid].outcome != "skipped" and not allow_missing
            found.append(Difference(nodeid, note="gone", failed=lost))
        elif nodeid not in old:
            record = new[nodeid]
            note = f"new, {record.outcome}" if record.attention else "new"
            found.append(Difference(nodeid, note=note, failed=record.attention))
        else:
            found.append(_difference(old[nodeid], new[nodeid], tiers, allow_missing))
    return [each for each in found if each.verdicts or each.note]


def _difference(old: TestRecord, new: TestRecord, tiers: frozenset[Tier], allow_missing: bool) -> Difference:
    before = {verdict.metric.name: verdict for verdict in old.verdicts if verdict.metric.tier in tiers}
    after = {verdict.metric.name: verdict for verdict in new.verdicts if verdict.metric.tier in tiers}
    verdicts = []
    for name, verdict in before.items():
        measured, value = after.get(name), verdict.metric.value
        if value is None or (new.outcome != "passed" and not new.verdicts):
            continue  # nothing to compare with, or the test broke before it was measured, which is told below
        metric = measured.metric if measured is not None else _unmeasured(verdict)
        verdicts.append(judge(metric, None, value, share=_share([measured, verdict])))
    shown = tuple(verdict for verdict in verdicts if verdict.status not in ("ok", "advisory"))
    allowed = {"passed", "skipped"} if allow_missing else {"passed"}
    broken = old.outcome == "passed" and new.outcome not in allowed
    note = f"{old.outcome} before, {new.outcome} now" if old.outcome != new.outcome else ""
    return Difference(new.nodeid, shown, note, broken or any(verdict.failed for verdict in shown))


def _share(verdicts: Iterable[Verdict | None]) -> float | None:
    """Return what the test's marker allowed, as a share of the baseline; None for what the tier allows.

    A result tells how far each figure may stray, in the metric's unit: from its baseline, or, where there is none, from
    itself. The first that says something else than its tier counts, or that has a baseline.
    """
    for verdict in verdicts:
        held_against = (verdict.baseline or verdict.metric.value) if verdict is not None else None
        if verdict is None or not held_against:
            continue
        usual = tolerance_of(verdict.metric.name, verdict.metric.tier, held_against)
        if not isclose(verdict.tolerance, usual):
            return verdict.tolerance / abs(held_against)
        if verdict.baseline:
            return None
    return None


def _unmeasured(verdict: Verdict) -> Metric:
    return replace(verdict.metric, value=None)


def as_text(found: Sequence[Difference]) -> str:
    """Return the differences as a table for the terminal."""
    rows = [row(verdict) for each in found for verdict in each.verdicts]
    headings, *cells = [f"  {line}" for line in align([HEADINGS, *rows])]
    lines, rest = [headings] if rows else [], iter(cells)
    for each in found:
        lines.append(each.nodeid + (f"  [{each.note}]" if each.note else ""))
        lines += [next(rest) for _ in each.verdicts]
    return "\n".join(lines)


def as_markdown(found: Sequence[Difference]) -> str:
    """Return the differences as Markdown."""
    from pytest_tinytroupe.report.markdown import code, table

    lines: list[str] = []
    for each in found:
        lines += [f"### {code(each.nodeid)}" + (f" ({each.note})" if each.note else ""), ""]
        lines += [*table(each.verdicts), ""] if each.verdicts else []
    return "\n".join(lines)
