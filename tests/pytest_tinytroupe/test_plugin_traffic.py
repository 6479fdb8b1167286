"""Tests that call a server of their own, without `mock_llm`: their calls and tokens are measured all the same."""

from __future__ import annotations

import pytest

SERVED = """
import asyncio, os
import openai, pytest
from tinytroupe.testing import MockLLM

@pytest.fixture
def server():
    mock = MockLLM(strict=False)
    with mock.serve() as server:
        yield server

HELLO = dict(model="gpt-4o", messages=[{"role": "user", "content": "Hello?"}])
HEAP = {"heap_mb": 1.0}  # the server's threads are in this process
EXTRA = int(os.environ.get("EXTRA", "0"))

def in_turn(server, **options):
    with openai.OpenAI(base_url=server.base_url, api_key="x") as client:
        for _ in range(2 + EXTRA):
            answer = client.chat.completions.create(**HELLO, **options)
            if options:
                assert [*answer]

def at_once(server, transport):
    async def ask():
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="x", http_client=transport()) as client:
            await asyncio.gather(*(client.chat.completions.create(**HELLO) for _ in range(2 + EXTRA)))
    asyncio.run(ask())
"""

TESTS = (
    SERVED
    + """
@pytest.mark.perf(tolerance=HEAP)
def test_synchronous(server): in_turn(server)

@pytest.mark.perf(tolerance=HEAP)
def test_asynchronous(server): at_once(server, openai.DefaultAsyncHttpxClient)

@pytest.mark.perf(tolerance=HEAP)
def test_aiohttp(server): at_once(server, openai.DefaultAioHttpClient)

@pytest.mark.perf(max_llm_calls=2, tolerance=HEAP)
def test_limited(server): in_turn(server)

@pytest.mark.perf(tolerance=HEAP)
def test_none(): pass
"""
)


def run(pytester, *args):
    return pytester.runpytest_inprocess("-p", "no:randomly", "--perf", "--no-perf-report", *args)


def test_calls_and_tokens_are_counted_at_every_transport_and_gate(pytester, monkeypatch):
    pytester.makepyfile(test_it=TESTS)
    result = run(pytester, "--perf-update", "-v")
    result.assert_outcomes(passed=5)
    assert len([line for line in result.outlines if line.split()[:2] == ["llm_calls", "2"]]) == 4
    run(pytester).assert_outcomes(passed=5)
    monkeypatch.setenv("EXTRA", "1")
    result = run(pytester)
    result.assert_outcomes(failed=4, passed=1)
    result.stdout.fnmatch_lines_random(
        ["  llm_calls * 3 * 2 * +50.0 % * regressed", "perf: llm_calls over limit: 3, max 2*"]
    )


def test_calls_that_are_not_made_any_more_do_not_go_unnoticed(pytester):
    pytester.makepyfile(test_it=SERVED + "@pytest.mark.perf(tolerance=HEAP)\ndef test_it(server): in_turn(server)")
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    pytester.makepyfile(test_it=SERVED + "@pytest.mark.perf(tolerance=HEAP)\ndef test_it(server): pass")
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*in the baseline, but not measured any more*"])


@pytest.mark.parametrize(
    ("asked", "known"), [("", False), (", stream_options={'include_usage': True}", True)], ids=["untold", "told"]
)
def test_tokens_of_streams_are_measured_where_the_server_tells_them(pytester, asked, known):
    body = f"in_turn(server, stream=True{asked})"
    pytester.makepyfile(test_it=f"{SERVED}@pytest.mark.perf(max_tokens=9999)\ndef test_it(server): {body}")
    result = run(pytester, "-v")
    result.assert_outcomes(**{"passed" if known else "failed": 1})
    if not known:
        result.stdout.fnmatch_lines(["*tokens*2 of 2 calls told none*"])
    result.stdout.fnmatch_lines(["  llm_calls * 2 *"])


def test_calls_count_whichever_test_is_the_first_to_import_a_client(pytester):
    pytester.makepyfile(
        """
        import json, sys, threading
        from http.server import BaseHTTPRequestHandler, HTTPServer
        import pytest

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                body = json.dumps({"usage": {"prompt_tokens": 3, "completion_tokens": 2}}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args): pass

        @pytest.mark.perf
        def test_it():
            import httpx
            with HTTPServer(("127.0.0.1", 0), Handler) as server:
                thread = threading.Thread(target=server.handle_request)
                thread.start()
                url = f"http://127.0.0.1:{server.server_port}/v1/chat/completions"
                httpx.post(url, json={"model": "m", "messages": []}, trust_env=False, timeout=60)
                thread.join()

        assert not {"httpx", "httpx2"} & set(sys.modules)
        """
    )
    off = [argument for name in ("randomly", "respx", "anyio", "hypothesispytest") for argument in ("-p", f"no:{name}")]
    result = pytester.runpytest_subprocess("--perf", "--no-perf-report", "-v", *off)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["  llm_calls * 1 *", "  tokens * 5 *"])


ZERO = {
    "none": ("max_llm_calls=0", "pass", ""),
    "no tokens": ("max_tokens=0", "pass", ""),
    "one": ("max_llm_calls=0", "in_turn(server)", "perf: llm_calls over limit: 2, max 0*"),
    "some allowed": ("max_llm_calls=1", "pass", "perf: llm_calls was not measured"),
}


@pytest.mark.parametrize(("limit", "body", "problem"), ZERO.values(), ids=ZERO.keys())
def test_a_limit_of_no_calls_is_met_by_making_none(pytester, limit, body, problem):
    pytester.makepyfile(f"{SERVED}@pytest.mark.perf({limit})\ndef test_it(server): {body}")
    result = run(pytester)
    result.assert_outcomes(**{"failed" if problem else "passed": 1})
    if problem:
        result.stdout.fnmatch_lines([problem])
