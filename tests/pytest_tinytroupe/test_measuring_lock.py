"""One measurement at a time on a machine: the lock between real processes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from pytest_tinytroupe import measuring_lock
from pytest_tinytroupe.measuring_lock import INHERITED, LockError, MeasuringLock

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and forks")


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.delenv(INHERITED, raising=False)
    return tmp_path / "lock"


@pytest.fixture
def holder(directory):
    """A function that starts a process which holds the lock until it is told to end, or for ever."""
    started = []

    def start(mode, then="sys.stdin.read()"):
        code = f"""
            import sys, os
            from pathlib import Path
            from pytest_tinytroupe.measuring_lock import MeasuringLock
            with MeasuringLock(Path({str(directory)!r}), 60).{mode}():
                print("in", flush=True)
                {then}
        """
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def comes_in(process):
    return process.stdout.readline() == "in\n"


def refused(directory, mode):
    try:
        with getattr(MeasuringLock(directory, 0.05), mode)():
            return False
    except LockError as error:
        return str(error)


@pytest.mark.parametrize(
    ("first", "second", "waits"),
    [("shared", "shared", False), ("shared", "alone", True), ("alone", "shared", True), ("alone", "alone", True)],
)
def test_readers_share_and_a_writer_is_alone(directory, holder, first, second, waits):
    process = holder(first)
    assert comes_in(process)
    found = refused(directory, second)
    assert bool(found) is waits
    if waits:
        what = "a measurement" if first == "alone" else "a test"
        assert f"held by process {process.pid} ({what})" in found
        assert "not free within 0.05 s" in found
    process.communicate("end")
    assert not refused(directory, second)
    assert not list(directory.glob("*.holder"))


@posix
@pytest.mark.parametrize("mode", ["shared", "alone"])
def test_a_holder_that_is_killed_holds_nothing(directory, holder, mode):
    process = holder(mode)
    assert comes_in(process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not refused(directory, "alone")


@posix
def test_a_holder_whose_forked_child_lives_on_still_lets_go(directory, holder):
    process = holder("alone", "os.fork() or sys.stdin.read()")
    # The parent leaves at once; the child it forked meanwhile has the same files open, until its input ends.
    assert comes_in(process)
    process.wait()
    with MeasuringLock(directory, 20).alone():
        pass


def test_a_waiting_writer_goes_before_readers_that_come_after_it(directory, holder):
    reader = holder("shared")
    assert comes_in(reader)
    writer = holder("alone")
    deadline = time.monotonic() + 20
    while not refused(directory, "shared"):  # the writer has reached the gate
        assert time.monotonic() < deadline
    reader.communicate("end")
    assert comes_in(writer)


def test_what_a_process_holds_it_does_not_wait_for(directory):
    lock = MeasuringLock(directory, 0.05)
    with lock.alone():
        with lock.alone(), lock.shared():
            pass
        assert refused(directory, "shared") is False  # what descends from a holder takes part
        assert os.environ[INHERITED] == str(os.getpid())
    assert INHERITED not in os.environ
    with lock.shared(), lock.shared():
        pass


def test_a_reader_that_measures_becomes_a_writer_and_a_reader_again(directory, holder):
    lock = MeasuringLock(directory, 20)
    with lock.shared():
        with lock.alone():
            del os.environ[INHERITED]  # what follows shall not take part
            assert refused(directory, "shared")
            late = holder("shared")
        assert comes_in(late)  # both are readers now
        del os.environ[INHERITED]
        assert refused(directory, "alone")
        late.communicate("end")
        assert refused(directory, "alone")
    assert not refused(directory, "alone")


def test_processes_that_a_holder_starts_take_part(directory, holder):
    with MeasuringLock(directory, 20).alone():
        assert comes_in(holder("alone"))


def test_an_exception_inside_lets_go(directory):
    lock = MeasuringLock(directory, 0.05)
    for mode in ("shared", "alone"):
        with pytest.raises(KeyError), getattr(lock, mode)():
            raise KeyError
        assert not refused(directory, "alone")
        assert INHERITED not in os.environ


@posix
def test_a_directory_that_cannot_be_used_is_named(directory):
    directory.touch()
    with pytest.raises(LockError, match=r"cannot be used: .*lock"), MeasuringLock(directory).shared():
        pass


def test_many_processes_never_measure_at_once(directory, tmp_path, holder):
    log = tmp_path / "log"
    log.touch()
    # Opened for appending, each line goes to the end in one write.
    write = "f = open({!r}, 'ab', 0); [(f.write(b'{} in\\n'), f.write(b'{} out\\n')) for _ in range(1)]"
    processes = [holder("alone" if n % 2 else "shared", write.format(str(log), n, n)) for n in range(8)]
    for process in processes:
        process.wait(60)
    lines = log.read_text().split("\n")[:-1]
    assert len(lines) == 16
    for place, line in enumerate(lines):
        number, what = line.split()
        if int(number) % 2 and what == "in":
            assert lines[place + 1] == f"{number} out"


def test_the_machines_lock_is_one_object_in_a_directory_of_the_users_own(monkeypatch, tmp_path, directory):
    monkeypatch.setattr(measuring_lock.tempfile, "gettempdir", lambda: str(tmp_path))
    lock = measuring_lock.machine_lock(7)
    assert lock is measuring_lock.machine_lock(7)
    assert (lock.directory.parent, lock.time_limit_s) == (tmp_path, 7)
    with lock.shared():
        assert os.name == "nt" or (lock.directory.stat().st_mode & 0o77) == 0


@posix
def test_a_file_system_without_locks_is_named(directory, monkeypatch):
    def flock(descriptor, kind):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(LockError, match=r"cannot be used: .*gate: No locks"), MeasuringLock(directory).alone():
        raise AssertionError("it has no lock")
