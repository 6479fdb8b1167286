"""A fresh process for one test: its outcome, output and figures are the child's; what goes wrong is an error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from pytest_tinytroupe.environment import environment_key

pytestmark = pytest.mark.slow
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals")

PLAIN = ("-p", "no:randomly", "-p", "no:asyncio", "--perf", "--no-perf-report")


@pytest.fixture(autouse=True)
def _hashes_as_usual(monkeypatch):
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)  # by which tests here tell a fresh process


def run(pytester, *args):
    return pytester.runpytest_inprocess(*PLAIN, *args)


def stored(pytester):
    (path,) = (pytester.path / "baselines").rglob("*.json")
    return json.loads(path.read_text())["tests"]


def test_outcome_output_and_figures_are_the_childs(pytester):
    pytester.makeini("[pytest]\nxfail_strict = true\npythonpath = lib")
    (pytester.path / "lib").mkdir()
    (pytester.path / "lib" / "helper.py").write_text("answer = 42")
    pytester.makeconftest(
        """
        import os, pathlib, pytest
        def pytest_addoption(parser):
            parser.addoption("--word", default="none")
            parser.addoption("--place", type=pathlib.Path, default=pathlib.Path("none"))
        @pytest.fixture(scope="module")
        def module(): yield; print("module down in", os.getpid())
        """
    )
    pytester.makepyfile(
        test_it=f"""
        import os, pytest, helper
        parent = {os.getpid()}
        pytestmark = pytest.mark.perf(isolate=True)
        class TestIt:
            @pytest.mark.parametrize("text", ["a/b[1]", "ü::x"])
            def test_passes(self, request, module, text, mock_llm):
                assert os.getpid() != parent and helper.answer == 42
                assert request.config.getoption("--word") == request.config.getoption("--place").name == "given"
                assert os.environ["PYTHONHASHSEED"] == "0"
        def test_fails(module):
            print("said by the child")
            assert 1 == 2, "on purpose"
        def test_skips(): pytest.skip("no need")
        @pytest.mark.xfail
        def test_xfails(): assert 0
        @pytest.mark.perf(max_heap_mb=1)
        def test_heap(): bytearray(2 * 2**20)
        @pytest.fixture
        def broken(): raise RuntimeError("broken fixture")
        def test_error(broken): pass
        """,
        test_before="def test_before(tmp_path): (tmp_path / 'kept').touch()",
        test_other=f"import os\ndef test_other(): assert os.getpid() == {os.getpid()}",
    )
    given = ("--word=given", "--place=there/given", "--basetemp=mine", "-k", "not nothing")
    result = run(pytester, *given, "--perf-update", "--junitxml=junit.xml")
    result.assert_outcomes(passed=4, failed=2, skipped=1, xfailed=1, errors=1)
    result.stdout.fnmatch_lines_random(
        [
            "*AssertionError: on purpose",
            "said by the child",
            "perf: heap_mb over limit: 2* MB, max 1 MB",
            "*RuntimeError: broken fixture",
        ]
    )
    assert sorted(stored(pytester)) == ["TestIt::test_passes[\\xfc::x]", "TestIt::test_passes[a/b[1]]"]
    entry = stored(pytester)["TestIt::test_passes[a/b[1]]"]
    assert entry["process"][environment_key()]["peak_memory_mb"] > 5
    assert (pytester.path / "junit.xml").read_text().count("<testcase ") == 9
    assert list((pytester.path / "mine").rglob("kept"))  # the child has not cleared its parent's directory


WARNS = """
    import pytest, warnings
    class Odd(UserWarning):
        def __init__(self, one, two): super().__init__(f"{one} and {two}")
    @pytest.mark.perf(isolate=True)
    def test_it():
        warnings.warn("first of its kind", DeprecationWarning)
        warnings.warn(Odd("odd", "even"))
