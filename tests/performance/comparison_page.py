"""Fills ``comparison_page.md`` with the figures of ``comparison_benchmark.py``."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from comparison_project import REGRESSIONS

if TYPE_CHECKING:
    from comparison_benchmark import Found

_TEXT = Path(__file__).with_suffix(".md")
_TOOLS = {"ours": "pytest-tinytroupe", "memray": "pytest-memray"}


def page(found: Found, rounds: int, loads: Iterable[float]) -> str:
    """Return the page as Markdown."""
    return _TEXT.read_text("utf-8").format(
        when=time.strftime("%B %Y"),
        versions=", ".join(f"{name} {version}" for name, version in found.versions.items()),
        python=platform.python_version(),
        machine=f"{platform.system()} on {platform.machine()}",
        cpus=os.cpu_count(),
        load=" to ".join(f"{load:.1f}" for load in loads) or "unknown",
        bare=f"{next(iter(found.startup_ms.values()))[1]:.0f}",
        rounds=rounds,
        costs=_costs(found),
        short=f"{found.session_s['ours without CPU']:.1f} s",
        alarms=_alarms(found),
        detected=_detected(found),
        engine=_engine(found),
    )


def _costs(found: Found) -> str:
    rows = []
    for name, (added, _) in found.startup_ms.items():
        count, mb = found.weight.get(name, (None, None))
        took = found.session_s.get(name)
        rows.append(
            (
                name,
                f"{added:+.0f} ms",
                "-" if took is None else f"{took:.1f} s",
                "-" if count is None else str(count),
                "-" if mb is None else f"{mb:.0f} MB",
            )
        )
    return _table(("tool", "added", "a session", "brings", "on disk"), rows)


def _alarms(found: Found) -> str:
    rows: list[tuple[str, ...]] = []
    for (who, test), (hits, count) in found.false_alarms.items():
        name = _TOOLS.get(who, f"pytest-benchmark, `{who}:10%`")
        held = "sessions" if who in _TOOLS else "pairs"
        rows.append((test, name, f"{hits} of {count} {held}", f"{hits / count:.0%}"))
    rows.sort(key=lambda row: ("llm", "cpu", "memory").index(row[0]))
    return _table(("test", "gate", "false alarms", "share"), rows)


def _detected(found: Found) -> str:
    rows = []
    for injected, (_, what) in REGRESSIONS.items():
        cells = []
        for who in ("ours", "min", "median", "mean", "memray"):
            hits, count = found.detected.get((who, injected), (0, 0))
            cells.append(f"{hits / count:.0%}" if count else "cannot")
        rows.append((what, *cells))
    theirs = ("pytest-benchmark `min:10%`", "`median:10%`", "`mean:10%`")
    return _table(("planted", "pytest-tinytroupe", *theirs, "pytest-memray"), rows)


def _engine(found: Found) -> str:
    rows = [
        (
            f"{row['people']:.0f}",
            f"{row['ours_s']:.2f} s",
            f"{row['bare_s']:.2f} s",
            f"{row['bound_s']:.2f} s",
            f"{row['ours_cpu_ms']:.2f} ms",
            f"{row['bare_cpu_ms']:.2f} ms",
        )
        for row in found.engine
    ]
    return _table(("people", "engine", "bare client", "lower bound", "CPU a turn", "CPU a call, bare"), rows)


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(header), *map(list, rows)]
    lines.insert(1, ["---", *["---:"] * (len(lines[0]) - 1)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
