"""The benchmarks: what they find, what they are held against, and what the command does with it."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tinytroupe.benchmarks import benchmark_with_config, run_benchmark
from tinytroupe.benchmarks.command import main
from tinytroupe.benchmarks.general import GENERAL
from tinytroupe.benchmarks.parallel import PARALLEL
from tinytroupe.benchmarks.section import Check, Column, Plan, Section
from tinytroupe.config import config_manager
from tinytroupe.engine import force_scheduler

ALL = {**GENERAL, **PARALLEL}
IN_PROCESS = [name for name in ALL if name not in ("memory", "real-time")]
PAGE = Path(__file__).parents[3] / "docs" / "benchmarks_json.md"
SMALL = {
    "speedup": Plan(agents=(1, 3)),
    "scenarios": Plan(steps=1),
    "scalability": Plan(agents=(1, 3), steps=2),
    "calls": Plan(agents=(3,), steps=2),
    "workers": Plan(agents=(10,)),
    "timeouts": Plan(agents=(4,), steps=2),
    "interactions": Plan(agents=(2, 3), steps=2),
    "consolidation": Plan(agents=(2,), steps=40),
    "recovery": Plan(agents=(4,), steps=10),
}


def found(name, plan=None):
    told = []
    section = ALL[name](plan or SMALL[name], told.append)
    assert told, "progress is shown"
    return section


@pytest.mark.parametrize("name", IN_PROCESS)
def test_each_benchmark_keeps_its_bounds_and_repeats_to_the_last_digit(name):
    first, again = found(name), found(name)
    assert first.name == name
    assert first.met, first.as_text()
    assert first.checks
    real = {"real_ms_per_turn"}
    assert [{k: v for k, v in row.items() if k not in real} for row in first.rows] == [
        {k: v for k, v in row.items() if k not in real} for row in again.rows
    ]
    assert all({column.key for column in first.columns} <= set(row) | OPTIONAL for row in first.rows)
    assert {key for row in first.rows for key in row} <= documented(name)


def documented(name):
    """Return the keys of a benchmark's rows that ``docs/benchmarks_json.md`` names; ``these`` are those before."""
    keys = set()
    for names, cell in re.findall(
        r"^\| (`.*?) \| (.*) \|$", PAGE.read_text("utf-8").partition("| keys of a row |")[2], re.M
    ):
        keys = {*(keys if cell.startswith("these") else ()), *re.findall(r"`(\w+)`", cell)}
        if name in re.findall(r"`([\w-]+)`", names):
            return keys
    raise AssertionError(f"{PAGE.name} does not describe {name}")


@pytest.mark.parametrize("name", ALL)
def test_the_page_describes_each_benchmark_and_its_columns(name):
    assert len(documented(name)) >= 6


OPTIONAL = {"guide_sequential_s", "guide_parallel_s", "guide_speedup"}


def test_the_guide_s_own_figures_stand_beside_ours():
    row = found("speedup", Plan(agents=(10,))).rows[0]
    assert (row["sequential_s"], row["parallel_s"]) == (pytest.approx(1.0), pytest.approx(0.1))
    assert (row["guide_sequential_s"], row["guide_parallel_s"], row["guide_speedup"]) == (1.00, 0.25, 4.2)
    assert row["efficiency"] == pytest.approx(1.0)


def test_lost_parallelism_misses_the_floors():
    with force_scheduler("sequential"):
        section = found("speedup", Plan(agents=(1, 5)))
    assert not section.met
    assert [check.met for check in section.checks] == [False, True]
    assert "MISSED speedup, 5 people: 1 (has to be ≥ 3.3)" in section.as_text()


def test_equal_turns_come_in_whole_rounds():
    rows = {row["workers"]: row for row in found("workers").rows}
    assert [rows[n]["elapsed_s"] for n in ("1", "2", "4", "8", "auto")] == pytest.approx([2.0, 1.0, 0.6, 0.4, 0.2])
    assert all(row["efficiency"] == pytest.approx(1.0) for row in rows.values())


