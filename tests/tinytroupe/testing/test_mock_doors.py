"""Every door of the mock model, every kind of the official client, every kind of call, every exception."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
from openai.types import CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response
from pydantic import BaseModel

from tinytroupe.llm.model import ChatRequest, ModelError, Origin, ReplySchema
from tinytroupe.testing import DirectModel, MockLLM
from tinytroupe.testing.faults import CONTENT, Fault

PAGE = Path(__file__).parents[3] / "docs" / "mock_model.md"
KINDS = ["sync", "async", "aiohttp"]  # there is no synchronous aiohttp transport
DOORS = ["interception", "server"]
MESSAGES = [
    {"role": "system", "content": "You are Lisa.\nBe brief."},
    {"role": "user", "content": "What do you think?"},
]
WEATHER = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Rome", "Oslo"]}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}


class Mood(BaseModel):
    mood: str
    score: int


@contextmanager
def opened(door, mock):
    """Open a door to `mock` and yield the base URL to use."""
    if door == "interception":
        with mock:
            yield "https://api.example.com/v1"
    else:
        with mock.serve() as server:
            yield server.base_url


def use(kind, url, work, **options):
    """Run the coroutine function `work` with a client; a synchronous one is dressed up to look asynchronous."""
    options = {"base_url": url, "api_key": "x", "max_retries": 0, **options}

    async def main():
        if kind == "sync":
            with openai.OpenAI(**options) as client:
                return await work(_Dressed(client))
        transport = openai.DefaultAioHttpClient() if kind == "aiohttp" else None
        async with openai.AsyncOpenAI(http_client=transport, **options) as client:
            return await work(client)

    return asyncio.run(main())


class _Dressed:
    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return _Dressed(getattr(self._inner, name))

    async def __call__(self, *args, **kwargs):
        return self._inner(*args, **kwargs)


async def listed(stream):
    return [each async for each in stream] if hasattr(stream, "__aiter__") else list(stream)


async def create(client):
    completion = await client.chat.completions.create(model="m", messages=MESSAGES)
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage.prompt_tokens > 0
    return completion.choices[0].message.content


async def parse(client):
    completion = await client.chat.completions.parse(model="m", messages=MESSAGES, response_format=Mood)
    return completion.choices[0].message.parsed


async def stream(client):
    chunks = await listed(
        await client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].usage.total_tokens == chunks[-1].usage.prompt_tokens + chunks[-1].usage.completion_tokens
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


async def tools(client):
    completion = await client.chat.completions.create(
        model="m", messages=MESSAGES, tools=[TOOL], tool_choice="required"
    )
    assert completion.choices[0].finish_reason == "tool_calls"
    (call,) = completion.choices[0].message.tool_calls
    return call.function.name, json.loads(call.function.arguments)["city"] in ("Rome", "Oslo")


async def tool_stream(client):
    chunks = await listed(
        await client.chat.completions.create(
            model="m", messages=MESSAGES, tools=[TOOL], tool_choice="required", stream=True
        )
    )
    parts = [chunk.choices[0].delta.tool_calls[0].function for chunk in chunks if chunk.choices[0].delta.tool_calls]
    return parts[0].name, json.loads("".join(part.arguments for part in parts))["city"] in ("Rome", "Oslo")


async def embeddings(client):
    one = await client.embeddings.create(model="text-embedding-3-small", input=["green tea", "iced green tea", "cars"])
    two = await client.embeddings.create(model="text-embedding-3-small", input="green tea", encoding_format="float")
    tea, iced, cars = (each.embedding for each in one.data)
    assert tea == pytest.approx(two.data[0].embedding, abs=1e-6)
    assert sum(a * b for a, b in zip(tea, iced, strict=True)) > sum(a * b for a, b in zip(tea, cars, strict=True)) + 0.3
    return len(tea), sum(each * each for each in tea) == pytest.approx(1)


async def responses(client):
    response = await client.responses.create(model="m", instructions="You are Lisa.", input="What do you think?")
    assert response.usage.output_tokens > 0
    return response.output_text


async def response_stream(client):
    events = await listed(await client.responses.create(model="m", input="What do you think?", stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == text
    return text


async def response_parse(client):
    response = await client.responses.parse(model="m", input="What do you think?", text_format=Mood)
    return response.output_parsed


async def models(client):
    found = await client.models.list()
    return [each.id for each in found.data], (await client.models.retrieve("other")).id


CALLS = [create, parse, stream, tools, tool_stream, embeddings, responses, response_stream, response_parse, models]
_first: dict = {}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("door", DOORS)
def test_the_official_client_is_satisfied(door, kind, call):
    mock = MockLLM(seed=4)
    with opened(door, mock) as url:
        seen = use(kind, url, call)
    assert seen
    # One brain: every door and every client gets the same words.
    assert _first.setdefault(call.__name__, seen) == seen
    assert mock.calls == {"embeddings": 2, "models": 2}.get(call.__name__, 1)


def direct(body, endpoint="chat", path=""):
    """Return what the mock decides for a request without HTTP, as bytes."""

    async def main():
        mock = MockLLM(seed=4)
        answer = await mock.answer(mock.arrive(endpoint, body), path=path)
        return b"".join(event for _, event in answer.events()) if answer.streams else answer.body()

    return asyncio.run(main())


def test_without_http_too_every_answer_fits_the_clients_own_types():
    ask = {"model": "m", "messages": MESSAGES}
    completion = ChatCompletion.model_validate_json(direct(ask))
    assert completion.choices[0].message.content == _first.get("create", completion.choices[0].message.content)
    ChatCompletion.model_validate_json(direct({**ask, "n": 2, "logprobs": True, "top_logprobs": 1}))
    ChatCompletion.model_validate_json(direct({**ask, "tools": [TOOL], "tool_choice": "required"}))
    for more in ({}, {"tools": [TOOL], "tool_choice": "required"}, {"stream_options": {"include_usage": True}}):
        events = direct({**ask, "stream": True, **more}).decode().split("\n\n")
        assert events[-2:] == ["data: [DONE]", ""]
        for event in events[:-2]:
            ChatCompletionChunk.model_validate_json(event.removeprefix("data: "))
    Response.model_validate_json(direct({"model": "m", "input": "hi"}, "responses"))
    vectors = CreateEmbeddingResponse.model_validate_json(direct({"model": "m", "input": ["a", "b"]}, "embeddings"))
    assert len(vectors.data) == 2
    shown = json.loads(direct({"model": "m", "input": "a", "encoding_format": "base64"}, "embeddings"))
    assert len(base64.b64decode(shown["data"][0]["embedding"])) == 4 * 1536
    for each in json.loads(direct({}, "models", "/v1/models"))["data"]:
        Model.model_validate(each)


def test_the_direct_door_says_what_the_others_say():
    async def main():
        model = DirectModel(MockLLM(seed=4), model="m")
        request = ChatRequest(MESSAGES, origin=Origin(person="Lisa"))
        mood = ChatRequest(MESSAGES, schema=ReplySchema("Mood", Mood.model_json_schema()), origin=Origin(person="Lisa"))
        return (
            (await model.complete(request)).text,
            Mood.model_validate_json((await model.complete(mood)).text),
            await model.embed(["green tea", "iced green tea"]),
        )

    text, mood, vectors = asyncio.run(main())
    with MockLLM(seed=4) as mock, openai.OpenAI() as client:
        assert client.chat.completions.create(model="m", messages=MESSAGES).choices[0].message.content == text
        parsed = client.chat.completions.parse(model="m", messages=MESSAGES, response_format=Mood)
        assert parsed.choices[0].message.parsed == mood
        found = client.embeddings.create(model="text-embedding-3-small", input=["green tea", "iced green tea"])
        assert [each.embedding for each in found.data] == [pytest.approx(each, abs=1e-6) for each in vectors]
        assert mock.calls == 3


# ---------------------------------------------------------------- every exception of the client


def rows():
    """Return (exception, scripting, call) of each row of the documentation's table."""
    page = PAGE.read_text("utf-8").partition("<!-- exceptions -->")[2].partition("<!-- /exceptions -->")[0]
    found = re.findall(r"^\| `(\w+)` \| `(.+?)` \| (?:`(.+?)`|–) \|", page, re.MULTILINE)
    assert len(found) > 15
    return found


