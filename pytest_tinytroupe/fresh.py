"""One test alone in a fresh interpreter: the one way in which processes are started for a measurement.

Three things need it: a test with ``isolate=True``, the runs of a baseline of times, and those that confirm or clear a
suspicion against a time or a comparison. The child gets the parent's effective options, so that it sees the test as the
parent does, and hands its reports back through a file (`pytest_tinytroupe.fresh_child`).
"""

from __future__ import annotations

import codecs
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from pytest_tinytroupe import warned, xdist

Purpose = Literal["whole", "times", "comparisons", "flame"]

FIGURES_ATTRIBUTE = "tinytroupe_perf_figures"
"""Attribute of the report by which a child that gives no verdict hands over what it has measured."""

# What a child must not do, or do by itself; options of plugins that are not installed change nothing.
NEUTRAL: dict[str, Any] = {
    # parallel runs, debuggers, selection: there is one test
    "numprocesses": None,
    "maxprocesses": None,
    "dist": "no",
    "distload": False,
    "tx": [],
    "looponfail": False,
    "usepdb": False,
    "trace": False,
    "keyword": "",
    "markexpr": "",
    "deselect": None,
    "maxfail": 0,
    "lf": False,
    "failedfirst": False,
    "newfirst": False,
    "stepwise": False,
    "stepwise_skip": False,
    "collectonly": False,
    "cacheclear": False,
    # reports, logs, coverage: they are the parent's
    "xmlpath": None,
    "htmlpath": None,
    "report_log": None,
    "json_report": False,
    "pastebin": None,
    "log_file": None,
    "durations": None,
    "no_cov": True,
    "cov_source": None,
    "perf_report": None,
    "no_perf_report": True,
    "perf_json": None,
    "perf_markdown": None,
    "perf_history": None,
    "perf_prune": False,
}

_COVERAGE = (
    "COV_CORE_SOURCE",
    "COV_CORE_CONFIG",
    "COV_CORE_DATAFILE",
    "COVERAGE_PROCESS_START",
    "COVERAGE_PROCESS_CONFIG",
)

# The pipe from the parent becomes a descriptor of its own, and tests find an empty input. The path comes before the
# imports: the plugin, too, may be importable only from where the parent found it. And pytest before the plugin, because
# what is imported before pytest's own import hook is there draws a warning.
_START = """
import json, os, pathlib, sys
with open(sys.argv[1], encoding="utf-8") as file:
    job = json.load(file)
job["parent"] = os.dup(0)
empty = os.open(os.devnull, os.O_RDONLY)
os.dup2(empty, 0)
os.close(empty)
sys.path[:] = job["path"]
import pytest
options = {**job["options"], **{name: pathlib.Path(value) for name, value in job["path_options"].items()}}
config = pytest.Config.fromdictargs(options, job["arguments"])
from pytest_tinytroupe.fresh_child import main
sys.exit(main(config, job))
"""

_TAIL_LINES = 30
_GRACE_S = 5.0
_FORWARDED_EVERY_S = 0.05


class FreshError(Exception):
    """A test could not be measured in a fresh process. The message says why, with the end of its output."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a child is to do.

    Attributes
    ----------
    nodeid
        The test.
    purpose
        ``whole``: all that the test takes, and its verdict. The others give none: ``times`` is rounds of its call,
        ``comparisons`` its main pass for what `perf.compare` finds, ``flame`` its call under memray.
    result
        The file for its reports.
    shares
        Whether the child takes part in the measuring lock.
    family
        How many times of the session are judged together.
    options, path_options, arguments, path
        The parent's options, those of them that are paths, what stands on the command line, and where modules are
        looked for.
    session_output
        A file for what the child's pytest has to say itself, where the test's output goes on to the user; else empty.
    trace
        The file for what memray sees; empty for any other purpose.
    parent
        Descriptor, in the child, of a pipe that is closed when the parent is gone.
    """

    nodeid: str
    purpose: Purpose
    result: str
    shares: bool
    family: int
    options: Mapping[str, Any]
    path_options: Mapping[str, str]
    arguments: list[str]
    path: list[str]
    session_output: str = ""
    trace: str = ""
    parent: int = -1


def run_fresh(
    item: pytest.Item, purpose: Purpose, *, time_limit_s: float, shares: bool, family: int, trace: str = ""
) -> list[pytest.TestReport]:
    """Run one test alone in a fresh interpreter, and return its reports.

    Parameters
    ----------
    item
        The test.
    purpose, shares, family, trace
        As in `Job`.
    time_limit_s
        How long the process may take.

    Raises
    ------
    FreshError
        The process crashed, took too long, or has not run this test.
    """
    config = item.config
    with tempfile.TemporaryDirectory(prefix="pytest-tinytroupe-", ignore_cleanup_errors=True) as directory:
        result, job_file, output, session_output = (
            Path(directory) / name for name in ("result.json", "job.json", "output.txt", "session.txt")
        )
        forwards = purpose == "whole" and config.getoption("capture", "") == "no"
        job = Job(
            xdist.nodeid_of(item),
            purpose,
            str(result),
            shares,
            family,
            {**_options(config), "basetemp": str(Path(directory) / "tmp")},
            {name: str(value) for name, value in vars(config.option).items() if isinstance(value, Path)},
            _arguments(item),
            list(sys.path),
            str(session_output) if forwards else "",
            trace,
        )
        job_file.write_text(json.dumps(asdict(job)), encoding="utf-8")
        command = [sys.executable, *_flags(), "-c", _START, str(job_file)]
        status = _run(
            command, config.invocation_params.dir, _environment(purpose), output, time_limit_s, forwards=forwards
        )
        told = _tail(session_output, output)
        if status is None:
            raise FreshError(f"it did not end within {time_limit_s:g} s (--perf-time-limit) and was ended{told}")
        if not result.exists():
            how = f"signal {-status} ended it" if status < 0 else f"it ended with exit status {status} and no result"
            raise FreshError(f"{how}{told}")
        data = json.loads(result.read_text(encoding="utf-8"))
    if not data["reports"]:
        raise FreshError(f"it did not find the test: collecting there gives other tests than here{told}")
    if purpose == "whole":  # in times the test's warnings are those of its other passes, which run here
        for each in data["warnings"]:
            warning = {"warning_message": warned.from_json(each), "when": "runtest", "nodeid": item.nodeid}
            config.hook.pytest_warning_recorded.call_historic(kwargs={**warning, "location": None})
    return [_report(config, each) for each in data["reports"]]