def test_slow_people_cost_their_own_turns_and_the_time_out():
    none, one, half = found("timeouts").rows
    assert (none["timeouts"], one["timeouts"], half["timeouts"]) == (0, 2, 4)
    assert (none["elapsed_s"], one["elapsed_s"], half["elapsed_s"]) == pytest.approx((2.0, 60.0, 60.0))


def test_what_everyone_says_is_heard_by_all_others():
    assert [row["heard"] for row in found("interactions").rows] == [2 * 1 * 2, 3 * 2 * 2]


def test_trouble_is_met_and_told():
    rows = {row["trouble"]: row for row in found("recovery").rows}
    assert rows["none"]["failed_calls"] == 0
    assert rows["all of them"]["retries"] > 0
    assert rows["all of them"]["elapsed_s"] > rows["none"]["elapsed_s"]
    assert rows["5 % replies of a wrong form"]["calls"] > rows["none"]["calls"]
    assert rows["one person's calls are refused"]["left_out"] == 10


@pytest.mark.slow
def test_memory_is_measured_in_fresh_processes():
    section = GENERAL["memory"](Plan(steps=2), lambda _: None)
    assert [row["agents"] for row in section.rows] == [5, 10, 20]
    assert {key for row in section.rows for key in row} <= documented("memory")
    assert all(0 < row["start_mb"] <= row["end_mb"] + 5 for row in section.rows)


@pytest.mark.slow
def test_real_time_says_what_virtual_time_says():
    for _ in range(5):  # what else runs on the machine only ever adds
        (row,) = GENERAL["real-time"](Plan(agents=(5,), steps=1, latency="0.3"), lambda _: None).rows
        if row["speedup"] > 2:
            break
    assert set(row) <= documented("real-time")
    assert row["sequential_s"] >= 1.5
    assert row["parallel_s"] >= 0.3
    assert row["speedup"] > 2


def test_the_functions_of_the_guide():
    assert run_benchmark(agents=4, steps=2).speedup == pytest.approx(4.0)
    assert benchmark_with_config({"max_workers": 2}, agents=4, steps=2).speedup == pytest.approx(2.0)
    assert config_manager.get("max_workers") is None
    assert run_benchmark(agents=4, steps=2, parallelize=False).speedup == pytest.approx(1.0)


# ---------------------------------------------------------------- bounds


@pytest.mark.parametrize(
    ("value", "at_least", "met"),
    [
        (3.3, True, True),
        (math.nextafter(3.3, 0), True, False),
        (3.3, False, True),
        (math.nextafter(3.3, 9), False, False),
    ],
)
def test_a_bound_just_holds_or_just_does_not(value, at_least, met):
    assert Check("x", value, 3.3, at_least).met is met


def test_a_plan_takes_what_the_user_says_and_otherwise_what_is_usual():
    usual = Plan()
    assert usual.sizes(1, 50, 100) == (1, 50, 100)
    assert replace(usual, quick=True).sizes(1, 50, 51) == (1, 50)
    assert replace(usual, quick=True, agents=(7, 99)).sizes(1) == (7, 99)
    assert usual.steps_or(5, 2, wall=1) == 5
    assert replace(usual, quick=True).steps_or(5, 2) == 2
    assert replace(usual, clock="wall").steps_or(5, 2, wall=1) == 1
    assert replace(usual, clock="wall", steps=9).steps_or(5, 2, wall=1) == 9
    assert usual.latency_or(0.1, wall=1.0) == "0.1"
    assert replace(usual, clock="wall").latency_or(0.1, wall=1.0) == "1.0"
    assert replace(usual, latency="uniform:1,2").latency_or(0.1) == "uniform:1,2"


# ---------------------------------------------------------------- the command


def fake(plan, tell, *, value=5.0):
    tell(f"seed {plan.seed}")
    columns = (Column("what", "What"), Column("speedup", "Speedup", "{:.2f}x"), Column("guide", "Guide", "{:.1f}"))
    return Section("fake", "<Fake>", "& so on", columns, [{"what": "<b>", "speedup": value}], [Check("s", value, 3.0)])


