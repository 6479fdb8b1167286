"""How long threads of this process were ready to run and had no core, because others had them.

The operating system's own account: on Linux the second figure of ``/proc/PID/task/TID/schedstat``, nanoseconds on the
run queue. Elsewhere nothing is known, and nothing is made up.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_TASKS = "/proc/self/task"


def queued() -> dict[str, int]:
    """Return thread -> nanoseconds it has queued for a core since it began; empty where that is not known."""
    found: dict[str, int] = {}
    with suppress(OSError, ValueError, IndexError):
        for thread in os.listdir(_TASKS):
            with suppress(FileNotFoundError, ProcessLookupError):  # a thread may end meanwhile
                found[thread] = int(Path(_TASKS, thread, "schedstat").read_text("ascii").split()[1])
    return found


def queued_between(before: Mapping[str, int], after: Mapping[str, int]) -> float:
    """Return seconds that the thread which queued longest has queued between two calls of `queued`.

    Not the sum: where threads wait for each other's results only one of them queues at a time, and where several queue
    at once the sum would count the same moment several times.
    """
    return max((nanoseconds - before.get(thread, 0) for thread, nanoseconds in after.items()), default=0) / 1e9
