"""Passes: full set-ups of their own, one set of reports, and a failure in any of them is the test's failure."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from pytest_tinytroupe.environment import environment_key
from pytest_tinytroupe.marker import PerfMarker
from pytest_tinytroupe.passes import plan
from pytest_tinytroupe.verdict import HEAP_FLOOR_MB

FAKES = """
import random
import pytest
from pytest_tinytroupe.probe import probe_of

class Clock:
    virtual = True
    time_s = 100.0
    def now(self):
        return self.time_s

class Model:
    calls = prompt_tokens = completion_tokens = 7
    complaint = ""
    def ask(self, n=1):
        self.calls += n
        self.prompt_tokens += 10 * n
        self.completion_tokens += n
    def verify(self):
        assert not self.complaint, self.complaint

@pytest.fixture
def clock(request):
    clock = Clock()
    probe_of(request.node).add_clock(clock)
    return clock

@pytest.fixture
def model(request):
    model = Model()
    model.ask()  # in set-up: does not count
    probe_of(request.node).add_llm(model)
    return model
"""


PLAIN = ("-p", "no:randomly", "--perf", "--no-perf-report")


def run(pytester, *args):
    return pytester.runpytest_inprocess("-p", "no:randomly", "--perf", "--no-perf-report", "-v", *args)


@pytest.mark.parametrize(
    ("marker", "passes"),
    [
        (PerfMarker(), ("main", "heap")),
        (PerfMarker({"min_speedup": 2}), ("main", "sequential", "heap")),
        (PerfMarker(baseline=False), ("main",)),
        (PerfMarker({"max_heap_mb": 1}, baseline=False), ("main", "heap")),
        (PerfMarker({"min_speedup": 0}, baseline=False), ("main", "sequential")),
    ],
)
def test_a_test_takes_the_passes_its_marker_asks_for(marker, passes):
    assert plan(marker) == passes


def test_each_pass_is_full_and_only_function_scoped_things_are_fresh(pytester):
    pytester.makeconftest(FAKES)
    pytester.makepyfile(
        test_one="""
        import pytest
        log = []

        @pytest.fixture(scope="session")
        def session(): log.append("+session"); yield; log.append("-session")
        @pytest.fixture(scope="module")
        def module(): log.append("+module"); yield; log.append("-module")
        @pytest.fixture(scope="class")
        def klass(): log.append("+class"); yield; log.append("-class")
        @pytest.fixture
        def function(): log.append("+function"); yield; log.append("-function")

        class TestIt:
            @pytest.mark.perf(min_speedup=1)
            def test_perf(self, session, module, klass, function, tmp_path, clock):
                assert not hasattr(self, "seen")
                self.seen = True
                assert not list(tmp_path.iterdir())
                (tmp_path / "x").touch()
                clock.time_s += 2
                log.append("call")
            def test_in_class(self):
                assert "-class" not in log

        def test_after():
            once = ["+function", "call", "-function"]
            assert log == ["+session", "+module", "+class", *once, *once, *once, "-class"]
        """,
        test_two="""
        from test_one import log
        def test_next_module(): assert log[-1] == "-module"
        """,
    )
    result = run(pytester, "-v", "--junitxml=junit.xml")
    result.assert_outcomes(passed=4)
    assert result.stdout.str().count("test_perf PASSED") == 1
    assert (pytester.path / "junit.xml").read_text().count("test_perf") == 1


def test_unittest_and_parametrized_tests_and_xunit_setup(pytester):
    pytester.makepyfile(
        """
        import unittest, pytest
        ups = []
        def setup_function(function): ups.append(function.__name__)

        @pytest.mark.perf
        class TestCase(unittest.TestCase):
            def setUp(self): self.n = 0
            def test_it(self): self.n += 1; assert self.n == 1

        @pytest.fixture(params=[1, 2], scope="module")
        def number(request): return request.param

        @pytest.mark.perf
        @pytest.mark.parametrize("letter", "ab")
        def test_p(number, letter): pass

        def test_all(): assert ups.count("test_p") == 8
        """
    )
    run(pytester, "-vv").assert_outcomes(passed=6)


@pytest.mark.parametrize(
    ("body", "outcome", "pass_name"),
    [("n == 1", "failed", "main"), ("n == 2", "failed", "sequential"), ("n == 3", "failed", "heap")],
)
def test_a_failure_in_any_pass_is_the_tests_failure(pytester, body, outcome, pass_name):
    pytester.makeconftest(FAKES)
    pytester.makepyfile(
        test_it=f"""
        import pytest
        n = 0
        @pytest.fixture(scope="module")
        def module(): yield; print("module torn down")
        @pytest.mark.perf(min_speedup=1)
        def test_it(clock, module):
            global n
            n += 1
            print("this is run", n)
            clock.time_s += 1
            assert not ({body}), "on purpose"
        def test_other(): pass
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines([f"*This happened in the {pass_name} pass*"])
    result.stdout.fnmatch_lines(["FAILED *::test_it - AssertionError: on purpose*"])
    assert sum(line.startswith("this is run") for line in result.outlines) == 1  # output of that pass only


