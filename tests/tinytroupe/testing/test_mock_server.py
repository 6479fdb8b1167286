"""The door for other processes: a loopback server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import openai
import pytest

from tinytroupe.testing import LogNormal, MockLLM, run_server
from tinytroupe.testing.server import load_script

MESSAGES = [{"role": "system", "content": "You are Lisa.\n"}, {"role": "user", "content": "hello"}]


def client_for(server, **options):
    return openai.OpenAI(base_url=server.base_url, api_key="x", max_retries=0, **options)


def test_every_endpoint_over_a_socket():
    mock = MockLLM().reply("hi").reply("one two").reply("three")
    with mock.serve() as server, client_for(server) as client:
        assert server.base_url.startswith("http://127.0.0.1:")
        assert client.chat.completions.create(model="m", messages=MESSAGES).choices[0].message.content == "hi"
        chunks = list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one two"
        assert client.responses.create(model="m", input="x").output_text == "three"
        assert len(client.embeddings.create(model="m", input="x").data[0].embedding) == 1536
        assert client.models.list().data[0].id == "mock-model"
    assert server.base_url == ""
    assert mock.by_person["Lisa"].calls == 2


@pytest.mark.parametrize("aiohttp", [False, True])
def test_async_clients_run_concurrently(aiohttp):
    mock = MockLLM()

    async def once_another_is_there(_):
        for _ in range(3000):
            if mock.in_flight_peak > 1:
                break
            await asyncio.sleep(0.01)
        return "Hi"

    mock.when().reply(once_another_is_there)

    async def main(url):
        transport = openai.DefaultAioHttpClient() if aiohttp else None
        async with openai.AsyncOpenAI(base_url=url, api_key="x", http_client=transport) as client:
            await asyncio.gather(*(client.chat.completions.create(model="m", messages=MESSAGES) for _ in range(10)))

    with mock.serve() as server:
        asyncio.run(main(server.base_url))
    assert mock.calls == 10
    assert mock.in_flight_peak > 1


def test_it_works_inside_interception_too():
    with MockLLM().reply("intercepted") as outer, MockLLM().reply("served").serve() as server:
        with client_for(server) as client:
            assert client.chat.completions.create(model="m", messages=MESSAGES).choices[0].message.content == "served"
        with openai.OpenAI() as client:
            answer = client.chat.completions.create(model="m", messages=MESSAGES).choices[0].message.content
            assert answer == "intercepted"
        outer.assert_called(1)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (429, openai.RateLimitError),
        ("server_error", openai.InternalServerError),
        ("reset", openai.APIConnectionError),
        ("connection", openai.APIConnectionError),
        ("body_cut", openai.APIConnectionError),
        ("stall", openai.APITimeoutError),
        ("timeout", openai.APITimeoutError),
        ("malformed_body", ValueError),
    ],
)
def test_faults_over_a_socket(fault, error):
    mock = MockLLM().fail(fault)
    timeout_s = 0.3 if error is openai.APITimeoutError else 30
    with mock.serve() as server, client_for(server, timeout=timeout_s) as client, pytest.raises(error):
        client.chat.completions.create(model="m", messages=MESSAGES)


def test_bad_requests_and_unknown_paths():
    import urllib.error
    import urllib.request

    with MockLLM().serve() as server:
        for path, data, status in (
            ("/chat/completions", b"{", 400),
            ("/chat/completions", b"[]", 400),
            ("/x", b"", 404),
        ):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(server.base_url + path, data=data, timeout=10)
            assert caught.value.code == status
            assert json.load(caught.value)["error"]["message"]
            caught.value.close()


def test_a_port_in_use_is_a_clear_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"can't listen on 127.0.0.1:{port}"):
            MockLLM().serve(port=port).__enter__()


def test_a_server_can_run_twice_but_not_at_once():
    server = MockLLM().serve()
    for _ in range(2):
        with server:
            assert server.base_url
            with pytest.raises(RuntimeError, match="running already"):
                server.__enter__()
    server.__exit__()


def test_scripts(tmp_path):
    script = tmp_path / "replies.jsonl"
    script.write_text(
        '# a comment\n\n{"when": {"person": "Lisa"}, "talk": "Hi", "times": 2}\n{"reply": {"a": 1}}\n'
        '{"actions": [["TALK", "So?"]]}\n{"fail": "timeout"}\n{"fail": {"status": 429, "retry_after": 3}}\n'
    )
    mock = MockLLM()
    assert load_script(mock, script) == 5
    assert mock.strict
    with pytest.raises(AssertionError, match="queued, never asked for"):
        mock.assert_all_replies_used()


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "{}", '{"reply": 1, "talk": "x"}', '{"answer": "x"}', '{"reply": "x", "times": 2}',
     '{"fail": "nonsense"}', '{"when": {"who": "x"}, "reply": "y"}'],
)  # fmt: skip
def test_malformed_scripts_name_file_and_line(tmp_path, line):
    script = tmp_path / "replies.jsonl"
    script.write_text(f'{{"reply": "good"}}\n{line}\n')
    with pytest.raises(ValueError, match=r"replies\.jsonl, line 2"):
        load_script(MockLLM(), script)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM handlers")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_foreground_server_says_where_it_is_and_stops_gracefully(tmp_path, number):
    script = tmp_path / "replies.jsonl"
    script.write_text('{"when": {"person": "Lisa"}, "reply": "scripted"}\n')
    code = (
        "from tinytroupe.testing import run_server\n"
        f"run_server(port=0, latency='lognormal:0.001,0.1', rpm=600, script={str(script)!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    try:
        url = process.stdout.readline().strip()
        with openai.OpenAI(base_url=url, api_key="x") as client:
            raw = client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
            assert raw.headers["x-ratelimit-limit-requests"] == "600"
            assert raw.parse().choices[0].message.content == "scripted"
        os.kill(process.pid, number)
        rest, errors = process.communicate(timeout=30)
        assert (process.returncode, rest, errors) == (0, "", "")
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()


def test_the_foreground_server_refuses_nonsense_before_it_listens(tmp_path):
    with pytest.raises(ValueError, match="lognormal:MEDIAN,SIGMA"):
        run_server(latency="slow")
    with pytest.raises(FileNotFoundError):
        run_server(script=tmp_path / "missing.jsonl", latency=LogNormal(1, 1))


def test_the_benchmarks_load_reaches_any_server():
    path = Path(__file__).parents[2] / "performance" / "mock_benchmark.py"
    spec = spec_from_file_location("mock_benchmark", path)
    benchmark = module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    mock = MockLLM().reply("only one")
    with mock.serve() as server:
        _, bad = asyncio.run(benchmark.load(server.base_url, 40))
        assert "requests/s, 50 were no 200" in benchmark.measured(server.base_url, 50, None)
    assert (mock.calls, bad) == (40 + 50 + 50, 39)
    with pytest.raises(AssertionError, match="only servers on this machine"):
        asyncio.run(benchmark.load("http://192.0.2.1/v1", 1))
