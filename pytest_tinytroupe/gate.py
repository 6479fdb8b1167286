"""One run of ``pytest --perf``: gathers the rows of all tests, and writes what is to be written when it ends."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import pytest

from pytest_tinytroupe import xdist
from pytest_tinytroupe.baseline import Baselines, Entry
from pytest_tinytroupe.baseline_file import BaselineError
from pytest_tinytroupe.collected import Collected, coverage
from pytest_tinytroupe.environment import environment
from pytest_tinytroupe.measuring_lock import LockError, MeasuringLock, machine_lock
from pytest_tinytroupe.outputs import check_targets, write_outputs
from pytest_tinytroupe.phases import CHILD, MARKER, MARKER_ERROR
from pytest_tinytroupe.records import SessionReport, TestRecord
from pytest_tinytroupe.settings import Settings, in_ci
from pytest_tinytroupe.statistics import holm
from pytest_tinytroupe.times import NOT_KEPT, TOO_BUSY
from pytest_tinytroupe.timing import SIGNIFICANCE

if TYPE_CHECKING:
    from pytest_tinytroupe.fresh import Purpose
    from pytest_tinytroupe.testrun import TestRun

REPORT_ATTRIBUTE = "tinytroupe_perf"
"""Attribute of the call report that carries a test's rows; pytest and xdist keep plain attributes."""

COLLECTED = "tinytroupe_perf_collected"
"""Key of what a worker saw while collecting, in its message to the controller."""

REASON_LENGTH = 300
"""The most characters of a failure that a row shows; pytest shows all of it."""


