"""Beside pytest-benchmark, pytest-memray and pytest-codspeed on the same program; the engine beside the bare client.

    python tests/performance/comparison_benchmark.py                     writes docs/benchmarks.md; a quarter of an hour
    python tests/performance/comparison_benchmark.py --sessions 3 --power 1 --rounds 2 --out /tmp/look.md

Builds this project's wheel and installs it with the others, from the package registry, in an environment of its own.
Sessions of all tools take turns, so that what else the machine does falls on each alike. Exit status 1 where
something that the page claims is not so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import comparison_page
from comparison_project import FILES, REGRESSIONS
from engine_benchmark import both
from fresh_environment import ROOT, build_wheel, environment_with

OTHERS = ("pytest-benchmark", "pytest-memray", "pytest-codspeed")
PLUGINS = {
    "pytest-tinytroupe": "pytest_tinytroupe.plugin",
    "pytest-benchmark": "pytest_benchmark.plugin",
    "pytest-memray": "pytest_memray.plugin",
    "pytest-codspeed": "pytest_codspeed.plugin",
}
STATISTICS = ("min", "median", "mean")
SHARE = 0.10
"""How much slower ``--benchmark-compare-fail=…:10%`` accepts; our times have the same tolerance."""


@dataclass
class Done:
    """A session: exit status, seconds, output."""

    status: int
    took_s: float
    text: str

    @property
    def failed(self) -> set[str]:
        return set(re.findall(r"^FAILED \S+::test_(\w+)", self.text, re.MULTILINE))


@dataclass
class Found:
    """All figures of the page."""

    versions: dict[str, str] = field(default_factory=dict)
    weight: dict[str, tuple[int, float]] = field(default_factory=dict)
    startup_ms: dict[str, tuple[float, float]] = field(default_factory=dict)
    session_s: dict[str, float] = field(default_factory=dict)
    false_alarms: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    detected: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    engine: list[dict[str, float]] = field(default_factory=list)
    claims: list[tuple[str, bool]] = field(default_factory=list)


class Project:
    """The project, and pytest in the scratch environment."""

    def __init__(self, directory: Path, python: Path, base_url: str) -> None:
        self.directory = directory
        self.python = python
        self.base_url = base_url
        self.limit = "1B"
        for name, text in FILES.items():
            (directory / name).write_text(text, encoding="utf-8")

    def pytest(self, *arguments: str, injected: str = "", plugins: Sequence[str] = ()) -> Done:
        """Run a session with no other plugins than these, and with those of the environment where none is named."""
        # Nothing is compiled when it is installed: without the last, each run would compile all that it imports.
        left_out = ("CI", "PYTEST_ADDOPTS", "PYTHONDONTWRITEBYTECODE")
        kept = {name: value for name, value in os.environ.items() if name not in left_out}
        told = {"INJECTED": injected, "BASE_URL": self.base_url, "LIMIT": self.limit}
        named = [word for plugin in plugins for word in ("-p", plugin)]
        command = [str(self.python), "-m", "pytest", "-rf", "-p", "no:cacheprovider", *named, *arguments]
        start = time.perf_counter()
        done = subprocess.run(
            command,
            cwd=self.directory,
            env={**kept, **told, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            capture_output=True,
            text=True,
        )
        return Done(done.returncode, time.perf_counter() - start, done.stdout + done.stderr)

    def ours(self, *arguments: str, injected: str = "") -> Done:
        return self.pytest(
            "--perf", "--no-perf-report", *arguments, injected=injected, plugins=[PLUGINS["pytest-tinytroupe"]]
        )

    def benchmark(self, *arguments: str, injected: str = "") -> tuple[Done, dict[str, dict[str, float]]]:
        result = self.directory / "benchmark.json"
        done = self.pytest(
            f"--benchmark-json={result}", *arguments, injected=injected, plugins=[PLUGINS["pytest-benchmark"]]
        )
        told = json.loads(result.read_text("utf-8"))["benchmarks"]
        return done, {one["name"].removeprefix("test_"): one["stats"] for one in told}

    def memray(self, injected: str = "") -> Done:
        return self.pytest("--memray", "test_memray.py", injected=injected, plugins=[PLUGINS["pytest-memray"]])

    def codspeed(self, injected: str = "") -> Done:
        return self.pytest("--codspeed", "test_codspeed.py", injected=injected, plugins=[PLUGINS["pytest-codspeed"]])


@contextlib.contextmanager
def server(python: Path) -> Iterator[str]:
    """The model that the tools without one of their own ask: 0.2 s a call."""
    command = [str(python.with_name("tinytroupe")), "mock-server", "--latency", "0.2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def load_average() -> float:
    """Return the machine's, or -1 where the system has none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else -1.0


