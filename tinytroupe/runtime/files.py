"""Files that several may use at once: nobody ever sees half of one, and one alone holds a lock."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], text: str) -> Path:
    """Write a text file in UTF-8 under a temporary name beside it, then give it its name.

    Missing directories are made. Characters that UTF-8 cannot hold are written as escapes.

    Raises
    ------
    OSError
        If the directory or the file cannot be written; an earlier file of that name is untouched.
    """
    target = Path(path)
    draft = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(draft, "xb") as file:
                file.write(text.encode("utf-8", "backslashreplace"))
            os.replace(draft, target)
        except BaseException:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise
    except OSError as error:
        raise OSError(
            error.errno, f"cannot write {target}: {error.strerror or error}; free space or choose another directory"
        ) from error
    return target


def hold(path: str | os.PathLike[str]) -> Callable[[], None] | None:
    """Hold a lock file, made where it is missing; another run of this process is somebody else, too.

    Returns
    -------
    callable or None
        Lets go of it, as the end of the process does; the file stays. None: somebody else holds it.

    Raises
    ------
    OSError
        The file can't be made or written.

    Notes
    -----
    SQLite's locks: those of operating systems are not alike.
    """
    with contextlib.ExitStack() as stack:
        try:
            connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            stack.callback(connection.close)
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                return None
            raise OSError(f"cannot lock {os.fspath(path)}: {error}") from error
        return stack.pop_all().close
