"""How often the gate cries wolf, and how often it finds a wolf: identical sessions, then sessions with a regression.

Makes a project with a test of every tier, takes its baselines, runs ``pytest --perf`` on it again and again as anyone
would (a process a session), and counts the tests that fail though nothing changed. Then it plants regressions, one at a
time, and counts how many are found. Beside that stands what a single stored run and a percentage would have made of the
same times.

    python tests/performance/aa_benchmark.py --sessions 300 --power 100 --json aa.json
    python tests/performance/aa_benchmark.py --sessions 20 --tiers cpu wall --hog

Ctrl-C ends it early with the table of what there is. Nothing else should run on the machine, but for ``--hog``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import pytest_tinytroupe
from pytest_tinytroupe.times import NOT_KEPT, TOO_BUSY

SUITE = """
import json
import os

import pytest

INJECTED = os.environ.get("INJECTED", "")


def messages(people):
    kept = [[] for _ in range(people)]
    for turn in range(10):
        for person in range(people):
            kept[person].append({"role": "user", "content": f"person {person} says {turn} " * 5})
            json.loads(json.dumps(kept[person][-20:]))


@pytest.mark.perf(min_speedup=3)
def test_exact(make_world, mock_llm):
    mock_llm.latency = 1.0
    alone = INJECTED == "parallelism"
    make_world(agents=4 - alone).run(steps=3)
    if alone:
        make_world(agents=1).run(steps=3)
    if INJECTED == "call":
        make_world(agents=1).run(steps=1)


@pytest.mark.perf
def test_heap():
    blocks = [bytes(1000) for _ in range(8400 if INJECTED == "heap" else 8000)]
    assert blocks


@pytest.mark.perf(baseline=False)
def test_ratio(perf):
    slow = 11 if INJECTED == "ratio" else 10
    perf.compare(lambda: messages(20), lambda: messages(slow), min_ratio=1.9)


@pytest.mark.perf(max_cpu_s=600)
def test_cpu():
    messages(115 if INJECTED == "cpu" else 100)


@pytest.mark.perf(clock="wall")
def test_wall(make_world, mock_llm):
    mock_llm.latency = 0.115 if INJECTED == "wall" else 0.1
    make_world(agents=4).run(steps=2)


@pytest.mark.perf(isolate=True)
def test_isolate():
    assert bytearray(int(2e7 if INJECTED == "isolate" else 1e7))
"""

TIERS = ("exact", "heap", "ratio", "cpu", "wall", "isolate")
INJECTIONS = {
    "call": ("exact", "one model call more"),
    "parallelism": ("exact", "one person no longer in parallel"),
    "heap": ("heap", "heap 5 % higher"),
    "ratio": ("ratio", "ratio 10 % worse"),
    "cpu": ("cpu", "CPU time 15 % more"),
    "wall": ("wall", "latency 15 % more"),
    "isolate": ("isolate", "10 MB more memory"),
}
TIMED = {"cpu": "cpu_s", "wall": "wall_s"}
TRIES = 3
PERCENTAGES = (0.05, 0.10)


def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927)."""
    if not count:
        return 0.0, 1.0
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(middle - half, 0.0), min(middle + half, 1.0)


