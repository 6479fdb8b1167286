"""What tests of the distribution share: the built wheel, and commands in an environment where only it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
_OURS = ("PYTEST_", "TINYTROUPE_", "CI", "OPENAI_")


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


def environment_with(home: Path, *requirements: str) -> Path:
    """Create a virtual environment with these installed from the package registry, and return its Python."""
    venv.create(home)
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    install(python, *requirements)
    return python


def install(python: Path, *what: object) -> None:
    """Install by this environment's pip, which the other need not have, and compile only what is imported later."""
    done = run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-compile", *what), cwd=python.parent
    )
    assert done.returncode == 0, done.stdout + done.stderr
