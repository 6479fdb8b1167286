"""Where memory went, in full: a flame graph of every allocation, for a test that a limit or baseline of memory fails.

The test runs once more, under memray, in a fresh process. Only with the extra ``memray``, and where there is a report,
which links to it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pytest_tinytroupe.fresh import FreshError, run_fresh
from pytest_tinytroupe.gate import REPORT_ATTRIBUTE, Gate

FOLDER = "flames"
LABEL = "flame graph of the heap at its peak (memray; needs scripts)"
REMEDY = "memory: a flame graph of who allocated what comes with: pip install 'pytest-tinytroupe[memray]'"
ABOUT = ("heap_mb", "memory_growth_mb_per_step", "leaked_mb", "peak_memory_mb", "memory_increase_mb")


def attach(gate: Gate, item: pytest.Item, reports: Sequence[pytest.TestReport]) -> None:
    """Draw the flame graph of a test whose reports say that it failed by its memory, and note it in its row."""
    carried = (getattr(report, REPORT_ATTRIBUTE, None) for report in reports)
    data: dict[str, Any] | None = next((each for each in carried if each is not None), None)
    directory = gate.settings.report_dir
    if data is None or directory is None or not _failed_by_memory(data["record"]):
        return
    if find_spec("memray") is None:
        if sys.platform != "win32":  # where there is none
            data["record"]["notes"].append(REMEDY)
        return
    from tinytroupe.runtime.files import write_atomically
    from tinytroupe.visualization.text import safe_file_name

    name = f"{FOLDER}/{safe_file_name(data['record']['nodeid'])}.html"
    try:
        write_atomically(directory / name, _drawn(gate, item))
    except (FreshError, OSError, pytest.fail.Exception) as error:  # the last: see RAN_OUT
        data["record"]["notes"].append(f"memory: no flame graph: {error}")
    else:
        data["record"]["attachments"].append([LABEL, name])


def _failed_by_memory(record: dict[str, Any]) -> bool:
    return any(
        verdict["metric"]["name"] in ABOUT and verdict["status"] in ("over limit", "regressed")
        for verdict in record["verdicts"]
    )


def _drawn(gate: Gate, item: pytest.Item) -> str:
    """Run the test under memray, and return the page.

    Raises
    ------
    FreshError
        The process did not come to its end, or the trace could not be drawn.
    OSError
        There is no room for the trace.
    """
    limit_s = gate.settings.time_limit_s
    with tempfile.TemporaryDirectory(prefix="pytest-tinytroupe-", ignore_cleanup_errors=True) as directory:
        trace, page = Path(directory) / "trace.bin", Path(directory) / "page.html"
        run_fresh(item, "flame", time_limit_s=limit_s, shares=False, family=gate.family, trace=str(trace))
        # Without --no-web the page would ask other hosts for its scripts.
        command = [sys.executable, "-m", "memray", "flamegraph", "--no-web", "--output", str(page), str(trace)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
        except subprocess.TimeoutExpired as error:
            raise FreshError(f"drawing took more than {limit_s:g} s (--perf-time-limit)") from error
        if done.returncode or not page.exists():
            last = (done.stderr.strip() or done.stdout.strip() or "it printed nothing").splitlines()[-1]
            raise FreshError(f"memray could not draw it: {last}")
        return page.read_text(encoding="utf-8")