def test_a_failure_in_the_first_pass_tears_the_module_down_before_the_next(pytester):
    pytester.makepyfile(
        test_1="""
        import pytest
        down = []
        @pytest.fixture(scope="module")
        def module(): yield; down.append(1)
        @pytest.mark.perf
        def test_it(module): assert 0
        """,
        test_2="def test_next():\n    from test_1 import down\n    assert down",
    )
    run(pytester).assert_outcomes(failed=1, passed=1)


def test_a_module_teardown_that_fails_after_a_failure_is_reported(pytester):
    pytester.makepyfile(
        """
        import pytest
        @pytest.fixture(scope="module")
        def module(): yield; raise RuntimeError("module down")
        @pytest.mark.perf
        def test_it(module): assert 0
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.fnmatch_lines(["*RuntimeError: module down"])


def test_setup_and_teardown_errors_are_errors(pytester):
    pytester.makepyfile(
        """
        import pytest
        @pytest.fixture
        def up(): raise RuntimeError("up")
        @pytest.fixture
        def down(): yield; raise RuntimeError("down")
        @pytest.mark.perf
        def test_up(up): pass
        @pytest.mark.perf
        def test_down(down): pass
        @pytest.mark.perf(baseline=False)
        def test_down_last(down): pass
        """
    )
    result = run(pytester, "--perf-update")
    result.assert_outcomes(errors=3, failed=1, passed=1)
    why = "perf: not judged: its main pass failed when it was torn down: RuntimeError: down"
    result.stdout.fnmatch_lines([why, "*::test_down  [[]error[]]", f"    {why}"])
    assert not list((pytester.path / "baselines").rglob("*.json"))


def test_a_run_that_stops_between_two_passes_judges_nothing(pytester):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.perf
        def test_it(request): request.session.shouldstop = "enough"
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["perf: not judged: the test ended after its main pass, before heap"])


def test_skip_and_xfail_are_respected(pytester):
    pytester.makepyfile(
        """
        import pytest
        runs = []
        @pytest.mark.perf
        @pytest.mark.skip(reason="mark")
        def test_skip_mark(): runs.append(1)
        @pytest.mark.perf
        def test_skip_call(): runs.append(1); pytest.skip("call")
        @pytest.mark.perf
        @pytest.mark.xfail
        def test_xfail_body(): runs.append(1); assert 0
        @pytest.mark.perf(max_heap_mb=0.1)
        @pytest.mark.xfail(strict=True)
        def test_xfail_verdict(): bytearray(2**20)
        @pytest.mark.perf(max_heap_mb=9)
        @pytest.mark.xfail(strict=False)
        def test_xpass(): pass
        @pytest.mark.perf
        @pytest.mark.xfail(strict=True)
        def test_xpass_strict(): pass
        def test_runs(): assert len(runs) == 2
        """
    )
    result = run(pytester, "--perf-update")
    result.assert_outcomes(skipped=2, xfailed=2, xpassed=1, failed=1, passed=1)


def test_ctrl_c_leaves_nothing_running(pytester):
    pytester.makepyfile(
        """
        import pytest
        n = 0
        @pytest.mark.perf
        def test_it():
            global n
            n += 1
            if n == 2:
                raise KeyboardInterrupt
        def test_never(): assert 0
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:randomly", "--perf", "--no-perf-report", no_reraise_ctrlc=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*KeyboardInterrupt*"])
    assert not tracemalloc.is_tracing()


