"""Times in a run: baselines of runs, confirmation, other machines, Holm at the end. The machine is played."""

from __future__ import annotations

import json

import pytest

from pytest_tinytroupe import times
from pytest_tinytroupe.environment import machine_key
from pytest_tinytroupe.fresh import FreshError
from pytest_tinytroupe.timing import BASELINE_RUNS, Run

TEST = """
    import pytest
    {decorator}
    def test_it(): pass
"""
CPU = "@pytest.mark.perf(max_cpu_s=10)"


class Machine:
    """Plays what fresh processes measure."""

    def __init__(self):
        self.cpu_s = {}
        self.jitter = (-0.01, 0.0, 0.01, -0.005, 0.005)
        self.asked = []
        self.error = None
        self.queued_s = 0.0

    def sample(self, gate, item):
        if self.error is not None:
            raise self.error
        self.asked.append(item.name)
        cpu_s = self.cpu_s.get(item.name, 1.0)
        if isinstance(cpu_s, list):
            cpu_s = cpu_s.pop(0)
        cpu_s *= 1 + self.jitter[len(self.asked) % len(self.jitter)]
        return Run(cpu_s + 0.5, cpu_s, 0.015, self.queued_s)


@pytest.fixture
def machine(monkeypatch):
    played = Machine()
    monkeypatch.setattr(times, "_sample", played.sample)
    return played


def run(pytester, *args):
    return pytester.runpytest_inprocess("-p", "no:randomly", "--perf", "--no-perf-report", *args)


def stored(pytester):
    (path,) = (pytester.path / "baselines").rglob("*.json")
    return json.loads(path.read_text())["tests"]


def rename_machine(pytester, name):
    (path,) = (pytester.path / "baselines").rglob("*.json")
    document = json.loads(path.read_text())
    wall = document["tests"]["test_it"]["wall"]
    wall[name] = wall.pop(machine_key())
    path.write_text(json.dumps(document))


def test_the_life_of_a_baseline_of_times(pytester, machine, monkeypatch):
    pytester.makepyfile(test_it=TEST.format(decorator=CPU))
    result = run(pytester, "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*cpu_s * ≤ 10 s  new", f"times of 1 test held against nothing*({machine_key()})"])
    assert len(machine.asked) == 1
    assert not (pytester.path / "baselines").exists()

    run(pytester, "--perf-update").assert_outcomes(passed=1)
    lines = stored(pytester)["test_it"]["wall"][machine_key()]
    assert len(lines) == BASELINE_RUNS
    assert all(len(line.split()) == 3 for line in lines)
    before = (pytester.path / "baselines" / "test_it.json").read_bytes()

    # What holds is measured once, and an update without news changes no byte.
    machine.asked.clear()
    result = run(pytester, "-v", "--perf-update")
    result.stdout.fnmatch_lines(["*  cpu_s * 1 s * ok"])
    assert len(machine.asked) == 1
    assert (pytester.path / "baselines" / "test_it.json").read_bytes() == before

    # Slower: confirmed by three more, and a failure of the test.
    machine.asked.clear()
    machine.cpu_s["test_it"] = 1.2
    monkeypatch.setenv("CI", "true")
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "perf: cpu_s regressed: 1.* s, baseline 1* s (+2?.? %)",
            "cpu_s: confirmed by 3 fresh processes (p = *",
            "If this is meant, make it the baseline: pytest --perf --perf-update * test_it.py::test_it",
        ]
    )
    assert len(machine.asked) == 4
    monkeypatch.delenv("CI")

    # Not confirmed: no failure, and nothing to update.
    machine.cpu_s["test_it"] = [1.5, 1.0, 1.0, 1.0]
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    assert (pytester.path / "baselines" / "test_it.json").read_bytes() == before

    # Faster: said, with the command; accepted when asked.
    machine.cpu_s["test_it"] = 0.7
    result = run(pytester)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*improved", "1 test improved; keep it with: *"])
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    assert stored(pytester)["test_it"]["wall"][machine_key()] != lines


def test_a_busy_machine_is_told_and_judges_no_time_but_its_limit(pytester, machine, monkeypatch):
    pytester.makepyfile(test_it=TEST.format(decorator=CPU))
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    machine.cpu_s["test_it"], machine.queued_s = 1.5, 1.5
    monkeypatch.setenv("CI", "true")
    result = run(pytester, "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "*  cpu_s * advisory",
            "times neither judged nor kept, because others had the cores: test_it.py::test_it; run again *",
        ]
    )
    machine.cpu_s["test_it"] = 11.0
    run(pytester).assert_outcomes(failed=1)


def test_a_busy_machine_gives_no_baseline_of_times_and_says_so(pytester, machine):
    pytester.makepyfile(test_it=TEST.format(decorator=CPU))
    machine.queued_s = 5.0
    result = run(pytester, "--perf-update")
    result.stdout.fnmatch_lines(["times neither judged nor kept*: test_it.py::test_it; run again *"])
    assert "wall" not in stored(pytester)["test_it"]


def test_a_failing_test_takes_no_baseline(pytester, machine):
    pytester.makepyfile(test_it=TEST.format(decorator="@pytest.mark.perf(max_cpu_s=0.5)"))
    result = run(pytester, "--perf-update")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["perf: cpu_s over limit: * s, max 0.5 s"])
    assert not (pytester.path / "baselines").exists() or not list((pytester.path / "baselines").rglob("*.json"))