def slow(plan, tell):
    return fake(plan, tell, value=2.0)


def broken_off(plan, tell):
    raise KeyboardInterrupt


def bench(tmp_path, *arguments, **benchmarks):
    file = tmp_path / "results.json"
    status = main(benchmarks, arguments, prog="b.py", description="d", json_file=str(file))
    return status, json.loads(file.read_text("utf-8")) if file.exists() else None


def test_results_are_written_and_shown(tmp_path, capsys):
    status, written = bench(tmp_path, "--seed", "3", fake=fake, other=fake)
    assert status == 0
    assert (written["format"], written["schema"], written["met"]) == ("tinytroupe benchmarks", 1, True)
    plan = {"clock": "virtual", "agents": None, "steps": None, "latency": None, "seed": 3, "quick": False}
    assert written["plan"] == plan
    assert {"tinytroupe", "openai", "python", "platform", "cpus", "implementation"} == set(written["environment"])
    first, _ = written["sections"]
    assert first["rows"] == [{"what": "<b>", "speedup": 5.0}]
    assert first["checks"] == [{"what": "s", "value": 5.0, "bound": 3.0, "at_least": True, "met": True}]
    page = (tmp_path / "results.html").read_text("utf-8")
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "All 2 bounds are kept." in page
    assert (tmp_path / "report.css").is_file()
    out, err = capsys.readouterr()
    assert "<b>     5.00x      -" in out
    assert "[1/2] fake: seed 3 …" in err


def test_a_missed_bound_ends_in_status_1_and_is_told(tmp_path, capsys):
    status, written = bench(tmp_path, fake=fake, slow=slow)
    assert (status, written["met"]) == (1, False)
    assert "MISSED s: 2 (has to be ≥ 3)" in capsys.readouterr().err
    assert "1 of 2 bounds are missed." in (tmp_path / "results.html").read_text("utf-8")


def test_only_what_was_chosen_runs_and_nothing_is_written_unasked(tmp_path, capsys):
    status, written = bench(tmp_path, "--only", "fake", "--json", "", "--html", "", fake=fake, slow=slow)
    assert (status, written) == (0, None)
    assert list(tmp_path.iterdir()) == []
    assert "[1/1] fake" in capsys.readouterr().err


def test_broken_off_it_writes_nothing(tmp_path, capsys):
    status, written = bench(tmp_path, fake=fake, broken_off=broken_off)
    assert (status, written) == (130, None)
    assert capsys.readouterr().err.endswith("interrupted; no file was written\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--only", "nothing"], "invalid choice: 'nothing'"),
        (["--agents", "1,0"], "must be a whole number of at least 1, not '0'"),
        (["--steps", "many"], "must be a whole number of at least 1, not 'many'"),
        (["--latency", "soon"], "cannot read latency 'soon'"),
        (["--json", "results.json/x"], "cannot write"),
    ],
)
def test_wrong_use_ends_in_status_2_and_says_why(tmp_path, monkeypatch, capsys, arguments, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(SystemExit) as end:
        bench(tmp_path, *arguments, fake=fake)
    assert end.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("suite", ["benchmark_suite", "parallel_benchmarks"])
def test_the_guide_s_scripts_run_from_their_directory(suite, tmp_path, monkeypatch, capsys):
    import runpy

    script = Path(__file__).parents[2] / "performance" / f"{suite}.py"
    monkeypatch.setattr("sys.argv", [str(script), "--list"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    assert end.value.code == 0
    named = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert named == list(GENERAL if suite == "benchmark_suite" else PARALLEL)
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_has_the_same(capsys):
    from tinytroupe.cli import main as cli

    assert cli(["bench", "--only", "workers", "--agents", "2", "--steps", "1"]) == 0
    assert "Workers" in capsys.readouterr().out
    assert cli(["bench", "--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(ALL)