class Gate:
    """What one run of ``pytest --perf`` gathers: on the controller everything, on a worker nothing but settings."""

    def __init__(self, settings: Settings, config: pytest.Config) -> None:
        self.settings = settings
        self.config = config
        self.baselines = Baselines(settings.baseline_dir)
        self.child = config.stash.get(CHILD, None)
        self.lock = machine_lock(settings.time_limit_s)
        self.locks = False
        self.running: TestRun | None = None
        self.family = 1
        self.records: list[TestRecord] = []
        self.entries: list[Entry] = []
        self.updated: list[Path] = []
        self.pruned: list[Path] = []
        self.unused: dict[str, list[str]] = {}
        self.collected = Collected()
        self.written: dict[str, Path] = {}
        self._reasons: dict[str, str] = {}
        self._crashed: set[str] = set()
        self._heard_of: set[str] = set()
        self.warnings: list[str] = []
        self.errors: list[str] = []
        self._nobody_watches = settings.strict or in_ci()  # what a test does to the environment must not matter
        self.started = ""
        self.active = False

    def begin(self) -> None:
        """Become the one that gathers, and refuse what cannot be written: before the tests, not after.

        Raises
        ------
        pytest.UsageError
            What this run is to write cannot be written.
        """
        from datetime import datetime

        self.active = True
        self.started = datetime.now().astimezone().isoformat(timespec="seconds")
        check_targets(self.settings)

    @property
    def purpose(self) -> Purpose:
        """What becomes of a test in this process: ``whole``, unless it was started for something else."""
        return self.child.job.purpose if self.child is not None else "whole"

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

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Learn which perf tests are about to run: whatever plugins there are have had their say."""
        self.collected.selected.update(xdist.nodeid_of(item) for item in session.items if MARKER in item.stash)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Learn what a worker collected; one that crashed has nothing to say."""
        data = getattr(node, "workeroutput", {}).get(COLLECTED)
        if data is not None:
            self.collected.merge(Collected.from_json(data))

    @property
    def _unheard(self) -> str:
        """Why it is not known what was collected; on a parallel run one worker has to come to its end."""
        return "no worker came to its end" if xdist.is_controller(self.config) else "collecting did not come to its end"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the rows from a report, whichever process made it."""
        if self.running is not None and report.failed:  # a subtest's: those of the test itself come when it is over
            self.running.subtest_failed = True
        if not self.active:
            return
        self._heard_of.add(report.nodeid)
        data: dict[str, Any] | None = getattr(report, REPORT_ATTRIBUTE, None)
        if data is not None:
            self.records.append(TestRecord.from_json(data["record"]))
            if data["entry"] is not None:
                self.entries.append(Entry.from_json(data["entry"]))
        if report.failed:
            self._reasons.setdefault(report.nodeid, reason_of(report))
            if report.when not in ("setup", "call", "teardown"):  # xdist's own: of a worker that died
                self._crashed.add(report.nodeid)

    def finish(self, session: pytest.Session) -> None:
        """Update the baselines and write the reports. Problems go to `errors` and change no test's verdict."""
        if xdist.is_worker(self.config):
            xdist.tell_controller(self.config, COLLECTED, self.collected.to_json())
        if not self.active:
            return
        self._add_broken()
        self._judge_together()
        self.unused = self._unused()
        self._keep_baselines()
        self._check_unused()
        self._check_that_it_was_a_gate()
        self._check_that_it_came_to_its_end(session)
        self._write_reports()
        failed = self.errors or (self.settings.strict and self.unused)
        if failed and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED  # what was asked for has not happened

    def _add_broken(self) -> None:
        """Say why in the row of each perf test that failed by none of its figures, and give one to those without any.

        Those are where the worker died or the marker is wrong. Where no worker has told which tests are marked perf,
        each one that killed a worker counts.
        """
        reasons = {self._perf_id(nodeid): text for nodeid, text in self._reasons.items()}
        crashed = {self._perf_id(nodeid) for nodeid in self._crashed}
        perf_tests = set(self.collected.marked.values()) if self.collected.done else crashed
        # A test may have run twice, and one of them failed.
        self.entries = [each for each in self.entries if f"{each.file}::{each.test}" not in reasons]
        rows = {each.nodeid: each for each in self.records if each.nodeid not in crashed}
        for nodeid, text in reasons.items():
            if nodeid in rows:
                row = rows[nodeid]
                by_figures = any(verdict.failed for verdict in row.verdicts)
                rows[nodeid] = row if by_figures else replace(row, notes=(text, *row.notes))
            elif nodeid in perf_tests:
                rows[nodeid] = TestRecord(nodeid, "error", 0.0, notes=(text,))
        self.records = sorted(rows.values(), key=lambda record: record.nodeid)

    def _perf_id(self, nodeid: str) -> str:
        return self.collected.marked.get(nodeid, nodeid)

    def _judge_together(self) -> None:
        """Fail the times that are significant beside others though not alone.

        Each test has failed in its own call where its p-value was within the strictest step of Holm's procedure. The
        further steps need the p-values of all tests, and so the end of the session.
        """
        if self.settings.update == "all":
            return
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

    @property
    def told(self) -> frozenset[str]:
        """Ids of the tests that failed with a message of their own."""
        return frozenset(map(self._perf_id, self._reasons))

    @property
    def too_busy(self) -> list[str]:
        """Ids of the tests whose times were neither judged nor kept, because others had the cores."""
        notes = (TOO_BUSY, NOT_KEPT)
        return [
            record.nodeid for record in self.records if any(each.note.startswith(notes) for each in record.verdicts)
        ]

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

    def _keep_baselines(self) -> None:
        """Update and prune as asked."""
        if not (self.settings.update or self.settings.prune):
            return
        try:
            # Reading and writing is one: another run may be about to add its figures to the same files.
            with MeasuringLock(self.lock.directory / "baselines", self.settings.time_limit_s).alone():
                if self.settings.update:
                    self.updated = self.baselines.update(self.entries, only_new=self.settings.update == "new")
                if self.settings.prune:
                    self.pruned, self.unused = self.baselines.prune(self.unused), {}
        except (BaselineError, LockError) as error:
            self.errors.append(
                f"the baselines were not updated: {error}" if isinstance(error, LockError) else str(error)
            )

    def _unused(self) -> dict[str, list[str]]:
        root, covered = self.config.rootpath, coverage(self.config)
        found = {
            file: self.collected.unused(file, tests, asked_for=covered(file), exists=(root / file).exists())
            for file, tests in self.baselines.files().items()
        }
        return {file: tests for file, tests in found.items() if tests} if self.collected.done else {}

    def _check_unused(self) -> None:
        """Tell where it is not known which baselines are unused, though that was asked for."""
        if not self.collected.done and (self.settings.prune or self.settings.strict):
            self.errors.append(f"unused baselines could not be looked for: {self._unheard}")

    def _check_that_it_was_a_gate(self) -> None:
        """Tell what this run did not look at; where nobody is watching that is an error."""
        missing = self._not_run()
        (self.errors if self._nobody_watches else self.warnings).extend(missing)
        if self.records and all(record.outcome == "skipped" for record in self.records):
            skipped = "nothing was measured: every test marked perf was skipped"
            (self.errors if self.settings.strict else self.warnings).append(skipped)
        if not self.records and not missing:
            self.warnings.append("no test marked perf has run: they were deselected, or the run ended before them")

    def _check_that_it_came_to_its_end(self, session: pytest.Session) -> None:
        """Tell which tests the run ended before, where its exit status does not, as after ``pytest.exit(…, 0)``."""
        left = sorted(self.collected.selected - set(map(self._perf_id, self._heard_of)))
        if left and session.exitstatus == pytest.ExitCode.OK:
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            self.errors.append(f"the run ended before {left[0]}{more}")

    def _not_run(self) -> list[str]:
        """Return what makes this run no gate at all: there was nothing to measure, or nothing to hold it against."""
        if not self.records and not self.collected.done:
            return [f"nothing was measured: {self._unheard}"]
        if not self.records and not self.collected.marked:
            return ["nothing was measured: no test marked perf was collected; check the paths given, and the markers"]
        if self.settings.update or not self.collected.tests or not self.baselines.empty:
            return []
        where = f"{self.settings.baseline_dir} (--perf-baseline-dir)"
        return [f"nothing was held against a baseline: there is none in {where}; check it, or run with --perf-update"]

    def _write_reports(self) -> None:
        outputs = write_outputs(self.settings, self.session_report())
        self.written = outputs.written
        self.errors += outputs.errors

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


def reason_of(report: pytest.TestReport) -> str:
    """Return the first line of why a test failed, of a traceback the first that says so, or the beginning of it."""
    crash = getattr(report.longrepr, "reprcrash", None)
    # Not `longreprtext`, which begins with the name of the worker.
    text = str(report.longrepr if crash is None else crash.message).removeprefix("Failed: ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line[1:].strip() for line in lines if line.startswith("E  ")]
    return next(iter(told or lines), report.outcome)[:REASON_LENGTH]


def relative(path: PurePath, root: PurePath) -> str:
    """Return `path` relative to `root` where it is below it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
