"""The door inside the process, through the official client: sync and async, default and aiohttp transports."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from tinytroupe.runtime.clock import VirtualClock
from tinytroupe.testing import LogNormal, MockLLM
from tinytroupe.testing.interception import TransportMocker, UnmockedRequestError, active_router

try:
    import httpx2 as http
except ImportError:
    http = httpx  # type: ignore[misc]

CLIENTS = ["sync", "async", "aiohttp"]
MESSAGES: Any = [{"role": "system", "content": "You are Lisa.\nBe brief."}, {"role": "user", "content": "hello"}]


class Mood(BaseModel):
    mood: str
    score: int


def use(kind, work, **options):
    """Run the coroutine function `work` with an async client, or with a sync client that looks like one."""

    async def main():
        if kind == "sync":
            with openai.OpenAI(max_retries=0, **options) as client:
                return await work(_Awaitable(client))
        transport = openai.DefaultAioHttpClient() if kind == "aiohttp" else None
        async with openai.AsyncOpenAI(max_retries=0, http_client=transport, **options) as client:
            return await work(client)

    return asyncio.run(main())


class _Awaitable:
    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return _Awaitable(getattr(self._inner, name))

    def with_options(self, **options):
        return _Awaitable(self._inner.with_options(**options))

    async def __call__(self, *args, **kwargs):
        return self._inner(*args, **kwargs)


async def collected(stream):
    return [each async for each in stream] if hasattr(stream, "__aiter__") else list(stream)


@pytest.fixture
def llm():
    with MockLLM() as mock:
        yield mock


@pytest.mark.parametrize("kind", CLIENTS)
def test_chat_is_answered_whatever_the_base_url(llm, kind):
    llm.when(person="Lisa").reply("hi")

    async def work(client):
        return await client.chat.completions.create(model="m", messages=MESSAGES)

    for url in (None, "https://models.example.org/openai/v1"):
        completion = use(kind, work, base_url=url)
        assert completion.choices[0].message.content == "hi"
        assert completion.choices[0].finish_reason == "stop"
        assert completion.model == "m"
        assert completion.usage.total_tokens == completion.usage.prompt_tokens + 1
    llm.assert_called(2, person="Lisa")


@pytest.mark.parametrize("kind", CLIENTS)
def test_structured_output_is_generated_to_fit(llm, kind):
    async def work(client):
        return await client.chat.completions.parse(model="m", messages=MESSAGES, response_format=Mood)

    assert isinstance(use(kind, work).choices[0].message.parsed, Mood)


@pytest.mark.parametrize("kind", CLIENTS)
def test_streams(llm, kind):
    llm.reply("one two three").reply("four five")

    async def work(client):
        stream = await client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        return await collected(stream)

    chunks = use(kind, work)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "one two three"
    assert chunks[-1].usage.completion_tokens == 4
    assert chunks[-2].choices[0].finish_reason == "stop"

    async def responses(client):
        return await collected(await client.responses.create(model="m", input="hello", stream=True))

    events = use(kind, responses)
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == "four five"
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "four five"


@pytest.mark.parametrize("kind", CLIENTS)
def test_the_other_endpoints(llm, kind):
    async def work(client):
        response = await client.responses.create(model="m", instructions="You are Oscar.", input="hello")
        one = await client.embeddings.create(model="m", input=["green tea"])
        two = await client.embeddings.create(model="m", input="green tea", encoding_format="float", dimensions=1536)
        models = await client.models.list()
        model = await client.models.retrieve("some-model")
        return response, one, two, models, model

    response, one, two, models, model = use(kind, work)
    assert response.output_text
    assert response.usage.input_tokens > 0
    assert one.data[0].embedding == pytest.approx(two.data[0].embedding, abs=1e-6)
    assert [each.id for each in models.data] == ["mock-model"]
    assert model.id == "some-model"
    assert llm.by_endpoint["responses"].calls == 1
    assert llm.by_person["Oscar"].calls == 1


@pytest.mark.parametrize("kind", CLIENTS)
def test_tools_choices_and_logprobs(llm, kind):
    tool = {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 3}},
                "required": ["city", "days"],
            },
        },
    }

    async def work(client):
        called = await client.chat.completions.create(
            model="m", messages=MESSAGES, tools=[tool], tool_choice="required"
        )
        several = await client.chat.completions.create(model="m", messages=MESSAGES, n=3, logprobs=True, top_logprobs=2)
        return called, several

    called, several = use(kind, work)
    (call,) = called.choices[0].message.tool_calls
    assert call.function.name == "weather"
    assert 1 <= json.loads(call.function.arguments)["days"] <= 3
    assert called.choices[0].finish_reason == "tool_calls"
    assert len({choice.message.content for choice in several.choices}) == 3
    assert len(several.choices[0].logprobs.content[0].top_logprobs) == 2


@pytest.mark.parametrize("kind", CLIENTS)
def test_scripted_tool_calls_stream_too(llm, kind):
    llm.reply(tool_calls=[("weather", {"city": "Rome"})])

    async def work(client):
        return await collected(await client.chat.completions.create(model="m", messages=MESSAGES, stream=True))

    deltas = [chunk.choices[0].delta.tool_calls[0] for chunk in use(kind, work) if chunk.choices[0].delta.tool_calls]
    assert deltas[0].function.name == "weather"
    assert json.loads("".join(delta.function.arguments for delta in deltas)) == {"city": "Rome"}


FAULTS = {
    "bad_request": openai.BadRequestError,
    "context_length": openai.BadRequestError,
    "invalid_key": openai.AuthenticationError,
    "permission": openai.PermissionDeniedError,
    "not_found": openai.NotFoundError,
    "conflict": openai.ConflictError,
    "unprocessable": openai.UnprocessableEntityError,
    "rate_limit": openai.RateLimitError,
    "server_error": openai.InternalServerError,
    503: openai.InternalServerError,
    "connection": openai.APIConnectionError,
    "reset": openai.APIConnectionError,
    "timeout": openai.APITimeoutError,
    "connect_timeout": openai.APITimeoutError,
    "pool_timeout": openai.APITimeoutError,
    "body_cut": openai.APIConnectionError,
}


@pytest.mark.parametrize("kind", CLIENTS)
def test_every_exception_of_the_client_can_be_provoked(llm, kind):
    async def work(client):
        for fault, expected in FAULTS.items():
            llm.fail(fault)
            with pytest.raises(expected) as caught:
                await client.chat.completions.create(model="m", messages=MESSAGES)
            assert type(caught.value) is expected, fault
        llm.fail("context_length")
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="m", messages=MESSAGES)
        assert caught.value.code == "context_length_exceeded"
        llm.fail("length").fail("content_filter")
        for expected in (openai.LengthFinishReasonError, openai.ContentFilterFinishReasonError):
            with pytest.raises(expected):
                await client.chat.completions.parse(model="m", messages=MESSAGES, response_format=Mood)
        llm.fail("malformed_body")
        with pytest.raises(ValueError):
            await client.chat.completions.create(model="m", messages=MESSAGES)
        llm.fail("refusal")
        completion = await client.chat.completions.parse(model="m", messages=MESSAGES, response_format=Mood)
        assert completion.choices[0].message.refusal
        llm.fail("empty_choices")
        assert (await client.chat.completions.create(model="m", messages=MESSAGES)).choices == []

    use(kind, work)
    llm.assert_all_replies_used()


@pytest.mark.parametrize("kind", CLIENTS)
def test_retry_headers_reach_the_client(llm, kind):
    llm.fail(status=429, retry_after=7, message="slow down").fail(status=429, retry_after_ms=5, should_retry=False)

    async def work(client):
        with pytest.raises(openai.RateLimitError, match="slow down") as caught:
            await client.chat.completions.create(model="m", messages=MESSAGES)
        assert caught.value.response.headers["retry-after"] == "7"
        with pytest.raises(openai.RateLimitError) as caught:
            await client.with_options(max_retries=5).chat.completions.create(model="m", messages=MESSAGES)
        assert caught.value.response.headers["retry-after-ms"] == "5"

    use(kind, work)
    assert llm.calls == 2


@pytest.mark.parametrize("kind", CLIENTS)
def test_the_clients_read_time_out_is_honoured(llm, kind):
    llm.latency = 30

    async def work(client):
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(model="m", messages=MESSAGES, timeout=0.01)

    use(kind, work)
    assert llm.errors == 1
    assert llm.exchanges[-1].fault == "timeout"
    assert llm.in_flight == 0


@pytest.mark.parametrize("kind", CLIENTS)
def test_unmatched_requests_are_not_retried_and_fail_at_the_end(kind):
    async def work(client):
        with pytest.raises(openai.BadRequestError, match="nearest rule"):
            await client.with_options(max_retries=3).chat.completions.create(model="m", messages=MESSAGES)

    mock = MockLLM()
    mock.when(person="Oscar").reply("x")
    with pytest.raises(AssertionError, match=r"when\(person='Oscar'\)"), mock:
        use(kind, work)
    assert mock.calls == 1


def test_an_error_in_the_block_is_not_hidden_by_verify():
    mock = MockLLM()
    mock.unmatched.append("something")
    with pytest.raises(KeyError), mock:
        raise KeyError


@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize("library", [httpx, http])
def test_other_hosts_are_refused_unless_routed(llm, library, asynchronous):
    llm.router.get("https://weather.example/today").respond(json={"sky": "blue"})

    async def get(url):
        if asynchronous:
            async with library.AsyncClient() as client:
                return await client.get(url)
        with library.Client() as client:
            return client.get(url)

    assert asyncio.run(get("https://weather.example/today")).json() == {"sky": "blue"}
    with pytest.raises(UnmockedRequestError, match=r"GET https://other.example/x refused"):
        asyncio.run(get("https://other.example/x?secret=1"))
    assert list(llm.refused) == ["GET https://other.example/x"]


def test_routes_come_before_the_model(llm):
    llm.router.post(host="special.example").respond(418, json={"error": {"message": "teapot"}})

    async def work(client):
        with pytest.raises(openai.APIStatusError, match="teapot"):
            await client.chat.completions.create(model="m", messages=MESSAGES)

    use("async", work, base_url="https://special.example/v1")
    assert llm.calls == 0


def test_the_routers_memory_is_bounded(llm):
    route = llm.router.get("https://weather.example/").respond(200)
    with http.Client() as client:
        for _ in range(150):
            client.get("https://weather.example/")
    assert len(llm.router.calls) == len(route.calls) == 100


def test_loopback_passes_through_unless_told_otherwise(llm):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with http.Client() as client, pytest.raises(http.ConnectError):
            client.post(f"{url}/chat/completions", json={})
        llm.pass_loopback = False
        with http.Client() as client:
            assert client.post(f"{url}/chat/completions", json={}).status_code == 200


def test_bodies_that_are_not_objects_are_refused_politely(llm):
    with http.Client() as client:
        for content in (b"{", b"[]", b"\xff"):
            answer = client.post("https://api.openai.com/v1/chat/completions", content=content)
            assert answer.status_code == 400
    assert llm.calls == 0


def test_the_api_key_is_there_and_gone(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with MockLLM(), MockLLM():
        assert os.environ["OPENAI_API_KEY"]
    assert "OPENAI_API_KEY" not in os.environ
    monkeypatch.setenv("OPENAI_API_KEY", "mine")
    with MockLLM():
        assert os.environ["OPENAI_API_KEY"] == "mine"
    assert os.environ["OPENAI_API_KEY"] == "mine"


def test_patches_are_gone_after_the_last_mock():
    before = [http.Client._transport_for_url, httpx.AsyncClient._transport_for_url]
    with MockLLM() as outer:
        with MockLLM() as inner:
            assert active_router() is inner.router
            with inner:
                assert active_router() is inner.router
            assert active_router() is inner.router
        assert active_router() is outer.router
        assert http.Client._transport_for_url is not before[0]
    assert [http.Client._transport_for_url, httpx.AsyncClient._transport_for_url] == before
    assert TransportMocker.routers == []
    assert active_router() is None


def test_async_context_manager():
    async def main():
        async with MockLLM().reply("hi") as mock, openai.AsyncOpenAI() as client:
            completion = await client.chat.completions.create(model="m", messages=MESSAGES)
            assert completion.choices[0].message.content == "hi"
            assert mock.calls == 1

    asyncio.run(main())


def test_threads_and_tasks_get_the_replies_of_their_own_mock():
    wrong: list[str] = []

    def ask(client, name):
        text = client.chat.completions.create(model="m", messages=MESSAGES).choices[0].message.content
        if text != name:
            wrong.append(f"{name} got {text}")

    def sync(name):
        with MockLLM() as mock, openai.OpenAI() as client:
            mock.when().reply(name)
            for _ in range(25):
                ask(client, name)
            mock.assert_called(25)

    async def loop(name):
        async def task(number):
            own = f"{name}.{number}"
            async with MockLLM(latency=0.001) as mock, openai.AsyncOpenAI() as client:
                mock.when().reply(own)
                for _ in range(10):
                    completion = await client.chat.completions.create(model="m", messages=MESSAGES)
                    if completion.choices[0].message.content != own:
                        wrong.append(own)
                mock.assert_called(10)

        await asyncio.gather(*(asyncio.create_task(task(i)) for i in range(3)))

    threads = [threading.Thread(target=sync, args=(f"t{i}",)) for i in range(4)]
    threads += [threading.Thread(target=lambda name=f"l{i}": asyncio.run(loop(name))) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_concurrent_calls_overlap_and_do_not_depend_on_the_order_of_arrival():
    def run(names):
        with VirtualClock() as clock, MockLLM(seed=3, latency=LogNormal(5.0, 0.5)) as mock:

            async def main():
                async with openai.AsyncOpenAI() as client:

                    async def one(name):
                        completion = await client.chat.completions.create(
                            model="m", messages=[{"role": "system", "content": f"You are {name}."}]
                        )
                        return name, completion.choices[0].message.content

                    return await asyncio.gather(*(one(name) for name in names))

            replies = dict(clock.run(main()))
            latencies = {each.call.person: each.latency_s for each in mock.exchanges}
            assert mock.in_flight_peak == len(names)
            return replies, latencies

    names = [f"Person {i}" for i in range(20)]
    assert run(names) == run(names[::-1])
