"""The other end of `pytest_tinytroupe.fresh`: runs one test in this process and writes its reports to a file."""

from __future__ import annotations

import _thread
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_tinytroupe import warned, xdist
from pytest_tinytroupe.fresh import Job
from pytest_tinytroupe.phases import CHILD

GRACE_S = 4.0
"""How long the test may take to tear down when the parent is gone; a parent that is still there waits longer."""


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
        self._warnings: list[dict[str, Any]] = []
        self._stdout = sys.stdout

    def divert(self) -> None:
        """Have pytest say what it has to say to a file, while the output of the test goes to the user.

        pytest's reporter takes the standard output as it finds it when the session is configured.
        """
        if self.job.session_output:
            sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
            sys.stdout = Path(self.job.session_output).open("w", encoding="utf-8", buffering=1)  # noqa: SIM115 kept

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Give the standard output back."""
        sys.stdout = self._stdout

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

    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage, when: str) -> None:
        """Keep a warning of the test; those of collecting the parent has seen itself."""
        if when == "runtest":
            self._warnings.append(warned.to_json(warning_message))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Write what the parent is to know in one step: a crash on the way leaves no half result."""
        from tinytroupe.runtime.files import write_atomically

        result = {"reports": self._reports, "warnings": self._warnings}
        write_atomically(Path(self.job.result), json.dumps(result, default=str))


def main(config: pytest.Config, data: Mapping[str, Any]) -> int:
    """Do a job given as JSON types, and return the exit status."""
    job = Job(**data)
    child = Child(job, config)
    config.stash[CHILD] = child
    _thread.start_new_thread(_end_with_parent, (job.parent,))
    child.divert()
    config.pluginmanager.register(child, "tinytroupe-fresh-child")
    return int(config.hook.pytest_cmdline_main(config=config))


def _end_with_parent(pipe: int) -> None:
    """Wait until the parent is gone, and end this process: in order if it can be, and else at once.

    A thread that only waits costs nothing, and no signal of the operating system does this everywhere.
    """
    os.read(pipe, 1)
    if sys.platform == "win32":  # where a signal sent to a process ends it
        signal.raise_signal(signal.SIGINT)
    else:  # also out of a system call
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(GRACE_S)
    os._exit(1)