def test_counts_start_with_the_call_and_are_exact(pytester):
    pytester.makeconftest(FAKES)
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.perf(max_llm_calls=3, max_tokens=33, max_time_s=0.3)
        def test_it(clock, model):
            for _ in range(3):
                model.ask()
                clock.time_s += 0.1
        """
    )
    result = run(pytester, "--perf-update")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*time_s * 0.3 s *≤ 0.3 s  new", "*llm_calls * 3 *≤ 3  new", "*prompt_tokens * 30 *"])


def test_two_clocks_add_up_and_a_source_attached_twice_counts_once(pytester):
    pytester.makeconftest(FAKES)
    pytester.makepyfile(
        """
        import pytest
        from conftest import Clock, Model
        from pytest_tinytroupe.probe import probe_of
        @pytest.mark.perf(max_time_s=3, max_llm_calls=1)
        def test_it(request, clock, model):
            other, probe = Clock(), probe_of(request.node)
            probe.add_clock(other); probe.add_clock(clock); probe.add_llm(model)
            other.time_s += 1; clock.time_s += 2; model.ask()
        """
    )
    run(pytester).assert_outcomes(passed=1)


def test_a_reset_of_the_mock_model_hides_no_call(pytester):
    pytester.makepyfile(
        """
        import openai, pytest
        def call(n):
            with openai.OpenAI(api_key="x") as client:
                for _ in range(n):
                    client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello?"}])
        @pytest.fixture
        def warmed(mock_llm):
            call(5)
            return mock_llm
        @pytest.mark.perf(max_llm_calls=4)
        def test_it(warmed):
            call(1); warmed.reset(); call(2); warmed.reset(); call(2)
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["perf: llm_calls over limit: 5, max 4*"])


UNMEASURED = {
    "min_speedup=2": "speedup: nothing ran on virtual time*",
    "min_efficiency=0.5": "efficiency: no world took a step*",
    "max_llm_calls=5": "llm_calls: no model was watched: add the fixture mock_llm*",
    "max_tokens=5": "tokens: no model was watched*",
}


@pytest.mark.parametrize(("limit", "line"), UNMEASURED.items(), ids=UNMEASURED.keys())
def test_a_limit_that_could_not_be_measured_fails(pytester, limit, line):
    pytester.makepyfile(f"import pytest\n@pytest.mark.perf({limit})\ndef test_it(): pass")
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["perf: * was not measured", line])


def test_a_speedup_that_nothing_could_have_changed_says_why(pytester):
    pytester.makeconftest(FAKES)
    pytester.makepyfile("import pytest\n@pytest.mark.perf(min_speedup=2)\ndef test_it(clock): clock.time_s += 1")
    run(pytester).stdout.fnmatch_lines(
        ["perf: speedup below limit: 1x, min 2x", "speedup: no world took a step, and *"]
    )


def test_a_speedup_of_what_is_done_once_says_why_it_was_not_measured(pytester):
    pytester.makepyfile(
        """
        import pytest
        done = []
        @pytest.mark.perf(min_speedup=1)
        def test_it(make_world, mock_llm):
            mock_llm.latency = 1.0
            if not done:
                done.append(make_world(agents=2).run(1))
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["perf: speedup was not measured", "speedup: no world took a step in the sequential *"])


def test_real_time_beside_virtual_time_measures_neither(pytester):
    pytester.makeconftest(FAKES)
    pytester.makepyfile(
        """
        import pytest
        from conftest import Clock
        from pytest_tinytroupe.probe import probe_of
        @pytest.mark.perf(max_time_s=5)
        def test_it(request, clock):
            real = Clock()
            real.virtual = False
            probe_of(request.node).add_clock(real)
            clock.time_s += 1
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["perf: time_s was not measured", "time_s: part of the test ran on real time, *"])


def test_exact_figures_that_differ_never_look_alike(pytester):
    pytester.makeconftest(FAKES)
    source = "import pytest\n@pytest.mark.perf\ndef test_it(clock): clock.time_s += {}"
    pytester.makepyfile(test_it=source.format(50))
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    pytester.makepyfile(test_it=source.format(50.0000001))
    run(pytester).stdout.fnmatch_lines(["perf: time_s regressed: 50.0000001 s, baseline 50 s (+2e-07 %)"])


