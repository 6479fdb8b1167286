"""Recording a real endpoint (our own loopback server plays it) through each door, and playing it back."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import subprocess
import sys
import threading

import openai
import pytest

from tinytroupe.llm.model import ChatRequest, ModelError, Origin, RefusalError
from tinytroupe.runtime.clock import VirtualClock
from tinytroupe.testing import DirectModel, MockLLM, Recorder, RecordingError
from tinytroupe.testing.recorder import RecordingModel
from tinytroupe.testing.recording import Take, read_recording, take_of, without_keys

# The library the installed client speaks; the other one may be there, too.
http = importlib.import_module("httpx2" if int(openai.__version__.split(".")[0]) >= 3 else "httpx")

KEY = "sk-a-real-key-that-must-not-leak-0123456789"
ODD_KEY = 'odd "key" of no known form'


def messages(text, person="Lisa"):
    return [{"role": "system", "content": f"You are {person}."}, {"role": "user", "content": text}]


def endpoint():
    mock = MockLLM(chunk_delay=0.002)
    mock.when(content="hello").reply("hi there")
    mock.when(content="stream").reply("one two three")
    mock.when(content="often").fail(status=429, retry_after=7, message="slow down").reply("now")
    return mock


def converse(client):
    """What a program does: each kind of call once. Returns all it saw."""
    seen = []
    create = client.chat.completions.create
    seen.append(create(model="m", messages=messages("hello")).choices[0].message.content)
    chunks = list(create(model="m", messages=messages("stream"), stream=True))
    seen.append([chunk.choices[0].delta.content for chunk in chunks])
    try:
        create(model="m", messages=messages("often"))
    except openai.RateLimitError as error:
        seen.append((error.response.headers["retry-after"], error.message))
    seen.append(create(model="m", messages=messages("often")).choices[0].message.content)
    events = list(client.responses.create(model="m", input="stream", stream=True))
    seen.append((events[-1].type, events[-1].response.output_text))
    seen.append(client.responses.create(model="m", input="hello").output_text)
    seen.append(client.embeddings.create(model="m", input=["green tea"]).data[0].embedding[:3])
    seen.append([each.id for each in client.models.list().data])
    seen.append(client.models.retrieve("some-model").id)
    return seen


def client_for(url, key=KEY, **options):
    return openai.OpenAI(base_url=url, api_key=key, max_retries=0, **options)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "calls.jsonl"


def record_by_interception(path, real):
    with Recorder(path), client_for(real.base_url) as client:
        return converse(client)


def record_by_redirection(path, real):
    with Recorder(path, base_url=real.base_url), client_for("https://api.example.com/openai/v1") as client:
        return converse(client)


def record_by_proxy(path, real):
    with Recorder(path, base_url=real.base_url).serve() as server, client_for(server.base_url) as client:
        return converse(client)


RECORDERS = [record_by_interception, record_by_redirection, record_by_proxy]


@pytest.mark.parametrize("record", RECORDERS)
def test_what_was_recorded_is_played_back_through_interception_and_server(path, record):
    with endpoint().serve() as real:
        seen = record(path, real)
    assert seen[0] == "hi there"
    assert not path.with_name(path.name + ".partial").exists()
    assert KEY not in path.read_text()
    with MockLLM().replay(path) as llm, client_for("https://api.example.com/v1") as client:
        assert converse(client) == seen
        llm.assert_all_replies_used()
    llm = MockLLM().replay(path)
    with llm.serve() as server, client_for(server.base_url) as client:
        assert converse(client) == seen
    llm.verify()
    assert llm.calls == 9


@pytest.mark.parametrize("aiohttp", [False, True])
def test_async_clients_are_recorded_too(path, aiohttp):
    async def main(url):
        transport = openai.DefaultAioHttpClient() if aiohttp else None
        async with openai.AsyncOpenAI(base_url=url, api_key=KEY, http_client=transport) as client:
            asked = [client.chat.completions.create(model="m", messages=messages("hello", f"P{i}")) for i in range(5)]
            await asyncio.gather(*asked)
            stream = await client.chat.completions.create(model="m", messages=messages("stream"), stream=True)
            return [each.choices[0].delta.content async for each in stream]

    async def record(url):
        async with Recorder(path) as recorder:
            said = await main(url)
            assert recorder.takes == 6
            return said

    with endpoint().serve() as real:
        said = asyncio.run(record(real.base_url))
    with MockLLM().replay(path):
        assert asyncio.run(main(None)) == said


def test_the_direct_door_records_any_chat_model(path):
    real = MockLLM(latency=0.5)
    real.when(content="hello").reply("hi there")
    real.when(content="busy").fail(status=503, message="overloaded")
    real.when(content="gone").fail("reset")
    real.when(content="rude").fail("refusal")

    async def ask(model):
        seen = []
        for text in ("hello", "busy", "gone", "rude", "hello"):
            try:
                request = ChatRequest(messages(text), parameters={"temperature": 0}, origin=Origin(person="Lisa"))
                reply = await model.complete(request)
                seen.append((reply.text, reply.usage, reply.finish_reason, reply.model, reply.latency_s))
            except (RefusalError, ModelError) as error:
                seen.append((type(error), error.transient, error.status and error.status // 100))
        seen.append(await model.embed(["green tea", "black tea"]))
        await model.aclose()
        return seen

    async def record():
        async with Recorder(path).model(DirectModel(real)) as model:
            assert isinstance(model, RecordingModel)
            return await ask(model)

    with VirtualClock() as clock:
        seen = clock.run(record())
        started = clock.now()
        timed = clock.run(ask(DirectModel(MockLLM().replay(path, timing=True))))
        # hello, busy, gone, hello, embeddings; a refusal takes its time too
        assert clock.now() - started == pytest.approx(3.0, abs=1e-5)
        untimed = clock.run(ask(DirectModel(MockLLM().replay(path))))
    assert timed[:4] == seen[:4]
    assert timed[5] == seen[5]
    assert [each[0] for each in untimed[:5]] == [each[0] for each in seen[:5]]
    assert untimed[0][-1] == 0
    with MockLLM().replay(path), openai.OpenAI() as client:  # other doors read it as well
        answer = client.chat.completions.create(model="mock-model", messages=messages("hello"), temperature=0)
        assert answer.choices[0].message.content == "hi there"
        assert answer.usage.prompt_tokens == seen[0][1].prompt_tokens


def test_the_recorded_timing_is_kept_where_asked_for(path):
    take = Take(
        "chat", "/v1/chat/completions", {"model": "m", "messages": messages("x"), "stream": True}, 200, 2.0,
        events=((0.0, 'data: {"id": "1"}'), (1.5, "data: [DONE]")),
    )  # fmt: skip
    path.write_text('{"tinytroupe_recording": 1}\n' + take.line() + "\n" + take.line() + "\n")

    async def main():
        loop, times = asyncio.get_running_loop(), []
        async with openai.AsyncOpenAI(max_retries=0) as client:
            await client.models.list()
            times.append(loop.time())
            stream = await client.chat.completions.create(model="m", messages=messages("x"), stream=True)
            times.append(loop.time())
            assert [chunk.id async for chunk in stream] == ["1"]
            times.append(loop.time())
        return times[1] - times[0], times[2] - times[1]

    for timing, expected in ((True, (2.0, 1.5)), (False, (0.25, 0.125))):
        with VirtualClock() as clock, MockLLM(latency=0.25, chunk_delay=0.125).replay(path, timing) as llm:
            assert clock.run(main()) == pytest.approx(expected)
            with pytest.raises(AssertionError, match=r"calls.jsonl, line 3, never asked for: chat .*\"stream\": true"):
                llm.assert_all_replies_used()
            llm.reset()
            assert clock.run(main()) == pytest.approx(expected)


def test_drift_is_shown_as_a_diff_and_fails_the_test(path):
    with endpoint().serve() as real:
        record_by_interception(path, real)
    with (
        pytest.raises(AssertionError, match="drifted from the recording") as caught,
        MockLLM().replay(path),
        client_for(None) as client,
        pytest.raises(openai.BadRequestError, match="drifted"),
    ):
        client.chat.completions.create(model="m", messages=messages("hello"), temperature=0.5)
    shown = str(caught.value)
    assert f"--- {path}, line 2" in shown
    assert '+ "temperature": 0.5' in shown
    with MockLLM().replay(path, ignore="temperature"), client_for(None) as client:
        client.chat.completions.create(model="m", messages=messages("hello"), temperature=0.5)
    with MockLLM(strict=False).replay(path) as llm, client_for(None) as client:
        assert client.chat.completions.create(model="m", messages=messages("other")).choices[0].message.content
        client.embeddings.create(model="m", input="not recorded")
        llm.when(content="hello").reply("rules come first")
        answer = client.chat.completions.create(model="m", messages=messages("hello"))
        assert answer.choices[0].message.content == "rules come first"


def test_asking_more_often_or_elsewhere_than_recorded_is_drift(path):
    with endpoint().serve() as real, Recorder(path), client_for(real.base_url) as client:
        client.chat.completions.create(model="m", messages=messages("hello"))
    llm = MockLLM().replay(path).reply("queued replies come after")
    with pytest.raises(AssertionError, match="more often than recorded"), llm, client_for(None) as client:  # noqa: PT012
        for _ in range(2):
            client.chat.completions.create(model="m", messages=messages("hello"))
        for _ in range(2):
            with pytest.raises(openai.BadRequestError):
                client.chat.completions.create(model="m", messages=messages("hello"))
            with pytest.raises(openai.BadRequestError):
                client.responses.create(model="m", input="hello")
        assert "holds no request to responses" in llm.unmatched[1]


def test_connections_that_fail_are_recorded_as_what_they_were(path):
    real = MockLLM().fail("reset").fail("stall").fail("body_cut").reply("one two three four")

    def provoke(client):
        seen = []
        for text, timeout_s in (("a", 30), ("b", 0.3), ("c", 30)):
            with pytest.raises(openai.APIConnectionError) as caught:
                client.chat.completions.create(model="m", messages=messages(text), timeout=timeout_s)
            seen.append(type(caught.value))
        with client.chat.completions.create(model="m", messages=messages("d"), stream=True) as stream:
            seen.append(next(iter(stream)).choices[0].delta.role)
        return seen

    with real.serve() as server, Recorder(path), client_for(server.base_url) as client:
        seen = provoke(client)
    assert seen == [openai.APIConnectionError, openai.APITimeoutError, openai.APIConnectionError, "assistant"]
    assert [take.failed for take in read_recording(path)] == ["reset", "timeout", "body_cut", ""]
    assert read_recording(path)[3].cut
    with MockLLM().replay(path), client_for(None) as client:
        assert provoke(client) == seen
    llm = MockLLM().replay(path)
    with llm.serve() as server, client_for(server.base_url) as client:
        assert provoke(client) == seen


def test_a_stream_cut_in_the_recording_is_cut_when_played(path):
    real = MockLLM().reply("one two three").serve()
    with real, Recorder(path), client_for(real.base_url) as client:  # noqa: SIM117
        with client.chat.completions.create(model="m", messages=messages("x"), stream=True) as stream:
            next(iter(stream))
    with MockLLM().replay(path), client_for(None) as client:
        stream = client.chat.completions.create(model="m", messages=messages("x"), stream=True)
        with pytest.raises((openai.APIConnectionError, http.TransportError)):
            list(stream)


def test_the_proxy_says_when_the_real_endpoint_is_away(path):
    server = Recorder(path, base_url="http://127.0.0.1:9/v1/").serve()
    with server, client_for(server.base_url) as client:  # noqa: SIM117
        with pytest.raises(openai.InternalServerError, match="can't reach"):
            client.models.list()
    assert read_recording(path)[0].status == 502
    with MockLLM().replay(path), client_for(None) as client, pytest.raises(openai.InternalServerError, match="reach"):
        client.models.list()


@pytest.mark.parametrize("key", [KEY, ODD_KEY])
def test_keys_never_reach_the_file(path, key, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "the-one-in-the-environment")
    text = f"my key is {key}, and the-one-in-the-environment, and Bearer abcdefghijklmnop"
    with endpoint().serve() as real, Recorder(path), client_for(real.base_url, key) as client:
        client.chat.completions.create(
            model="m", messages=messages("hello " + text), extra_headers={"x-secret": "tell-nobody"},
            extra_query={"api-key": "in-the-url"},
        )  # fmt: skip
    recorded = path.read_text()
    for secret in (
        key,
        json.dumps(key)[1:-1],
        "the-one-in",
        "abcdefghijklmnop",
        "tell-nobody",
        "in-the-url",
        "Authoriz",
    ):
        assert secret not in recorded
    assert recorded.count("[key]") == 3
    assert without_keys("sk-short and Bearer x") == "sk-short and Bearer x"


def test_a_recording_is_readable_json_lines(path):
    with endpoint().serve() as real, Recorder(path), client_for(real.base_url) as client:
        client.chat.completions.create(model="m", messages=messages("hello – é"))
    header, line = path.read_text("utf-8").splitlines()
    assert json.loads(header) == {"tinytroupe_recording": 1}
    assert "hello – é" in line
    entry = json.loads(line)
    assert sorted(entry) == ["endpoint", "headers", "latency_s", "path", "request", "response", "status"]
    assert (entry["endpoint"], entry["path"], entry["status"]) == ("chat", "/v1/chat/completions", 200)
    assert set(entry["headers"]) == {"content-type"}


def test_a_run_that_fails_leaves_the_old_recording_alone(path):
    path.write_text("the old one")
    with endpoint().serve() as real, pytest.raises(ZeroDivisionError):  # noqa: PT012, SIM117
        with Recorder(path), client_for(real.base_url) as client:
            client.chat.completions.create(model="m", messages=messages("hello"))
            raise ZeroDivisionError
    assert path.read_text() == "the old one"
    assert len(read_recording(str(path) + ".partial")) == 1


def test_a_recording_is_bounded_and_says_what_it_left_out(path):
    left_out = r"1 exchange\(s\) were left out.*after 1;"
    with endpoint().serve() as real, pytest.raises(RecordingError, match=left_out):  # noqa: PT012, SIM117
        with Recorder(path, max_bytes=1500), client_for(real.base_url) as client:
            for _ in range(2):
                client.chat.completions.create(model="m", messages=messages("hello" + "x" * 100))
    assert len(read_recording(path)) == 1
    size = len(Take("chat", "/", {}, 200).line()) + 1
    for bound, kept in ((size, 1), (size - 1, 0)):
        recorder = Recorder(path, max_bytes=bound)
        recorder.open()
        recorder.add(Take("chat", "/", {}, 200))
        if kept:
            recorder.close()
        else:
            with pytest.raises(RecordingError):
                recorder.close()
        assert len(read_recording(path)) == kept


def test_wrong_use_is_refused(path):
    with pytest.raises(ValueError, match="http://"):
        Recorder(path, base_url="api.example.com")
    with pytest.raises(ValueError, match="at least 1"):
        Recorder(path, max_bytes=0)
    with pytest.raises(ValueError, match="base_url="):
        Recorder(path).serve()
    recorder = Recorder(path)
    with pytest.raises(RuntimeError, match="not recording"):
        recorder.add(Take("chat", "/", {}, 200))
    with recorder, pytest.raises(RuntimeError, match="another Recorder"):
        recorder.open()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 1: the file is empty"),
        ("{}\n", "line 1: this is no recording"),
        ("[]\n", "line 1: this is no recording"),
        ('{"tinytroupe_recording": 2}\n', "line 1: the recording has version 2"),
        ('{"tinytroupe_recording": 1}\n{"endpoint": "chat"}\n', "line 2: .*missing"),
        ('{"tinytroupe_recording": 1}\n{\n', "line 2"),
        ('{"tinytroupe_recording": 1}\n[]\n', "line 2"),
    ],
)
def test_malformed_recordings_name_file_and_line(path, text, problem):
    path.write_text(text)
    with pytest.raises(RecordingError, match=rf"calls\.jsonl, {problem}"):
        MockLLM().replay(path)


def test_answers_in_other_encodings_and_forms():
    import gzip
    import zlib

    def take(raw, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return take_of("chat", "/", {}, 200, headers, 0.5, [(0.25, raw)])

    assert take(gzip.compress(b'{"a": 1}'), content_encoding="gzip").response == {"a": 1}
    assert take(zlib.compress(b"[]"), content_encoding="deflate").response == []
    assert take(b"<html>", set_cookie="x").response == "<html>"
    assert take(b"{}").latency_s == 0.75
    for raw, encoding in ((b"x", "gzip"), (b"x", "br")):
        with pytest.raises(RecordingError, match=encoding):
            take(raw, content_encoding=encoding)
    split = take_of(
        "chat", "/", {}, 200, {"Content-Type": "text/event-stream"}, 0.5,
        [(0.0, b"data: \xc3"), (1.0, b"\xa9\r\n\r\ndata: b\n\nda"), (1.5, b"ta: c")],
    )  # fmt: skip
    assert split.events == ((1.0, "data: é"), (0.0, "data: b"), (0.0, "data: c"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM handlers")
def test_the_command_records_and_replays(path):
    def serve(*options):
        code = "import sys; from tinytroupe.cli import main; sys.exit(main(sys.argv[1:]))"
        process = subprocess.Popen(
            [sys.executable, "-c", code, "mock-server", *options], stdout=subprocess.PIPE, text=True
        )
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        try:
            with client_for(process.stdout.readline().strip()) as client:
                yield converse(client)
            os.kill(process.pid, signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            watchdog.cancel()
            process.kill()
            process.communicate()

    with endpoint().serve() as real:
        (seen,) = serve("--record", str(path), "--base-url", real.base_url)
    assert (seen,) == tuple(serve("--replay", str(path), "--timing"))
