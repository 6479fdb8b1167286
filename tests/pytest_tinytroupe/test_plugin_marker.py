"""The perf marker: merged from module, class and function, and refused where it makes no sense."""

from __future__ import annotations

import pytest

from pytest_tinytroupe.marker import KEYWORDS, LIMITS, PerfMarker
from pytest_tinytroupe.metrics import CATALOGUE
from pytest_tinytroupe.options import MARKER_LINE

QUIET = ("-p", "no:randomly", "-q", "--no-perf-report")


def test_limits_are_named_like_metrics():
    marker = PerfMarker({"min_speedup": 3, "max_llm_calls": 0, "min_llm_calls": 0, "max_heap_mb": 1.5})
    assert marker.limits() == {
        "speedup": [("min", 3.0)],
        "llm_calls": [("max", 0.0), ("min", 0.0)],
        "heap_mb": [("max", 1.5)],
    }
    assert marker.wants("heap_mb")
    assert not marker.wants("tokens")
    assert PerfMarker().limits() == {}


def test_every_metric_has_both_limits_and_the_registered_line_names_the_usual_keywords():
    assert set(KEYWORDS) - set(LIMITS) == {"tolerance", "baseline", "seed"}
    assert {name[4:] for name in LIMITS} == set(CATALOGUE)
    named = ("min_speedup", "max_time_s", "max_llm_calls", "max_tokens", "max_heap_mb", "tolerance", "baseline", "seed")
    assert all(keyword in MARKER_LINE for keyword in named)


def test_the_nearest_marker_wins_key_by_key(pytester):
    pytester.makeconftest(
        """
        from pytest_tinytroupe.marker import read_marker

        def pytest_collection_modifyitems(items):
            for item in items:
                marker = read_marker(item)
                print(item.name, dict(sorted(marker.thresholds.items())), marker.seed, marker.baseline)
        """
    )
    pytester.makepyfile(
        """
        import pytest
        pytestmark = pytest.mark.perf(max_time_s=9, max_llm_calls=9, seed=9)

        class Base:
            pytestmark = pytest.mark.perf(max_llm_calls=8)

        @pytest.mark.perf(max_llm_calls=5, max_tokens=5)
        class TestIt(Base):
            @pytest.mark.perf(max_tokens=1, baseline=False)
            def test_function(self): pass

            @pytest.mark.parametrize("n", [pytest.param(1, marks=pytest.mark.perf(max_tokens=0)), 2])
            @pytest.mark.perf(max_tokens=2, max_time_s=None)
            def test_param(self, n): pass
        """
    )
    result = pytester.runpytest_inprocess("--collect-only", *QUIET[:-1])
    result.stdout.fnmatch_lines(
        [
            "test_function {'max_llm_calls': 5, 'max_time_s': 9, 'max_tokens': 1} 9 False",
            "test_param?1? {'max_llm_calls': 5, 'max_tokens': 0} 9 True",
            "test_param?2? {'max_llm_calls': 5, 'max_tokens': 2} 9 True",
        ]
    )


BAD = {
    "min_speedpu=3": "no keyword 'min_speedpu'; did you mean 'min_speedup'?",
    "max_calls=3": "no keyword 'max_calls'; did you mean 'max_llm_calls'?",
    "banana=3": "no keyword 'banana'; known: max_… and min_… of speedup, ",
    "3.0": "takes keywords only, not 3.0",
    "max_time_s='1'": "perf(max_time_s='1'): must be a finite number, not negative",
    "max_time_s=True": "must be a finite number",
    "max_time_s=-1": "must be a finite number",
    "max_time_s=float('nan')": "must be a finite number",
    "max_time_s=float('inf')": "must be a finite number",
    "baseline=1": "must be True or False",
    "seed=1.5": "must be a whole number",
    "seed=True": "must be a whole number",
    "max_prompt_token=1": "did you mean 'max_prompt_tokens'?",
    "tolerance=0.05": "must be a dict of metric names and shares",
    "tolerance={'heap_mb': -1}": "the share of heap_mb must be a finite number",
    "tolerance={'heap_mb': True}": "the share of heap_mb must be a finite number",
    "tolerance={1: 0.1}": "1 is not the name of a metric",
    "tolerance={'peak_memory_mb': 0.1}": "peak_memory_mb keeps no baseline",
}


@pytest.mark.parametrize(("arguments", "message"), BAD.items(), ids=BAD.keys())
def test_what_is_not_understood_is_a_usage_error(pytester, arguments, message):
    pytester.makepyfile(f"import pytest\n@pytest.mark.perf({arguments})\ndef test_it(): pass\ndef test_other(): pass")
    result = pytester.runpytest_inprocess(*QUIET[:-1])
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.startswith("ERROR: ")]
    assert line.startswith("ERROR: test_what_is_not_understood_is_a_usage_error.py::test_it: @pytest.mark.perf")
    assert message in line


def test_all_wrong_markers_are_named_at_once_also_with_perf(pytester):
    pytester.makepyfile(
        "import pytest\n@pytest.mark.perf(a=1)\ndef test_a(): pass\n@pytest.mark.perf(b=1)\ndef test_b(): pass"
    )
    result = pytester.runpytest_inprocess("--perf", *QUIET)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *::test_a: *'a'*", "*::test_b: *'b'*"])


@pytest.mark.parametrize("perf", [["--perf", "--no-perf-report"], []])
def test_a_wrong_marker_fails_readably_on_workers(pytester, perf):
    pytester.makepyfile("import pytest\n@pytest.mark.perf(max_token=1)\ndef test_a(): pass\ndef test_b(): pass")
    result = pytester.runpytest_subprocess("-n2", "-p", "no:randomly", "-q", *perf)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*::test_a: @pytest.mark.perf has no keyword 'max_token'; did you mean 'max_tokens'*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_a_marker_added_by_a_conftest_counts(pytester):
    pytester.makeconftest(
        """
        import pytest
        def pytest_collection_modifyitems(items):
            items[0].add_marker(pytest.mark.perf(max_tokens="many"))
        """
    )
    pytester.makepyfile("def test_a(): pass")
    assert pytester.runpytest_inprocess(*QUIET[:-1]).ret == pytest.ExitCode.USAGE_ERROR


def test_it_is_registered(pytester):
    result = pytester.runpytest_inprocess("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.perf(min_speedup, *"])
