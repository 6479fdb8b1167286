"""What a simulation costs beside its calls: the benchmark's goals, each in a fresh process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "performance" / "simulation_benchmark.py"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is counted differently elsewhere")
def test_memory_does_not_grow_over_a_thousand_steps():
    report("growth")


def test_a_crowd_of_fifty_costs_a_call_each_and_no_time_of_its_own():
    report("crowd")


def report(what):
    done = subprocess.run([sys.executable, str(BENCHMARK), "--only", what], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
