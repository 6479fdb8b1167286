"""A comparison that misses its limit is made again in fresh processes, and they decide."""

from __future__ import annotations

import json
import re
from itertools import permutations

import pytest

from pytest_tinytroupe.comparisons import CONFIRMATIONS, Confirmed
from pytest_tinytroupe.versus import Comparison

# Each process that imports the module leaves a line, so that the first ones can be odd.
MODULE = """
import os, pathlib, pytest
from pytest_tinytroupe.measuring_lock import machine_lock

log = pathlib.Path(__file__).with_suffix(".log")
with log.open("a") as file:
    holder = machine_lock().directory / f"{{os.getppid()}}.holder"
    lock = holder.read_text() if holder.exists() else "free"
    print(hash("of a text"), os.environ.get("LEAKED", "no"), lock, file=file)
odd = len(log.read_text().splitlines()) <= {odd}

def slow(): sum(range(20_000))
def fast(): sum(range(2_000))
def fast_but_there(): slow() if odd else fast()
def slow_but_there(): fast() if odd else slow()
"""
ALONE = "@pytest.mark.perf(baseline=False)"


def make(pytester, test, decorator=ALONE, odd=1):
    pytester.makepyfile(test_it="\n".join([MODULE.format(odd=odd), decorator, test]))


def run(pytester, *args):
    return pytester.runpytest_inprocess("-p", "no:randomly", "--perf", "--no-perf-report", "--perf-json=r.json", *args)


def processes(pytester):
    """Return what each process that imported the module had to say."""
    return [line.split() for line in (pytester.path / "test_it.log").read_text().splitlines()]


def record(pytester):
    (found,) = json.loads((pytester.path / "r.json").read_text())["records"]
    return found


def values(pytester):
    return {each["metric"]["name"]: each["metric"]["value"] for each in record(pytester)["verdicts"]}


def notes(pytester, name="ratio"):
    return [note for note in record(pytester)["notes"] if note.startswith(f"{name}: ")]


PASSES = {
    "main": (ALONE, 1),
    "main and heap": ("@pytest.mark.perf", 1),
    "main and sequential": ("@pytest.mark.perf(baseline=False, min_speedup=0.5)", 1),
    "isolated": ("@pytest.mark.perf(isolate=True, baseline=False)", 2),  # the first is the parent, which collects
}


@pytest.mark.parametrize(("decorator", "odd"), PASSES.values(), ids=PASSES)
def test_what_only_one_process_finds_is_no_failure(pytester, decorator, odd):
    lines = ["mock_llm.latency = 1", "make_world(2).run(1)", "perf.compare(slow, fast_but_there)"]
    make(pytester, "\n    ".join(["def test_it(perf, make_world, mock_llm):", *lines]), decorator, odd)
    run(pytester).assert_outcomes(passed=1)
    assert len(processes(pytester)) == odd + CONFIRMATIONS
    assert values(pytester)["ratio"] > 2
    (note,) = notes(pytester)
    assert "x as fast (95 % bounds" in note
    assert f"at least 2x wanted; the median of {CONFIRMATIONS} fresh processes (" in note
    assert "), after " in note


@pytest.mark.parametrize("decorator", [ALONE, "@pytest.mark.perf"])
def test_what_all_processes_find_is_one(pytester, decorator):
    make(pytester, "def test_it(perf): perf.compare(fast, slow, name='fast_by_slow')", decorator)
    result = run(pytester, "--perf-update")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["perf: fast_by_slow below limit: 0.*x, min 2x"])
    told = (
        r"fast_by_slow: 0\.\d+x as fast \(95 % bounds 0\.\d+x to 0\.\d+x, \d+ rounds\), at least 2x wanted; the"
        r" median of 3 fresh processes \(0\.\d+x, 0\.\d+x, 0\.\d+x\), after 0\.\d+x here"
    )
    assert re.search(told, " ".join(result.stdout.str().split()))
    assert len(processes(pytester)) == 1 + CONFIRMATIONS
    assert not list(pytester.path.glob("baselines/*.json"))