def figures(item: pytest.Item, purpose: Purpose, *, time_limit_s: float, family: int) -> list[Any]:
    """Run one test alone in a fresh interpreter, and return what it has measured there: rows of JSON types.

    Parameters
    ----------
    item
        The test.
    purpose, family
        As in `Job`.
    time_limit_s
        How long the process may take.

    Raises
    ------
    FreshError
        The process crashed, took too long, or the test did not pass there, or measured nothing.
    """
    reports = run_fresh(item, purpose, time_limit_s=time_limit_s, shares=False, family=family)
    for report in reports:
        if has_failed(report):
            raise FreshError(f"it failed there:\n{report.longreprtext}")
        if report.skipped and type(report) is pytest.TestReport:  # a subtest may be skipped
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            raise FreshError(f"it was skipped there: {reason}")
    found = [row for report in reports for row in getattr(report, FIGURES_ATTRIBUTE, ())]
    if not found:
        raise FreshError("it ran there, but was not measured")
    return found


def has_failed(report: pytest.TestReport) -> bool:
    """Whether a test has failed, whoever said so; what is marked ``xfail(strict=True)`` may yet fail by its verdict."""
    return report.failed and not str(report.longrepr).startswith("[XPASS(strict)]")


def _report(config: pytest.Config, data: dict[str, Any]) -> pytest.TestReport:
    for name in ("location", "longrepr"):  # JSON knows no tuples; pytest insists on these
        if isinstance(data.get(name), list):
            data[name] = tuple(data[name])
    report: pytest.TestReport = config.hook.pytest_report_from_serializable(config=config, data=data)
    return report


def _environment(purpose: Purpose) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in _COVERAGE}
    if purpose == "comparisons":  # which are to find out what is true of any process
        environment.pop("PYTHONHASHSEED", None)
    else:  # or the order of sets, and with it times and memory, would be another in each run
        environment["PYTHONHASHSEED"] = "0"
    return environment


def _run(
    command: list[str],
    directory: Path,
    environment: Mapping[str, str],
    output: Path,
    time_limit_s: float,
    *,
    forwards: bool,
) -> int | None:
    """Run a command to its end; return its exit status, or None where it took too long.

    It never outlives this: it is ended where this is interrupted, and ends itself where this process is killed, which
    closes the pipe between them. Nothing is written to that pipe.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")  # what is read may end within a character
    with output.open("wb") as sink, output.open("rb") as written:

        def pass_on(*, last: bool = False) -> None:
            _show(decoder.decode(written.read(), last))

        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=environment,
        )
        try:
            return _forward(process, pass_on, time_limit_s) if forwards else process.wait(time_limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)
            if forwards:
                pass_on(last=True)


def _forward(process: subprocess.Popen[bytes], pass_on: Callable[[], None], time_limit_s: float) -> int:
    """Wait for a process as ``process.wait`` does, and pass on what it writes meanwhile."""
    deadline = time.monotonic() + time_limit_s
    while True:
        try:
            return process.wait(max(min(_FORWARDED_EVERY_S, deadline - time.monotonic()), 0))
        except subprocess.TimeoutExpired:
            if time.monotonic() >= deadline:
                raise
        pass_on()


def _show(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process, if it is still there: it gets a moment to tear down what it has set up."""
    if process.stdin is not None:
        process.stdin.close()  # which it takes for a Ctrl-C
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _arguments(item: pytest.Item) -> list[str]:
    """Return what has to stand on the command line because it counts before options are taken over."""
    config = item.config
    arguments = [str(item.path), "--rootdir", str(config.rootpath)]
    if config.inipath is not None:
        arguments += ["-c", str(config.inipath)]
    for plugin in config.option.plugins:
        arguments += ["-p", plugin]
    return arguments


def _flags() -> list[str]:
    flags = ["-O" for _ in range(sys.flags.optimize)]
    return [*flags, "-X", "dev"] if sys.flags.dev_mode else flags


def _options(config: pytest.Config) -> dict[str, Any]:
    """Return the options that are plain values, as all are that a parallel run could hand to its workers."""
    found: dict[str, Any] = {}
    for name, value in vars(config.option).items():
        try:
            if json.loads(json.dumps(value)) == value:
                found[name] = value
        except (TypeError, ValueError):
            continue
    found.pop("file_or_dir", None)  # what to run, as the command line says it
    return {**found, **NEUTRAL, "plugins": []}


def _tail(*outputs: Path) -> str:
    texts = [output.read_text(encoding="utf-8", errors="replace") for output in outputs if output.exists()]
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    return "\n".join(["; the end of its output:", *lines[-_TAIL_LINES:]]) if lines else "; it printed nothing"