REMOTE = [row for row in rows() if row[1].startswith("llm.fail")]
LOCAL = [row for row in rows() if not row[1].startswith("llm.fail")]


async def asked(client, call):
    if call == "stream":
        await listed(await client.chat.completions.create(model="m", messages=MESSAGES, stream=True))
    elif call == "parse":
        await client.chat.completions.parse(model="m", messages=MESSAGES, response_format=Mood)
    else:
        await client.chat.completions.create(model="m", messages=MESSAGES)


async def provoke(row, llm, client, quirk=False):
    name, scripting, call = row
    exec(scripting, {"llm": llm})
    expected = getattr(openai, name)
    with pytest.raises(expected) as caught:
        await asked(client, call)
    # The client's aiohttp transport takes a dropped connection for a time-out in connecting.
    quirk = quirk and expected is openai.APIConnectionError
    assert type(caught.value) is (openai.APITimeoutError if quirk else expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("door", DOORS)
def test_every_exception_a_model_can_cause_is_provoked_as_the_documentation_says(door, kind):
    llm = MockLLM()
    late = [row for row in REMOTE if row[0] == "APITimeoutError"]
    plain = [row for row in REMOTE if row[2] != "strict client" and row not in late]
    (strict,) = [row for row in REMOTE if row[2] == "strict client"]

    async def each(client, rows):
        for row in rows:
            await provoke(row, llm, client, quirk=(door, kind) == ("server", "aiohttp"))

    with opened(door, llm) as url:
        use(kind, url, lambda client: each(client, plain))
        use(kind, url, lambda client: each(client, late), timeout=1.0)
        use(kind, url, lambda client: provoke(strict, llm, client), _strict_response_validation=True)
    llm.assert_all_replies_used()


@pytest.mark.parametrize("row", LOCAL, ids=lambda row: row[0])
def test_exceptions_that_no_model_causes(row, monkeypatch):
    name, scripting, _ = row
    with MockLLM() as llm, monkeypatch.context() as patch, pytest.raises(_named(name)) as caught:  # noqa: PT012
        patch.delenv("OPENAI_API_KEY", raising=False)
        exec(scripting.replace("; ", "\n"), {"llm": llm, "openai": openai, "OpenAI": openai.OpenAI})
    assert type(caught.value) is _named(name)


def _named(name):
    import openai._exceptions

    return getattr(openai, name, None) or getattr(openai._exceptions, name)


def test_the_table_holds_every_exception_of_the_client():
    import openai._exceptions as module

    public = {
        name
        for name, found in vars(module).items()
        if isinstance(found, type) and issubclass(found, Exception) and not name.startswith("_")
    }
    assert {row[0] for row in rows()} == public


@pytest.mark.parametrize("row", [row for row in REMOTE if row[2] != "parse"], ids=lambda row: row[0])
def test_the_direct_door_raises_model_errors_for_the_same_faults(row):
    llm = MockLLM()
    exec(row[1], {"llm": llm})
    with pytest.raises(ModelError) as caught:
        asyncio.run(DirectModel(llm).complete(ChatRequest(MESSAGES)))
    assert caught.value.status in (None, 200) or caught.value.status >= 400


@pytest.mark.parametrize("door", [*DOORS, "direct"])
def test_streams_break_in_the_middle(door):
    if door == "direct":
        assert direct({"model": "m", "messages": MESSAGES, "stream": True}).count(b"data: ") > 4
        for kind in ("body_cut", "stream_error", "malformed_body", "web_page"):
            with pytest.raises(ModelError):
                asyncio.run(DirectModel(MockLLM().fail(kind)).complete(ChatRequest(MESSAGES)))
        return
    llm = MockLLM()
    errors = {
        "body_cut": Exception,
        "stream_error": openai.APIError,
        "malformed_body": ValueError,
        "reset": openai.APIConnectionError,
        503: openai.InternalServerError,
    }
    with opened(door, llm) as url, openai.OpenAI(base_url=url, api_key="x", max_retries=0) as client:
        for kind, error in errors.items():
            llm.fail(kind)
            seen = []
            with pytest.raises(error):  # noqa: PT012
                for chunk in client.chat.completions.create(model="m", messages=MESSAGES, stream=True):
                    seen.append(chunk)  # noqa: PERF402
            assert bool(seen) == (kind in ("body_cut", "stream_error")), kind
        llm.fail("stream_error")
        events = list(client.responses.create(model="m", input="hi", stream=True))
        assert events[-1].type == "error"
        llm.fail("stream_error")
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model="m", messages=MESSAGES)
        llm.fail("web_page")
        assert list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True)) == []
    assert llm.errors == 8


def test_content_that_is_not_what_was_asked_for_is_no_exception():
    async def main():
        found = {}
        for kind in CONTENT:
            mock = MockLLM().fail(Fault(kind))
            answer = await mock.answer(mock.arrive("chat", {"model": "m", "messages": MESSAGES}))
            found[kind] = answer.status, len(answer.payload()["choices"])
        return found

    assert asyncio.run(main()) == {kind: (200, 0 if kind == "empty_choices" else 1) for kind in CONTENT}
