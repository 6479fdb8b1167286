"""Shared by all tests."""

from __future__ import annotations

import gc
import importlib
import os
import pkgutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from fresh_environment import THIRD_PARTY, build_wheel, environment_with, once

import pytest_tinytroupe
import tinytroupe
from tinytroupe.testing import network_guard

pytest_plugins = ["pytester"]

# A shell starts what runs in its background deaf to Ctrl-C, and processes pass that on to those they start; tests that
# press Ctrl-C need it heard.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

with suppress(ImportError):  # the performance suite runs without it
    from hypothesis import settings

    # No deadline: how long an example takes says more about the machine than about the code. In CI, and in .ci/run, the
    # same examples every time: what fails there fails again when somebody looks.
    same = not {"CI", "SAME_EXAMPLES"}.isdisjoint(os.environ)
    settings.register_profile("here", deadline=None, derandomize=same)
    settings.load_profile("here")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: no worker of a parallel run is left alone with it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("packaging") is None)


@pytest.fixture(scope="session", autouse=True)
def _offline() -> Iterator[None]:
    """No test of this project reaches anything but 127.0.0.1, and that without the proxy of the environment, if any."""
    with network_guard(), pytest.MonkeyPatch.context() as patch:
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, ",".join(filter(None, (os.environ.get(name), "127.0.0.1,localhost"))))
        yield


@pytest.fixture(scope="session")
def _warm() -> None:
    # A run inside pytester forgets what it imported, and who comes after it imports that anew, which takes its time and
    # does not know the people of before. What is here before stays.
    for package in (tinytroupe, pytest_tinytroupe):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    from tinytroupe import TinyPerson, config_manager
    from tinytroupe.testing import MockLLM

    with MockLLM(), config_manager.override(display="off"):  # and what comes with the first call
        TinyPerson("Warm").listen_and_act("Hello.")
    TinyPerson.clear_agents()


@pytest.fixture(scope="session")
def _lock_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("lock"))


@pytest.fixture
def pytester(
    _warm: None,
    _lock_of_its_own: str,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[pytest.Pytester]:
    """The built-in `pytester`, several times as fast.

    Hypothesis would be imported anew by each run inside it; the plugins of respx and anyio import httpx at the start
    of every process. And whatever looks for garbage in such a run, as each measurement of the heap does, would look
    through all that these tests keep, half a second each time: that is frozen meanwhile, and the run is told that
    nothing is. Nor does it wait for what tests in other workers measure: none of them is about how long something
    takes. It is judged as on a developer's machine, wherever these tests run.
    """
    for name in ("CI", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", _lock_of_its_own)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest -p no:asyncio -p no:respx -p no:anyio")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # files change faster than their times tell
    gc.freeze()
    frozen, count = gc.get_freeze_count(), gc.get_freeze_count
    monkeypatch.setattr(gc, "get_freeze_count", lambda: max(count() - frozen, 0))
    yield pytester
    gc.collect()  # of what was made meanwhile: nobody looks for the rest as long as it is frozen
    gc.unfreeze()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project's wheel, as users get it."""
    return once(tmp_path_factory, "wheel", build_wheel)


@pytest.fixture(scope="session")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment in which the wheel is installed, and nothing of this tree can be imported."""
    requirement = f"pytest-tinytroupe[xdist] @ {wheel.as_uri()}"
    return once(tmp_path_factory, "venv", lambda home: environment_with(home, requirement))


@pytest.fixture(scope="session")
def third_party(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with programs besides that were never written for this project."""
    programs = (*THIRD_PARTY, "pytest-tinytroupe")  # the last is there already, and has a say in what the others need
    return once(tmp_path_factory, "third-party", lambda home: environment_with(home, *programs, beneath=python))
