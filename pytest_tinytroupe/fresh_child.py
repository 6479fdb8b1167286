"""The other end of `pytest_tinytroupe.fresh`: runs one test in this process and writes its reports to a file."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_tinytroupe import xdist
from pytest_tinytroupe.fresh import Job
from pytest_tinytroupe.phases import CHILD


class Child:
    """Keeps one test of those collected, and hands over its reports.

    Parameters
    ----------
    job
        What to do.
    config
        Of this process.
    """

    def __init__(self, job: Job, config: pytest.Config) -> None:
        self.job = job
        self._config = config
        self._reports: list[dict[str, Any]] = []

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None, None, None]:
        """Keep the one test, whatever others think of it: the parent has selected it already."""
        wanted = [item for item in items if xdist.nodeid_of(item) == self.job.nodeid][:1]
        yield
        items[:] = wanted

    @pytest.hookimpl(trylast=True)  # when others have added to it
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a report."""
        self._reports.append(self._config.hook.pytest_report_to_serializable(config=self._config, report=report))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Write the reports in one step: a crash on the way leaves no half result."""
        from tinytroupe.runtime.files import write_atomically

        write_atomically(Path(self.job.result), json.dumps(self._reports, default=str))


def main(config: pytest.Config, data: Mapping[str, Any]) -> int:
    """Do a job given as JSON types, and return the exit status."""
    job = Job(**data)
    child = Child(job, config)
    config.stash[CHILD] = child
    config.pluginmanager.register(child, "tinytroupe-fresh-child")
    return int(config.hook.pytest_cmdline_main(config=config))
