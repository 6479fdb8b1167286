"""What surrounds the phases of every test, measured or not. Always imported, therefore small."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_tinytroupe.fresh_child import Child
    from pytest_tinytroupe.gate import Gate
    from pytest_tinytroupe.marker import PerfMarker
    from pytest_tinytroupe.probe import Probe
    from pytest_tinytroupe.testrun import TestRun

GATE: pytest.StashKey[Gate] = pytest.StashKey()
"""In the configuration's stash: the run of ``pytest --perf``; missing without it."""

CHILD: pytest.StashKey[Child] = pytest.StashKey()
"""In the configuration's stash: that this process was started to run one test for another one."""

MARKER: pytest.StashKey[PerfMarker] = pytest.StashKey()
"""In a test's stash: its merged perf marker; missing in other tests."""

MARKER_ERROR: pytest.StashKey[str] = pytest.StashKey()
"""In a test's stash: why its perf marker cannot be understood."""

PROBE: pytest.StashKey[Probe] = pytest.StashKey()
"""In a test's stash: what its fixtures have attached in this pass."""

RUN: pytest.StashKey[TestRun] = pytest.StashKey()
"""In a test's stash: the measurement under way."""


def check_marker(item: pytest.Item) -> None:
    """Fail a test whose perf marker cannot be understood."""
    if MARKER_ERROR in item.stash:
        pytest.fail(item.stash[MARKER_ERROR], pytrace=False)


def seed(item: pytest.Item, phase: str) -> None:
    """Seed the random generators if `item` is being measured."""
    run = item.stash.get(RUN, None)
    if run is not None:
        run.seed(phase)


def function_call(item: pytest.Function) -> Generator[None, object, object]:
    """Surround the test function itself: seed the generators, and run coroutine functions to their end."""
    seed(item, "call")
    if RUN not in item.stash:
        return (yield)
    with item.stash[RUN].runnable(item):
        return (yield)


def call_phase(item: pytest.Item) -> Generator[None, object, object]:
    """Surround the call of any test: measure it, hear the models' complaints, raise the verdict."""
    run = item.stash.get(RUN, None)
    try:
        with run.measuring() if run is not None else nullcontext():
            result = yield
    except Exception:
        # The failure at hand goes first; that a model had no answer is often its cause.
        complaint = _complaint(item)
        if complaint:
            item.add_report_section("call", "mock_llm", complaint)
        raise
    problem = _complaint(item)
    if not problem and GATE in item.config.stash:
        problem = _verdict(item, run)
    if problem:
        pytest.fail(problem, pytrace=False)
    return result


def _verdict(item: pytest.Item, run: TestRun | None) -> str:
    """Return why the verdict fails a test whose call is over, or nothing."""
    from pytest_tinytroupe._pytest_private import failed_quietly

    if run is not None:
        return "" if failed_quietly(item) else run.conclude()
    if item.get_closest_marker("perf") is None:
        return ""
    if MARKER in item.stash:
        return "perf: not measured: another plugin runs this test (its pytest_runtest_protocol goes first)"
    return "perf: not measured: the test was marked perf when it was about to run; mark it when it is collected"


def forget_probe(item: pytest.Item) -> None:
    """Let go of worlds and models, which would otherwise live until the session ends."""
    if PROBE in item.stash:
        del item.stash[PROBE]


def _complaint(item: pytest.Item) -> str:
    """Return what the models of a test could not answer, or nothing."""
    # A fixture may have been requested in the course of the call, so this looks afterwards.
    probe = item.stash.get(PROBE, None)
    try:
        if probe is not None:
            probe.verify()
    except AssertionError as error:
        return str(error)
    return ""
