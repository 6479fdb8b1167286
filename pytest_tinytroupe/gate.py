"""One run of ``pytest --perf``: gathers the rows of all tests, and writes what is to be written when it ends."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import pytest

from pytest_tinytroupe import xdist
from pytest_tinytroupe.baseline import Baselines, Entry
from pytest_tinytroupe.baseline_file import BaselineError
from pytest_tinytroupe.collected import Collected, coverage
from pytest_tinytroupe.environment import environment
from pytest_tinytroupe.measuring_lock import LockError, machine_lock
from pytest_tinytroupe.phases import CHILD, MARKER, MARKER_ERROR
from pytest_tinytroupe.records import SessionReport, TestRecord
from pytest_tinytroupe.settings import Settings, check_writable, in_ci
from pytest_tinytroupe.statistics import holm
from pytest_tinytroupe.timing import SIGNIFICANCE

REPORT_ATTRIBUTE = "tinytroupe_perf"
"""Attribute of the call report that carries a test's rows; pytest and xdist keep plain attributes."""

COLLECTED = "tinytroupe_perf_collected"
"""Key of what a worker saw while collecting, in its message to the controller."""


class Gate:
    """What one run of ``pytest --perf`` gathers: on the controller everything, on a worker nothing but settings."""

    def __init__(self, settings: Settings, config: pytest.Config) -> None:
        self.settings = settings
        self.config = config
        self.baselines = Baselines(settings.baseline_dir)
        self.child = config.stash.get(CHILD, None)
        self.lock = machine_lock(settings.time_limit_s)
        self.locks = False
        self.family = 1
        self.records: list[TestRecord] = []
        self.entries: list[Entry] = []
        self.updated: list[Path] = []
        self.pruned: list[Path] = []
        self.unused: dict[str, list[str]] = {}
        self.collected = Collected()
        self._workers_heard = 0
        self.written: list[tuple[str, Path]] = []
        self.report_path: Path | None = None
        self.warnings: list[str] = []
        self.errors: list[str] = []
        self.started = ""
        self.active = False

    def begin(self) -> None:
        """Become the one that gathers, and refuse directories that cannot be written: before the tests, not after.

        Raises
        ------
        pytest.UsageError
            The directory of the report or of the baselines cannot be written.
        """
        from datetime import datetime

        self.active = True
        self.started = datetime.now().astimezone().isoformat(timespec="seconds")
        if self.settings.report_dir is not None:
            check_writable(
                self.settings.report_dir, "--perf-report", "name another directory, or give --no-perf-report"
            )
        for path, option in (
            (self.settings.json_file, "--perf-json"),
            (self.settings.markdown_file, "--perf-markdown"),
            (self.settings.history_file, "--perf-history"),
        ):
            if path is not None:
                check_writable(path.parent, option, "name another file")
        option = "--perf-update" if self.settings.update else "--perf-prune" if self.settings.prune else ""
        if self.settings.update or (option and self.settings.baseline_dir.exists()):
            check_writable(self.settings.baseline_dir, option, "mend its permissions, or give --perf-baseline-dir")

    @property
    def takes_times(self) -> bool:
        """Whether this process was started for the rounds of a time, and not for a verdict."""
        return self.child is not None and self.child.job.purpose == "times"

    @property
    def trace(self) -> str:
        """Where what memray sees goes, if this process was started for that; else empty."""
        return self.child.job.trace if self.child is not None else ""

    def prepare(self, items: Iterable[pytest.Item]) -> None:
        """Learn which tests are about to run: whether any of them needs the machine, and how many times are judged."""
        if self.child is not None:
            self.locks, self.family = self.child.job.shares, self.child.job.family
            return
        perf_tests = [item for item in items if MARKER in item.stash]
        self.family = max(sum(len(item.stash[MARKER].timed) for item in perf_tests), 1)
        # The fixture `perf` may compare.
        self.locks = any(item.stash[MARKER].timed or "perf" in getattr(item, "fixturenames", ()) for item in perf_tests)

    def sharing(self) -> AbstractContextManager[None]:
        """Hold the measuring lock as one of many, where this session measures anything that others would disturb."""
        return self.lock.shared() if self.locks else nullcontext()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Let a test that is not measured wait while another process measures."""
        if MARKER in item.stash:  # takes the lock for its passes, each as it needs it
            return (yield)
        sharing = self.sharing()
        try:
            sharing.__enter__()
        except LockError as error:
            item.stash[MARKER_ERROR] = f"perf: {error}"
            return (yield)
        try:
            return (yield)
        finally:
            sharing.__exit__(None, None, None)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Learn how collecting went."""
        report = yield
        self.collected.add_node(collector, passed=report.passed)
        return report

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Learn what a worker collected; one that crashed has nothing to say."""
        data = getattr(node, "workeroutput", {}).get(COLLECTED)
        if data is not None:
            self.collected.merge(Collected.from_json(data))
            self._workers_heard += 1

    @property
    def heard_of_collection(self) -> bool:
        """Whether it is known what was collected: on a parallel run one worker has to come to its end."""
        return self._workers_heard > 0 or not xdist.is_controller(self.config)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the rows from a report, whichever process made it."""
        data: dict[str, Any] | None = getattr(report, REPORT_ATTRIBUTE, None)
        if self.active and data is not None:
            self.records.append(TestRecord.from_json(data["record"]))
            if data["entry"] is not None:
                self.entries.append(Entry.from_json(data["entry"]))

    def finish(self, session: pytest.Session) -> None:
        """Update the baselines and write the reports. Problems go to `errors` and change no test's verdict."""
        if xdist.is_worker(self.config):
            xdist.tell_controller(self.config, COLLECTED, self.collected.to_json())
        if not self.active:
            return
        self.records.sort(key=lambda record: record.nodeid)
        failed = self._judge_together()
        self.unused = self._unused()
        done = self._keep_baselines()
        done = self._check_unused() and done and not failed
        done = self._check_that_it_was_a_gate() and done
        if not done and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED  # what was asked for has not happened
        if self.records:
            self._write_reports()

    def _judge_together(self) -> bool:
        """Fail the times that are significant beside others though not alone; return whether there are any.

        Each test has failed in its own call where its p-value was within the strictest step of Holm's procedure. The
        further steps need the p-values of all tests, and so the end of the session.
        """
        if self.settings.update == "all":
            return False
        found = [
            (place, verdict)
            for place, record in enumerate(self.records)
            for verdict in record.verdicts
            if verdict.p_value is not None and verdict.metric.tier == "wall" and (verdict.change or 0) > 0
        ]
        rejected = holm([verdict.p_value or 0.0 for _, verdict in found], SIGNIFICANCE, self.family)
        late = [pair for pair, hit in zip(found, rejected, strict=True) if hit and pair[1].status == "advisory"]
        for place, verdict in late:
            record = self.records[place]
            note = f"significant beside the other times of this session (Holm, p = {verdict.p_value:.2g})"
            worse = replace(verdict, status="regressed", note=note)
            verdicts = tuple(worse if each is verdict else each for each in record.verdicts)
            self.records[place] = replace(record, verdicts=verdicts, outcome="failed")
            self.entries = [each for each in self.entries if f"{each.file}::{each.test}" != record.nodeid]
            self.errors.append(f"{record.nodeid}: {verdict.metric.name} regressed, {note}")
        return bool(late)

    @property
    def without_times(self) -> list[str]:
        """Ids of the tests whose times nothing was held against, because this machine has no baseline of them."""
        return [
            record.nodeid
            for record in self.records
            if any(
                each.metric.tier == "wall" and each.metric.steady and each.status == "new" for each in record.verdicts
            )
        ]

    def _keep_baselines(self) -> bool:
        """Update and prune as asked; return whether that worked."""
        try:
            if self.settings.update:
                self.updated = self.baselines.update(self.entries, only_new=self.settings.update == "new")
            if self.settings.prune:
                self.pruned, self.unused = self.baselines.prune(self.unused), {}
        except BaselineError as error:
            self.errors.append(str(error))
            return False
        return True

    def _unused(self) -> dict[str, list[str]]:
        root, covered = self.config.rootpath, coverage(self.config)
        found = {
            file: self.collected.unused(file, tests, asked_for=covered(file), exists=(root / file).exists())
            for file, tests in self.baselines.files().items()
        }
        return {file: tests for file, tests in found.items() if tests} if self.heard_of_collection else {}

    def _check_unused(self) -> bool:
        """Return whether unused baselines are no reason to fail the run."""
        if not self.heard_of_collection and (self.settings.prune or self.settings.strict):
            self.errors.append("unused baselines could not be looked for: no worker came to its end")
            return False
        return not (self.settings.strict and self.unused)

    def _check_that_it_was_a_gate(self) -> bool:
        """Tell what this run did not look at; return whether that is no reason to fail it."""
        missing = self._not_run()
        must_run = self.settings.strict or in_ci()
        (self.errors if must_run else self.warnings).extend(missing)
        if not self.records and not missing:
            self.warnings.append("no test marked perf has run: they were deselected, or the run ended before them")
        return not (must_run and missing)

    def _not_run(self) -> list[str]:
        """Return what makes this run no gate at all: there was nothing to measure, or nothing to hold it against."""
        if not self.records and not self.heard_of_collection:
            return ["nothing was measured: no worker came to its end"]
        if not self.records and not self.collected.marked:
            return ["nothing was measured: no test marked perf was collected; check the paths given, and the markers"]
        if self.settings.update or not self.collected.tests or not self.baselines.empty:
            return []
        where = f"{relative(self.settings.baseline_dir, self.config.rootpath)} (--perf-baseline-dir)"
        return [f"nothing was held against a baseline: there is none in {where}; check it, or run with --perf-update"]

    def _write_reports(self) -> None:
        from pytest_tinytroupe.report.markdown import append_step_summary, write_markdown
        from pytest_tinytroupe.report.perf_json import write_json

        report = self.session_report()
        if self.settings.json_file is not None:
            self._write("json", self.settings.json_file, report, write_json)
        if self.settings.markdown_file is not None:
            self._write("markdown", self.settings.markdown_file, report, write_markdown)
        if self.settings.history_file is not None:
            from pytest_tinytroupe.history import append

            self._write("history", self.settings.history_file, report, append)
        if self.settings.report_dir is not None:
            from pytest_tinytroupe.report.html import write_report

            self.report_path = self._write("report", self.settings.report_dir, report, write_report)
        try:
            append_step_summary(report)
        except OSError as error:
            self.errors.append(f"GITHUB_STEP_SUMMARY: {error}")

    def _write(
        self, what: str, path: Path, report: SessionReport, write: Callable[[Path, SessionReport], Path]
    ) -> Path | None:
        try:
            written = write(path, report)
        except Exception as error:  # whatever it is, the tests have their verdicts and the user must hear of it
            self.errors.append(f"{what} {path}: {type(error).__name__}: {error}")
            return None
        self.written.append((what, written))
        return written

    def session_report(self) -> SessionReport:
        """Return everything the reports show."""
        import shlex

        root = self.config.rootpath
        return SessionReport(
            title=f"Performance of {root.name}",
            started=self.started,
            records=tuple(self.records),
            environment=environment(),
            baseline_dir=relative(self.settings.baseline_dir, root),
            command=shlex.join(["pytest", *self.config.invocation_params.args]),
        )


def relative(path: PurePath, root: PurePath) -> str:
    """Return `path` relative to `root` where it is below it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
