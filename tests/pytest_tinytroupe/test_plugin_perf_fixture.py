"""The fixture `perf`: any code, judged like the plugin's own metrics."""

from __future__ import annotations

import json

import pytest


def run(pytester, *args):
    return pytester.runpytest_inprocess("-p", "no:randomly", "--perf", "--no-perf-report", *args)


def stored(pytester, test="test_it"):
    return json.loads((pytester.path / "baselines" / "test_it.json").read_text())["tests"][test]["exact"]


def test_recorded_metrics_are_judged_against_the_baseline(pytester):
    source = """
        import pytest
        @pytest.mark.perf(tolerance={{"rows": 0.1}})
        def test_it(perf):
            perf.record("queries", {queries})
            perf.record("rows", {rows}, "r", better="higher")
            perf.record("guess", 1.5, "s", tier="wall")
    """
    pytester.makepyfile(test_it=source.format(queries=3, rows=100))
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    assert stored(pytester) == {"queries": 3, "rows": 100}
    pytester.makepyfile(test_it=source.format(queries=4, rows=90))
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["perf: queries regressed: 4, baseline 3*", "  rows * 90 r * 100 r * -10.0 % * ok"])
    pytester.makepyfile(test_it=source.format(queries=3, rows=89))
    run(pytester).stdout.fnmatch_lines(["perf: rows regressed: 89 r, baseline 100 r (-11.0 %)"])


def test_a_metric_that_is_no_longer_recorded_fails(pytester):
    pytester.makepyfile(test_it="import pytest\n@pytest.mark.perf\ndef test_it(perf): perf.record('queries', 3)")
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    pytester.makepyfile(test_it="import pytest\n@pytest.mark.perf\ndef test_it(perf): pass")
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["queries: in the baseline, but not measured any more: the test did not record it*"])


def test_a_tolerance_for_a_metric_nobody_recorded_fails(pytester):
    pytester.makepyfile("import pytest\n@pytest.mark.perf(tolerance={'heap_md': 0.1})\ndef test_it(): pass")
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["perf: heap_md was not measured"])


def test_measure_is_exact_on_virtual_time_and_real_elsewhere(pytester):
    pytester.makepyfile(
        test_it="""
        import asyncio, pytest
        @pytest.mark.perf
        def test_it(perf):
            with perf.virtual_time() as clock:
                for _ in range(3):
                    with perf.measure("wait_s"):
                        clock.run(asyncio.sleep(5))
        @pytest.mark.perf
        def test_mock(perf, mock_llm, make_world):
            mock_llm.latency = 2.0
            world = make_world(agents=2)
            with perf.measure("run_s"):
                world.run(2)
        @pytest.mark.perf
        def test_real(perf):
            with perf.measure("real_s"):
                pass
        @pytest.mark.perf
        def test_computing(perf, mock_llm):
            for _ in range(2):
                with perf.measure("sum_s"):
                    sum(range(1000))
        @pytest.mark.perf
        def test_expected_error(perf):
            with perf.virtual_time() as clock, pytest.raises(KeyError), perf.measure("until_s"):
                clock.run(asyncio.sleep(7))
                raise KeyError
        """
    )
    result = run(pytester, "--perf-update", "-v", "--perf-json=perf.json")
    result.assert_outcomes(passed=5)
    assert stored(pytester)["wait_s"] == stored(pytester)["time_s"] == 15
    assert stored(pytester, "test_mock")["run_s"] == 4
    assert stored(pytester, "test_real") == {}
    result.stdout.fnmatch_lines(["  real_s *advisory"])
    assert stored(pytester, "test_computing")["sum_s"] == 0
    assert stored(pytester, "test_expected_error")["until_s"] == 7
    notes = [
        note for record in json.loads((pytester.path / "perf.json").read_text())["records"] for note in record["notes"]
    ]
    assert sum(note.startswith("sum_s: 0 s, as the virtual clock stood still in the block") for note in notes) == 1
    assert not any(note.startswith(("wait_s", "run_s", "until_s")) for note in notes)


