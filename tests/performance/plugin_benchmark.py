"""What the plugin costs: start-up without --perf, the exact pass beside the plain test, a session of many tests.

Run it with ``python tests/performance/plugin_benchmark.py``. Each figure stands beside its goal; the exit status is 1
where one is missed. Ratios of runs taken in turn, medians: the machine may be busy.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

SIMULATION = """
import json, sys, time, pytest

TOOK = []

{mark}
@pytest.mark.parametrize("n", range({count}))
def test_panel(n, world, mock_llm, troupe):
    mock_llm.latency = 1.0
    world.add_agents(troupe({people})).make_everyone_accessible()
    world.broadcast("What do you expect of a city to live in?")
    start = time.process_time()
    world.run(steps={steps})
    TOOK.append(time.process_time() - start)

def test_told():
    with open("took.json", "w") as file:
        json.dump(TOOK, file)
"""

OTHERS = ("respx", "anyio", "asyncio", "hypothesispytest", "randomly", "xdist", "timeout", "cacheprovider")


@dataclass(frozen=True)
class Line:
    """A figure beside its goal."""

    what: str
    figure: float
    goal: float
    unit: str
    remark: str = ""
    binding: bool = True

    @property
    def met(self) -> bool:
        return self.figure <= self.goal

    def __str__(self) -> str:
        verdict = "met" if self.met else "MISSED" if self.binding else "missed"
        figure = f"{self.figure:8.2f} {self.unit:<2}  goal <= {self.goal:g} {self.unit:<2}"
        return f"{self.what:<42} {figure} {verdict}  {self.remark}"


def pytest_in(directory: Path, *args: str) -> float:
    """Run pytest in a process of its own and return its seconds."""
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", *args],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
    )
    took = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"pytest {' '.join(args)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return took


def off(names: Sequence[str]) -> list[str]:
    return [argument for name in names for argument in ("-p", f"no:{name}")]


def paired(rounds: int, first: Callable[[], float], second: Callable[[], float]) -> tuple[list[float], list[float]]:
    """Take both in turn, whoever goes first."""
    took: tuple[list[float], list[float]] = ([], [])
    for index in range(rounds):
        for which in (0, 1) if index % 2 == 0 else (1, 0):
            took[which].append((first, second)[which]())
        print(f"\r  {index + 1} of {rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return took


def start_up(rounds: int) -> list[Line]:
    """Seconds that the plugin adds to a run without --perf."""
    lines = []
    for others, label in ((OTHERS, "the plugins it depends on off"), ((), "as installed")):
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            (directory / "pytest.ini").write_text("[pytest]\n")
            (directory / "test_it.py").write_text("def test_it(): pass\n")
            common = off(others)
            without, with_it = paired(
                rounds,
                lambda: pytest_in(directory, *common, "-p", "no:tinytroupe", *([] if others else off(OTHERS[:2]))),  # noqa: B023
                lambda: pytest_in(directory, *common),  # noqa: B023
            )
            added = median(b - a for a, b in zip(without, with_it, strict=True)) * 1e3
            remark = f"of {median(with_it) * 1e3:.0f} ms; {label}"
            lines.append(Line("start-up without --perf", added, 15, "ms", remark, binding=False))
    return lines


def exact_pass(rounds: int) -> Line:
    """CPU time of the call of a test in the exact pass beside the same call without --perf."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "pytest.ini").write_text("[pytest]\n")

        def took(mark: str, *args: str) -> float:
            text = SIMULATION.format(mark=mark, count=8, people=10, steps=10)
            (directory / "test_it.py").write_text(text)
            pytest_in(directory, *args)
            return median(json.loads((directory / "took.json").read_text())[1:])  # the first warms up

        plain, exact = paired(
            rounds,
            lambda: took(""),
            lambda: took("@pytest.mark.perf(baseline=False)", "--perf", "--no-perf-report"),
        )
    ratio = median(b / a for a, b in zip(plain, exact, strict=True))
    remark = f"{median(plain) * 1e3:.0f} ms a test of 100 turns without"
    return Line("CPU of the exact pass / of the plain test", ratio, 1.3, "x", remark)


def session(tests: int, rounds: int) -> Line:
    """Seconds that --perf adds to a session of small tests: their exact pass, rows, table and reports."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "pytest.ini").write_text("[pytest]\n")

        def took(mark: str, *args: str) -> float:
            text = SIMULATION.format(mark=mark, count=tests, people=2, steps=1)
            (directory / "test_it.py").write_text(text)
            return pytest_in(directory, *args)

        plain, measured = paired(
            rounds, lambda: took(""), lambda: took("@pytest.mark.perf(baseline=False)", "--perf", "--perf-json=a.json")
        )
    added = median(b - a for a, b in zip(plain, measured, strict=True))
    remark = f"beside {median(plain):.1f} s without; HTML and JSON reports included"
    return Line(f"a session of {tests} exact tests", added, 10, "s", remark)


def main() -> int:
    """Print the figures; return 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs behind each figure (default: 5)")
    parser.add_argument("--tests", type=int, default=200, help="tests of the session (default: 200)")
    chosen = parser.parse_args()
    lines = [exact_pass(chosen.rounds), session(chosen.tests, max(chosen.rounds // 2, 1))]
    lines += start_up(chosen.rounds * 3)
    print(*lines, sep="\n")
    print("\nStart-up is real time of whole processes: a figure, no gate.")
    return 0 if all(line.met or not line.binding for line in lines) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