def test_a_regression_names_the_person_and_the_step(pytester):
    source = """
        import pytest
        @pytest.mark.perf
        def test_it(make_world, mock_llm):
            world = make_world(agents=2)
            world.run(2)
            {more}
    """
    pytester.makepyfile(test_it=source.format(more=""))
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    pytester.makepyfile(test_it=source.format(more="world.remove_agent(world.agents[0]); world.run(1)"))
    result = run(pytester)
    result.stdout.fnmatch_lines(["llm_calls: more by * 2 → 3 (+1), in step 3: 0 → 1 (+1)"])


def test_a_clock_that_stood_still_measured_nothing(pytester):
    pytester.makeconftest(FAKES)
    pytester.makepyfile("import pytest\n@pytest.mark.perf(max_time_s=5)\ndef test_it(clock): pass")
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["time_s: the virtual clock stood still*"])


def test_without_virtual_time_the_limit_holds_for_real_time_and_no_baseline_is_kept(pytester):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.perf(max_time_s=60)
        def test_ok(): pass
        @pytest.mark.perf(max_time_s=0)
        def test_slow(): pass
        """
    )
    result = run(pytester, "--perf-update")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["perf: time_s over limit: * s, max 0 s"])
    (path,) = (pytester.path / "baselines").rglob("*.json")
    assert "time_s" not in path.read_text()


def test_memory_limits(pytester):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.perf(max_heap_mb=4.1, max_peak_memory_mb=4000)
        def test_ok(): bytearray(4 * 2**20)
        @pytest.mark.perf(max_heap_mb=3.9)
        def test_heap(): bytearray(4 * 2**20)
        @pytest.mark.perf(max_peak_memory_mb=1)
        def test_process(): pass
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["perf: heap_mb over limit: 4.* MB, max 3.9 MB"])
    result.stdout.fnmatch_lines(["perf: peak_memory_mb over limit: * MB, max 1 MB"])


def test_every_pass_has_the_markers_seed_whatever_else_seeds(pytester):
    pytest.importorskip("pytest_randomly")
    pytester.makepyfile(
        """
        import random, pytest
        drawn = {0: [], 5: []}
        @pytest.fixture
        def number(): return random.random()
        @pytest.mark.perf
        def test_default(number): drawn[0].append((number, random.random()))
        @pytest.mark.perf(seed=5)
        def test_five(number): drawn[5].append((number, random.random()))
        def test_all():
            first = random.Random(0).random(), random.Random(5).random()
            assert drawn == {0: [(first[0],) * 2] * 2, 5: [(first[1],) * 2] * 2}
        """
    )
    result = pytester.runpytest_inprocess("--perf", "--no-perf-report", "-p", "randomly", "--randomly-dont-reorganize")
    result.assert_outcomes(passed=3)


def test_the_generator_is_left_as_it_was(pytester):
    pytester.makepyfile(
        """
        import random, pytest
        state = []
        def test_before(): random.seed(1); state.append(random.getstate())
        @pytest.mark.perf
        def test_perf(): random.random()
        def test_after(): assert random.getstate() == state[0]
        """
    )
    run(pytester).assert_outcomes(passed=3)


def test_a_models_complaint_fails_the_call_not_the_teardown(pytester):
    pytester.makeconftest(FAKES)
    pytester.makepyfile(
        test_it="""
        import pytest
        @pytest.mark.perf
        def test_perf(model): model.complaint = "no rule for this"
        def test_plain(model): model.complaint = "no rule for that"
        def test_late(request): request.getfixturevalue("model").complaint = "no rule at all"
        def test_both(model): model.complaint = "the cause"; assert 0, "the effect"
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines(
        [
            "*Captured mock_llm call*",
            "the cause",
            "FAILED *::test_perf - Failed: no rule for this*",
            "FAILED *::test_plain - Failed: no rule for that*",
            "FAILED *::test_late - Failed: no rule at all*",
            "FAILED *::test_both - AssertionError: the effect*",
        ]
    )


