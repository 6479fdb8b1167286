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
    assert set(KEYWORDS) - set(LIMITS) == {
        *("tolerance", "baseline", "seed", "clock", "rounds", "warmup", "isolate"),
        "p95_turn_latency_s",
    }
    assert {name[4:] for name in LIMITS} == set(CATALOGUE)
    named = ("min_speedup", "max_time_s", "max_llm_calls", "max_tokens", "max_heap_mb", "tolerance", "baseline", "seed")
    assert all(keyword in MARKER_LINE for keyword in named)


@pytest.mark.parametrize(
    ("marker", "timed"),
    [
        (PerfMarker(), ()),
        (PerfMarker({"max_time_s": 1, "max_heap_mb": 1}), ()),
        (PerfMarker({"max_cpu_s": 1}), ("cpu_s",)),
        (PerfMarker({"min_wall_s": 1}), ("wall_s",)),
        (PerfMarker(tolerance={"cpu_s": 0.15}), ("cpu_s",)),
        (PerfMarker(clock="wall"), ("wall_s", "cpu_s")),
    ],
)
def test_times_are_taken_on_wall_time_and_where_they_are_asked_for(marker, timed):
    assert marker.timed == timed


def test_a_metrics_bare_name_is_its_upper_limit_and_what_is_near_wins(pytester):
    pytester.makeconftest(
        """
        from pytest_tinytroupe.marker import read_marker

        def pytest_collection_modifyitems(items):
            for item in items:
                marker = read_marker(item)
                print(item.name, dict(marker.thresholds), marker.clock, marker.rounds, marker.isolate)
        """
    )
    pytester.makepyfile(
        """
        import pytest
        pytestmark = pytest.mark.perf(p95_turn_latency_s=2, isolate=True)
        def test_far(): pass
        @pytest.mark.perf(max_p95_turn_latency_s=1)
        def test_near(): pass
        @pytest.mark.perf(p95_turn_latency_s=None, isolate=False, clock="wall", rounds=3)
        def test_other(): pass
        """
    )
    result = pytester.runpytest_inprocess("--collect-only", *QUIET[:-1])
    result.stdout.fnmatch_lines(
        [
            "test_far {'max_p95_turn_latency_s': 2} virtual None True",
            "test_near {'max_p95_turn_latency_s': 1} virtual None True",
            "test_other {} wall 3 False",
        ]
    )


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

            @pytest.mark.perf(max_tokens=3)
            @pytest.mark.perf(max_tokens=4)
            def test_stacked(self): pass
        """
    )
    result = pytester.runpytest_inprocess("--collect-only", *QUIET[:-1])
    result.stdout.fnmatch_lines(
        [
            "test_function {'max_llm_calls': 5, 'max_time_s': 9, 'max_tokens': 1} 9 False",
            "test_param?1? {'max_llm_calls': 5, 'max_tokens': 0} 9 True",
            "test_param?2? {'max_llm_calls': 5, 'max_tokens': 2} 9 True",
            "test_stacked {'max_llm_calls': 5, 'max_time_s': 9, 'max_tokens': 4} 9 True",
        ]
    )


BAD = {
    "min_speedpu=3": "no keyword 'min_speedpu'; did you mean 'min_speedup'?",
    "max_calls=3": "no keyword 'max_calls'; did you mean 'max_llm_calls'?",
    "max_queries=3": "has a baseline, and no limit but the test's own assert; known: max_… and min_… of speedup, ",
    "min_effeciency=1": "did you mean 'min_efficiency'?",
    "baselin=True": "did you mean 'baseline'?",
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
    "tolerance={'cost_usd': 0.1}": "cost_usd keeps no baseline",
    "tolerance={'peak_memory_mb': 0.1}": "tolerance of peak_memory_mb: it keeps no baseline but with isolate=True",
    "clock='real'": "must be 'virtual' or 'wall'",
    "clock=None": "must be 'virtual' or 'wall'",
    "isolate=1": "must be True or False",
    "rounds=0, clock='wall'": "perf(rounds=0): must be a whole number, at least 1",
    "rounds=True, clock='wall'": "must be a whole number, at least 1",
    "rounds=1.5, clock='wall'": "must be a whole number, at least 1",
    "warmup=-1, clock='wall'": "must be a whole number, at least 0",
    "rounds=3": "rounds: only wall_s and cpu_s take rounds",
    "warmup=0, isolate=True": "warmup: only wall_s and cpu_s take rounds",
    "clock='wall', min_speedup=2": "clock='wall' and speedup: that is exact on virtual time only",
    "clock='wall', tolerance={'efficiency': 0.1}": "clock='wall' and efficiency: that is exact on virtual time only",
    "clock='wall', p95_turn_latency_s=1": "clock='wall' and p95_turn_latency_s",
    "p95_turn_latency_s=1, max_p95_turn_latency_s=2": "p95_turn_latency_s and max_p95_turn_latency_s mean the same",
    "p95_turn_latency_s='1'": "must be a finite number",
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
    result = pytester.runpytest_subprocess("-n1", "-p", "no:randomly", "-q", *perf)
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
