"""Shared by all tests."""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from fresh_environment import build_wheel, environment_with

from tinytroupe.testing import network_guard

pytest_plugins = ["pytester"]

# A shell starts what runs in its background deaf to Ctrl-C, and processes pass that on to those they start; tests that
# press Ctrl-C need it heard.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

with suppress(ImportError):  # the performance suite runs without it
    from hypothesis import settings

    # No deadline: how long an example takes says more about the machine than about the code. In CI the same examples
    # every time: what fails there fails again when somebody looks.
    settings.register_profile("here", deadline=None, derandomize="CI" in os.environ)
    settings.load_profile("here")


@pytest.fixture(scope="session", autouse=True)
def _offline() -> Iterator[None]:
    """No test of this project reaches anything but 127.0.0.1."""
    with network_guard():
        yield


@pytest.fixture(scope="session")
def _warm() -> None:
    # A run inside pytester forgets what it imported; what is here before stays.
    for module in ("session", "marker", "report.html", "report.terminal", "instruments.heap", "instruments.process"):
        importlib.import_module(f"pytest_tinytroupe.{module}")


@pytest.fixture
def pytester(_warm: None, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """The built-in `pytester`, several times as fast: hypothesis would be imported anew by each run inside it."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest -p no:asyncio")
    monkeypatch.setenv("COLUMNS", "120")
    return pytester


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project's wheel, as users get it."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment in which the wheel is installed, and nothing of this tree can be imported."""
    return environment_with(tmp_path_factory.mktemp("venv"), f"pytest-tinytroupe[xdist] @ {wheel.as_uri()}")