def test_compare_is_judged_under_perf_and_asserts_without(pytester):
    pytester.makepyfile(
        """
        import pytest
        slow, fast = (lambda: sum(range(20000))), (lambda: sum(range(2000)))
        @pytest.mark.perf
        def test_good(perf):
            assert perf.compare(slow, fast, 2.0, rounds=5).ratio > 2
        @pytest.mark.perf
        def test_bad(perf): perf.compare(fast, slow, name="fast_by_slow")
        @pytest.mark.perf
        def test_swallowed(perf):
            with pytest.raises(ZeroDivisionError):
                perf.compare(lambda: 1 / 0, fast)
        def test_plain_good(perf): perf.compare(slow, fast)
        def test_plain_bad(perf): perf.compare(fast, slow)
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=2, failed=3)
    result.stdout.fnmatch_lines(["perf: fast_by_slow below limit: 0.*x, min 2x", "perf: ratio was not measured"])
    result.stdout.fnmatch_lines(["E * AssertionError: ratio: 0.*x as fast (95 % bounds*"])
    result.stdout.no_fnmatch_line("*new, without a baseline*ratio*")


BAD = {
    "record('a b', 1)": "cannot name a metric",
    "record('', 1)": "cannot name a metric",
    "record('<b>', 1)": "cannot name a metric",
    "record('llm_calls', 1)": "a metric that the plugin measures itself",
    "record('x', 1); perf.record('x', 2)": "recorded already",
    "record('x', float('nan'))": "must be a finite number",
    "record('x', 1j)": "must be a finite number",
    "record('x', True)": "must be a finite number",
    "record('x', '1')": "must be a finite number",
    "record('x', 10**400)": "must be a finite number",
    "record('x', 1, unit=None)": "unit must be a text",
    "record('x', 1, better='more')": "better must be",
    "record('x', 1, tier='sure')": "tier must be one of",
    "compare(print, print, min_ratio=0)": "min_ratio must be",
    "measure('time_s').__enter__()": "a metric that the plugin measures itself",
}


@pytest.mark.parametrize(("call", "message"), BAD.items(), ids=BAD.keys())
def test_nonsense_is_refused(perf, call, message):
    with pytest.raises(ValueError, match=message):
        exec(f"perf.{call}")


@pytest.mark.parametrize("value", ["1 / 3", "1.23456789e-10", "-2.5e-7", "1.7976931348623157e308", "10**300"])
def test_a_recorded_value_comes_back_to_the_last_digit(pytester, value):
    pytester.makepyfile(test_it=f"import pytest\n@pytest.mark.perf\ndef test_it(perf): perf.record('x', {value})")
    assert run(pytester, "--perf-update").ret == 0
    assert run(pytester).ret == 0
    assert stored(pytester)["x"] == eval(value)


def test_numbers_of_any_kind_are_recorded_as_plain_ones(pytester):
    pytester.makepyfile(
        test_it="""
        import numbers, pytest
        from fractions import Fraction
        class Whole(Fraction): pass  # as those of NumPy: no int, and yet registered as a whole number
        numbers.Integral.register(Whole)
        @pytest.mark.perf
        def test_it(perf):
            perf.record("a", Fraction(3, 2))
            perf.record("b", Whole(2))
        """
    )
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    assert repr(stored(pytester)) == "{'a': 1.5, 'b': 2}"


@pytest.mark.slow
def test_numbers_and_texts_of_other_libraries_get_from_a_worker_to_the_controller(pytester):
    pytester.makepyfile(
        test_it="""
        import pytest
        class Float(float): pass
        class Int(int): pass
        class Text(str): pass
        @pytest.mark.perf
        def test_it(perf):
            perf.record("a", Float(1.5))
            perf.record(Text("b"), Int(2), unit=Text("s"))
            with perf.measure(Text("c")): pass
            perf.compare(lambda: sum(range(2000)), lambda: sum(range(200)), Float(1.5), name=Text("d"))
        """
    )
    run(pytester, "--perf-update", "-n1").assert_outcomes(passed=1)
    assert stored(pytester) == {"a": 1.5, "b": 2}
