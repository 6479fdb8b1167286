"""The settings of one run with ``--perf``, from command line and ini, checked before the first test runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from pytest_tinytroupe.command_line import CommandLine, command_line
from pytest_tinytroupe.options import switched_on

Update = Literal["all", "new", ""]


@dataclass(frozen=True, slots=True)
class Settings:
    """The plugin's settings of one run with ``--perf``.

    Attributes
    ----------
    update
        Which figures of passing tests go to the baselines: ``all``, only ``new`` ones, or none.
    prune
        Whether baselines that no test uses are removed.
    strict
        Whether baselines that no test uses fail the run.
    must_have
        Whether a missing baseline fails its test, as it does in continuous integration.
    report_dir
        Directory of the HTML report; None where none is wanted.
    baseline_dir
        Root directory of the baseline files.
    time_limit_s
        How long a fresh process may take for one test, and how long a measurement waits for the machine.
    json_file, markdown_file, history_file
        Where figures, a summary and the history are written; None where they are not wanted.
    command
        What the user typed, to suggest commands like it.
    """

    update: Update
    prune: bool
    strict: bool
    must_have: bool
    report_dir: Path | None
    baseline_dir: Path
    time_limit_s: float
    json_file: Path | None
    markdown_file: Path | None
    history_file: Path | None
    command: CommandLine


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
    update = _update(config)
    return Settings(
        update=update,
        prune=bool(config.getoption("perf_prune")),
        strict=switched_on(config, "perf_strict"),
        must_have=in_ci() and not update,
        report_dir=report_dir,
        baseline_dir=baseline_dir,
        time_limit_s=_seconds(config, "perf_time_limit"),
        json_file=_directory(config, "perf_json"),
        markdown_file=_directory(config, "perf_markdown"),
        history_file=_directory(config, "perf_history"),
        command=command_line(config),
    )


def in_ci() -> bool:
    """Whether this is continuous integration, by the variable that all such services set."""
    return os.environ.get("CI", "").strip().lower() not in ("", "0", "false", "no")


def _update(config: pytest.Config) -> Update:
    everything, new = config.getoption("perf_update"), config.getoption("perf_update_new")
    if everything and new:
        raise pytest.UsageError("--perf-update and --perf-update-new contradict each other: drop one")
    return "all" if everything else "new" if new else ""


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


def _seconds(config: pytest.Config, name: str) -> float:
    given = config.getoption(name)
    text = config.getini(name) if given is None else given
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        option = f"--{name.replace('_', '-')}"
        raise pytest.UsageError(f"{option} (ini {name}) must be a number of seconds above 0, not {text!r}")
    return seconds


def _directory(config: pytest.Config, name: str) -> Path | None:
    """Resolve a path: the command line wins and counts from the working directory, the ini from the root."""
    given = config.getoption(name)
    base = config.rootpath if given is None else config.invocation_params.dir
    text = config.getini(name) if given is None else given
    return Path(os.path.normpath(base / text)) if text else None
