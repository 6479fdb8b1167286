"""More mistakes that tools of this kind have made, and that this one would be caught at; see `test_plugin_traps`."""

from __future__ import annotations

import json

import pytest

from pytest_tinytroupe import options


@pytest.fixture(scope="module", autouse=True)
def _imported():
    # What is imported before pytester starts survives its runs; openai alone takes a second.
    import openai.resources.chat  # noqa: F401

    from tinytroupe import environment, examples, testing  # noqa: F401
    from tinytroupe.llm import openai_model  # noqa: F401


def run(pytester, *args):
    return pytester.runpytest_inprocess("-p", "no:randomly", "--perf", "--no-perf-report", *args)


def exact(pytester):
    return json.loads((pytester.path / "baselines" / "test_it.json").read_text())["tests"]["test_it"]["exact"]


def test_a_repeated_option_means_its_last_value_and_no_help_says_otherwise(pytester):
    """A repeated option keeps only its last value though the help promises a list."""
    pytester.makeini("[pytest]\naddopts = --perf-baseline-dir=first")
    pytester.makepyfile(test_it="import pytest\n@pytest.mark.perf\ndef test_it(perf): perf.record('queries', 1)")
    result = run(pytester, "--perf-update", "--perf-baseline-dir=second", "--perf-baseline-dir=third")
    result.stdout.fnmatch_lines(["updated: *third/test_it.json"])
    assert {path.name for path in pytester.path.iterdir() if path.is_dir()} & {"first", "second", "third"} == {"third"}
    texts = [*options.FLAGS.values(), *(text for _, text, _ in options.PATHS.values())]
    assert not [text for text in texts if "several" in text or "multiple" in text or "repeat" in text]


