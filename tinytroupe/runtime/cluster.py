"""Ray, where it is installed: the one module that imports it, and only when it is asked for."""

from __future__ import annotations

import importlib
import importlib.util
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from typing import Any

from tinytroupe.config import config_manager
from tinytroupe.runtime.threads import in_threads

OBJECT_STORE_BYTES = 256 * 2**20
"""Shared memory of a cluster that is started here; what does not fit goes to the disk."""

HERE_ALONE = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""How a cluster on this machine alone is told to report to nobody, and to listen on 127.0.0.1 alone.

The latter, whatever its name, makes Ray take that address on Linux, too; it is read when Ray is imported.
"""


def check_installed() -> None:
    """Raise ImportError, saying what to install, where Ray can't be imported; nothing is imported yet."""
    if importlib.util.find_spec("ray") is None:
        raise ImportError(
            "backend 'ray' needs the extra: pip install 'pytest-tinytroupe[ray]' "
            "(backend 'local' runs shards in this process, without it)"
        )


def the_ray() -> Any:
    """Return the module `ray`.

    Raises
    ------
    ImportError
        It is not installed.
    """
    check_installed()
    return importlib.import_module("ray")


def ray_exceptions() -> Any:
    """Return the module `ray.exceptions`; raises as `the_ray`."""
    the_ray()
    return importlib.import_module("ray.exceptions")


_connecting = threading.Lock()
_users = 0
"""Blocks that share a connection that was made here: the last of them ends it."""
_made = ExitStack()


@contextmanager
def connected(address: str | None = None) -> Iterator[Any]:
    """Yield the module `ray`, connected to a cluster inside the ``with`` block.

    The cluster is, the first that there is of: the one that the program is connected to already; `address`; the
    setting ``RAY_ADDRESS``; Ray's own environment variable of that name; one that is started on this machine, bound to
    127.0.0.1, without dashboard and without usage statistics. It ends with the last of the blocks that use it at the
    same time. Blocks: not for an event loop.

    Parameters
    ----------
    address
        ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``.

    Raises
    ------
    ImportError
        Ray is not installed.
    ConnectionError
        There is no cluster at the address.
    """
    global _users
    with _connecting:
        ray = _connect(address)
        _users += 1
    try:
        yield ray
    finally:
        with _connecting:
            _users -= 1
            if not _users:
                _made.close()


def _connect(address: str | None) -> Any:
    """Connect, unless the program is connected already; `_made` ends what begins here."""
    given = address or config_manager.get("ray_address") or os.environ.get("RAY_ADDRESS")
    with ExitStack() as stack:
        if not given:
            stack.enter_context(_environment(HERE_ALONE))  # Ray reads some of it when it is imported
        ray = the_ray()
        if ray.is_initialized():
            return ray
        stack.callback(ray.shutdown)
        quiet = {"log_to_driver": False, "configure_logging": False}
        if given:
            ray.init(address=given, **quiet)
        else:
            ray.init(
                address="local",
                num_cpus=os.cpu_count() or 1,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                **quiet,
            )
        _made.push(stack.pop_all())
    return ray


def connection(address: str | None = None) -> AbstractAsyncContextManager[Any]:
    """Do what `connected` does without holding up the event loop."""
    return in_threads(connected(address))


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    for name, value in variables.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        for name, value_before in before.items():
            if value_before is None:
                os.environ.pop(name, None)
