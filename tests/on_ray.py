"""What tests on a real Ray cluster share."""

from __future__ import annotations

import importlib.util
import time
from contextlib import suppress

import psutil
import pytest

MARKS = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="needs the extra: pip install 'pytest-tinytroupe[ray]'"
    ),
    # Ray leaves pipes and files of its own to the collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"),
]


_NAMES = ("raylet", "gcs_server", "ray::", "default_worker.py")


def processes():
    """Return the processes of Ray that there are, but for those that a parallel run's other workers have started."""
    here = psutil.Process()
    parent = here.parent()
    others = set() if parent is None else {process.pid for process in parent.children()} - {here.pid}
    found = set()
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if "pytest" in line or not any(name in line for name in _NAMES):
            continue
        with suppress(psutil.NoSuchProcess):
            if others.isdisjoint(above.pid for above in process.parents()):
                found.add(process.pid)
    return found


def left(before, patience_s=120.0):
    """Return those of them that were not there before and do not end in time."""
    deadline = time.monotonic() + patience_s
    while (rest := processes() - before) and time.monotonic() < deadline:
        time.sleep(0.1)
    return rest