"""


@pytest.mark.parametrize("xdist", [[], ["-n1"]], ids=["plain", "xdist"])
def test_its_warnings_are_in_the_summary(pytester, xdist):
    pytester.makepyfile(test_it=WARNS)
    result = run(pytester, *xdist)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "=* warnings summary *=",
            "test_it.py::test_it*",
            "*test_it.py:6: DeprecationWarning: first of its kind",
            "test_it.py::test_it",
            "*test_it.py:7: *Odd: odd and even",
        ]
    )


@pytest.mark.parametrize("how", ["-W", "ini"])
def test_its_warnings_are_errors_where_all_are(pytester, how):
    pytester.makeini("[pytest]\nfilterwarnings = error::DeprecationWarning" if how == "ini" else "[pytest]")
    pytester.makepyfile(test_it=WARNS)
    result = run(pytester, *(["-W", "error::DeprecationWarning"] if how == "-W" else []))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*DeprecationWarning: first of its kind"])


def test_the_peak_of_a_fresh_process_gates(pytester):
    source = """
        import pytest
        @pytest.mark.perf(isolate=True, tolerance={{"heap_mb": 99, "peak_memory_mb": 0.1}})
        def test_it():
            block = bytearray({mb} * 2**20)
            block[::4096] = b"x" * len(block[::4096])
    """
    pytester.makepyfile(test_it=source.format(mb=10))
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    before = stored(pytester)
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    assert stored(pytester) == before
    pytester.makepyfile(test_it=source.format(mb=30))
    result = run(pytester, "--perf-update-new")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["perf: peak_memory_mb regressed: * MB, baseline * MB (+*"])
    # No longer isolated: the figure means nothing any more, which is said.
    pytester.makepyfile(test_it="import pytest\n@pytest.mark.perf\ndef test_it(): pass")
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines_random(["peak_memory_mb: in the baseline, but not measured any more*"])


@posix
def test_what_goes_wrong_is_an_error_that_says_what(pytester):
    pytester.makepyfile(
        test_it="""
        import os, pytest, time
        pytestmark = pytest.mark.perf(isolate=True)
        def test_crash(): os.abort()
        def test_exit():
            os.write(2, b"last words")
            os._exit(3)
        def test_hangs(): time.sleep(600)
        if "PYTEST_VERSION" in os.environ and os.environ.get("PYTHONHASHSEED") != "0":
            def test_only_here(): pass
        """
    )
    result = run(pytester, "-s", "--deselect=test_it.py::test_hangs")
    result.assert_outcomes(errors=3, deselected=1)
    start = "perf: the test could not be measured in a process of its own: "
    result.stdout.fnmatch_lines(
        [
            f"{start}signal 6 ended it; the end of its output:",
            f"{start}it ended with exit status 3 and no result*",
            "*last words*",
            f"{start}it did not find the test: *",
        ]
    )
    result = run(pytester, "-s", "test_it.py::test_hangs", "--perf-time-limit=3")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"{start}it did not end within 3 s (--perf-time-limit) and was ended*"])


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
@pytest.mark.parametrize("body", ["time.sleep(600)", "while True: pass"], ids=["waits", "computes"])
def test_the_child_never_outlives_its_parent(pytester, name, body):
    # On a loaded machine to tear down may take longer than anybody would wait.
    pytester.makeconftest(
        "from pytest_tinytroupe import fresh, fresh_child\n"
        "assert fresh_child.GRACE_S < fresh._GRACE_S\n"
        "fresh_child.GRACE_S, fresh._GRACE_S = 49.0, 50.0"
    )
    pytester.makepyfile(
        f"""
        import os, pathlib, pytest, time
        @pytest.fixture
        def resource():
            yield
            pathlib.Path("torn").touch()
        @pytest.mark.perf(isolate=True)
        def test_it(resource):
            pathlib.Path("pid").write_text(str(os.getpid()))
            {body}
        """
    )
    command = [sys.executable, "-m", "pytest", *PLAIN, "-p", "no:cacheprovider"]
    process = subprocess.Popen(command, cwd=pytester.path, stdout=subprocess.PIPE, text=True)
    pid_file = pytester.path / "pid"
    try:
        deadline = time.monotonic() + 60
        while not (pid_file.exists() and pid_file.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.Signals[name])  # to the parent alone
        output, _ = process.communicate(timeout=60)
        if name == "SIGINT":
            assert process.returncode == pytest.ExitCode.INTERRUPTED
            assert "KeyboardInterrupt" in output
        deadline = time.monotonic() + 60
        while _runs(int(pid_file.read_text())):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
    assert (pytester.path / "torn").exists()


def _runs(pid):
    try:  # an orphan that nobody has waited for has ended all the same
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_with_s_its_output_is_shown_and_nothing_of_its_pytest(pytester):
    source = """
        import os, pathlib, pytest, sys
        @pytest.mark.perf(isolate=True)
        def test_it():
            assert not sys.stdin.read()
            print("printed \u00fc")
            print("complained", file=sys.stderr)
            os.write(1, b"low level\\n")
            assert {passes}
    """
    pytester.makepyfile(test_it=source.format(passes=True))
    result = run(pytester, "-s")
    result.assert_outcomes(passed=1)
    assert sum("test session starts" in line for line in result.outlines) == 1
    assert sum("passed in" in line for line in result.outlines) == 1
    for text in ("printed \u00fc", "complained", "low level"):
        assert sum(text in line for line in result.outlines) == 2  # in each pass
    run(pytester).stdout.no_fnmatch_line("*low level*")
    pytester.makepyfile(test_it=source.format(passes=False))
    result = run(pytester, "-s")
    result.assert_outcomes(failed=1)
    assert result.outlines.count("low level") == 1


def test_with_s_its_output_is_shown_as_it_comes(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONUTF8", "1")
    pytester.makepyfile(
        """
        import os, pathlib, pytest, time
        @pytest.mark.perf(isolate=True)
        def test_it():
            os.write(1, b"waiting\\n\\xc3")
            while not pathlib.Path("go").exists():
                time.sleep(0.02)
            os.write(1, b"\\xbc is whole\\n")
        """
    )
    command = [sys.executable, "-m", "pytest", *PLAIN, "-s", "-p", "no:cacheprovider", "--perf-time-limit=60"]
    with subprocess.Popen(command, cwd=pytester.path, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert any("waiting" in line for line in process.stdout)  # else it would end by its time limit
        (pytester.path / "go").touch()
        rest = process.stdout.read()
        assert "\u00fc is whole" in rest
        assert "\ufffd" not in rest  # half a character
        assert "1 passed" in rest


WALL = """
    import pathlib, pytest, time
    here = pathlib.Path(__file__).parent

    @pytest.fixture(scope="module")
    def module():
        log("module up"); yield; log("module down")

    @pytest.fixture
    def function(module):
        log("up"); yield; log("down")

    def log(text):
        with open(here / "log", "a") as file:
            file.write(text + "\\n")

    @pytest.mark.perf(clock="wall", rounds=2, warmup=1, seed=3, max_wall_s=5, min_wall_s=1)
    def test_wall(function, make_world, mock_llm):
        log("call")
        mock_llm.latency = 1.0
        make_world(agents=2).run(steps=1)

    @pytest.mark.perf(max_cpu_s=0.001, rounds=1, warmup=0, baseline=False)
    def test_cpu(): sum(range(3_000_000))
