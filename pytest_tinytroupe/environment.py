"""What a figure belongs to: the Python and platform, the machine, and the versions a report names."""

from __future__ import annotations

from functools import cache


def environment_key() -> str:
    """Return the key under which memory figures are kept, such as ``cpython-3.11-linux-x86_64``."""
    import platform
    import sys

    # Objects of a free-threaded (`t`) or a debugging (`d`) interpreter are larger; others have no flags.
    version = f"{sys.version_info.major}.{sys.version_info.minor}{getattr(sys, 'abiflags', '')}"
    return "-".join((sys.implementation.name, version, sys.platform, platform.machine().lower() or "unknown"))


@cache
def machine_key() -> str:
    """Return the key under which times are kept: the environment's, the number of cores and the processor's model."""
    import os

    return f"{environment_key()} {os.cpu_count() or 1}x {_processor()}"


def _processor() -> str:
    """Return the model of the processor, as far as the system tells it."""
    import platform
    import subprocess
    import sys

    told = ""
    if sys.platform.startswith("linux"):
        told = next((line for line in _lines("/proc/cpuinfo") if line.startswith(("model name", "Hardware"))), "")
    elif sys.platform == "darwin":
        asked = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        told = asked.stdout
    name = told.partition(":")[2] or told or platform.processor() or "unknown processor"
    return " ".join(name.split())


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


def environment() -> tuple[tuple[str, str], ...]:
    """Return what the figures were measured with."""
    import os
    import platform

    pairs = [
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("Platform", platform.platform()),
        ("Processors", str(os.cpu_count() or "unknown")),
    ]
    pairs += [(package, _version(package)) for package in ("pytest-tinytroupe", "pytest", "openai")]
    return tuple(pairs)


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