def test_what_holds_starts_no_process(pytester):
    make(pytester, "def test_it(perf): perf.compare(slow, fast)")
    run(pytester).assert_outcomes(passed=1)
    assert len(processes(pytester)) == 1


def test_without_perf_one_process_decides(pytester):
    make(pytester, "def test_it(perf): perf.compare(slow, fast_but_there)", decorator="")
    pytester.runpytest_inprocess("-p", "no:randomly").assert_outcomes(failed=1)
    assert len(processes(pytester)) == 1


def test_of_several_comparisons_only_what_missed_is_judged_anew(pytester):
    test = (
        "def test_it(perf):\n    perf.compare(slow, fast_but_there, name='a')\n    perf.compare(slow, fast, name='b')"
    )
    make(pytester, f"{test}\n    perf.compare(slow_but_there, slow, 0.5, name='c')\n    perf.record('x', 1)")
    run(pytester).assert_outcomes(passed=1)
    found = values(pytester)
    assert found["a"] > 2
    assert found["b"] > 2
    assert found["x"] == 1
    assert found["c"] > 0.5
    assert ["fresh" in note for name in "abc" for note in notes(pytester, name)] == [True, False, True]


@pytest.mark.parametrize("decorator", [ALONE, "@pytest.mark.perf(isolate=True, baseline=False)"])
def test_each_process_is_alone_and_knows_nothing_of_the_others(pytester, decorator, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    test = "def test_it(perf, monkeypatch):\n    monkeypatch.setenv('LEAKED', 'yes')\n    perf.compare(fast, slow)"
    make(pytester, test, decorator)
    run(pytester).assert_outcomes(failed=1)
    hashes, leaked, lock = zip(*processes(pytester)[-CONFIRMATIONS:], strict=True)
    assert len(set(hashes)) == CONFIRMATIONS
    assert set(leaked) == {"no"}
    assert set(lock) == {"alone"}


@pytest.mark.parametrize("strict", [False, True])
def test_what_is_expected_to_fail_may_fail_by_its_ratio(pytester, strict):
    expected = f"@pytest.mark.xfail(strict={strict})\n{ALONE}"
    make(pytester, "def test_it(perf): perf.compare(fast, slow)", expected)
    run(pytester).assert_outcomes(xfailed=1)
    make(pytester, "def test_it(perf): perf.compare(slow, fast_but_there)", expected)
    (pytester.path / "test_it.log").unlink()
    run(pytester).assert_outcomes(failed=strict, xpassed=not strict)


def test_what_is_expected_to_fail_must_be_measured_all_the_same(pytester):
    expected = f"@pytest.mark.xfail\n{ALONE}"
    make(pytester, "def test_it(perf):\n    assert odd, 'only there'\n    perf.compare(fast, slow)", expected)
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*perf: the test could not be measured: it was skipped there*"])


def test_a_subtest_may_be_skipped_in_every_process(pytester):
    if not hasattr(pytest, "Subtests"):
        pytest.importorskip("pytest_subtests")
    lines = ["with subtests.test('some'): pytest.skip('not now')", "perf.compare(slow, fast_but_there)"]
    make(pytester, "\n    ".join(["def test_it(perf, subtests):", *lines]))
    assert run(pytester).ret == 0
    assert record(pytester)["outcome"] == "passed"
    assert len(processes(pytester)) == 1 + CONFIRMATIONS


def test_only_the_comparisons_own_note_is_replaced(pytester):
    lines = ["make_world(2).run(1)", "perf.compare(slow, fast_but_there, name='turns')"]
    make(pytester, "\n    ".join(["def test_it(perf, make_world):", *lines]))
    run(pytester).assert_outcomes(passed=1)
    assert sum("fresh processes" in note for note in notes(pytester, "turns")) == 1


def test_a_process_that_takes_too_long_is_an_error(pytester):
    lines = ["if not odd: import time; time.sleep(60)", "perf.compare(fast, slow)"]
    make(pytester, "\n    ".join(["def test_it(perf):", *lines]))
    result = run(pytester, "--perf-time-limit=4")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*it did not end within 4 s (--perf-time-limit) and was ended*"])


ERRORS = {
    "fails": ("assert odd, 'only there'", "it failed there:*only there*"),
    "skips": ("odd or pytest.skip('not there')", "it was skipped there:*not there*"),
    "crashes": ("odd or os._exit(3)", "it ended with exit status 3 and no result*"),
    "does not compare": ("if not odd: return", "it ran there, but was not measured*"),
    "compares something else": (
        "if not odd: return perf.compare(slow, fast, name='b')",
        "ratio: it ran there, but did not compare this*",
    ),
}


@pytest.mark.parametrize(("line", "message"), ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("decorator", [ALONE, "@pytest.mark.perf"])
def test_a_process_that_cannot_compare_is_an_error(pytester, line, message, decorator):
    make(pytester, f"def test_it(perf):\n    {line}\n    perf.compare(fast, slow)", decorator)
    result = run(pytester)
    result.assert_outcomes(errors=1)
    assert f"perf: the test could not be measured: {message.partition('*')[0]}" in result.stdout.str()
    for part in message.split("*")[1:]:
        assert part in result.stdout.str()
    assert len(processes(pytester)) == 2


def test_a_body_that_fails_after_the_confirmation_has_failed(pytester):
    lines = ["perf.compare(slow, fast_but_there)", "assert not calls", "calls.append(1)"]
    make(pytester, "\n    ".join(["def test_it(perf, calls=[]):", *lines]))
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["This happened in the verdict pass (pass 2 of 2)."])


def test_module_fixtures_stay_and_function_fixtures_are_made_anew(pytester):
    make(
        pytester,
        "out = log.open('a', buffering=1)\n@pytest.fixture(scope='module')\n"
        "def once():\n    yield\n    print('module', file=out)\n    out.close()\n"
        "@pytest.fixture\n"
        "def each(once):\n    yield\n    print('function', file=out)\n"
        f"{ALONE}\ndef test_it(perf, each): perf.compare(slow, fast_but_there)",
        decorator="",
    )
    run(pytester).assert_outcomes(passed=1)
    words = [line[0] for line in processes(pytester)]
    # The function's before the processes, each of which tears down its own; then those of the pass with the verdict.
    assert [word for word in words if word in ("function", "module")] == [
        "function",
        *("function", "module") * CONFIRMATIONS,
        *("function", "module"),
    ]


@pytest.mark.parametrize(("workers", "odd"), [(0, 1), (2, 2)])
def test_workers_ask_fresh_processes_too(pytester, workers, odd):
    tests = (
        "def test_odd(perf): perf.compare(slow, fast_but_there)\n"
        + ALONE
        + "\ndef test_bad(perf): perf.compare(fast, slow)"
    )
    make(pytester, tests, odd=odd)
    result = pytester.runpytest_subprocess("--perf", "--no-perf-report", "--perf-json=r.json", "-n", str(workers))
    result.assert_outcomes(passed=1, failed=1)
    assert len(processes(pytester)) == odd + 2 * CONFIRMATIONS


def found(lower):
    return Comparison(lower + 0.1, lower, lower + 0.2, 15, 1.9)


@pytest.mark.parametrize("order", list(permutations([1.7, 1.91, 1.95])))
def test_the_median_counts_in_any_order(order):
    confirmed = Confirmed(found(1.8), tuple(map(found, order)))
    assert confirmed.median == found(1.91)
    bounds = ", ".join(f"{lower}x" for lower in order)
    assert confirmed.told == (
        f"2.01x as fast (95 % bounds 1.91x to 2.11x, 15 rounds), at least 1.9x wanted; the median of 3 fresh processes"
        f" ({bounds}), after 1.8x here"
    )
