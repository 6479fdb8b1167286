"""The settings of one run with ``--perf``, from command line and ini, checked before the first test runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class Settings:
    """The plugin's settings of one run with ``--perf``.

    Attributes
    ----------
    update
        Whether passing tests replace their baselines.
    report_dir
        Directory of the HTML report; None where none is wanted.
    baseline_dir
        Root directory of the baseline files.
    """

    update: bool
    report_dir: Path | None
    baseline_dir: Path


def read_settings(config: pytest.Config) -> Settings:
    """Return the settings of this run.

    Raises
    ------
    pytest.UsageError
        Two options contradict each other, or a directory is empty.
    """
    baseline_dir = _directory(config, "perf_baseline_dir")
    if baseline_dir is None:
        raise pytest.UsageError("--perf-baseline-dir (ini perf_baseline_dir) is empty: name a directory")
    if config.getoption("no_perf_report"):
        if config.getoption("perf_report"):
            raise pytest.UsageError("--perf-report and --no-perf-report contradict each other: drop one")
        report_dir = None
    else:
        report_dir = _directory(config, "perf_report")
    return Settings(bool(config.getoption("perf_update")), report_dir, baseline_dir)


def check_writable(directory: Path, option: str, remedy: str) -> None:
    """Make sure that files can be written to `directory`, creating it where it is missing.

    Raises
    ------
    pytest.UsageError
        It cannot be created, is a file, or refuses a new file.
    """
    probe = directory / f".writable-{os.getpid()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise pytest.UsageError(f"{option}: cannot write to {directory} ({reason}); {remedy}") from error


def _directory(config: pytest.Config, name: str) -> Path | None:
    """Resolve a directory: the command line wins and counts from the working directory, the ini from the root."""
    given = config.getoption(name)
    base = config.rootpath if given is None else config.invocation_params.dir
    text = config.getini(name) if given is None else given
    return Path(os.path.normpath(base / text)) if text else None