def test_nothing_is_kept_alive_after_its_test(pytester):
    pytester.makeconftest(FAKES)
    pytester.makepyfile(
        """
        import gc, weakref, pytest
        refs = []
        @pytest.mark.perf
        def test_perf(model): refs.append(weakref.ref(model))
        def test_plain(model): refs.append(weakref.ref(model))
        def test_gone():
            gc.collect()
            assert [ref() for ref in refs] == [None] * 3
        """
    )
    run(pytester).assert_outcomes(passed=3)


def test_exitfirst_and_last_failed_work(pytester):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.perf(max_heap_mb=0.1)
        def test_a(): bytearray(2**20)
        def test_b(): pass
        """
    )
    run(pytester, "-x").assert_outcomes(failed=1)
    run(pytester, "--lf").assert_outcomes(failed=1)


@pytest.mark.parametrize("where", ["fixture", "body"])
def test_a_test_that_is_skipped_only_in_a_later_pass_was_not_measured(pytester, where):
    pytester.makepyfile(
        f"""
        import pytest
        uses = []
        def use(place):
            uses.append(place)
            if place == "{where}" and uses.count(place) == 2:
                pytest.skip("busy")
        @pytest.fixture
        def resource(): use("fixture")
        @pytest.mark.perf(max_heap_mb=9)
        def test_it(resource): use("body")
        """
    )
    result = run(pytester, "--perf-update")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["perf: not judged: it was skipped in its heap pass, after 1 without that: *busy"])
    assert not list((pytester.path / "baselines").rglob("*.json"))


@pytest.mark.parametrize(
    ("what", "outcome"), [("self.fail('on purpose')", "failed"), ("self.skipTest('busy')", "skipped")]
)
@pytest.mark.parametrize("place", [1, 2])
def test_what_unittest_only_notes_down_counts_in_any_pass(pytester, what, outcome, place):
    pytester.makepyfile(
        f"""
        import unittest, pytest
        runs = []
        @pytest.mark.perf(max_time_s=0)
        class TestIt(unittest.TestCase):
            def test_it(self):
                runs.append(1)
                if len(runs) == {place}:
                    {what}
        """
    )
    result = run(pytester, "--perf-update")
    if (what, place) == ("self.skipTest('busy')", 1):
        result.assert_outcomes(skipped=1)
    else:
        result.assert_outcomes(failed=1)
        told = "on purpose" if outcome == "failed" else "perf: not judged: it was skipped in its heap pass, after 1 *"
        result.stdout.fnmatch_lines([f"*{told}*"])
    assert not list((pytester.path / "baselines").rglob("*.json"))


def test_a_report_that_a_conftest_fails_counts_in_any_pass(pytester):
    pytester.makeconftest(
        """
        import pytest
        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_makereport(item, call):
            report = yield
            if call.when == "call" and getattr(item.module, "warned", False):
                report.outcome, report.longrepr, item.module.warned = "failed", "it warned", False
            return report
        """
    )
    pytester.makepyfile(
        """
        import pytest
        warned = True
        @pytest.mark.perf
        def test_it(): pass
        @pytest.mark.perf(max_time_s=0)
        @pytest.mark.xfail(strict=True)
        def test_expected(): pass
        @pytest.mark.perf
        @pytest.mark.xfail(strict=True)
        def test_unexpected(): pass
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=2, xfailed=1)
    result.stdout.fnmatch_lines(["it warned", "This happened in the main pass *", "[[]XPASS(strict)[]]*"])


def test_a_failed_subtest_fails_the_test_once_and_keeps_its_baseline(pytester):
    pytester.makepyfile(
        """
        import unittest, pytest
        runs = []
        @pytest.mark.perf
        class TestIt(unittest.TestCase):
            def test_it(self):
                runs.append(1)
                for i in range(2):
                    with self.subTest(i=i):
                        assert i == 0
        def test_runs(): assert len(runs) == 1
        """
    )
    result = run(pytester, "--perf-update")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["perf: not judged: a subtest failed", "*::TestIt::test_it  [[]failed[]]"])
    assert not list((pytester.path / "baselines").rglob("*.json"))


def test_properties_of_a_test_are_those_of_its_last_pass(pytester):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.perf
        def test_it(record_property): record_property("mine", 1)
        """
    )
    run(pytester, "--perf-update", "--junit-xml=junit.xml", "-o", "junit_family=xunit1")
    assert (pytester.path / "junit.xml").read_text().count('name="mine"') == 1


WORLDS = """
    import pytest
    pytestmark = pytest.mark.perf

    @pytest.mark.parametrize("n", range(4))
    def test_world(make_world, mock_llm, n):
        mock_llm.latency = 0.1
        make_world(agents=3).run(2)
