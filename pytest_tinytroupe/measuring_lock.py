"""One measurement at a time on this machine: tests are readers, what measures time is the writer.

A reader-writer lock between processes, made of two files that the operating system locks and releases (also when a
holder crashes). Whoever comes has to pass the *gate*: a reader only for a moment, a writer until it is done, so that no
new reader gets past a waiting writer and none is starved. Behind it readers share the *room*; a writer has it alone.

    reader: gate shared -> room shared -> gate released … room released
    writer: gate alone -> room alone … both released

A process takes the lock once: what it asks for while it holds it is granted. A reader that becomes a writer lets go of
the room first, so that two of them do not wait for each other. Processes started by a holder know so by a variable of
the environment, and take part in what their ancestor holds.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

Mode = Literal["shared", "alone"]

INHERITED = "PYTEST_TINYTROUPE_MEASURING_LOCK"
"""Variable of the environment, set while a process holds the lock, for the processes it starts."""

TIME_LIMIT_S = 600.0
POLL_S = (0.001, 0.05)
"""The first and the longest pause between two attempts."""

READERS = 64
"""Windows knows locks for one holder only: there the room has so many seats, and a writer takes them all."""


class LockError(Exception):
    """The machine was not free within the time limit, or the lock cannot be used. The message names who holds it."""


class MeasuringLock:
    """The lock of one directory; `machine_lock` gives the one that all runs of this user share.

    Parameters
    ----------
    directory
        Where its files are; created where it is missing, for this user alone.
    time_limit_s
        The longest wait.
    """

    def __init__(self, directory: Path, time_limit_s: float = TIME_LIMIT_S) -> None:
        self.directory = directory
        self.time_limit_s = time_limit_s
        self._held: Mode | None = None
        self._pid = 0
        self._room = -1

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the lock together with other readers.

        Raises
        ------
        LockError
            A writer had it for longer than the time limit.
        """
        if self._holding() or INHERITED in os.environ:
            yield
            return
        with self._hold("shared"):
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock while nobody else does.

        Raises
        ------
        LockError
            Others had it for longer than the time limit.
        """
        held = self._holding()
        if held == "alone" or (held is None and INHERITED in os.environ):
            yield
        elif held == "shared":
            self._leave()
            try:
                with self._hold("alone"):
                    yield
            finally:
                self._enter("shared")
        else:
            with self._hold("alone"):
                yield

    def _holding(self) -> Mode | None:
        return self._held if self._pid == os.getpid() else None  # a forked child holds nothing of its own

    @contextmanager
    def _hold(self, mode: Mode) -> Iterator[None]:
        gate = self._enter(mode)
        try:
            yield
        finally:
            self._leave()
            if gate >= 0 and self._pid == os.getpid():  # a forked child must not let go for its parent
                _release(gate)

    def _enter(self, mode: Mode) -> int:
        """Get into the room; return the gate's descriptor where it stays closed behind us, else -1."""
        deadline = time.monotonic() + self.time_limit_s
        gate = self._wait("gate", mode, deadline)
        try:
            self._room = self._wait("room", mode, deadline)
        except BaseException:
            _release(gate)
            raise
        if mode == "shared":
            _release(gate)
            gate = -1
        self._held, self._pid = mode, os.getpid()
        os.environ[INHERITED] = str(self._pid)
        (self.directory / f"{self._pid}.holder").write_text(mode, encoding="ascii")
        return gate

    def _leave(self) -> None:
        """Get out of the room."""
        if self._holding() is None:
            return
        (self.directory / f"{self._pid}.holder").unlink(missing_ok=True)
        os.environ.pop(INHERITED, None)
        self._held = None
        _release(self._room)

    def _wait(self, name: str, mode: Mode, deadline: float) -> int:
        pause_s, longest_s = POLL_S
        descriptor = self._open(name)
        try:
            while not _try_lock(descriptor, mode):
                if time.monotonic() >= deadline:
                    raise LockError(
                        f"the lock in {self.directory} was not free within {self.time_limit_s:g} s: "
                        f"{self._holders()}; wait for it, or end it"
                    )
                time.sleep(pause_s)
                pause_s = min(pause_s * 1.5, longest_s)
        except OSError as error:  # a file system without locks
            os.close(descriptor)
            raise self._unusable(name, error) from error
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _open(self, name: str) -> int:
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self.directory / name, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(name, error) from error

    def _unusable(self, name: str, error: OSError) -> LockError:
        reason = error.strerror or type(error).__name__
        return LockError(f"the lock cannot be used: {self.directory / name}: {reason}")

    def _holders(self) -> str:
        """Say who holds the lock; what a crashed process left behind is not believed."""
        found = []
        for path in sorted(self.directory.glob("*.holder")):
            pid = int(path.stem) if path.stem.isdigit() else 0
            if pid and _alive(pid):
                with suppress(OSError):  # gone meanwhile
                    what = "a measurement" if path.read_text(encoding="ascii") == "alone" else "a test"
                    found.append(f"held by process {pid} ({what})")
            else:
                path.unlink(missing_ok=True)
        return ", ".join(found) or "held by a process that has just ended"


_locks: dict[Path, MeasuringLock] = {}


def machine_lock(time_limit_s: float = TIME_LIMIT_S) -> MeasuringLock:
    """Return this user's lock. One object a directory and process: what a process holds, it holds as a whole."""
    user = str(os.getuid()) if sys.platform != "win32" else os.environ.get("USERNAME", "user")
    directory = Path(tempfile.gettempdir()) / f"pytest-tinytroupe-{user}"
    lock = _locks.setdefault(directory, MeasuringLock(directory))
    lock.time_limit_s = time_limit_s
    return lock


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int, mode: Mode) -> bool:
        seats = [(0, READERS)] if mode == "alone" else [(seat, 1) for seat in range(READERS)]
        for seat, count in seats:
            os.lseek(descriptor, seat, os.SEEK_SET)
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, count)
            except OSError:
                continue
            return True
        return False

    def _release(descriptor: int) -> None:
        os.close(descriptor)  # which releases what it had locked

    def _alive(pid: int) -> bool:
        return True  # asking for it with os.kill would end the process
else:
    import fcntl

    def _try_lock(descriptor: int, mode: Mode) -> bool:
        kind = fcntl.LOCK_EX if mode == "alone" else fcntl.LOCK_SH
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _release(descriptor: int) -> None:
        # Not only closed: a child forked meanwhile has the same lock open.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)

    def _alive(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
