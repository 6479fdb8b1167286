"""Ray, where it is installed: the one module that imports it, and only when it is asked for."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tinytroupe.config import config_manager

OBJECT_STORE_BYTES = 256 * 2**20
"""Shared memory of a cluster that is started here; what does not fit goes to the disk."""


def the_ray() -> Any:
    """Return the module `ray`.

    Raises
    ------
    ImportError
        The extra is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise ImportError(
            "backend 'ray' needs the extra: pip install 'pytest-tinytroupe[ray]' "
            "(backend 'local' runs shards in this process, without it)"
        ) from error


def ray_exceptions() -> Any:
    """Return the module `ray.exceptions`; raises as `the_ray`."""
    the_ray()
    return importlib.import_module("ray.exceptions")


@contextmanager
def connected(address: str | None = None) -> Iterator[Any]:
    """Yield the module `ray`, connected to a cluster inside the ``with`` block.

    The cluster is, the first that there is of: the one that the program is connected to already; `address`; the
    setting ``RAY_ADDRESS``; Ray's own environment variable of that name; one that is started on this machine, for this
    block alone, bound to 127.0.0.1, without dashboard and without usage statistics. Blocks: not for an event loop.

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
    ray = the_ray()
    if ray.is_initialized():
        yield ray
        return
    given = address or config_manager.get("ray_address") or os.environ.get("RAY_ADDRESS")
    quiet = {"log_to_driver": False, "configure_logging": False}
    if given:
        ray.init(address=given, **quiet)
    else:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            address="local",
            num_cpus=os.cpu_count() or 1,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            **quiet,
        )
    try:
        yield ray
    finally:
        ray.shutdown()