def test_sleeping_in_threads_is_no_measurement(pytester):
    """A thread pool with time.sleep is measured in place of the agents, and called a benchmark."""
    pytester.makepyfile(
        """
        import pytest, time
        from concurrent.futures import ThreadPoolExecutor
        @pytest.mark.perf(min_speedup=2, max_time_s=1, min_efficiency=0.5, max_llm_calls=5, baseline=False)
        def test_it(world, mock_llm):
            with ThreadPoolExecutor(5) as pool:
                list(pool.map(time.sleep, [0.01] * 5))
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["perf: speedup was not measured (and 2 more)"])
    for name in ("speedup", "efficiency", "time_s"):
        result.stdout.fnmatch_lines_random([f"{name} * unmeasured"])


def test_a_coroutine_is_timed_to_its_end_not_to_its_creation(pytester):
    """The creation of a coroutine is timed, and the coroutine never runs."""
    pytester.makepyfile(
        test_it="""
        import asyncio, pytest
        @pytest.mark.perf
        async def test_it(mock_llm):
            await asyncio.sleep(3.5)
        """
    )
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    assert exact(pytester)["time_s"] == 3.5


DEAD = """
    import pytest
    @pytest.mark.perf
    def test_it(make_world, mock_llm, troupe):
        mock_llm.latency = 1.0
        mock_llm.when(){answer}
        make_world(troupe(2)).run(steps=2)
"""


@pytest.mark.parametrize("answer", [".reply('[{}]')", ".fail('server_error')", ".fail('timeout')"])
def test_a_dead_model_is_counted_and_fails(pytester, answer):
    """A dead model yields an empty action, and the test passes."""
    pytester.makepyfile(test_it=DEAD.format(answer=".reply_talk('Hello')"))
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    assert exact(pytester)["errors"] == 0
    pytester.makepyfile(test_it=DEAD.format(answer=answer))
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines_random(["errors * 4 * 0 * regressed"])
    pytester.makepyfile(test_it=DEAD.format(answer=answer).replace("perf\n", "perf(max_errors=0)\n"))
    run(pytester, "--perf-update").stdout.fnmatch_lines(["perf: errors over limit: 4, max 0*"])


def test_a_failed_call_that_becomes_none_fails_the_test(pytester):
    """A failed call becomes None, and the program goes on as if nothing had happened."""
    pytester.makepyfile(
        """
        import openai, pytest
        def ask():
            try:
                return openai.OpenAI(api_key="x").chat.completions.create(
                    model="m", messages=[{"role": "user", "content": "Hello"}]
                )
            except Exception:
                return None
        @pytest.mark.perf(max_llm_calls=5)
        def test_it(mock_llm):
            mock_llm.when(contains="something else").reply("no")
            assert ask() is None
        """
    )
    run(pytester).assert_outcomes(failed=1)


def test_a_prompt_sent_as_json_of_itself_costs_tokens_that_are_noticed(pytester):
    """The prompt is sent as a JSON string of itself, which takes a tenth more tokens."""
    source = """
        import json, openai, pytest
        @pytest.mark.perf
        def test_it(mock_llm):
            prompt = 'She said: "Hello".\\n' * 200
            openai.OpenAI(api_key="x").chat.completions.create(
                model="m", messages=[{{"role": "user", "content": {prompt}}}]
            )
    """
    pytester.makepyfile(test_it=source.format(prompt="prompt"))
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    pytester.makepyfile(test_it=source.format(prompt="json.dumps(prompt)"))
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines_random(["prompt_tokens * regressed"])


def test_waiting_before_every_call_and_after_a_429_is_noticed(pytester):
    """A program sleeps a second before every call, or ignores Retry-After."""
    source = """
        import asyncio, openai, pytest
        @pytest.mark.perf
        async def test_it(mock_llm):
            mock_llm.latency = 1.0
            client = openai.AsyncOpenAI(api_key="x", max_retries=0)
            for _ in range(3):
                {before}
                await client.chat.completions.create(model="m", messages=[{{"role": "user", "content": "Hello"}}])
    """
    pytester.makepyfile(test_it=source.format(before="pass"))
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    pytester.makepyfile(test_it=source.format(before="await asyncio.sleep(1)"))
    run(pytester).stdout.fnmatch_lines(["perf: time_s regressed: 6 s, baseline 3 s (+100.0 %)"])


def test_everyone_copying_what_everyone_hears_is_noticed(pytester):
    """Every listener copies the same stimulus: N² memory when everyone talks to everyone."""
    source = """
        import pytest
        @pytest.mark.perf
        def test_it(perf):
            heard = [[] for _ in range(40)]
            for speaker in range(40):
                text = f"speaker {{speaker}} " * 500
                for listener in heard:
                    listener.append({kept})
    """
    pytester.makepyfile(test_it=source.format(kept="text"))
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    pytester.makepyfile(test_it=source.format(kept="'%s' % text[:-1]"))
    run(pytester).stdout.fnmatch_lines(["perf: heap_mb regressed: *"])


def test_a_run_leaves_what_it_says_and_nothing_else(pytester):
    """A cache of 30 MB, and a log file of 30 MB in the working directory."""
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider")
    pytester.makepyfile(test_it=DEAD.format(answer=".reply_talk('Hello')"))
    pytester.runpytest_inprocess("-p", "no:randomly", "--perf", "--perf-update").assert_outcomes(passed=1)
    left = {path.name for path in pytester.path.iterdir()} - {"__pycache__"}
    assert left == {"tox.ini", "test_it.py", "baselines", "perf-report"}
    size = sum(
        path.stat().st_size for name in ("baselines", "perf-report") for path in (pytester.path / name).rglob("*")
    )
    assert size < 300_000


@pytest.mark.slow
def test_a_time_limit_holds_where_leaving_would_wait_for_a_thread(pytester):
    """A time-out of 1 s returns after 10 s, because leaving the pool joins the thread."""
    pytester.makepyfile(
        """
        import pytest, threading, time
        @pytest.mark.perf(isolate=True)
        def test_it():
            threading.Thread(target=time.sleep, args=(600,)).start()
        def test_next(): pass
        """
    )
    result = run(pytester, "--perf-time-limit=4")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["perf: *: it did not end within 4 s (--perf-time-limit) and was ended*"])


def test_every_ini_key_reaches_the_settings(pytester):
    """An ini key does nothing because the command line's default wins: the keys that `test_plugin_traps` leaves out."""
    pytester.makeini("[pytest]\nperf_history = from_ini.sqlite\nperf_time_limit = 12")
    pytester.makepyfile("import pytest\n@pytest.mark.perf(baseline=False)\ndef test_it(): pass")
    assert run(pytester).ret == 0
    assert (pytester.path / "from_ini.sqlite").is_file()


@pytest.mark.parametrize(
    "source",
    ["def test_plain(): pass", "import pytest\n@pytest.mark.perf\ndef test_it(): pass"],
    ids=["no tests", "no baselines"],
)
def test_the_gate_is_never_off_and_green(pytester, source):
    """The whole gate switches itself off, and the run exits with 0."""
    pytester.makepyfile(source)
    result = run(pytester, "--perf-strict")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR: nothing was *"])
