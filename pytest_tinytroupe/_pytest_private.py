"""The only place that touches private names of pytest. Public ways were looked for and do not exist."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from _pytest.runner import runtestprotocol


class _Next:
    """What comes after a test, for those who want to know what to leave standing: decided when they ask."""

    def __init__(self, decide: Callable[[], pytest.Item | pytest.Collector | None]) -> None:
        self._decide = decide

    def listchain(self) -> list[pytest.Item | pytest.Collector]:
        node = self._decide()
        return [] if node is None else list(node.listchain())  # type: ignore[arg-type]


def run_phases(
    item: pytest.Item, following: Callable[[], pytest.Item | pytest.Collector | None]
) -> list[pytest.TestReport]:
    """Set up, call and tear down a test once, from the beginning, without logging the reports.

    Parameters
    ----------
    item
        The test.
    following
        Returns what comes next, when the call is over: of the nodes above `item` those that are above that too, or are
        it, stay set up.
    """
    sections: list[object] = item._report_sections  # type: ignore[assignment]
    sections.clear()  # else what an earlier pass printed is shown again
    if isinstance(item.parent, pytest.Class):  # a fresh instance, as every test has
        for name in ("_instance", "_obj"):
            item.__dict__.pop(name, None)
    return runtestprotocol(item, log=False, nextitem=_Next(following))  # type: ignore[arg-type]


def failed_quietly(item: pytest.Item) -> bool:
    """Whether a test of `unittest` has failed or was skipped in its call: that is noted down, and nothing raised."""
    return bool(getattr(item, "_excinfo", None))


def tear_down_to(item: pytest.Item, nextitem: pytest.Item | None) -> pytest.TestReport | None:
    """Tear down what `nextitem` does not need, after `run_phases` had left more standing.

    Returns
    -------
    pytest.TestReport or None
        A failed teardown report, or None where all went well.
    """
    call = pytest.CallInfo.from_call(
        lambda: item.session._setupstate.teardown_exact(nextitem),
        when="teardown",
        reraise=(KeyboardInterrupt, pytest.exit.Exception),
    )
    if call.excinfo is None:
        return None
    report: pytest.TestReport = item.ihook.pytest_runtest_makereport(item=item, call=call)
    return report
