"""What tests of the distribution share: the built wheel, and commands in an environment where only it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_tinytroupe.measuring_lock import MeasuringLock

ROOT = Path(__file__).parents[1]
THIRD_PARTY = ("openai-agents==0.24.0", "instructor==1.17.0", "llm==0.36")
"""An agent framework, an extractor and a command: of these releases is what tests and ``docs/third_party.md`` tell."""

# The last: nothing is compiled when it is installed, so without it each command would compile all that it imports.
_OURS = (
    *("PYTEST_", "TINYTROUPE_", "CI", "GITHUB_", "OPENAI_", "FORCE_COLOR", "PY_COLORS", "COLUMNS"),
    "PYTHONDONTWRITEBYTECODE",
)


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Path]) -> Path:
    """Make something in a directory of its own, once for all workers of a parallel run, and return where it is."""
    home = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        home = home.parent
    home, told = home / name, home / f"{name}.made"
    with MeasuringLock(home.with_suffix(".lock")).alone():
        if not told.exists():
            home.mkdir(exist_ok=True)
            told.write_text(str(make(home)), encoding="utf-8")
    return Path(told.read_text(encoding="utf-8"))


def run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command without the variables that steer this run of pytest."""
    theirs = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**theirs, **environment},
        text=True,
        encoding="utf-8",
        capture_output=True,
        timeout=600,
        check=False,
    )


def build_wheel(directory: Path) -> Path:
    """Build this project's wheel and return it."""
    done = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", directory, ROOT, cwd=directory)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = directory.glob("*.whl")
    return built


def environment_with(home: Path, *requirements: str, beneath: Path | None = None) -> Path:
    """Create a virtual environment with these installed from the package registry, and return its Python.

    Where there is the Python of another one beneath it, what that has need not be installed again, unless the
    requirements want other releases: those go before it.
    """
    venv.create(home)
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    if beneath is not None:
        (_packages_of(python) / "beneath.pth").write_text(f"{_packages_of(beneath)}\n", encoding="utf-8")
    # By this environment's pip, which the other need not have; and compiled is only what is imported later.
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-compile")
    done = run(*pip, *requirements, cwd=home)
    assert done.returncode == 0, done.stdout + done.stderr
    return python


def _packages_of(python: Path) -> Path:
    done = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=python.parent)
    return Path(done.stdout.strip())
