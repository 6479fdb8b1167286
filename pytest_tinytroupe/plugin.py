"""The plugin's hooks. Every pytest run that has it installed imports this, so it imports next to nothing itself."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from pytest_tinytroupe import options, phases
from pytest_tinytroupe.fixtures import make_world, memory_monitor, mock_llm, perf, troupe, world
from pytest_tinytroupe.phases import GATE, MARKER

__all__ = ["make_world", "memory_monitor", "mock_llm", "perf", "troupe", "world"]


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", options.MARKER_LINE)
    if options.wanted(config):
        from pytest_tinytroupe.session import start

        start(config)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    everything = list(items)  # also what is about to be deselected
    gate = config.stash.get(GATE, None)
    if gate is not None:
        from pytest_tinytroupe import xdist

        xdist.remember_nodeids(items)
    yield
    if gate is not None:
        gate.collected.add_items(everything)
    # Afterwards, so that markers which a conftest adds in this hook count as well.
    perf_tests = [item for item in items if item.get_closest_marker("perf") is not None]
    if perf_tests:
        from pytest_tinytroupe import marker

        marker.prepare(config, perf_tests)
    if gate is not None:
        gate.prepare(items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    if GATE not in item.config.stash or MARKER not in item.stash:
        return None
    from pytest_tinytroupe.session import run_test

    run_test(item, nextitem)
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    phases.check_marker(item)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(request: pytest.FixtureRequest) -> None:
    if request.scope == "function":
        phases.seed(request.node, "fixtures")


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from phases.call_phase(item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    return (yield from phases.function_call(pyfuncitem))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    try:
        return (yield)
    finally:
        phases.forget_probe(item)


def pytest_sessionfinish(session: pytest.Session) -> None:
    gate = session.config.stash.get(GATE, None)
    if gate is not None:
        gate.finish(session)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    gate = config.stash.get(GATE, None)
    if gate is not None:
        from pytest_tinytroupe.report.terminal import write_summary

        write_summary(terminalreporter, gate)