"""


def test_times_are_taken_in_rounds_of_full_passes(pytester):
    pytester.makepyfile(test_it=WALL)
    result = run(pytester, "-v")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["perf: cpu_s over limit: 0.* s, max 0.001 s", "*  llm_calls * 2 *", "*  wall_s * 1.* s *≤ 5 s  new"]
    )
    once = ["up", "call", "down"]
    child = ["module up", *once * 3, "module down"]
    lines = (pytester.path / "log").read_text().split("\n")[:-1]
    # The main pass, one more where that was no warm-up, processes (three more confirm a broken limit), heap.
    possible = [
        ["module up", *once * own, *child * processes, *once, "module down"] for own in (1, 2) for processes in (1, 4)
    ]
    assert lines in possible


def test_a_collection_in_a_round_does_not_look_through_what_was_there_before(pytester):
    pytester.makepyfile(
        test_it="""
        import gc, pathlib, pytest

        @pytest.mark.perf(max_cpu_s=60, rounds=2, warmup=1, baseline=False)
        def test_cpu():
            with open(pathlib.Path(__file__).parent / "log", "a") as file:
                file.write(f"{gc.get_freeze_count() > len(gc.get_objects())} ")
        """
    )
    run(pytester).assert_outcomes(passed=1)
    # The main pass and the heap pass around the warm-up and the rounds of the child.
    assert (pytester.path / "log").read_text().split()[-4:] == ["False", "True", "True", "False"]


def test_a_parallel_run_measures_alone_and_gives_the_same(pytester):
    pytester.makepyfile(
        test_it="""
        import os, pathlib, pytest, time
        here = pathlib.Path(__file__).parent

        def log(text):
            with open(here / "log", "ab", 0) as file:
                file.write(f"{text}\\n".encode())

        @pytest.mark.perf(max_cpu_s=5, rounds=1, warmup=0, baseline=False)
        @pytest.mark.parametrize("n", range(2))
        def test_cpu(n):
            measured = os.environ.get("PYTHONHASHSEED") == "0"
            if measured: log("in")
            time.sleep(0.2)
            if measured: log("out")

        @pytest.mark.parametrize("n", range(40))
        def test_plain(n):
            log("plain"); time.sleep(0.02)

        @pytest.mark.perf(isolate=True, baseline=False)
        def test_isolated(): log("isolated")
        """
    )
    result = pytester.runpytest_subprocess(*PLAIN, "-n3", "--dist", "worksteal", "-v")
    result.assert_outcomes(passed=43)
    lines = (pytester.path / "log").read_text().split("\n")
    assert lines.count("in") == 2
    assert all(lines[place + 1] == "out" for place, line in enumerate(lines) if line == "in")
    result.stdout.fnmatch_lines(["*test_it.py::test_cpu?0?*", "*  cpu_s * ok"])


def test_what_is_expected_to_fail_strictly_is_timed_all_the_same(pytester):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.xfail(strict=True)
        @pytest.mark.perf(max_cpu_s=0, rounds=2)
        def test_it(): sum(range(10**5))
        """
    )
    run(pytester).assert_outcomes(xfailed=1)
