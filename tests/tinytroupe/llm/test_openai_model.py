"""The official client behind the seam: what is sent, what is tried again and when, what is shared and closed."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tinytroupe.config import config_manager
from tinytroupe.llm import ChatRequest, ModelError, Origin, RefusalError, ReplySchema, default_model, use_model
from tinytroupe.llm.limits import ROUND_S
from tinytroupe.llm.model import ChatModel
from tinytroupe.llm.openai_model import OpenAIModel
from tinytroupe.runtime.clock import VirtualClock
from tinytroupe.runtime.randomness import generator
from tinytroupe.testing import DirectModel, LogNormal, MockLLM
from tinytroupe.testing.limits import Limits

MESSAGES = ({"role": "system", "content": "You are Ann.\n"}, {"role": "user", "content": "Hello"})
SCHEMA = ReplySchema("answer", {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})


@pytest.fixture
def llm():
    with VirtualClock() as clock, MockLLM(latency=1.0) as mock:
        mock.clock = clock
        yield mock


def ask(llm, model=None, request=None, times=1):
    """Return the replies to `times` calls at once."""
    model = model or OpenAIModel()
    request = request or ChatRequest(MESSAGES)

    async def main():
        return await asyncio.gather(*(model.complete(request) for _ in range(times)), return_exceptions=True)

    replies = llm.clock.run(main())
    for reply in replies:
        if times == 1 and isinstance(reply, BaseException):
            raise reply
    return replies if times > 1 else replies[0]


def body(llm):
    return llm.exchanges[-1].call.body


# ---------------------------------------------------------------- what is sent


@pytest.mark.parametrize("http_client", ["aiohttp", "httpx"])
def test_a_call_goes_through_the_client_and_comes_back_with_its_cost(llm, http_client):
    llm.reply("Hi there")
    reply = ask(llm, OpenAIModel(http_client=http_client))
    assert (reply.text, reply.finish_reason, reply.model) == ("Hi there", "stop", "gpt-5-mini")
    assert reply.usage.calls == 1
    assert reply.usage.prompt_tokens == llm.prompt_tokens > 0
    assert reply.usage.completion_tokens == 2
    assert (reply.latency_s, reply.queued_s) == (1.0, 0.0)
    assert llm.clock.now() == 1.0


def test_nothing_is_sent_that_is_not_set(llm):
    ask(llm)
    assert body(llm) == {"model": "gpt-5-mini", "messages": list(MESSAGES)}


def test_settings_and_parameters_are_sent_the_latter_winning(llm):
    with config_manager.override(
        model="m2", temperature=0.5, top_p=0.9, max_completion_tokens=100, reasoning_effort="low"
    ):
        ask(llm, request=ChatRequest(MESSAGES, parameters={"temperature": 1.0, "seed": 3}))
    sent = body(llm)
    assert sent.pop("messages")
    assert sent == {
        "model": "m2",
        "temperature": 1.0,
        "top_p": 0.9,
        "max_completion_tokens": 100,
        "reasoning_effort": "low",
        "seed": 3,
    }
    ask(llm, request=ChatRequest(MESSAGES, model="m3"))
    assert body(llm)["model"] == "m3"


def test_a_schema_is_sent_strict(llm):
    ask(llm, request=ChatRequest(MESSAGES, schema=SCHEMA))
    sent = body(llm)["response_format"]
    assert sent == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": dict(SCHEMA.schema)},
    }


def test_the_message_is_sent_as_it_is_whatever_is_in_it(llm):
    odd = 'é "quoted" \\ \u2028 \x00 李 ' + "x" * 10_000
    ask(llm, request=ChatRequest(({"role": "user", "content": odd},)))
    assert llm.exchanges[-1].call.messages[0]["content"] == odd


def test_embeddings_come_in_order(llm):
    model = OpenAIModel()
    vectors = llm.clock.run(model.embed(["one", "two", "one"]))
    assert len(vectors) == 3
    assert vectors[0] == vectors[2] != vectors[1]
    assert body(llm)["model"] == "text-embedding-3-small"


# ---------------------------------------------------------------- structured output where it is not known


def test_where_a_schema_is_refused_less_is_asked_for_and_that_is_remembered(llm):
    llm.when(predicate=lambda call: "json_schema" in json.dumps(call.body)).fail("schema_rejected")
    llm.when().reply('{"a": "b"}')
    model, request = OpenAIModel(), ChatRequest(MESSAGES, schema=SCHEMA)
    reply = ask(llm, model, request)
    assert reply.text == '{"a": "b"}'
    assert body(llm)["response_format"] == {"type": "json_object"}
    assert llm.calls == 2
    ask(llm, model, request)
    assert llm.calls == 3


def test_down_to_plain_text(llm):
    llm.when(predicate=lambda call: "response_format" in call.body).fail("schema_rejected")
    llm.when().reply('{"a": "b"}')
    ask(llm, request=ChatRequest(MESSAGES, schema=SCHEMA))
    assert "response_format" not in body(llm)
    assert llm.calls == 3


def test_calls_refused_side_by_side_go_down_one_level_together(llm):
    llm.when(predicate=lambda call: "json_schema" in json.dumps(call.body)).fail("schema_rejected")
    llm.when().reply('{"a": "b"}')
    replies = ask(llm, request=ChatRequest(MESSAGES, schema=SCHEMA), times=5)
    assert {reply.text for reply in replies} == {'{"a": "b"}'}
    assert {json.dumps(each.call.body.get("response_format")) for each in list(llm.exchanges)[5:]} == {
        '{"type": "json_object"}'
    }


def test_a_fallback_is_no_attempt_and_no_other_model_s_or_server_s(llm):
    llm.when(model="gpt-5-mini", predicate=lambda call: "response_format" in call.body).fail("schema_rejected")
    llm.when().reply('{"a": "b"}')
    model, request = OpenAIModel(), ChatRequest(MESSAGES, schema=SCHEMA)
    with config_manager.override(max_attempts=1):
        ask(llm, model, request)
    ask(llm, model, ChatRequest(MESSAGES, schema=SCHEMA, model="other"))
    assert body(llm)["response_format"]["type"] == "json_schema"
    with VirtualClock() as clock:
        llm.clock = clock
        calls = llm.calls
        ask(llm, model, request)
        assert llm.calls == calls + 3


# ---------------------------------------------------------------- what is tried again


def jittered(asked_s, attempt=1, seed=0, person="", call=0):
    return asked_s * (1 + 0.1 * generator(seed, "retry", person, call, attempt).random())


@pytest.mark.parametrize(
    ("fault", "least_s"),
    [
        ({"kind": "rate_limit", "retry_after": 7}, 7.0),
        ({"kind": "rate_limit", "retry_after_ms": 2500, "retry_after": 60}, 2.5),
        ({"kind": "overloaded", "retry_after": 4}, 4.0),
    ],
)
def test_what_the_server_asks_for_is_waited_for_exactly(llm, fault, least_s):
    llm.fail(**fault, after_s=0.0).reply("Hi")
    reply = ask(llm)
    assert reply.text == "Hi"
    assert reply.usage.retries == 1
    assert llm.clock.now() == pytest.approx(jittered(least_s) + 1.0, abs=1e-9)
    assert reply.latency_s == 1.0


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(llm, status):
    llm.fail(status=status).reply("Hi")
    assert ask(llm).text == "Hi"
    assert llm.calls == 2


@pytest.mark.parametrize("kind", ["connection", "reset", "timeout", "body_cut", "malformed_body", "empty_choices"])
def test_so_is_what_broke_on_the_way(llm, kind):
    llm.fail(kind).reply("Hi")
    assert ask(llm).text == "Hi"
    assert llm.calls == 2


@pytest.mark.parametrize(
    ("kind", "status", "said"),
    [
        ("invalid_key", 401, "401: .*Incorrect API key provided"),
        ("permission", 403, "403: .*not allowed"),
        ("not_found", 404, "404: .*does not exist"),
        ("bad_request", 400, "400: .*malformed"),
        ("context_length", 400, "maximum context length"),
        ("unprocessable", 422, "422"),
        ("quota", 429, "exceeded your current quota"),
    ],
)
def test_what_can_t_pass_fails_at_once_and_says_why(llm, kind, status, said):
    llm.fail(kind)
    with pytest.raises(ModelError, match=said) as caught:
        ask(llm)
    assert (caught.value.status, caught.value.transient) == (status, False)
    assert caught.value.__cause__ is not None
    assert llm.calls == 1
    assert llm.clock.now() == 0.0


def test_the_server_s_word_on_trying_again_wins(llm):
    llm.fail("server_error", should_retry=False)
    with pytest.raises(ModelError, match="500"):
        ask(llm)
    assert llm.calls == 1
    llm.fail("bad_request", should_retry=True).reply("Hi")
    assert ask(llm).text == "Hi"


@pytest.mark.parametrize("kind", ["refusal", "content_filter"])
def test_a_refusal_is_an_error_of_its_own(llm, kind):
    llm.fail(kind)
    with pytest.raises(RefusalError):
        ask(llm)
    assert llm.calls == 1


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_attempts_are_bounded_by_the_setting(llm, attempts):
    llm.when().fail("server_error")
    with config_manager.override(max_attempts=attempts), pytest.raises(ModelError, match="500") as caught:
        ask(llm)
    assert llm.calls == attempts
    assert caught.value.transient


def test_the_time_an_attempt_may_take_is_a_setting_that_holds_at_once(llm):
    llm.fail("stall").reply("Hi")
    model = OpenAIModel()
    with config_manager.override(timeout=3):
        assert ask(llm, model).text == "Hi"
    assert 4.0 < llm.clock.now() < 5.0
    llm.when().fail("stall")
    with config_manager.override(timeout=2, max_attempts=1), pytest.raises(ModelError, match="did not answer in time"):
        ask(llm, model)


def test_retries_are_the_same_in_every_run_and_differ_by_person():
    def makespan(person):
        with VirtualClock() as clock, MockLLM(latency=1.0) as llm:
            llm.clock = clock
            llm.fail("server_error").fail("server_error").reply("Hi")
            ask(llm, request=ChatRequest(MESSAGES, origin=Origin(person=person)))
            return clock.now()

    assert makespan("Ann") == makespan("Ann")
    assert makespan("Ann") != makespan("Bo")


def test_a_slot_is_free_while_its_call_waits_to_be_tried_again(llm):
    llm.when(call=0).fail("server_error", retry_after=30, after_s=0.0)
    llm.when().reply("Hi")
    with config_manager.override(max_concurrent_model_calls=1):
        replies = ask(llm, times=3)
    assert [reply.text for reply in replies] == ["Hi"] * 3
    # The first waits half a minute, the others answer meanwhile, one after the other.
    assert sorted(reply.queued_s for reply in replies) == [0.0, 0.0, 1.0]
    assert [reply.slot_s for reply in replies] == pytest.approx([1.0, 1.0, 1.0])
    assert llm.clock.now() == pytest.approx(jittered(30.0) + 1.0, abs=1e-9)
    assert llm.in_flight_peak == 1


# ---------------------------------------------------------------- the gate


@pytest.mark.parametrize(("slots", "elapsed_s"), [(1, 6.0), (2, 3.0), (6, 1.0), (None, 1.0)])
def test_calls_in_flight_are_bounded_by_the_setting(llm, slots, elapsed_s):
    with config_manager.override(max_concurrent_model_calls=slots):
        ask(llm, times=6)
    assert llm.clock.now() == elapsed_s
    assert llm.in_flight_peak == min(slots or 6, 6)


def test_the_bound_may_change_at_any_time(llm):
    model = OpenAIModel()
    ask(llm, model, times=4)
    with config_manager.override(max_concurrent_model_calls=2):
        ask(llm, model, times=4)
    ask(llm, model, times=4)
    assert llm.clock.now() == 1.0 + 2.0 + 1.0


def test_requests_a_minute_are_kept_to(llm):
    with config_manager.override(requests_per_minute=60):
        ask(llm, times=5)
    assert llm.clock.now() == pytest.approx(5.0, abs=1e-6)


def test_a_thousand_calls_at_once_find_their_way(llm):
    replies = ask(llm, times=1000)
    assert all(reply.usage.calls == 1 for reply in replies)
    assert llm.calls == 1000
    assert llm.clock.now() == pytest.approx(1.0 + 6 * ROUND_S)  # 20, 40, 80, 160, 320, 640, all


@pytest.mark.parametrize("told", [True, False])
def test_a_server_s_limit_on_requests_is_used_and_not_run_into(llm, told, monkeypatch):
    end_s, late = 150, []
    if not told:  # only its 429s say so
        monkeypatch.setattr(Limits, "headers", lambda self: ())
    settle = llm._settle

    def noting(*args):
        answer = settle(*args)
        if 30 <= llm.clock.now() < end_s:
            late.append(answer.status)
        return answer

    monkeypatch.setattr(llm, "_settle", noting)
    llm.rpm, llm.latency = 600, LogNormal(1.0, 0.5)
    model = OpenAIModel()

    async def person(number):
        call = 0
        while llm.clock.now() < end_s:
            await model.complete(ChatRequest(MESSAGES, origin=Origin("w", f"P{number}", call)))
            call += 1

    async def main():
        await asyncio.gather(*(person(number) for number in range(60)))

    with config_manager.override(max_attempts=20):
        llm.clock.run(main())
    assert late.count(200) >= 0.95 * 10 * (end_s - 30)
    assert late.count(429) < 0.02 * len(late)
    assert not (told and 429 in late)


def test_the_gate_is_one_for_all_calls_of_a_loop(llm):
    model = OpenAIModel()

    async def main():
        first = model.gate
        await model.complete(ChatRequest(MESSAGES))
        return first is model.gate, first.in_use, first.in_use_peak

    assert llm.clock.run(main()) == (True, 0, 1)


# ---------------------------------------------------------------- the client


def test_one_client_serves_all_calls_of_a_loop_and_is_closed_with_it(llm, monkeypatch):
    made, closed = [], []
    build = OpenAIModel._client

    def counted(self, *args):
        client = build(self, *args)
        made.append(client)
        close = client.close

        async def closing():
            closed.append(client)
            await close()

        client.close = closing
        return client

    monkeypatch.setattr(OpenAIModel, "_client", counted)
    model = OpenAIModel()
    with VirtualClock() as clock:
        llm.clock = clock
        ask(llm, model, times=20)
        ask(llm, model)
        assert len(made) == 1
        assert closed == []
    assert closed == made
    del made[:], closed[:]
    gc.collect()


def test_another_server_set_while_running_is_asked_at_once():
    with MockLLM().reply("one") as one, one.serve() as first, MockLLM().reply("two").serve() as second:
        model = OpenAIModel(api_key="x")

        async def main():
            with config_manager.override(base_url=first.base_url):
                before = (await model.complete(ChatRequest(MESSAGES))).text
            with config_manager.override(base_url=second.base_url):
                after = (await model.complete(ChatRequest(MESSAGES))).text
            await model.aclose()
            return before, after

        assert asyncio.run(main()) == ("one", "two")


def test_a_loop_without_a_portal_closes_what_it_opened_itself():
    async def main(model):
        await model.complete(ChatRequest(MESSAGES))
        await model.aclose()
        await model.aclose()

    with MockLLM() as llm:
        model = OpenAIModel()
        asyncio.run(main(model))
        asyncio.run(main(model))
        assert llm.calls == 2


def test_no_key_is_an_error_that_says_what_to_do(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with VirtualClock() as clock, pytest.raises(ModelError, match="set OPENAI_API_KEY, or answer offline with"):
        clock.run(OpenAIModel().complete(ChatRequest(MESSAGES)))


def test_real_sockets_on_virtual_time_fail_at_once_and_say_what_to_do():
    with MockLLM().serve() as server, VirtualClock() as clock:
        model = OpenAIModel(base_url=server.base_url, api_key="x")
        with pytest.raises(ModelError, match=r"can't be used on virtual time.*MockLLM") as caught:
            clock.run(model.complete(ChatRequest(MESSAGES)))
    assert not caught.value.transient


def test_an_unknown_transport_is_refused():
    with pytest.raises(ValueError, match="http_client must be 'aiohttp' or 'httpx', got 'curl'"):
        OpenAIModel(http_client="curl")


def test_the_seam():
    assert isinstance(OpenAIModel(), ChatModel)
    assert isinstance(DirectModel(MockLLM()), ChatModel)
    assert default_model() is default_model()
    own = OpenAIModel()
    with use_model(own):
        from tinytroupe.llm import model_in_use

        assert model_in_use() is own
        assert model_in_use(other := OpenAIModel()) is other
    assert model_in_use() is default_model()


# ---------------------------------------------------------------- servers that call themselves compatible


def answered(body, status=200):
    """Ask a server that answers everything with `body`."""
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    async def main(url):
        model = OpenAIModel(base_url=url, api_key="x")
        try:
            return await model.complete(ChatRequest(MESSAGES))
        finally:
            await model.aclose()

    with HTTPServer(("127.0.0.1", 0), Handler) as server, config_manager.override(max_attempts=1):
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            return asyncio.run(main(f"http://127.0.0.1:{server.server_port}/v1"))
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"message": {"content": "Hi"}}]},
        {"choices": [{"message": {"content": "Hi", "refusal": None}, "finish_reason": None}], "usage": None},
        {"choices": [{"message": {"content": "Hi"}}], "usage": {"prompt_tokens": None, "prompt_tokens_details": None}},
        {"choices": [{"message": {"content": "Hi"}}], "usage": [], "model": None},
    ],
)
def test_fields_that_are_left_out_or_null_are_done_without(body):
    reply = answered(json.dumps(body).encode())
    assert (reply.text, reply.model, reply.finish_reason) == ("Hi", "", "")
    assert (reply.usage.calls, reply.usage.tokens, reply.usage.cached_tokens) == (1, 0, 0)


def test_content_that_is_null_is_an_empty_text():
    assert answered(b'{"choices": [{"message": {"content": null}}]}').text == ""


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"<html>", b"null", b"[]", b"3", b"{}", b"\xff\xfe", b'{"choices": null}', b'{"choices": []}'),
        *(b'{"choices": [null]}', b'{"choices": [{}]}', b'{"choices": [{"message": null}]}'),
        b'{"choices": {"message": 1}}',
    ],
)
def test_an_answer_that_is_none_is_an_error_that_may_pass(body):
    with pytest.raises(ModelError, match=r"answer (holds no choice|could not be read)") as caught:
        answered(body)
    assert caught.value.transient


def test_a_loop_keeps_no_more_than_a_few_clients():
    async def main() -> tuple[int, list[bool]]:
        model = OpenAIModel()
        clients = []
        for number in range(20):
            with config_manager.override(base_url=f"http://127.0.0.1:9/{number}"):
                clients.append(model._connection().clients.clients[0])
        await asyncio.sleep(0.1)
        kept = len(model._connections[asyncio.get_running_loop()])
        closed = [client.is_closed() for client in clients]
        await model.aclose()
        return kept, closed

    with MockLLM():
        kept, closed = asyncio.run(main())
    assert kept == 8
    assert closed == [True] * 12 + [False] * 8


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("gpt-4.1-mini", {"temperature", "top_p"}),
        ("gpt-5-mini", {"reasoning_effort"}),
        ("openai/o3", {"reasoning_effort"}),
        ("gpt-5-chat-latest", {"temperature", "top_p"}),
        ("llama-3-8b", {"temperature", "top_p", "reasoning_effort"}),
    ],
)
def test_a_parameter_is_sent_where_the_family_takes_it(model, sent):
    seen = {}
    settings = {"model": model, "temperature": 0.5, "top_p": 0.9, "reasoning_effort": "low"}
    with MockLLM() as llm, config_manager.override(**settings):
        llm.reply(lambda call: seen.update(call.body) or "ok")
        asyncio.run(OpenAIModel().complete(ChatRequest(MESSAGES)))
    assert {"temperature", "top_p", "reasoning_effort"} & set(seen) == sent
    assert seen["model"] == model


def test_azure_takes_a_key_or_a_token_provider(monkeypatch):
    for name in ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN", "OPENAI_API_KEY", "OPENAI_API_VERSION"):
        monkeypatch.delenv(name, raising=False)
    heard = []

    class Azure(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            heard.append((self.path, self.headers["authorization"], self.headers["api-key"]))
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}
            body = json.dumps({"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]})
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    async def token():
        return "entra"

    async def ask(url, **options):
        model = OpenAIModel(base_url=url, **options)
        try:
            return (await model.complete(ChatRequest(MESSAGES, model="deployed"))).text
        finally:
            await model.aclose()

    with ThreadingHTTPServer(("127.0.0.1", 0), Azure) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            with config_manager.override(api_type="azure", azure_api_version="2024-10-21"):
                assert asyncio.run(ask(url, azure_ad_token_provider=token)) == "ok"
                assert asyncio.run(ask(url, api_key="secret")) == "ok"
        finally:
            server.shutdown()
            thread.join()
    path = "/openai/deployments/deployed/chat/completions?api-version=2024-10-21"
    assert [one[0] for one in heard] == [path, path]
    assert heard[0][1] == "Bearer entra"
    assert heard[1][2] == "secret"
