"""What a parallel run changes. Rows travel as an attribute of ordinary test reports; the rest is here."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import PurePath

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
    """Return a test's id: its file relative to the root directory, and its name, with and without a parallel run.

    pytest's own ids of tests outside the root directory depend on the arguments, and several may have the same.
    """
    nodeid = item.stash.get(NODEID, item.nodeid)
    inside = item.path.is_relative_to(item.config.rootpath)
    return nodeid if inside else f"{file_of(item)}::{nodeid.partition('::')[2]}"


def file_of(node: pytest.Item | pytest.Collector) -> str:
    """Return a node's file relative to the root directory; the whole path where that is on another drive."""
    try:
        return PurePath(os.path.relpath(node.path, node.config.rootpath)).as_posix()
    except ValueError:
        return node.path.as_posix()
