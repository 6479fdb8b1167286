"""A run without --perf must not pay for the plugin, and the modules agree with the package's rules."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"tinytroupe", "openai", "jinja2", "psutil", "pydantic", "respx", "asyncio"}


def modules_after(statement: str) -> set[str]:
    code = f"import sys, pytest; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(result.stdout.split())


def test_importing_the_plugin_imports_next_to_nothing():
    new = modules_after("import pytest_tinytroupe.plugin")
    assert new == {
        "pytest_tinytroupe",
        "pytest_tinytroupe.fixtures",
        "pytest_tinytroupe.options",
        "pytest_tinytroupe.phases",
        "pytest_tinytroupe.plugin",
    }


@pytest.mark.parametrize("mark", ["@pytest.mark.perf", ""], ids=["perf", "plain"])
def test_a_run_without_perf_imports_nothing_heavy(pytester, mark):
    pytester.makepyfile(
        f"""
        import sys, pytest
        {mark}
        def test_it(): pass
        def test_modules(): print("LOADED", *sys.modules)
        """
    )
    plugins = ("randomly", "hypothesispytest", "respx", "anyio", "xdist", "timeout")
    off = [argument for name in plugins for argument in ("-p", f"no:{name}")]
    result = pytester.runpytest_subprocess("-s", *off)
    assert result.ret == 0
    (line,) = [line for line in result.outlines if "LOADED" in line]
    assert not {name.partition(".")[0] for name in line.split()} & HEAVY


def test_the_plugins_modules_import_without_pytest_running_and_without_the_core():
    new = modules_after("import pytest_tinytroupe.session, pytest_tinytroupe.verdict, pytest_tinytroupe.baseline")
    assert not {name.partition(".")[0] for name in new} & {"tinytroupe", "openai", "jinja2"}
