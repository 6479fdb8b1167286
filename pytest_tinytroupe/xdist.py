"""What a parallel run changes. Rows travel as an attribute of ordinary test reports; the rest is here."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

NODEID = pytest.StashKey[str]()


def is_worker(config: pytest.Config) -> bool:
    """Whether this process runs tests on behalf of a controller."""
    return hasattr(config, "workerinput")


def is_controller(config: pytest.Config) -> bool:
    """Whether workers run the tests on behalf of this process."""
    return not is_worker(config) and config.pluginmanager.has_plugin("dsession")


def tell_controller(config: pytest.Config, key: str, data: object) -> None:
    """Leave something for the controller to read when this worker is done."""
    config.workeroutput[key] = data  # type: ignore[attr-defined]


def worker_name(config: pytest.Config) -> str:
    """Return ``gw0`` and so on; empty outside of a worker."""
    return str(config.workerinput["workerid"]) if is_worker(config) else ""  # type: ignore[attr-defined]


def remember_nodeids(items: Iterable[pytest.Item]) -> None:
    """Keep the tests' ids before ``--dist loadgroup`` hangs the name of a group on them."""
    for item in items:
        item.stash[NODEID] = item.nodeid


def nodeid_of(item: pytest.Item) -> str:
    """Return a test's id, the same with and without a parallel run."""
    return item.stash.get(NODEID, item.nodeid)
