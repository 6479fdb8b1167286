"""One perf test: takes it through its passes, and raises its verdict.

Each pass (see `pytest_tinytroupe.passes`) is a full set-up, call and teardown with fresh function-scoped fixtures.
Times are taken and comparisons confirmed in fresh processes, before the last pass. A test with ``isolate=True`` runs in
one as a whole. The verdict is raised in the call of the last pass, so that a regression is an ordinary failure.
"""

from __future__ import annotations

import random
from contextlib import nullcontext

import pytest

from pytest_tinytroupe import _pytest_private, flames, xdist
from pytest_tinytroupe.attaching import adopt, attach, attach_error, error_report, one_set
from pytest_tinytroupe.command_line import tell
from pytest_tinytroupe.fresh import FreshError, has_failed, run_fresh
from pytest_tinytroupe.gate import Gate
from pytest_tinytroupe.measuring_lock import LockError
from pytest_tinytroupe.phases import CHILD, GATE, MARKER, RUN, forget_probe
from pytest_tinytroupe.settings import read_settings
from pytest_tinytroupe.testrun import TestRun
from pytest_tinytroupe.untraced import untraced

ONLY_SHOWS = ("collectonly", "help", "markers", "showfixtures", "show_fixtures_per_test", "cacheshow")
"""Options with which pytest runs no test, so that there is nothing to write, nor a directory for it."""

RAN_OUT = pytest.fail.Exception
"""Raised between a test's phases by what limits a test's time from outside, as pytest-timeout does by a signal."""


def start(config: pytest.Config) -> None:
    """Begin a run of ``pytest --perf``.

    Raises
    ------
    pytest.UsageError
        The options contradict each other, or name a directory that cannot be written.
    """
    settings = read_settings(config)
    gate = Gate(settings, config)
    on_behalf = xdist.is_worker(config) or CHILD in config.stash
    config.option.perf_strict = settings.strict  # fresh processes judge as this one does
    if not on_behalf and not any(config.getoption(name, False) for name in ONLY_SHOWS):
        gate.begin()
        # Workers may start elsewhere, and take over the options as they are now.
        config.option.perf_baseline_dir = str(settings.baseline_dir)
        if settings.report_dir is not None:
            config.option.perf_report = str(settings.report_dir)
        tell(config, settings.command)
    config.stash[GATE] = gate
    config.pluginmanager.register(gate, "tinytroupe-perf-gate")


def run_test(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Measure a perf test and log one set of reports."""
    gate, marker = item.config.stash[GATE], item.stash[MARKER]
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    if marker.isolate and gate.child is None:
        reports = _isolated(gate, item, nextitem)
    else:
        reports = _measured(TestRun(gate, item, marker), nextitem)
    if gate.child is None:
        flames.attach(gate, item, reports)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


def _isolated(gate: Gate, item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
    """Run a test alone in a fresh process: its reports are the test's."""
    limit_s = gate.settings.time_limit_s
    problem = ""
    try:
        reports = run_fresh(item, "whole", time_limit_s=limit_s, shares=gate.locks, family=gate.family)
        for report in reports:
            adopt(report, xdist.worker_name(gate.config))
            report.nodeid = item.nodeid
    except (FreshError, RAN_OUT) as error:
        problem = f"perf: the test could not be measured in a process of its own: {error}"
    if problem:
        reports = [error_report(item, problem)]
        attach_error(item, reports[0])
    # Tests before this one have left standing what this one would have used.
    failed_teardown = _pytest_private.tear_down_to(item, nextitem)
    return reports if failed_teardown is None else [*reports, failed_teardown]


def _measured(run: TestRun, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
    """Take a test through its passes in this process."""
    item, taken = run.item, list[list[pytest.TestReport]]()
    item.stash[RUN] = run.gate.running = run
    randomness = random.getstate()
    try:
        for name in run.upcoming():
            run.begin(name)
            try:
                if run.last:
                    run.ask_fresh_processes()
                # The main pass has shown coverage, and a debugger, what there is to see.
                with run.gate.sharing(), nullcontext() if name in ("main", "sequential") else untraced():
                    # Only what belongs to this function is torn down between passes: its module's fixtures stay.
                    reports = _pytest_private.run_phases(item, lambda: nextitem if run.last else item.parent)
                run.end()
            except (FreshError, LockError, RAN_OUT) as error:
                run.problem = f"perf: the test could not be measured: {error}"
            if run.problem:
                reports = [error_report(item, run.problem)]
            taken.append(reports)
            stopped = bool(item.session.shouldstop or item.session.shouldfail)
            if stopped or not run.body_passed or run.subtest_failed or any(map(has_failed, reports)):
                break
        if not run.last or run.problem:
            failed_teardown = _pytest_private.tear_down_to(item, nextitem)
            if failed_teardown is not None:
                taken[-1].append(failed_teardown)
    finally:
        if run.leaks is not None:
            run.leaks.stop()
        random.setstate(randomness)
        run.gate.running = None
        del item.stash[RUN]
        forget_probe(item)
    reports = one_set(run, taken)
    attach(run, reports, taken[0])
    return reports