def test_update_new_fills_but_does_not_replace(pytester, machine):
    pytester.makepyfile(test_it=TEST.format(decorator=CPU))
    run(pytester, "--perf-update-new").assert_outcomes(passed=1)
    before = stored(pytester)
    machine.cpu_s["test_it"] = 1.5
    run(pytester, "--perf-update-new").assert_outcomes(failed=1)
    assert stored(pytester) == before


@pytest.mark.parametrize("ci", ["", "true"])
def test_another_machine_warns_and_never_fails(pytester, machine, monkeypatch, ci):
    pytester.makepyfile(test_it=TEST.format(decorator=CPU))
    run(pytester, "--perf-update")
    rename_machine(pytester, "cpython-3.11-linux-x86_64 64x Some Processor")
    monkeypatch.setenv("CI", ci)
    machine.cpu_s["test_it"] = 2.0
    result = run(pytester, "-v", "--perf-json=out.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["times of 1 test held against nothing: no baseline of this machine (*)"])
    (record,) = json.loads((pytester.path / "out.json").read_text())["records"]
    (verdict,) = [each for each in record["verdicts"] if each["metric"]["name"] == "cpu_s"]
    assert verdict["status"] == "new"
    assert "calibrated against another one (cpython-3.11-linux-x86_64 64x Some Processor)" in verdict["note"]
    assert "it changed by +10" in verdict["note"] or "it changed by +9" in verdict["note"]
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    assert len(stored(pytester)["test_it"]["wall"]) == 2  # several machines share one file


def test_the_tolerance_of_the_marker_counts(pytester, machine):
    decorator = "@pytest.mark.perf(tolerance={'cpu_s': 0.3})"
    pytester.makepyfile(test_it=TEST.format(decorator=decorator))
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    machine.cpu_s["test_it"] = 1.27
    run(pytester).assert_outcomes(passed=1)
    machine.cpu_s["test_it"] = 1.35
    run(pytester).assert_outcomes(failed=1)


def test_wall_time_has_both_times_and_no_cold_one_beside_them(pytester, machine):
    pytester.makepyfile(test_it=TEST.format(decorator="@pytest.mark.perf(clock='wall')"))
    result = run(pytester, "-v")
    result.stdout.fnmatch_lines(["*  wall_s * new", "*  cpu_s * new"])
    result.stdout.no_fnmatch_line("*  time_s*")


def test_a_time_without_baseline_is_held_to_its_limit_only(pytester, machine):
    pytester.makepyfile(test_it=TEST.format(decorator="@pytest.mark.perf(max_cpu_s=1.2, baseline=False)"))
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    assert len(machine.asked) == 1
    machine.cpu_s["test_it"] = 1.3
    run(pytester).assert_outcomes(failed=1)


def test_a_time_that_nobody_asks_for_any_more_does_not_go_unnoticed(pytester, machine):
    pytester.makepyfile(test_it=TEST.format(decorator=CPU))
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    pytester.makepyfile(test_it=TEST.format(decorator="@pytest.mark.perf"))
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["perf: cpu_s was not measured", "cpu_s: in the baseline, but not measured any more*"])
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    assert "wall" not in stored(pytester)["test_it"]


def test_what_cannot_be_measured_is_an_error_and_the_next_module_is_well(pytester, machine):
    source = """
        import pytest
        @pytest.fixture(scope="module")
        def module(): yield; print("module down")
        @pytest.mark.perf(max_cpu_s=1)
        def test_it(module): pass
    """
    pytester.makepyfile(test_it=source, test_other="def test_other(): pass")
    machine.error = FreshError("signal 9 ended it")
    result = run(pytester, "--perf-update")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["perf: the test could not be measured: signal 9 ended it"])
    result.stdout.fnmatch_lines(["*module down"])
    assert not list(pytester.path.rglob("baselines/*.json"))


MANY = """
    import pytest
    @pytest.mark.perf(max_cpu_s=10)
    @pytest.mark.parametrize("n", range({count}))
    def test_it(n): pass
"""


@pytest.mark.parametrize(
    ("p_values", "outcomes", "late"),
    [
        ((0.0015, 0.002), {"failed": 1, "passed": 2}, True),  # 0.005 / 3, then 0.005 / 2
        ((0.0015, 0.003), {"failed": 1, "passed": 2}, False),
        ((0.002, 0.002), {"passed": 3}, False),
        ((0.0015, 0.0015), {"failed": 2, "passed": 1}, False),
    ],
)
def test_holm_finds_at_the_end_what_no_test_alone_could_show(pytester, machine, monkeypatch, p_values, outcomes, late):
    pytester.makepyfile(test_it=MANY.format(count=3))
    run(pytester, "--perf-update").assert_outcomes(passed=3)
    before = stored(pytester)
    machine.cpu_s = {"test_it[0]": 1.6, "test_it[1]": 1.6}
    given = iter(p_values)
    monkeypatch.setattr(times, "p_value", lambda *_: next(given))
    result = run(pytester, "--perf-update-new", "--perf-json=out.json")
    result.assert_outcomes(**outcomes)
    assert result.ret == (pytest.ExitCode.TESTS_FAILED if late or "failed" in outcomes else pytest.ExitCode.OK)
    text = (
        "ERROR: test_it.py::test_it[[]1]: cpu_s regressed, significant beside the other times of this session (Holm,*"
    )
    (result.stdout.fnmatch_lines if late else result.stdout.no_fnmatch_line)([text] if late else text)
    records = json.loads((pytester.path / "out.json").read_text())["records"]
    assert [record["outcome"] for record in records].count("failed") == outcomes.get("failed", 0) + late
    assert stored(pytester) == before