"""


@pytest.mark.slow
def test_which_tests_ran_before_in_the_process_does_not_matter(pytester):
    """To no verdict, and to no byte of the baseline: what is imported once is no test's heap."""
    pytester.makepyfile(test_it=WORLDS)
    baseline = pytester.path / "baselines" / "test_it.json"
    exact, heap = [], []
    for options in (["-n2"], ["-n2", "--dist=worksteal"], []):
        baseline.unlink(missing_ok=True)
        pytester.runpytest_subprocess(*PLAIN, "--perf-update", *options).assert_outcomes(passed=4)
        tests = json.loads(baseline.read_text())["tests"]
        heap += [test.pop("heap")[environment_key()]["heap_mb"] for test in tests.values()]
        exact.append(json.dumps(tests))
    assert len(set(exact)) == 1
    assert max(heap) - min(heap) <= HEAP_FLOOR_MB / 4  # two figures that are next to each other once they are rounded
    before = baseline.read_bytes()
    for options in (["test_it.py::test_world[2]"], ["-n2", "--perf-update"], ["--perf-update"]):
        assert pytester.runpytest_subprocess(*PLAIN, *options).ret == 0
    assert baseline.read_bytes() == before


GROWS = """
    import os, pathlib, pytest, tracemalloc
    here, kept = pathlib.Path(__file__).parent, []

    @pytest.fixture(scope="module")
    def module():
        log("+module"); yield; log("-module")

    @pytest.fixture
    def function(module):
        log("+"); yield; log("-")

    def log(text):
        with open(here / "log", "a") as file:
            file.write(text + "\\n")

    @pytest.mark.perf
    def test_it(function):
        grows = os.environ.get("GROWS")
        if tracemalloc.is_tracing() and (grows == "always" or grows == "once" and not kept):
            kept.append(bytes(2 << 20))
"""


@pytest.mark.parametrize("first", ["", "once"], ids=["taken without", "taken with"])
def test_what_the_interpreter_allocates_once_is_no_tests_heap(pytester, monkeypatch, first):
    pytester.makepyfile(test_it=GROWS, test_other="def test_other(): pass")
    monkeypatch.setenv("GROWS", first)
    run(pytester, "--perf-update").assert_outcomes(passed=2)
    monkeypatch.setenv("GROWS", "once")
    (pytester.path / "log").unlink()
    result = run(pytester)
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*improved*")
    log = (pytester.path / "log").read_text().split()
    assert (log[0], log[-1]) == ("+module", "-module")
    assert log[1:-1] == ["+", "-"] * ((len(log) - 2) // 2)  # module-scoped fixtures stay up for the second look
    monkeypatch.setenv("GROWS", "always")
    result = run(pytester)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*heap_mb regressed: 2* MB*"])


def test_coverage_and_debuggers_see_the_main_pass_and_weigh_on_no_figure(pytester):
    pytester.makeconftest(
        """
        import sys, threading
        kept = []
        def tracer(frame, event, arg):
            if frame.f_code.co_name == "look":
                kept.append(bytearray(10_000))
                return tracer
        def pytest_collection_finish():
            threading.settrace(tracer)
            sys.settrace(tracer)
        """
    )
    pytester.makepyfile(
        """
        import sys, threading, pytest
        seen = []
        def look():
            seen.append(sys.gettrace() is not None)
            for _ in range(100):
                pass
        @pytest.mark.perf(max_heap_mb=0.5)
        def test_heap():
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
            look()
        def test_traced_again():
            assert seen[:2] == [True, True] and not any(seen[2:])
            seen.clear()
            look()
            assert seen.pop() and threading.gettrace() is not None
        @pytest.mark.perf(baseline=False)
        def test_compare(perf):
            perf.compare(look, look, 0.1, rounds=3)
            assert seen[:2] == [True, True] and not any(seen[2:])
            assert sys.gettrace() is not None
        """
    )
    pytester.runpytest_subprocess(*PLAIN).assert_outcomes(passed=3)
