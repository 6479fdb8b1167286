"""How true the memory figures of ``pytest --perf`` are: allocations and leaks of known size, beside what is reported.

    python tests/performance/memory_benchmark.py
    python tests/performance/memory_benchmark.py --quick

Blocks of 1, 10, 100 and 400 MB are held for 2 ms and 2 s, by a test in a process of its own, with no and with two
workers; then 10 KB a step leak in 200 steps; then 100 runs leak nothing. Exit status 1 if a goal is missed.

The peak of a process is compared with that of a process which holds no block, plus the block. The increase alone is
good for 0.25 MB at best: the kernel keeps its marks from counters that each processor updates some dozens of pages at
a time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SIZES_MB = (1, 10, 100, 400)
HOLDS_S = (0.002, 2.0)
STEPS = 20
COUNTERS_MB = 0.25

BLOCKS = """
import time
import pytest

@pytest.mark.perf(isolate=True, baseline=False, max_heap_mb=10**6, max_memory_increase_mb=10**6)
@pytest.mark.parametrize("hold_s", {holds})
@pytest.mark.parametrize("mb", {sizes})
def test_block(mb, hold_s):
    block = bytearray(b"x") * (mb * 2**20)  # every page of it is written to
    time.sleep(hold_s)

@pytest.mark.perf(isolate=True, baseline=False, max_memory_growth_mb_per_step=10**6)
@pytest.mark.parametrize("mb", {sizes})
def test_growth(mb, perf):
    held = []
    for _ in range({steps}):
        held.append(bytearray(b"x") * (mb * 2**20 // {steps}))
        perf.step()
"""

LEAK = """
import pytest
kept = []

# What is held changes from step to step and does not grow. A world is no clean body: its bounded histories fill for
# a thousand turns, and that is growth.
def step_through(perf, leak_bytes):
    held = []
    for step in range(200):
        held = [*held[-9:], bytearray(10 * 1024 + step % 7)]
        kept.append(bytearray(leak_bytes)) if leak_bytes else None
        perf.step()

@pytest.mark.perf(max_memory_growth_mb_per_step=1, max_leaked_mb=100, baseline=False)
def test_leak(perf):
    step_through(perf, 10 * 1024)

@pytest.mark.perf(max_memory_growth_mb_per_step=1, max_leaked_mb=100, baseline=False)
@pytest.mark.parametrize("run", range({clean}))
def test_clean(run, perf):
    step_through(perf, 0)
"""


def figures(source: str, workers: int) -> dict[str, Mapping[str, float]]:
    """Run a file of perf tests, and return test -> metric -> value."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        (root / "pytest.ini").write_text("[pytest]\n")
        (root / "test_it.py").write_text(source)
        command = [sys.executable, "-m", "pytest", "--perf", "--no-perf-report", "--perf-json=out.json", "-q"]
        # Of the plugins that may be installed, only what is needed: others leave traces in the heap.
        command += ["-p", "no:randomly", "-p", "no:hypothesispytest", f"-n{workers}"]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        records: list[dict[str, Any]] = json.loads((root / "out.json").read_text())["records"]
    return {
        record["nodeid"].partition("::")[2]: {v["metric"]["name"]: v["metric"]["value"] for v in record["verdicts"]}
        for record in records
    }


def show(what: str, value: float, expected: float, share: float, floor_mb: float = 0.0) -> bool:
    """Print a line; return whether the value is near enough."""
    error = value / expected - 1
    met = abs(value - expected) <= max(share * expected, floor_mb)
    goal = f"±{share:.0%}" + (f", ±{floor_mb} MB" if floor_mb > share * expected else "")
    told = f"{value:10.4f} MB of {expected:8.4f}  {error:+7.2%}  goal {goal}"
    print(f"{'ok    ' if met else 'MISSED'} {what:44} {told}", flush=True)
    return met


def blocks(sizes: tuple[int, ...], holds: tuple[float, ...], workers: int) -> list[bool]:
    """Compare blocks, and growth by blocks, with what is reported."""
    found = figures(BLOCKS.format(sizes=(0, *sizes), holds=holds, steps=STEPS), workers)
    met = []
    for mb in sizes:
        for hold_s in holds:
            row = found[f"test_block[{mb}-{hold_s}]"]
            what = f"-n {workers}: {mb} MB for {hold_s * 1000:g} ms"
            met.append(show(f"{what}, heap", row["heap_mb"], mb, 0.02))
            without = found[f"test_block[0-{hold_s}]"]["peak_memory_mb"]
            met.append(show(f"{what}, peak of the process", row["peak_memory_mb"], without + mb, 0.03))
            met.append(show(f"{what}, its increase", row["memory_increase_mb"], mb, 0.03, COUNTERS_MB))
        growth = found[f"test_growth[{mb}]"]["memory_growth_mb_per_step"]
        met.append(show(f"-n {workers}: {mb} MB in {STEPS} steps, growth a step", growth, mb / STEPS, 0.02))
    return met


def leaks(clean: int) -> list[bool]:
    """Look for a leak that is there, and for leaks that are not."""
    found = figures(LEAK.format(clean=clean), 2)
    leak = found.pop("test_leak")
    met = [
        show("10 KB a step in 200 steps, growth a step", leak["memory_growth_mb_per_step"], 10 / 1024, 0.02),
        show("10 KB a step in 200 steps, left by each run", leak["leaked_mb"], 2000 / 1024, 0.02),
    ]
    for name in ("memory_growth_mb_per_step", "leaked_mb"):
        false = [row[name] for row in found.values() if row.get(name, 0) > 0]
        met.append(not false)
        print(
            f"{'ok    ' if not false else 'MISSED'} {clean} clean runs, {name}: {len(false)} false alarms {false[:5]}"
        )
    return met


def main() -> int:
    """Print the figures; return 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1 and 10 MB, 2 ms, 10 clean runs")
    parser.add_argument("--only", choices=("blocks", "leaks"), help="only these")
    chosen = parser.parse_args()
    sizes, holds = (SIZES_MB[:2], HOLDS_S[:1]) if chosen.quick else (SIZES_MB, HOLDS_S)
    met = []
    if chosen.only != "leaks":
        met += [each for workers in (0, 2) for each in blocks(sizes, holds, workers)]
    if chosen.only != "blocks":
        met += leaks(10 if chosen.quick else 100)
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
