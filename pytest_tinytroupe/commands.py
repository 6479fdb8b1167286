"""``python -m pytest_tinytroupe compare | history``: work with what runs have left, without running anything."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

COMPARE = """\
Compare two results of pytest --perf --perf-json FILE: metrics that differ, tests that are new or gone.
Exit status: 0 nothing is worse, 1 something is, 2 a file cannot be used. A test that passed and is now skipped or gone
counts as worse, and so does a comparison without a single test that has figures in both files.
"""

HISTORY = """\
Show how each figure in a file of pytest --perf --perf-history FILE has changed over time, and where its level changed.
This is for information only: the exit status is 0, or 2 if the file cannot be used.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    chosen = _parser().parse_args(arguments)
    status: int = chosen.run(chosen)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pytest_tinytroupe", description="Work with what runs of pytest --perf have left."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{compare,history}")

    compare = commands.add_parser(
        "compare", help="compare two results; exit status 1 on a regression", description=COMPARE
    )
    compare.add_argument("before", type=Path, help="the result to compare with")
    compare.add_argument("after", type=Path, help="the result in question")
    compare.add_argument("--markdown", action="store_true", help="write Markdown")
    compare.add_argument(
        "--allow-missing",
        action="store_true",
        help="accept tests that are gone or skipped: the second run was of a part",
    )
    compare.set_defaults(run=_compare)

    history = commands.add_parser(
        "history", help="show each figure over time, and where its level changed", description=HISTORY
    )
    history.add_argument("file", type=Path, help="the history")
    history.add_argument("tests", nargs="?", default="", help="only tests whose id contains or matches this (* and ?)")
    history.add_argument("--metric", action="append", default=[], metavar="NAME", help="only this metric; repeatable")
    history.add_argument("--last", type=_count, metavar="N", help="only the newest N runs of each figure")
    history.add_argument("--changed", action="store_true", help="only figures whose level changed")
    form = history.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="write Markdown")
    form.add_argument("--json", action="store_true", help="write JSON")
    history.set_defaults(run=_history)
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def _compare(chosen: argparse.Namespace) -> int:
    from pytest_tinytroupe.compare import as_markdown, as_text, differences
    from pytest_tinytroupe.report.perf_json import ResultError, read_json

    try:
        (before, key), (after, other_key) = read_json(chosen.before), read_json(chosen.after)
    except ResultError as error:
        return _refuse(error)
    allowed = bool(chosen.allow_missing)
    found = differences(before, after, same_environment=key == other_key, allow_missing=allowed)
    worse = sum(each.failed for each in found)
    old, new = ({record.nodeid for record in each.records if record.verdicts} for each in (before, after))
    same = len({record.nodeid for record in after.records} - {each.nodeid for each in found})
    text = (as_markdown if chosen.markdown else as_text)(found)
    end = f"{worse} worse, {len(found) - worse} otherwise different, {same} the same"
    if key != other_key:
        end += f"; heap not compared: {key} and {other_key}"
    if not old & new:
        end += "; nothing was compared: no test has figures in both files"
    _say(f"{text}\n\n{end}\n" if text else f"{end}\n")
    return 1 if worse or not (old & new or allowed) else 0


def _history(chosen: argparse.Namespace) -> int:
    from pytest_tinytroupe import trends
    from pytest_tinytroupe.history import HistoryError, read

    try:
        everything = read(chosen.file, last=chosen.last)
    except HistoryError as error:
        return _refuse(error)
    shown = [trends.trend_of(each) for each in trends.selected(everything, chosen.tests, chosen.metric)]
    shown = [trend for trend in shown if trend.changes or not chosen.changed]
    if chosen.json:
        _say(trends.as_json(shown) + "\n")
        return 0
    unicode = _writes(trends.BLOCKS)
    if chosen.markdown:
        text = trends.as_markdown(shown, unicode=unicode)
    else:
        text = trends.as_text(shown, unicode=unicode, columns=shutil.get_terminal_size().columns)
    moved = sum(bool(trend.changes) for trend in shown)
    tests = len({trend.series.test for trend in shown})
    nothing = "nothing matches" if everything else "no figures in it yet"
    figures = f"{len(shown)} figure{'s' * (len(shown) != 1)} of {tests} test{'s' * (tests != 1)}"
    end = f"{figures}; the level of {moved} changed" if shown else nothing
    _say(f"{text}\n\n{end}\n" if text else f"{end}\n")
    return 0


def _say(text: str) -> None:
    """Write to standard output, with escapes for what it cannot write: names of tests, above all."""
    encoding = sys.stdout.encoding or "ascii"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _writes(text: str) -> bool:
    """Whether standard output can write this."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def _refuse(error: Exception) -> int:
    sys.stderr.write(f"error: {error}\n")
    return 2
