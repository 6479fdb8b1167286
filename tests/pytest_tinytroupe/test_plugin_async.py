"""Coroutine tests run to completion and are timed to completion, by themselves and with the usual plugins."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

TEST = """
import asyncio, pytest
import openai
{extra}

done = []

async def ask():
    async with openai.AsyncOpenAI(api_key="x") as client:
        await client.chat.completions.create(model="m", messages=[{{"role": "user", "content": "hi"}}])

{mark}
@pytest.mark.perf(max_time_s=30)
async def test_virtual(mock_llm):
    mock_llm.latency = 30.0
    await asyncio.gather(*(ask() for _ in range(5)))
    done.append("virtual")

{mark}
@pytest.mark.perf
class TestIt:
    async def test_method(self, mock_llm):
        mock_llm.latency = 2.0
        await ask()
        await ask()

{mark}
@pytest.mark.perf
async def test_real(perf):
    with perf.measure("sleep_s"):
        await asyncio.sleep(0.02)
    done.append("real")

{mark}
@pytest.mark.perf
async def test_fails(mock_llm):
    await asyncio.sleep(1)
    assert not done, "awaited"

def test_all_ran(): assert sorted(set(done)) == ["real", "virtual"]
"""

SCOPE = ("-o", "asyncio_default_fixture_loop_scope=function")
VARIANTS = {
    "alone": ("", "", ("-p", "no:anyio", "-p", "no:asyncio"), ()),
    "anyio": (
        "@pytest.mark.anyio",
        "@pytest.fixture\ndef anyio_backend(): return 'asyncio'",
        ("-p", "no:asyncio"),
        ("anyio",),
    ),
    "asyncio-strict": ("@pytest.mark.asyncio", "", ("--asyncio-mode=strict", *SCOPE), ("pytest_asyncio",)),
    "asyncio-auto": ("", "", ("--asyncio-mode=auto", *SCOPE), ("pytest_asyncio",)),
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_coroutines_are_timed_to_their_end(pytester, variant, monkeypatch):
    mark, extra, args, needs = VARIANTS[variant]
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest")
    for module in needs:
        pytest.importorskip(module, reason=f"{module} is not installed: async tests with it were not tried")
    pytester.makepyfile(test_it=TEST.format(mark=mark, extra=extra))
    result = pytester.runpytest_subprocess(
        "-p", "no:randomly", "--perf", "--perf-update", "--no-perf-report", "-v", "-W", "error", *args
    )
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["E * AssertionError: awaited"])
    tests = json.loads((pytester.path / "baselines" / "test_it.json").read_text())["tests"]
    assert tests["test_virtual"]["exact"]["time_s"] == 30
    assert tests["test_virtual"]["exact"]["llm_calls"] == 5
    assert tests["TestIt::test_method"]["exact"]["time_s"] == 4
    (line,) = [line for line in result.outlines if line.startswith("  sleep_s ")]
    assert float(line.split()[1]) >= 0.019  # the coroutine, not its creation


def test_skips_and_errors_come_through(pytester):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.perf
        async def test_skip(mock_llm): pytest.skip("inside")
        @pytest.mark.perf
        async def test_skip_plain(): pytest.skip("inside")
        @pytest.mark.perf
        @pytest.mark.xfail(strict=True, raises=KeyError)
        async def test_xfail(mock_llm): raise KeyError
        @pytest.mark.perf
        @pytest.mark.parametrize("n", [1, 2])
        async def test_param(n, mock_llm): assert n
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:randomly", "--perf", "--no-perf-report")
    result.assert_outcomes(passed=2, skipped=2, xfailed=1)


def test_trio_is_left_to_anyio(pytester, monkeypatch):
    pytest.importorskip("trio", reason="trio is not installed: anyio's trio backend was not tried")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest -p no:asyncio")
    pytester.makepyfile(
        """
        import pytest, sniffio
        @pytest.fixture
        def anyio_backend(): return "trio"
        @pytest.mark.anyio
        @pytest.mark.perf
        async def test_it(): assert sniffio.current_async_library() == "trio"
        """
    )
    pytester.runpytest_inprocess("--perf", "--no-perf-report").assert_outcomes(passed=1)


def test_without_perf_the_module_is_not_imported():
    code = "import sys, pytest_tinytroupe.plugin; sys.exit('pytest_tinytroupe.coroutines' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_decorators_plain_function_around_a_coroutine_function_runs_whole(pytester):
    pytester.makepyfile(
        """
        import asyncio, functools, pytest
        entered = []
        def noting(function):
            @functools.wraps(function)
            def inner(*args, **kwargs):
                entered.append(1)
                return function(*args, **kwargs)
            return inner
        @pytest.mark.perf(max_time_s=3, baseline=False)
        @noting
        async def test_it(mock_llm): await asyncio.sleep(2)
        @pytest.mark.perf(baseline=False)
        @noting
        async def test_real(): await asyncio.sleep(0)
        def test_entered(): assert len(entered) == 2
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:randomly", "--perf", "--no-perf-report", "-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*time_s * 2 s *"])
