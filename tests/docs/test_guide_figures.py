"""The guide's tables on virtual time are what the benchmarks find, on every machine."""

from __future__ import annotations

import re

import pytest
from pages import pages

from tinytroupe.benchmarks.general import GENERAL
from tinytroupe.benchmarks.parallel import PARALLEL
from tinytroupe.benchmarks.section import Plan

GUIDE = "docs/performance_guide.md"


def table(heading):
    """Return the rows of the first table after a heading, without its last column: what was first promised."""
    text = pages()[GUIDE].partition(f"# {heading}\n")[2]
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in re.findall(r"^\|.*\|$", text.partition("\n#")[0], re.M)]
    return [row[: len(rows[0]) - 1] for row in rows[2:]]


def found(benchmark, plan=None):
    return benchmark(plan or Plan(), lambda _: None).rows


def test_sequential_vs_parallel_speedup():
    rows = found(GENERAL["speedup"])
    assert table("Sequential vs Parallel Speedup") == [
        [
            str(row["agents"]),
            f"{row['sequential_s']:.2f}s",
            f"{row['parallel_s']:.2f}s",
            f"{row['speedup']:.1f}x",
            f"{row['efficiency']:.0%}",
        ]
        for row in rows
    ]


def test_thread_pool_efficiency():
    rows = found(PARALLEL["workers"])
    assert table("Thread Pool Efficiency") == [
        [row["workers"].capitalize(), f"{row['elapsed_s']:.2f}s", f"{row['speedup']:.1f}x", f"{row['of_ideal']:.0%}"]
        for row in rows
    ]


@pytest.mark.slow
def test_expected_performance():
    rows = found(GENERAL["scenarios"])
    assert table("Expected Performance")[: len(rows)] == [  # below it stands one on real time
        [
            row["scenario"].capitalize(),
            str(row["agents"]),
            str(row["steps"]),
            f"{row['sequential_s']:.2f}s",
            f"{row['parallel_s']:.2f}s",
            f"{row['speedup']:.1f}x",
        ]
        for row in rows
    ]
