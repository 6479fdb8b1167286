"""What counts as a call to a real model, played by our own loopback server, and what is known of its tokens."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tinytroupe.testing import Recorder, Traffic
from tinytroupe.testing.recording import read_recording

CHAT = "/v1/chat/completions"
HELLO = {"model": "some-model", "messages": []}
TOLD = {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}


class Answering(ThreadingHTTPServer):
    """Gives the same answer to everyone, in the encoding asked for, or hangs until it is closed."""

    def __init__(self, answer: object, hangs: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = json.dumps(answer).encode()
        self.may_answer = threading.Event()
        self.accepted: list[str] = []
        if not hangs:
            self.may_answer.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Answering

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        accepted = self.headers.get("accept-encoding", "")
        self.server.accepted.append(accepted)
        self.server.may_answer.wait(10)
        zipped = "gzip" in accepted
        body = gzip.compress(self.server.answer) if zipped else self.server.answer
        with contextlib.suppress(OSError):
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            if zipped:
                self.send_header("content-encoding", "gzip")
            self.end_headers()
            self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *args: object) -> None: ...


@contextlib.contextmanager
def answering(answer: object, hangs: bool = False) -> Iterator[Answering]:
    with Answering(answer, hangs) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.may_answer.set()
            server.shutdown()
            thread.join()


def counted(traffic: Traffic) -> tuple[int, int, int]:
    return traffic.tally.calls, traffic.tally.tokens, traffic.untold


FORM = {"data": {"answer": "yes"}}
NO_CALLS = {
    "a form": ("POST", "/survey/12/responses", FORM),
    "no model": ("POST", "/survey/12/responses", {"json": {"answer": "yes"}}),
    "no object": ("POST", CHAT, {"json": ["model"]}),
    "no body": ("POST", CHAT, {}),
    "list of models": ("GET", "/v1/models", {}),
    "a model": ("GET", "/api/models/gpt2", {}),
}


@pytest.mark.parametrize(("method", "path", "options"), NO_CALLS.values(), ids=NO_CALLS.keys())
def test_what_is_no_call_to_a_model_passes_uncounted(method, path, options):
    with answering(TOLD) as server, Traffic() as traffic, httpx.Client(trust_env=False) as client:
        assert client.request(method, server.url + path, **options).json() == TOLD
        assert client.post(server.url + CHAT, json=HELLO).json() == TOLD
    assert counted(traffic) == (1, 5, 0)


def test_a_recorder_lets_a_form_pass_and_asks_for_answers_it_can_read(tmp_path):
    path = tmp_path / "recorded.jsonl"
    with answering(TOLD) as server, Recorder(path), httpx.Client(trust_env=False) as client:
        assert client.post(f"{server.url}/survey/12/responses", **FORM).json() == TOLD
        client.post(server.url + CHAT, json=HELLO)
    assert [take.response for take in read_recording(path)] == [TOLD]
    assert server.accepted[-1] == "identity"


def test_counting_leaves_encodings_as_they_are():
    with answering(TOLD) as server, Traffic() as traffic, httpx.Client(trust_env=False) as client:
        answer = client.post(server.url + CHAT, json=HELLO)
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.json() == TOLD
    assert server.accepted == [client.headers["accept-encoding"]]
    assert counted(traffic) == (1, 5, 0)


USAGES = {
    "text": ({"prompt_tokens": "three", "completion_tokens": 2}, None),
    "a list": ([3, 2], None),
    "nothing": ({}, None),
    "odd details": ({"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": [1]}, 5),
    "embeddings": ({"prompt_tokens": 3, "total_tokens": 3}, 3),
}


@pytest.mark.parametrize(("usage", "tokens"), USAGES.values(), ids=USAGES.keys())
def test_tokens_told_in_no_known_form_are_not_told(usage, tokens):
    with answering({"usage": usage}) as server, Traffic() as traffic, httpx.Client(trust_env=False) as client:
        client.post(server.url + CHAT, json=HELLO)
    assert counted(traffic) == ((1, 0, 1) if tokens is None else (1, tokens, 0))


def test_calls_count_when_they_depart_even_where_they_are_cancelled():
    async def main(server: Answering) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            asking = [asyncio.create_task(client.post(server.url + CHAT, json=HELLO)) for _ in range(3)]
            while len(server.accepted) < 3:
                await asyncio.sleep(0.005)
            assert counted(traffic) == (3, 0, 3)
            for each in asking[:2]:
                each.cancel()
            await asyncio.wait(asking[:2])
            server.may_answer.set()
            await asking[2]

    with answering(TOLD, hangs=True) as server, Traffic() as traffic:
        asyncio.run(main(server))
    assert counted(traffic) == (3, 5, 2)


def test_a_call_that_reached_no_server_cost_no_tokens():
    with answering(TOLD) as server:
        pass
    with Traffic() as traffic, httpx.Client(trust_env=False) as client, pytest.raises(httpx.ConnectError):
        client.post(server.url + CHAT, json=HELLO)
    assert counted(traffic) == (1, 0, 0)
    assert traffic.tally.errors == 1
