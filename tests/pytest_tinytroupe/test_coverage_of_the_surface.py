"""Everything a user can set or be told has a test: limits are tried one by one, the rest is looked up in the tests."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import pytest_tinytroupe
from pytest_tinytroupe import options
from pytest_tinytroupe.marker import KEYWORDS, LIMITS
from pytest_tinytroupe.metrics import CATALOGUE, TIMED, metric
from pytest_tinytroupe.records import Status
from pytest_tinytroupe.verdict import judge

SOURCES = sorted(Path(pytest_tinytroupe.__file__).parent.rglob("*.py"))
TESTS = "\n".join(
    path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py")) if path != Path(__file__)
)
TELLING = 14
"""So many characters of a message in a row make it recognizable: tests have wildcards for what varies."""

CASES = """
    import pytest

    def cases(keywords):
        for keyword in keywords:
            holds, breaks = (1e9, 0) if keyword[:3] == "max" else (0, 1e9)
            yield pytest.param(marks=pytest.mark.perf(**{keyword: holds}), id=keyword + "-holds")
            yield pytest.param(marks=pytest.mark.perf(**{keyword: breaks}), id=keyword + "-breaks")
"""

# One person's turns fail, another's take too long, and something is kept: no metric is 0.
SIMULATION = """
    import pytest
    from cases import cases
    from tinytroupe import config_manager

    kept = []

    @pytest.mark.perf(baseline=False)
    @pytest.mark.parametrize((), cases({keywords}))
    def test_it(make_world, mock_llm, troupe):
        people = troupe(4)
        mock_llm.latency = 1.0
        mock_llm.when(person=people[0].name).fail("bad_request")
        mock_llm.when(person=people[1].name).reply("late", latency_s=50)
        mock_llm.when().reply_talk("Hello")
        world = make_world(people)
        with config_manager.override(parallel_execution_timeout=5, model="gpt-4o"):
            for _ in range(3):
                world.run(1)
                kept.append(b"x" * 2**21)
"""

TIMES = """
    import pytest
    from cases import cases

    @pytest.mark.perf(baseline=False, rounds=1, warmup=0)
    @pytest.mark.parametrize((), cases({keywords}))
    def test_it(): sum(range(100_000))
"""


@pytest.mark.slow
@pytest.mark.parametrize("xdist", [[], ["-n2"]], ids=["plain", "xdist"])
@pytest.mark.parametrize(("source", "timed"), [(SIMULATION, False), (TIMES, True)], ids=["simulation", "times"])
def test_every_limit_gates(pytester, source, timed, xdist):
    pytest.importorskip("genai_prices", reason="genai-prices is not installed: cost cannot be limited")
    keywords = [keyword for keyword in LIMITS if (keyword[4:] in TIMED) == timed]
    pytester.makepyfile(cases=CASES, test_it=source.format(keywords=keywords))
    result = pytester.runpytest_inprocess("-p", "no:randomly", "--perf", "--no-perf-report", *xdist)
    result.assert_outcomes(passed=len(keywords), failed=len(keywords))
    for keyword in keywords:
        bound = "over" if keyword[:3] == "max" else "below"
        result.stdout.fnmatch_lines_random([f"FAILED test_it.py::*{keyword}-breaks*"])
        result.stdout.fnmatch_lines_random([f"perf: {keyword[4:]} {bound} limit: *, {keyword[:3]} *"])


@pytest.mark.parametrize("keyword", [keyword for keyword in KEYWORDS if keyword not in LIMITS])
def test_every_other_keyword_has_a_test(keyword):
    assert f"{keyword}=" in TESTS


@pytest.mark.parametrize("option", ["--perf", "--no-perf", "--no-perf-strict", *options.NEEDS_PERF.values()])
def test_every_option_has_a_test(option):
    assert f'"{option}"' in TESTS or f'"{option}=' in TESTS


@pytest.mark.parametrize("key", [*options.SWITCHES, *options.PATHS, "perf_time_limit"])
def test_every_ini_key_has_a_test(key):
    assert f"{key} =" in TESTS or f'"{key}"' in TESTS


@pytest.mark.parametrize("status", get_args(Status))
def test_every_verdict_has_a_test(status):
    assert f'"{status}"' in TESTS or f"  {status}" in TESTS


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_limit_on_what_was_not_measured_fails_and_says_why(name):
    verdict = judge(metric(name, None), ("max", 1.0))
    assert (verdict.status, verdict.failed, verdict.note) == ("unmeasured", True, CATALOGUE[name].why)
    assert len(verdict.note) >= TELLING


def _quoted(parts: list[str]) -> bool:
    """Whether a test quotes any of the constant parts of a message."""
    windows = (part[start : start + TELLING] for part in parts for start in range(max(len(part) - TELLING + 1, 0)))
    return any(window in TESTS for window in windows)


def _constants(node: ast.AST) -> list[str]:
    texts = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
    return [text for text in texts if isinstance(text, str)]


def _messages() -> Iterator[tuple[str, list[str]]]:
    """Yield a place in the sources and the constant parts of the message it raises, or adds to the run's."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                arguments = node.exc.args
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
                arguments = node.args if ast.unparse(node.func.value) in ("self.errors", "self.warnings") else []
            elif isinstance(node, ast.Return) and path.name in ("marker.py", "phases.py") and node.value is not None:
                arguments = [node.value]  # of functions that return a problem, or nothing
            else:
                continue
            parts = [text for argument in arguments for text in _constants(argument)]
            if any(len(text) >= TELLING for text in parts):
                yield f"{path.name}:{node.lineno}", parts


def test_every_error_message_has_a_test():
    found = dict(_messages())
    assert len(found) > 50
    assert {place: parts for place, parts in found.items() if not _quoted(parts)} == {}