def tell(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def weights(python: Path) -> dict[str, dict[str, object]]:
    """Return version, distributions and MB that each tool brings beyond pytest itself."""
    program = """
import importlib.metadata as m, json, re, sys
def closure(name, found):
    name = re.sub("[-_.]+", "-", name).lower()
    if name in found: return found
    try: dist = m.distribution(name)
    except m.PackageNotFoundError: return found
    found[name] = sum(f.locate().stat().st_size for f in dist.files or () if f.locate().exists()) / 2**20
    for line in dist.requires or ():
        if "extra ==" not in line: closure(re.match("[A-Za-z0-9._-]+", line)[0], found)
    return found
base = closure("pytest", {})
told = {}
for name in sys.argv[1:]:
    own = {k: v for k, v in closure(name, {}).items() if k not in base}
    told[name] = {"version": m.version(name), "count": len(own), "mb": sum(own.values())}
told["pytest"] = {"version": m.version("pytest")}
told["openai"] = {"version": m.version("openai")}
print(json.dumps(told))
"""
    done = subprocess.run([str(python), "-c", program, *PLUGINS], capture_output=True, text=True, check=True)
    told: dict[str, dict[str, object]] = json.loads(done.stdout)
    return told


def start_up(project: Project, rounds: int) -> dict[str, tuple[float, float]]:
    """Return the least milliseconds that a plugin adds to a run that does not use it, and of one without any."""
    took: dict[str, list[float]] = defaultdict(list)
    for index in range(rounds):
        names = ["none", *PLUGINS, "ours, with its dependencies' plugins"]
        for name in names[index % len(names) :] + names[: index % len(names)]:
            plugins = {"none": []}.get(name, [PLUGINS.get(name, PLUGINS["pytest-tinytroupe"])])
            if name.startswith("ours,"):
                plugins = [*plugins, "respx.plugin", "anyio.pytest_plugin"]
            took[name].append(project.pytest("test_trivial.py", plugins=plugins).took_s * 1000)
    bare = min(took.pop("none"))
    return {name: (min(each) - bare, bare) for name, each in took.items()}


def slower(current: float, stored: float) -> bool:
    """What ``--benchmark-compare-fail=STATISTIC:10%`` fails on."""
    return (current - stored) / stored > SHARE


def measure(project: Project, sessions: int, power: int, found: Found) -> None:
    """Run unchanged sessions and those with a regression, tools in turn."""
    took: dict[str, list[float]] = defaultdict(list)
    tell("our baselines")
    assert project.ours("--perf-update", "test_ours.py").status == 0
    used = re.search(r"but allocated ([\d.]+)(\w+)", project.memray().text)
    assert used, "memray does not say what the test used"
    project.limit = f"{float(used[1]) * 1.02:.3f}{used[2].replace('iB', 'B')}"
    alarms: dict[str, int] = defaultdict(int)
    stats: dict[str, list[dict[str, float]]] = defaultdict(list)
    for index in range(sessions):
        tell(f"unchanged, {index + 1} of {sessions}")
        ours = project.ours("test_ours.py")
        for test in ours.failed:
            alarms[f"ours/{test}"] += 1
        took["ours without CPU"].append(project.ours("test_ours.py", "-k", "not cpu").took_s)
        their, figures = project.benchmark("test_benchmark.py")
        for test, one in figures.items():
            stats[test].append(one)
        memray = project.memray()
        alarms["memray/memory"] += memray.status != 0
        codspeed = project.codspeed()
        assert codspeed.status == 0, codspeed.text
        for name, done in zip(PLUGINS, (ours, their, memray, codspeed), strict=True):
            took[name].append(done.took_s)
    found.session_s = {name: median(each) for name, each in took.items()}
    for test in ("llm", "memory", "cpu"):
        found.false_alarms["ours", test] = (alarms[f"ours/{test}"], sessions)
    found.false_alarms["memray", "memory"] = (alarms["memray/memory"], sessions)
    for test, each in stats.items():
        for statistic in STATISTICS:
            pairs = [slower(new[statistic], old[statistic]) for old, new in permutations(each, 2)]
            found.false_alarms[statistic, test] = (sum(pairs), len(pairs))

    for injected, (test, what) in REGRESSIONS.items():
        hits: dict[str, int] = defaultdict(int)
        counts: dict[str, int] = defaultdict(int)
        for index in range(power):
            tell(f"{what}, {index + 1} of {power}")
            hits["ours"] += test in project.ours(f"test_ours.py::test_{test}", injected=injected).failed
            counts["ours"] += 1
            if test == "memory":
                hits["memray"] += project.memray(injected).status != 0
                counts["memray"] += 1
            else:
                _, figures = project.benchmark(f"test_benchmark.py::test_{test}", injected=injected)
                for statistic in STATISTICS:
                    for old in stats[test]:
                        hits[statistic] += slower(figures[test][statistic], old[statistic])
                        counts[statistic] += 1
        for name, count in counts.items():
            found.detected[name, injected] = (hits[name], count)


def verify(project: Project, found: Found) -> None:
    """Try what the page says of the others with their own commands."""
    tell("what is said of the others")
    project.benchmark("--benchmark-autosave", "test_benchmark.py::test_llm")
    done, _ = project.benchmark(
        "--benchmark-compare", "--benchmark-compare-fail=median:10%", "test_benchmark.py::test_llm", injected="serial"
    )
    found.claims.append(("pytest-benchmark's own gate fails where a run takes twice as long", done.status == 1))
    done = project.pytest("-n", "2", "test_benchmark.py", plugins=["xdist.plugin", PLUGINS["pytest-benchmark"]])
    disabled = "Benchmarks are automatically disabled" in done.text
    found.claims.append(("pytest-benchmark does not measure under xdist", disabled))
    found.claims.append(("pytest-codspeed passes whatever it measures", project.codspeed("cpu").status == 0))
    _, figures = project.benchmark("test_benchmark.py::test_llm", injected="heap")
    found.claims.append(("pytest-benchmark has no figure of memory", not any("mem" in key for key in figures["llm"])))


def judge(found: Found) -> None:
    """What the page says in words has to be so in figures."""
    exact = found.false_alarms["ours", "llm"][0] + found.false_alarms["ours", "memory"][0]
    found.claims.append(("no false alarm of ours in what is exact, and in the heap", exact == 0))
    for injected in ("after", "serial", "aside", "prompt", "heap"):
        hits, count = found.detected["ours", injected]
        found.claims.append((f"ours finds every one: {REGRESSIONS[injected][1]}", hits == count))
    most = max(found.weight, key=lambda name: found.weight[name][0])
    found.claims.append(("ours brings the most distributions", most == "pytest-tinytroupe"))


def engine(people: Sequence[int], rounds: int) -> list[dict[str, float]]:
    """Run worlds and the bare client on the same requests; medians."""
    rows = []
    for size in people:
        tell(f"engine and bare client, {size} people")
        runs = [both("lognormal:1.0,0.5", size, 3, warm=True) for _ in range(rounds)]
        rows.append(
            {
                "people": size,
                "ours_s": median(mine.elapsed_s for mine, _, _ in runs),
                "bare_s": median(theirs.elapsed_s for _, theirs, _ in runs),
                "bound_s": median(figures["lower_bound_s"] for _, _, figures in runs),
                "ours_cpu_ms": median(mine.cpu_ms for mine, _, _ in runs),
                "bare_cpu_ms": median(theirs.cpu_ms for _, theirs, _ in runs),
            }
        )
    return rows


def main() -> int:
    """Measure, write the page, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=20, help="unchanged sessions of each tool (default: 20)")
    parser.add_argument("--power", type=int, default=5, help="sessions with each regression (default: 5)")
    parser.add_argument("--rounds", type=int, default=31, help="runs behind each start-up time (default: 31)")
    parser.add_argument("--people", type=int, nargs="+", default=[10, 100], help="of the engine's runs")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.md", help="the page")
    chosen = parser.parse_args()
    if chosen.sessions < 2:
        parser.error("--sessions: at least 2, because false alarms are counted among pairs of sessions")
    found = Found()
    loads = [load_average()]
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        (scratch / "wheel").mkdir()
        (scratch / "project").mkdir()
        tell("an environment of its own")
        wheel = build_wheel(scratch / "wheel")
        python = environment_with(scratch / "venv", f"pytest-tinytroupe[xdist] @ {wheel.as_uri()}", *OTHERS)
        told = weights(python)
        found.versions = {each: str(about["version"]) for each, about in told.items()}
        found.weight = {each: (about["count"], about["mb"]) for each, about in told.items() if "mb" in about}  # type: ignore[misc]
        with server(python) as base_url:
            project = Project(scratch / "project", python, base_url)
            tell("start-up")
            found.startup_ms = start_up(project, chosen.rounds)
            measure(project, chosen.sessions, chosen.power, found)
            verify(project, found)
    found.engine = engine(chosen.people, 3)
    judge(found)
    loads.append(load_average())
    chosen.out.write_text(comparison_page.page(found, chosen.rounds, [each for each in loads if each >= 0]), "utf-8")
    print(chosen.out)
    for claim, true in found.claims:
        print(f"{'ok    ' if true else 'MISSED'} {claim}")
    return 0 if all(true for _, true in found.claims) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
