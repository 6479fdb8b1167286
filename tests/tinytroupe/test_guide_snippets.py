"""Every Python snippet of the performance guide, as written, one after the other of each section."""

from __future__ import annotations

import contextlib
import io
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from tinytroupe import TinyPerson, TinyWorld, config_manager
from tinytroupe.benchmarks import benchmark_with_config, run_benchmark, run_memory_benchmark
from tinytroupe.config import parse_ini
from tinytroupe.monitoring import MemoryMonitor
from tinytroupe.runtime.clock import VirtualClock, use_clock
from tinytroupe.testing import MockLLM

GUIDE = Path(__file__).parents[2] / "docs" / "performance_guide.md"
PEOPLE = ("alice", "bob")


def blocks(language):
    """Return the guide's code blocks with the line each begins on."""
    text = GUIDE.read_text("utf-8")
    found = re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [pytest.param(match[1], id=f"line {text.count(chr(10), 0, match.start(1)) + 1}") for match in found]


def runnable(source):
    # "[...]" stands for people to add, as a reader would fill in.
    return source.replace("world.add_agents([...])", 'world.add_agents([TinyPerson("carol")])')


def short_memory_benchmark(agents, steps):
    return run_memory_benchmark(agents=agents, steps=steps // 50)


@pytest.fixture
def prelude(tmp_path, monkeypatch):
    """The names that the guide leaves open, and a directory of its own."""
    monkeypatch.chdir(tmp_path)
    with VirtualClock() as clock, use_clock(clock), MockLLM(latency=0.1):
        agents = [TinyPerson(name) for name in PEOPLE]
        world = TinyWorld("MyWorld", agents)
        world.run(1)
        names = {
            "TinyPerson": TinyPerson,
            # "# ... add agents ..." stands between making a world and running it.
            "TinyWorld": lambda name: TinyWorld(name, [TinyPerson(f"{person} too") for person in PEOPLE]),
            "agent": agents[0],
            "agent_count": 10,
            "agents": agents,
            "benchmark_with_config": benchmark_with_config,
            "config_manager": config_manager,
            "configurations": [{"max_workers": 2}, {"max_workers": 4}],
            "CPU_count": 2,
            "logging": logging,
            "metrics": world.get_parallel_metrics(),
            "monitor": MemoryMonitor(),
            "run_benchmark": run_benchmark,
            "run_memory_benchmark": short_memory_benchmark,
            "world": world,
        }
        exec("import os, time", names)
        yield names
    config_manager.reset()


@contextlib.contextmanager
def unconfigured_logging():
    """Without handlers at the root, as in a program of one's own: else basicConfig does nothing."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    try:
        yield
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers = handlers
        root.setLevel(level)


@pytest.mark.parametrize("source", blocks("python"))
def test_the_snippet_runs_as_written(prelude, source):
    printed = io.StringIO()
    source = runnable(source.replace("from tinytroupe.environment import TinyWorld\n", "\n"))
    with contextlib.redirect_stdout(printed), unconfigured_logging():
        exec(compile(source, str(GUIDE), "exec"), prelude)
        for name, test in list(prelude.items()):
            if name.startswith("test_"):
                test()
        if "CustomBenchmark" in prelude:
            custom = prelude["CustomBenchmark"]()
            assert custom.measure_agent_think_time(prelude["agent"]) >= 0
            for _ in range(60):
                prelude["agent"].listen("something to remember").act()
            assert custom.measure_consolidation_efficiency(prelude["agent"]) >= 0.5
        if "handle_memory_alert" in prelude:
            for severity in ("critical", "warning"):
                prelude["handle_memory_alert"](SimpleNamespace(severity=severity, message="much"))
            assert "CRITICAL: much\nWARNING: much" in printed.getvalue()
    if "print(" in source:
        assert "None" not in printed.getvalue()
        assert "nan" not in printed.getvalue()


def test_the_guide_s_imports_are_right():
    from tinytroupe import TinyWorld as at_the_top
    from tinytroupe.environment import TinyWorld as in_its_room

    assert at_the_top is in_its_room


@pytest.fixture
def run(prelude, capsys):
    """Run the one snippet that contains a text, and return what it printed."""

    def run(text):
        (source,) = (parameter.values[0] for parameter in blocks("python") if text in parameter.values[0])
        with unconfigured_logging():
            exec(compile(source, str(GUIDE), "exec"), prelude)
        return capsys.readouterr().out

    return run


def test_the_report_is_where_the_guide_says(run):
    out = run("viz.generate_html_report")
    assert "alice" in Path("memory_report.html").read_text("utf-8")
    assert re.search(r"^alice:\n  Memory: \d+\n  Trend: increasing\n  Alerts: 0$", out, re.MULTILINE)


def test_the_log_tells_how_long_steps_took(run):
    run("filename='performance.log'")
    log = Path("performance.log").read_text("utf-8")
    told = re.findall(r" - tinytroupe\.world - DEBUG - MyWorld: step (\d+) took 0\.100 s \(parallel; lower bound", log)
    assert list(map(int, told)) == list(range(1, 101))


def test_the_profiler_prints_as_the_guide_shows(run):
    out = run("profiler.print_stats")
    assert re.search(
        r"^Function: run_simulation\n"
        r"  Calls: 1\n  Total: \d+\.\d\ds\n  Avg:   \d+\.\d\ds\n  Min:   \d+\.\d\ds\n  Max:   \d+\.\d\ds$",
        out,
        re.MULTILINE,
    )


def test_settings_of_the_guide_hold_at_once(prelude):
    agent = prelude["agent"]
    for _ in range(30):
        agent.listen("x")
    agent.episodic_memory.max_size = 10
    stats = agent.episodic_memory.get_memory_stats()
    assert f"{stats['usage_ratio']:.1%}" == "100.0%"
    assert stats["approaching_limit"] is True


@pytest.mark.parametrize("source", blocks("ini"))
def test_the_settings_are_read_as_written(source):
    assert parse_ini(source, "the guide")


def test_there_is_a_snippet_of_each_kind():
    assert (len(blocks("python")), len(blocks("ini"))) == (26, 6)