class Project:
    """A project of its own in a directory that goes away."""

    def __init__(self, directory: Path, tiers: list[str]) -> None:
        self.directory = directory
        self.tiers = tiers
        (directory / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        (directory / "test_suite.py").write_text(SUITE, encoding="utf-8")

    def session(self, *options: str, injected: str = "", tiers: list[str] | None = None) -> dict[str, dict]:
        """Run ``pytest --perf`` and return the record of each tier's test."""
        result = self.directory / "result.json"
        result.unlink(missing_ok=True)
        tests = [f"test_suite.py::test_{tier}" for tier in tiers or self.tiers]
        plugins = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:asyncio")
        command = [sys.executable, "-m", "pytest", "-q", *plugins, "--perf", "--no-perf-report"]
        environment = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
        done = subprocess.run(
            [*command, f"--perf-json={result}", *options, *tests],
            cwd=self.directory,
            env={**environment, "INJECTED": injected},
            capture_output=True,
            text=True,
            check=False,
        )
        if not result.exists():
            sys.exit(f"a session ended without figures:\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
        records = json.loads(result.read_text(encoding="utf-8"))["records"]
        found = {record["nodeid"].partition("::test_")[2]: record for record in records}
        for record in found.values():
            record["text"] = done.stdout[-3000:] if record["outcome"] != "passed" else ""
        return found

    def take_baseline(self) -> None:
        """Take the baseline. Ends the benchmark where that fails, or the machine is too busy to keep times."""
        for _ in range(TRIES):
            taken = self.session("--perf-update")
            bad = [record["text"] for record in taken.values() if record["outcome"] != "passed"]
            if bad:
                sys.exit(f"the baseline could not be taken:\n{bad[0]}")
            if not any(each["note"].startswith(NOT_KEPT) for each in verdicts(taken)):
                return
        sys.exit(f"the baseline of the times could not be taken in {TRIES} tries: others have the cores")


@contextlib.contextmanager
def hogs(count: int):
    """Keep so many cores busy."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def verdicts(records: dict[str, dict]) -> list[dict]:
    return [each for record in records.values() for each in record["verdicts"]]


def not_judged(record: dict) -> bool:
    """Whether others had the cores so much that the gate would not say."""
    return any(each["note"].startswith(TOO_BUSY) for each in record["verdicts"])


def compared_again(record: dict) -> bool:
    """Whether fresh processes had to decide on a comparison."""
    return any("fresh processes (" in note for note in record["notes"])


def note_time(results: dict, key: str, record: dict, name: str) -> None:
    """Keep a time and its change; a test that ended in an error has none."""
    for each in record["verdicts"]:
        if each["metric"]["name"] == name and each["change"] is not None:
            results["times"][key].append(each["metric"]["value"])
            results["changes"][key].append(each["change"])


def lottery(values: list[float], percentage: float) -> str:
    """Say how a single stored run and a percentage do: each value once as the baseline of all others."""
    alarms = sorted(sum(other > value * (1 + percentage) for other in values) for value in values)
    others = len(values) - 1
    return f"{alarms[0]} to {alarms[-1]} of {others}, median {median(alarms):g}"


def report(results: dict) -> str:
    lines = [f"{results['identical_sessions']} identical sessions, hogs: {results['hogs']}", ""]
    lines.append(f"{'tier':<9} {'sessions':>8} {'false alarms':>13}  {'95 % interval':<14} {'not judged':>11}")
    for tier, outcomes in results["identical"].items():
        alarms = sum(outcome != "passed" for outcome in outcomes)
        low, high = wilson(alarms, len(outcomes))
        interval = f"{low:.1%} to {high:.1%}"
        unjudged = results["not_judged"].get(tier, 0)
        lines.append(f"{tier:<9} {len(outcomes):>8} {alarms:>13}  {interval:<14} {unjudged:>11}")
    lines.append("not judged: beyond the tolerance while others had the cores")
    if "ratio" in results["identical"]:
        lines.append(f"ratios that missed their limit in one process and not in three fresh ones: {results['cleared']}")
    lines += ["", f"{'regression':<34} {'found':>9}  {'95 % interval':<14} {'not judged':>11}"]
    for name, outcomes in results["injected"].items():
        found = sum(outcome == "failed" for outcome in outcomes)
        low, high = wilson(found, len(outcomes))
        share = f"{found}/{len(outcomes)}"
        interval = f"{low:.1%} to {high:.1%}"
        unjudged = results["not_judged"].get(f"injected {name}", 0)
        lines.append(f"{INJECTIONS[name][1]:<34} {share:>9}  {interval:<14} {unjudged:>11}")
    changes = {name: sorted(values) for name, values in results["changes"].items() if values}
    if changes:
        lines += ["", "how far times strayed from their baseline: least, median, most"]
        for name, values in changes.items():
            lines.append(f"{name:<34} {values[0]:+.1%} {median(values):+.1%} {values[-1]:+.1%}")
    times = {name: values for name, values in results["times"].items() if name in TIMED.values() and len(values) > 2}
    if times:
        lines += ["", "the same times, held against a single stored run: false alarms, by the run that was stored"]
        for name, values in times.items():
            for percentage in PERCENTAGES:
                lines.append(f"{name:<9} +{percentage:.0%}: {lottery(values, percentage)}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=300, help="identical sessions (300)")
    parser.add_argument("--power", type=int, default=100, help="sessions of each planted regression (100)")
    parser.add_argument("--tiers", nargs="+", choices=TIERS, default=list(TIERS), metavar="TIER", help=", ".join(TIERS))
    parser.add_argument(
        "--inject", nargs="*", choices=INJECTIONS, default=list(INJECTIONS), metavar="NAME", help=", ".join(INJECTIONS)
    )
    parser.add_argument("--hog", nargs="?", type=int, const=1, default=0, metavar="N", help="keep N cores busy (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all outcomes and times")
    chosen = parser.parse_args()
    results: dict = {
        "hogs": chosen.hog,
        "identical_sessions": 0,
        "identical": {tier: [] for tier in chosen.tiers},
        "injected": defaultdict(list),
        "times": defaultdict(list),
        "changes": defaultdict(list),
        "not_judged": defaultdict(int),
        "cleared": 0,
        "failures": [],
    }
    with tempfile.TemporaryDirectory(prefix="aa-") as directory, contextlib.suppress(KeyboardInterrupt):
        project = Project(Path(directory), chosen.tiers)
        # An environment may hold another build than the one whose benchmark this is.
        print(f"the plugin in {Path(pytest_tinytroupe.__file__).parent}", flush=True)
        started = time.monotonic()
        project.take_baseline()
        print(f"baseline taken in {time.monotonic() - started:.0f} s", flush=True)
        with hogs(chosen.hog):
            for number in range(chosen.sessions):
                for tier, record in project.session().items():
                    results["identical"][tier].append(record["outcome"])
                    results["not_judged"][tier] += not_judged(record)
                    results["cleared"] += record["outcome"] == "passed" and compared_again(record)
                    if record["outcome"] != "passed":
                        results["failures"].append(record)
                        print(f"false alarm in {tier}:\n{record['text']}", flush=True)
                    if tier in TIMED:
                        note_time(results, TIMED[tier], record, TIMED[tier])
                results["identical_sessions"] = number + 1
                progress(f"identical sessions: {number + 1} of {chosen.sessions}", started)
                save(chosen.json, results)
            for name, (tier, text) in INJECTIONS.items():
                for number in range(chosen.power if tier in chosen.tiers and name in chosen.inject else 0):
                    record = project.session(injected=name, tiers=[tier])[tier]
                    results["injected"][name].append(record["outcome"])
                    results["not_judged"][f"injected {name}"] += not_judged(record)
                    if tier in TIMED:
                        note_time(results, f"{TIMED[tier]}, {text}", record, TIMED[tier])
                    if record["outcome"] != "failed":
                        results["failures"].append(record)
                    progress(f"{text}: {number + 1} of {chosen.power}", started)
                    save(chosen.json, results)
    print("\n" + report(results))
    return 0


def progress(text: str, started: float) -> None:
    print(f"\r{text}, {time.monotonic() - started:.0f} s ", end="", flush=True)


def save(path: Path | None, results: dict) -> None:
    if path is not None:
        path.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
