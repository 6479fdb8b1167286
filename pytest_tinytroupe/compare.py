"""Two results of ``--perf-json`` against each other, without running anything."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_tinytroupe.records import Metric, SessionReport, TestRecord, Tier, Verdict
from pytest_tinytroupe.report.perf_json import ResultError, read_json
from pytest_tinytroupe.report.text import HEADINGS, align, row
from pytest_tinytroupe.verdict import BASELINE_TIERS, judge


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
        Whether it is worse: a metric regressed or is not measured any more, or the test fails now.
    """

    nodeid: str
    verdicts: tuple[Verdict, ...] = ()
    note: str = ""
    failed: bool = False


def differences(before: SessionReport, after: SessionReport, *, same_environment: bool = True) -> list[Difference]:
    """Hold one result against another.

    Parameters
    ----------
    before, after
        The results; `before` is the baseline.
    same_environment
        Whether Python and platform are the same; if not, heap figures say nothing and are left out.
    """
    tiers = BASELINE_TIERS if same_environment else BASELINE_TIERS - {"heap"}
    old, new = ({record.nodeid: record for record in each.records} for each in (before, after))
    found = []
    for nodeid in sorted(old | new):
        if nodeid not in new:
            found.append(Difference(nodeid, note="gone"))
        elif nodeid not in old:
            found.append(Difference(nodeid, note="new"))
        else:
            found.append(_difference(old[nodeid], new[nodeid], tiers))
    return [each for each in found if each.verdicts or each.note]


def _difference(old: TestRecord, new: TestRecord, tiers: frozenset[Tier]) -> Difference:
    before = {verdict.metric.name: verdict for verdict in old.verdicts if verdict.metric.tier in tiers}
    after = {verdict.metric.name: verdict for verdict in new.verdicts if verdict.metric.tier in tiers}
    verdicts = []
    for name, verdict in before.items():
        measured = after.get(name)
        if verdict.metric.value is None or (measured is None and not new.verdicts):
            continue  # nothing to compare with, or the test broke before it was measured, which is told below
        metric = measured.metric if measured is not None else _unmeasured(verdict)
        verdicts.append(judge(metric, None, verdict.metric.value))
    shown = tuple(verdict for verdict in verdicts if verdict.status not in ("ok", "advisory"))
    broken = old.outcome == "passed" and new.attention
    note = f"{old.outcome} before, {new.outcome} now" if old.outcome != new.outcome else ""
    return Difference(new.nodeid, shown, note, broken or any(verdict.failed for verdict in shown))


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command: 0 where nothing is worse, 1 where something is, 2 where it cannot be told."""
    parser = argparse.ArgumentParser(
        prog="python -m pytest_tinytroupe", description="Work with results of pytest --perf --perf-json FILE."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("compare", help="hold one result against another; exit status 1 on a regression")
    command.add_argument("before", type=Path, help="the result to compare with")
    command.add_argument("after", type=Path, help="the result in question")
    command.add_argument("--markdown", action="store_true", help="write Markdown")
    chosen = parser.parse_args(arguments)
    try:
        (before, key), (after, other_key) = read_json(chosen.before), read_json(chosen.after)
    except ResultError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    found = differences(before, after, same_environment=key == other_key)
    worse = sum(each.failed for each in found)
    same = len({record.nodeid for record in after.records} - {each.nodeid for each in found})
    text = (as_markdown if chosen.markdown else as_text)(found)
    end = f"{worse} worse, {len(found) - worse} otherwise different, {same} the same"
    if key != other_key:
        end += f"; heap not compared: {key} and {other_key}"
    sys.stdout.write(f"{text}\n\n{end}\n" if text else f"{end}\n")
    return 1 if worse else 0
