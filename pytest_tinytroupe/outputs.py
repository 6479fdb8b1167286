"""The files that a run leaves behind: refused before the tests where they cannot be written, written when it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pytest_tinytroupe.baseline_file import BaselineError, load
from pytest_tinytroupe.records import SessionReport
from pytest_tinytroupe.settings import Settings, check_writable


@dataclass(slots=True)
class Outputs:
    """What was written, and what could not be.

    Attributes
    ----------
    written
        Kind of output -> file.
    errors
        What is missing, and why.
    """

    written: dict[str, Path] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def add(self, what: str, path: Path, report: SessionReport, write: Callable[[Path, SessionReport], Path]) -> None:
        """Write one of them."""
        try:
            # A link goes on to lead where it does.
            self.written[what] = write(path.resolve() if path.is_symlink() else path, report)
        except Exception as error:  # whatever it is, the tests have their verdicts and the user must hear of it
            self.errors.append(f"{what} {path}: {type(error).__name__}: {error}")


def check_targets(settings: Settings) -> None:
    """Refuse what cannot be written to: before the tests, not after.

    Raises
    ------
    pytest.UsageError
        A directory cannot be written, a file is a directory or asked for twice, or the history is none.
    """
    if settings.report_dir is not None:
        check_writable(settings.report_dir, "--perf-report", "name another directory, or give --no-perf-report")
    asked: dict[Path, str] = {}
    for path, option in (
        (settings.json_file, "--perf-json"),
        (settings.markdown_file, "--perf-markdown"),
        (settings.history_file, "--perf-history"),
    ):
        if path is not None:
            check_writable(path.parent, option, "name another file")
            if path.is_dir():
                raise pytest.UsageError(f"{option}: {path} is a directory; name a file")
            if path.exists() and not path.is_file():  # a pipe or a device: reading it would wait for ever
                raise pytest.UsageError(f"{option}: {path} is no ordinary file; name one")
            if _is_baseline(path):
                raise pytest.UsageError(f"{option}: {path} holds baselines, which would be lost; name another file")
            if path in asked:
                raise pytest.UsageError(f"{option}: {path} is the file of {asked[path]} already; name another file")
            asked[path] = option
    if settings.history_file is not None:
        from pytest_tinytroupe.history import HistoryError, check

        try:
            check(settings.history_file)
        except HistoryError as error:
            raise pytest.UsageError(f"--perf-history: {error}") from error
    option = "--perf-update" if settings.update else "--perf-prune" if settings.prune else ""
    if settings.update or (option and settings.baseline_dir.exists()):
        check_writable(settings.baseline_dir, option, "mend its permissions, or give --perf-baseline-dir")


def _is_baseline(path: Path) -> bool:
    try:
        return path.exists() and bool(load(path))
    except BaselineError:
        return False


def write_outputs(settings: Settings, report: SessionReport) -> Outputs:
    """Write what was asked for, also where nothing was measured: a file of an earlier run must not stand for this one.

    Problems are told and keep nothing else from being written.
    """
    from pytest_tinytroupe.report.markdown import append_step_summary, write_markdown
    from pytest_tinytroupe.report.perf_json import write_json

    outputs = Outputs()
    if settings.json_file is not None:
        outputs.add("json", settings.json_file, report, write_json)
    if settings.markdown_file is not None:
        outputs.add("markdown", settings.markdown_file, report, write_markdown)
    if settings.history_file is not None:
        from pytest_tinytroupe.history import append

        outputs.add("history", settings.history_file, report, append)
    if settings.report_dir is not None:
        from pytest_tinytroupe.report.html import write_report

        outputs.add("report", settings.report_dir, report, write_report)
    try:
        append_step_summary(report)
    except OSError as error:
        outputs.errors.append(f"GITHUB_STEP_SUMMARY: {error}")
    return outputs
