"""Times made comparable: calibration, baselines of runs, confirmation, significance. On synthetic machines."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tinytroupe.marker import PerfMarker
from pytest_tinytroupe.queueing import queued, queued_between
from pytest_tinytroupe.records import Metric, Verdict
from pytest_tinytroupe.statistics import holm, student_t_tail
from pytest_tinytroupe.times import TOO_BUSY, metrics_of, settled, tolerances
from pytest_tinytroupe.timing import (
    BASELINE_RUNS,
    BUSY,
    CONFIRMATIONS,
    FLOOR_S,
    PATIENCE,
    ROUNDS,
    SIGNIFICANCE,
    TOLERANCE,
    Run,
    Timing,
    enough,
    expected_s,
    measured_s,
    p_value,
    run_of,
    take,
    tolerance,
)
from pytest_tinytroupe.verdict import judge

TIMES = st.floats(min_value=1e-3, max_value=100)
RUNS = st.builds(lambda wait, cpu, cal: Run(wait + cpu, cpu, cal), TIMES, TIMES, TIMES)
CPU = {"cpu_s": TOLERANCE}


def machine(seed, spread=0.03, slow=1.0):
    """A machine whose speed swings by a factor of two, and code that follows it but for `spread`."""
    rng = random.Random(seed)

    def sample():
        speed = math.exp(rng.uniform(-0.35, 0.35))
        cpu_s = 0.5 * slow * speed * math.exp(rng.gauss(0, spread))
        return Run(cpu_s + 0.001, cpu_s, 0.015 * speed)

    return sample


def judged(timing, family=1):
    (metric,), expected = metrics_of(("cpu_s",), timing)
    return settled(judge(metric, None, expected.get("cpu_s")), timing, family)


@given(RUNS, TIMES)
def test_only_computing_scales_with_the_machine(run, calibration_s):
    scale = calibration_s / run.calibration_s
    assert run.at("cpu_s", calibration_s) == pytest.approx(run.cpu_s * scale)
    waited_s = run.wall_s - run.cpu_s
    assert run.at("wall_s", calibration_s) == pytest.approx(waited_s + run.cpu_s * scale, rel=1e-6)
    assert run.at("wall_s", run.calibration_s) == pytest.approx(run.wall_s)


def test_several_threads_compute_no_longer_than_the_call_took():
    assert Run(1.0, 4.0, 0.01).at("wall_s", 0.02) == pytest.approx(2.0)


@given(RUNS)
def test_a_run_survives_its_file(run):
    again = Run.from_text(run.text())
    assert again.text() == run.text()
    assert again.wall_s == pytest.approx(run.wall_s, rel=1e-4)


@pytest.mark.parametrize("text", ["", "1 2", "1 2 3 4", "a b c", "0 1 1", "1 -1 1", "1 1 0", "nan 1 1", "1 inf 1"])
def test_what_is_no_run_is_refused(text):
    with pytest.raises(ValueError):
        Run.from_text(text)


@given(st.lists(RUNS, min_size=1, max_size=9))
def test_one_run_lies_within_its_rounds(rounds):
    run = run_of(rounds)
    ratios = [each.cpu_s / each.calibration_s for each in rounds]
    assert min(ratios) * 0.999 <= run.cpu_s / run.calibration_s <= max(ratios) * 1.001
    assert run.wall_s - run.cpu_s == pytest.approx(min(each.wall_s - each.cpu_s for each in rounds), abs=1e-6)


def test_the_cpu_time_of_a_run_is_that_of_all_calls_by_that_of_all_calibrations():
    # A clock that ticks 64 times a second shows each single call as nothing or too much.
    rounds = [Run(0.015625, 0.015625 * (number % 5 < 2), 0.01) for number in range(40)]
    assert run_of(rounds).cpu_s == pytest.approx(0.015625 * 2 / 5)
    # While the machine is at half its speed, both take twice as long.
    throttled = [Run(0.02, 0.02, 0.01), Run(0.04, 0.04, 0.02), Run(0.02, 0.02, 0.01)]
    assert run_of(throttled).cpu_s == pytest.approx(0.02)


def test_rounds_are_those_of_the_marker_or_fill_a_second_within_bounds():
    short, long = Run(0.001, 0.001, 0.01), Run(2.0, 0.1, 0.01)
    assert [enough([short] * n, 3) for n in (0, 2, 3)] == [False, False, True]
    fewest, most = ROUNDS
    assert [enough([long] * n, None) for n in (fewest - 1, fewest)] == [False, True]
    assert [enough([short] * n, None) for n in (most - 1, most)] == [False, True]


def test_without_a_baseline_one_run_is_taken_and_nothing_kept():
    timing = take(machine(1), (), CPU)
    assert (len(timing.runs), timing.baseline, timing.keep, timing.confirmed) == (1, (), (), False)
    assert judged(timing).status == "new"


@pytest.mark.parametrize("how", [{"fill": True}, {"replace": True}])
def test_a_missing_baseline_is_taken_where_it_is_asked_for(how):
    timing = take(machine(1), (), CPU, **how)
    assert len(timing.keep) == BASELINE_RUNS
    assert len(set(timing.keep)) == BASELINE_RUNS
    assert timing.baseline == ()


def sequence(*values_s):
    """A sampler of so much CPU time on a machine that never changes, and what is left of it."""
    rest = [Run(value_s + 0.001, value_s, 0.01) for value_s in values_s]
    return rest, lambda: rest.pop(0)


STEADY = tuple(
    Run(1.001 + step, 1.0 + step, 0.01) for step in (-0.004, -0.003, -0.002, -0.001, 0, 0.001, 0.002, 0.003, 0.004)
)


@pytest.mark.parametrize(
    ("values", "left", "status"),
    [
        ((1.04, 9), 1, "ok"),  # not even suspicious
        ((1.06, 1.0, 1.0, 1.3, 9), 1, "ok"),  # suspicious, and cleared by the median of three
        ((1.5, 1.0, 1.5, 1.0, 9), 1, "ok"),  # an outlier confirms nothing
        ((1.06, 1.16, 1.17, 1.16, 9), 1, "regressed"),  # a lucky first run hides nothing
        ((1.1, 1.14, 1.13, 1.13, *[1.12] * 6, 9), 1, "regressed"),  # near to the tolerance: as many as the baseline has
        ((1.1, 1.08, 1.09, 1.09, *[1.12] * 6, 9), 1, "regressed"),  # on either side
        ((1.1, 1.12, 1.13, 1.12, *[1.0] * 6, 9), 1, "ok"),
        ((0.9, 0.92, 0.91, 0.94, *[0.88] * 6, 9), 1, "improved"),
        ((1.1, 1.049, 1.049, 1.2, 9), 1, "ok"),  # below half of it
        ((1.5, 1.5, 1.5, 1.5, 9), 1, "regressed"),
        ((0.8, 0.8, 0.8, 0.8, 9), 1, "improved"),
        ((0.8, 1.0, 0.8, 1.0, 9), 1, "ok"),
    ],
)
def test_a_suspicion_is_settled_by_more_processes(values, left, status):
    rest, sample = sequence(*values)
    timing = take(sample, STEADY, CPU)
    assert judged(timing).status == status
    assert len(rest) == left
    assert timing.keep == STEADY


def test_the_tolerance_is_a_share_and_at_least_a_millisecond():
    def status(value_s, share):
        _, sample = sequence(*[value_s] * 10)
        timing = take(sample, tuple(Run(0.006, 0.005, 0.01) for _ in range(9)), {"cpu_s": share})
        (metric,), expected = metrics_of(("cpu_s",), timing)
        return judge(metric, None, expected["cpu_s"], share=share).status

    assert FLOOR_S == 0.001
    assert status(0.00599, 0.10) == "ok"
    assert status(0.00602, 0.10) == "regressed"
    assert status(0.00602, 0.25) == "ok"


def test_cpu_time_between_waits_may_stray_by_a_share_of_them_unless_the_marker_says():
    waits, computes = [Run(0.2 + 0.016, 0.016, 0.01)] * 9, [Run(0.216, 0.2, 0.01)] * 9
    assert tolerance("cpu_s", waits) == pytest.approx(0.05 * 0.2 / 0.016)
    assert tolerance("wall_s", waits) == tolerance("cpu_s", computes) == tolerance("cpu_s", ()) == TOLERANCE
    assert tolerances(PerfMarker(clock="wall"), waits)["cpu_s"] == tolerance("cpu_s", waits)
    assert tolerances(PerfMarker(tolerance={"cpu_s": 0.2}), waits) == {"cpu_s": 0.2}
    assert tolerance("cpu_s", [Run(1.0, 0.0, 0.01)]) > 1  # nothing was computed at all


@pytest.mark.parametrize(
    ("values", "renewed"),
    [
        ((1.0,), False),  # still holds: not a byte changes
        ((1.5, 1.0, 1.0, 1.0), False),  # not confirmed
        ((1.5, 1.5, 1.5, 1.5, *[1.5] * 9), True),
        ((0.5, 0.5, 0.5, 0.5, *[0.5] * 9), True),
    ],
)
def test_an_update_replaces_only_what_is_confirmed_to_be_different(values, renewed):
    rest, sample = sequence(*values)
    timing = take(sample, STEADY, CPU, replace=True)
    assert rest == []
    assert (timing.keep != STEADY) is renewed
    assert len(timing.keep) == BASELINE_RUNS


def test_what_chance_explains_does_not_fail_and_does_not_replace():
    noisy = tuple(Run(1.001 * f, 1.0 * f, 0.01) for f in (0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.3, 1.5, 1.6))
    rest, sample = sequence(*[1.2] * 10)
    timing = take(sample, noisy, CPU, replace=True)
    verdict = judged(timing)
    assert (verdict.status, timing.keep) == ("advisory", noisy)
    assert verdict.p_value > SIGNIFICANCE
    assert verdict.note.startswith("beyond its tolerance, yet it may be chance: confirmed by 9 fresh processes (p = ")
    assert rest == []


def test_the_more_times_a_session_judges_the_stronger_each_has_to_be():
    _, sample = sequence(*[1.16] * 4)
    timing = take(
        sample, tuple(Run(1.0 * f, 1.0 * f, 0.01) for f in (0.95, 0.96, 0.97, 0.99, 1, 1.01, 1.03, 1.04, 1.05)), CPU
    )
    p = judged(timing).p_value
    assert judged(timing, family=math.floor(SIGNIFICANCE / p)).status == "regressed"
    assert judged(timing, family=math.floor(SIGNIFICANCE / p) + 1).status == "advisory"


def test_where_three_runs_may_be_chance_nine_are_asked():
    noisy = tuple(Run(1.001 * f, 1.0 * f, 0.01) for f in (0.92, 0.95, 0.97, 0.99, 1.0, 1.01, 1.03, 1.05, 1.08))
    values = [1.2, *[1.13, 1.2, 1.27] * 3]
    for family, left in ((1, 6), (50, 0)):
        rest, sample = sequence(*values)
        timing = take(sample, noisy, CPU, significance=SIGNIFICANCE / family)
        assert (judged(timing, family).status, len(rest)) == ("regressed", left)


def test_runs_that_happen_to_be_alike_do_not_make_everything_significant():
    same = tuple(Run(1.001, 1.0, 0.01) for _ in range(9))
    now = tuple(Run(1.011, 1.01, 0.01) for _ in range(3))
    assert p_value("cpu_s", now, same) > 0.2
    assert p_value("cpu_s", tuple(Run(1.121, 1.12, 0.01) for _ in range(3)), same) < 1e-4


def test_only_times_that_were_measured_again_are_settled():
    plain = Verdict(Metric("llm_calls", 3), "regressed")
    once = Verdict(Metric("cpu_s", 9.0, "s", "wall", steady=True), "over limit", 1.0, "max")
    timing = Timing((Run(1, 1, 1),), (Run(1, 1, 1),))
    assert settled(plain, timing, 1) is plain
    assert settled(once, timing, 1) is once


def test_calibration_takes_the_machine_out():
    fast = [Run(0.6, 0.5, 0.01) for _ in range(9)]
    slow = [Run(1.1, 1.0, 0.02) for _ in range(3)]  # the same code on the same machine, throttled to a half
    value_s, calibration_s = measured_s("cpu_s", slow)
    assert value_s == expected_s("cpu_s", fast, calibration_s) == 1.0
    assert measured_s("wall_s", slow)[0] == pytest.approx(expected_s("wall_s", fast, calibration_s))


def sessions(slow, spread, count=300):
    """Return how many of `count` sessions fail, with a new baseline every tenth of them."""
    failed = 0
    for number in range(count):
        if number % 10 == 0:
            sample = machine(number, spread)
            baseline = tuple(sample() for _ in range(BASELINE_RUNS))
        timing = take(machine(10_000 + number, spread, slow), baseline, CPU)
        failed += judged(timing).status == "regressed"
    return failed


@pytest.mark.parametrize("spread", [0.01, 0.03, 0.05])
def test_identical_code_hardly_ever_fails(spread):
    assert sessions(1.0, spread) <= 1


def test_a_single_stored_run_would_fail_all_the_time():
    sample = machine(1)
    values = [sample().cpu_s for _ in range(300)]
    assert sum(value > values[0] * 1.1 for value in values) > 30 or median(values) < values[0]


@pytest.mark.parametrize(("slow", "spread"), [(1.15, 0.01), (1.15, 0.025), (1.15, 0.04), (1.2, 0.05)])
def test_slower_code_is_found(slow, spread):
    assert sessions(slow, spread) >= 285


@pytest.mark.parametrize(
    ("t", "freedom", "tail"),
    [(1, 1, 0.25), (12.706, 1, 0.025), (2.776, 4, 0.025), (1.812, 10, 0.05), (4.144, 10, 0.001), (0, 7, 0.5)],
)
def test_students_t_as_in_the_tables(t, freedom, tail):
    assert student_t_tail(t, freedom) == pytest.approx(tail, rel=2e-3)
    assert student_t_tail(-t, freedom) == pytest.approx(1 - tail, rel=2e-3)


@given(st.floats(min_value=-50, max_value=50), st.integers(min_value=1, max_value=60))
def test_tails_are_probabilities_that_fall(t, freedom):
    assert 0 <= student_t_tail(t + 0.5, freedom) <= student_t_tail(t, freedom) + 1e-12 <= 1 + 1e-12


def test_without_freedom_there_is_no_t():
    with pytest.raises(ValueError, match="freedom"):
        student_t_tail(1, 0)


P_VALUES = st.lists(st.floats(min_value=0, max_value=1), max_size=12)


@given(P_VALUES, st.integers(min_value=0, max_value=20))
def test_holm_rejects_what_bonferroni_does_and_never_more_than_no_correction(p_values, family):
    rejected = holm(p_values, 0.05, family)
    count = max(family, len(p_values))
    for p, hit in zip(p_values, rejected, strict=True):
        assert hit or p > 0.05 / count
        assert not hit or p <= 0.05
    worst = max((p for p, hit in zip(p_values, rejected, strict=True) if hit), default=0)
    assert all(hit for p, hit in zip(p_values, rejected, strict=True) if p < worst)


def test_holm_goes_on_where_bonferroni_stops():
    assert holm([0.01, 0.04, 0.03, 0.005], 0.05) == [True, False, False, True]
    assert holm([0.01, 0.04, 0.03, 0.005], 0.05, family=6) == [True, False, False, True]
    assert holm([0.01, 0.04, 0.03, 0.005], 0.05, family=7) == [False, False, False, True]
    assert holm([], 0.05) == []


def test_holm_keeps_the_chance_of_any_false_alarm():
    rng = random.Random(5)
    alarms = sum(any(holm([rng.random() for _ in range(20)], 0.05)) for _ in range(2000))
    assert alarms <= 130


assert CONFIRMATIONS == 3


def crowded(*shares, cpu_s=1.5):
    """Return what is left, and a function that plays runs which queued for such a share of the time they wanted."""
    rest = [Run(cpu_s + 0.001, cpu_s, 0.01, cpu_s * share / (1 - share)) for share in shares]
    return rest, lambda: rest.pop(0)


@pytest.mark.parametrize(("share", "busy"), [(0.0, False), (BUSY - 0.001, False), (BUSY + 0.001, True)])
def test_a_run_is_busy_from_a_share_of_queueing_on(share, busy):
    _, sample = crowded(share)
    assert sample().busy is busy


def test_runs_beside_others_are_taken_again_and_the_calm_ones_count():
    rest, sample = crowded(0.0, 0.5, 0.0, 0.5, 0.0, 0.0, 0.9)
    timing = take(sample, STEADY, CPU)
    assert len(rest) == 1
    assert not any(run.busy for run in timing.runs)
    assert judged(timing).status == "regressed"


def test_a_machine_that_becomes_busy_is_not_asked_for_more_runs():
    rest, sample = crowded(0.0, *[0.5] * (CONFIRMATIONS * PATIENCE), 0.0, cpu_s=1.1)
    assert judged(take(sample, STEADY, CPU)).status == "advisory"
    assert len(rest) == 1


def test_on_a_machine_that_stays_busy_a_time_is_not_judged_and_nothing_is_replaced():
    rest, sample = crowded(0.0, *[0.5] * (CONFIRMATIONS * PATIENCE), 0.0)
    timing = take(sample, STEADY, CPU, replace=True)
    assert len(rest) == 1
    verdict = judged(timing)
    assert (verdict.status, verdict.p_value, timing.keep) == ("advisory", None, STEADY)
    assert verdict.note == f"{TOO_BUSY} (50% of the time it wanted one)"


def test_a_missing_baseline_is_taken_of_calm_runs_where_there_are_enough():
    _, sample = crowded(0.5, 0.5, *[0.0] * BASELINE_RUNS)
    timing = take(sample, (), CPU, fill=True)
    assert [run.busy for run in timing.keep] == [False] * BASELINE_RUNS


def test_a_broken_limit_is_confirmed_too():
    def within(name, value_s):
        return value_s <= 1.2

    rest, sample = sequence(1.3, 1.0, 1.0, 1.0, 1.3)
    assert len(take(sample, (), CPU, within=within).runs) == CONFIRMATIONS
    assert len(rest) == 1
    rest, sample = sequence(1.2, 1.3)
    assert len(take(sample, (), CPU, within=within).runs) == 1


def test_queueing_is_the_processs_own_and_in_proportion():
    rounds = [Run(1.0, 0.5, 0.01, 0.5), Run(1.0, 0.5, 0.01, 1.5)]
    assert run_of(rounds).queued_s == pytest.approx(1.0)
    assert run_of([Run(1.0, 0.0, 0.01, 0.5)]).queued_s == 0.0


def test_a_round_in_which_a_thread_queued_that_nothing_waited_for_does_not_decide():
    rounds = [Run(1.0, 0.5, 0.01)] * 4 + [Run(0.5, 0.5, 0.01, 0.5)]
    assert run_of(rounds).wall_s == pytest.approx(1.0)


def test_the_thread_that_queued_longest_counts():
    assert queued_between({"1": 5_000_000, "2": 0}, {"1": 6_000_000, "2": 3_000_000, "3": 2_000_000}) == 0.003
    assert queued_between({"1": 5}, {}) == 0.0


@pytest.mark.skipif(not queued(), reason="this system keeps no account of queueing")
def test_queueing_explains_what_others_take():
    """Real time less queueing is CPU time, of a process that competes with three others for one core."""
    program = """
import os, sys, time
from statistics import median
from pytest_tinytroupe.queueing import queued, queued_between
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
if sys.argv[1:]:
    print("competing", flush=True)
    end = time.monotonic() + 120
    while time.monotonic() < end and os.getppid() == int(sys.argv[1]): pass
    sys.exit()
shares, alone = [], []
for _ in range(11):
    before, wall, cpu = queued(), time.perf_counter(), time.process_time()
    while time.process_time() - cpu < 0.03: pass
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    shares.append(cpu / wall)
    alone.append(cpu / (wall - queued_between(before, queued())))
print(median(shares), median(alone))
"""
    command = [sys.executable, "-c", program]
    hogs = [subprocess.Popen([*command, str(os.getpid())], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        for hog in hogs:
            assert hog.stdout.readline() == "competing\n"
        for _ in range(5):  # what a hypervisor or an interrupt takes is no queueing, and may spoil some of them
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            raw, alone = map(float, told.split())
            if explained := raw < 0.6 and alone == pytest.approx(1.0, abs=0.15):
                break
    finally:
        for hog in hogs:
            hog.kill()
            hog.communicate()
    assert explained, told
