"""The scripted brain: replies, rules, strictness, counting, latency."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytroupe.llm.model import ChatRequest, ModelError, Origin, RefusalError, ReplySchema
from tinytroupe.testing import (
    Constant,
    DirectModel,
    Fault,
    LogNormal,
    MockLLM,
    PerToken,
    Recorded,
    Reply,
    Uniform,
    parse_latency,
)
from tinytroupe.testing.accounting import PromptCache
from tinytroupe.testing.call import Call, endpoint_of, person_in

TURN = ReplySchema("turn", {"type": "object", "properties": {"actions": {"type": "array"}, "cognitive_state": {}}})


def ask(mock, text="hello", person="", system=None, schema=None, model="", **parameters):
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": text})
    request = ChatRequest(messages, model=model, schema=schema, parameters=parameters, origin=Origin(person=person))
    return asyncio.run(DirectModel(mock).complete(request))


def test_queued_replies_come_in_order_and_run_out_into_strictness():
    mock = MockLLM().reply("one").reply({"two": 2}).reply(lambda call: f"three for {call.person}")
    assert [ask(mock, person="Lisa").text for _ in range(3)] == ["one", '{"two": 2}', "three for Lisa"]
    with pytest.raises(ModelError, match="all 3 queued replies are used up") as caught:
        ask(mock)
    assert caught.value.status == 400
    assert not caught.value.transient
    mock.assert_all_replies_used()
    with pytest.raises(AssertionError, match="used up"):
        mock.verify()


def test_async_callables_and_ready_replies():
    async def answer(call: Call):
        await asyncio.sleep(0)
        return Reply("slow", latency_s=0.0, finish_reason="length")

    mock = MockLLM().reply(answer).reply("refuses", refusal="no")
    reply = ask(mock)
    assert (reply.text, reply.finish_reason) == ("slow", "length")
    with pytest.raises(RefusalError):
        ask(mock)


def test_a_callable_that_raises_fails_the_test_even_if_swallowed():
    mock = MockLLM().reply(lambda call: 1 / 0)
    with pytest.raises(ModelError, match="ZeroDivisionError"):
        ask(mock)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        mock.verify()


def test_a_reply_json_cannot_hold_is_refused_at_once():
    with pytest.raises(TypeError, match="JSON"):
        MockLLM().reply({"when": object()})
    with pytest.raises(TypeError, match="further arguments"):
        MockLLM().reply(lambda call: "x", refusal="no")


def test_turns_talk_and_end_with_done():
    mock = MockLLM().reply_talk("Hi", target="Oscar").reply_actions(["THINK", ("TALK", "So?"), {"type": "DONE"}])
    turns = [json.loads(ask(mock, schema=TURN).text) for _ in range(2)]
    assert [(a["type"], a["content"], a["target"]) for a in turns[0]["actions"]] == [
        ("TALK", "Hi", "Oscar"),
        ("DONE", "", ""),
    ]
    assert [a["type"] for a in turns[1]["actions"]] == ["THINK", "TALK", "DONE"]
    assert turns[0]["cognitive_state"] == {"goals": "", "context": [], "attention": "", "emotions": ""}
    with pytest.raises(ValueError, match="type, content and target"):
        mock.reply_actions([{"kind": "TALK"}])
    with pytest.raises(TypeError, match="mood"):
        mock.reply_actions(["THINK"], mood="good")


def test_rules_choose_by_everything_there_is():
    mock = MockLLM(strict=True)
    mock.when(person="Lisa", call=0).reply("first")
    mock.when(person="Lisa", call=range(1, 3)).reply("then")
    mock.when(content=re.compile(r"price of \w+")).reply("cheap")
    mock.when(content="weather").times(1).reply("sunny")
    mock.when(model="big").reply("big")
    mock.when(schema="survey").reply({"ok": True})
    mock.when(predicate=lambda call: "?" in call.content).reply("a question")
    assert [ask(mock, person="Lisa").text for _ in range(3)] == ["first", "then", "then"]
    assert ask(mock, "the price of tea").text == "cheap"
    assert ask(mock, "weather").text == "sunny"
    assert ask(mock, model="big").text == "big"
    assert ask(mock, schema=ReplySchema("survey", {})).text == '{"ok": true}'
    assert ask(mock, "what?").text == "a question"
    with pytest.raises(ModelError):
        ask(mock, "weather")  # used up
    mock.assert_called(3, person="Lisa")
    mock.assert_called(content="weather")
    mock.assert_not_called(person="Oscar")


def test_several_replies_of_a_rule_come_in_order_and_the_last_stays():
    mock = MockLLM()
    mock.when(person="Lisa").reply("a").reply("b")
    assert [ask(mock, person="Lisa").text for _ in range(3)] == ["a", "b", "b"]
    mock.assert_all_replies_used()


def test_unmatched_requests_show_the_nearest_rule_and_the_difference():
    mock = MockLLM()
    mock.when(person="Oscar", content="shoes").reply("boots")
    mock.when(person="Lisa", content="What about the price of tea?").reply("cheap")
    with pytest.raises(ModelError):
        ask(mock, "What about the price of coffee?", person="Lisa")
    with pytest.raises(AssertionError) as caught:
        mock.verify()
    message = str(caught.value)
    assert "nearest rule of 2: when(person='Lisa', content='What about the price of tea?')" in message
    assert "the nearest line is 'What about the price of coffee?'" in message
    assert "Oscar" not in message
    mock.reset()
    mock.verify()


def test_what_was_ever_counted_outlives_every_reset():
    mock = MockLLM(strict=False, latency=0.0)
    for person in ("Lisa", "Oscar", "Lisa"):
        ask(mock, person=person)
        assert mock.calls == 1
        mock.reset()
    ask(mock, person="Lisa")
    ever = mock.ever
    assert (mock.calls, ever.calls, ever.tokens > 3 * mock.tokens) == (1, 4, True)
    assert {person: tally.calls for person, tally in ever.by_person.items()} == {"Lisa": 3, "Oscar": 1}
    assert ever.latencies_s.total() == 4


def test_strictness_can_be_forced_either_way():
    lax = MockLLM(strict=False)
    lax.when(person="Lisa").reply("x")
    assert ask(lax, person="Oscar").text
    strict = MockLLM(strict=True)
    with pytest.raises(ModelError, match="there are no rules"):
        ask(strict)


def test_generated_replies_depend_on_seed_person_and_call_only():
    def texts(seed, order):
        mock = MockLLM(seed)
        return {(person, call): ask(mock, person=person, schema=TURN).text for call in range(3) for person in order}

    assert texts(1, ["a", "b"]) == texts(1, ["b", "a"])
    assert texts(1, ["a"]) != texts(2, ["a"])
    turn = json.loads(texts(1, ["a"])["a", 0])
    assert [action["type"] for action in turn["actions"]] == ["TALK", "DONE"]


def test_counters_by_person_and_endpoint():
    mock = MockLLM()
    ask(mock, "x" * 400, person="Lisa")
    ask(mock, "x", person="Oscar")
    vectors = asyncio.run(DirectModel(mock).embed(["tea", "coffee"]))
    assert len(vectors) == 2
    assert mock.calls == 3
    assert mock.by_person["Lisa"].prompt_tokens == 104
    assert mock.by_endpoint["chat"].calls == 2
    assert mock.by_endpoint["embeddings"].completion_tokens == 0
    assert mock.tokens == mock.prompt_tokens + mock.completion_tokens
    assert mock.in_flight == 0
    assert mock.in_flight_peak == 1
    mock.reset()
    assert (mock.calls, mock.tokens, mock.by_person, len(mock.exchanges)) == (0, 0, {}, 0)


def test_exchanges_are_bounded_in_number_and_bytes():
    mock = MockLLM(max_exchanges=3)
    for i in range(5):
        ask(mock, f"message {i}")
    assert [each.call.content for each in mock.exchanges] == ["message 2", "message 3", "message 4"]
    assert mock.exchanges[-1].status == 200
    small = MockLLM(max_exchange_bytes=3000)
    for _ in range(5):
        ask(small, "x" * 1000)
    assert len(small.exchanges) == 1
    ask(small, "x" * 10_000)
    assert len(small.exchanges) == 0
    assert small.exchanges.bytes == 0
    with pytest.raises(AssertionError, match="raise max_exchanges"):
        small.assert_called(content="xx")


def test_prompt_cache_counts_shared_prefixes_in_blocks():
    mock = MockLLM()
    prefix = "word " * 1000
    ask(mock, prefix + "one")
    assert mock.cached_tokens == 0
    reply = ask(mock, prefix + "two")
    assert reply.usage.cached_tokens == 1152  # nine whole blocks of 128
    ask(mock, prefix + "three", model="another")
    assert mock.cached_tokens == 1152
    ask(mock, "x" * 4000)
    ask(mock, "x" * 4000)  # shorter than 1024 tokens: never cached
    assert mock.cached_tokens == 1152
    off = MockLLM(prompt_cache=False)
    ask(off, prefix)
    ask(off, prefix)
    assert off.cached_tokens == 0


def test_the_prompt_cache_is_bounded_and_keeps_what_is_in_use():
    cache = PromptCache(max_blocks=64)
    prefix = "word " * 1000

    def cached(text):
        messages = [{"role": "system", "content": text}, {"role": "user", "content": "And now?"}]
        return cache.cached_tokens(Call("chat", {"model": "m", "messages": messages}))

    assert cached(prefix) == 0
    for number in range(40):
        assert cached(f"{number} " + "other " * 1000) == 0
        assert cached(prefix) == 1152
    assert cached("1 " + "other " * 1000) == 0  # long gone


def test_assertions_show_what_arrived():
    mock = MockLLM().reply("a")
    mock.when(person="Oscar").reply("b").times(2)
    with pytest.raises(AssertionError, match="No call arrived"):
        mock.assert_called()
    ask(mock, "good morning", person="Lisa")
    with pytest.raises(AssertionError, match=r"got 1\.\n1 call"):
        mock.assert_not_called()
    with pytest.raises(AssertionError, match=r"expected 2 call\(s\) with {'person': 'Lisa'}, got 1"):
        mock.assert_called(2, person="Lisa")
    with pytest.raises(AssertionError, match="good morning"):
        mock.assert_called(person="Oscar")
    with pytest.raises(AssertionError, match=r"when\(person='Oscar'\).times\(2\): 2 of its answers"):
        mock.assert_all_replies_used()
    with pytest.raises(TypeError, match="unknown condition who"):
        mock.assert_called(who="Lisa")


@pytest.mark.parametrize(
    ("kind", "status", "transient"),
    [("rate_limit", 429, True), (500, 500, True), ("invalid_key", 401, False), ("connection", None, True)],
)
def test_faults_reach_the_direct_door(kind, status, transient):
    mock = MockLLM().fail(kind)
    with pytest.raises(ModelError) as caught:
        ask(mock)
    assert (caught.value.status, caught.value.transient) == (status, transient)
    assert mock.errors == 1


def test_faults_of_content():
    mock = MockLLM()
    for kind in ("malformed", "empty", "wrong_schema", "length"):
        mock.fail(kind)
    with pytest.raises(ValueError):
        json.loads(ask(mock, schema=TURN).text)
    assert ask(mock).text == ""
    assert json.loads(ask(mock, schema=TURN).text) == {"unexpected": True}
    assert ask(mock).finish_reason == "length"
    for kind in ("refusal", "content_filter"):
        mock.fail(kind)
        with pytest.raises(RefusalError):
            ask(mock)
    mock.fail("empty_choices")
    with pytest.raises(ModelError, match="empty_choices"):
        ask(mock)


def test_unknown_faults_are_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'timeout'"):
        MockLLM().fail("timeot")
    with pytest.raises(ValueError, match="400 to 599"):
        MockLLM().fail(200)
    with pytest.raises(TypeError, match="not both"):
        MockLLM().fail("timeout", status=500)
    with pytest.raises(TypeError):
        MockLLM().fail(Fault("timeout"), message="x")


def test_fault_rates_are_seeded_and_bounded():
    def failed(seed):
        mock = MockLLM(seed).fault_rate(0.2, status=429).fault_rate(0.1, "server_error")
        outcome = []
        for _ in range(200):
            try:
                ask(mock, person="Lisa")
                outcome.append(200)
            except ModelError as error:
                outcome.append(error.status)
        return outcome

    first = failed(1)
    assert first == failed(1) != failed(2)
    assert 20 <= first.count(429) <= 60
    assert 8 <= first.count(500) <= 35
    with pytest.raises(ValueError, match="added up"):
        MockLLM().fault_rate(0.6).fault_rate(0.5)


def test_emulated_limits_refuse_and_tell_when_to_come_back():
    async def main():
        mock = MockLLM(rpm=2)
        call = mock.arrive("chat", {"messages": []})
        headers = dict((await mock.answer(call)).headers())
        assert headers["x-ratelimit-limit-requests"] == "2"
        assert headers["x-ratelimit-remaining-requests"] == "1"
        await mock.answer(mock.arrive("chat", {"messages": []}))
        refused = await mock.answer(mock.arrive("chat", {"messages": []}))
        assert refused.status == 429
        assert 0 < int(dict(refused.headers())["retry-after-ms"]) <= 30_001

    asyncio.run(main())


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=40))
def test_a_name_on_a_line_of_its_own_is_read_back_whole(name):
    assert person_in(f"You are {name}.", whole_line=True) == name


@pytest.mark.parametrize(
    ("line", "person"),
    [
        ("You are Lisa.", "Lisa"),
        ("You are Lisa Carter, a data scientist.", "Lisa Carter"),
        ("You are Lisa. You like tea.", "Lisa"),
        ("You are Dr. X. Smith.", "Dr. X. Smith"),
        ("You are Lisa", "Lisa"),
        ("You aren't Lisa.", ""),
        ("Hello", ""),
        ("You are " + "x" * 10_000, "x" * 200),
    ],
)
def test_who_is_calling(line, person):
    assert person_in(line) == person
    call = Call("chat", {"messages": [{"role": "system", "content": line + "\nmore"}]})
    assert call.person == person


def test_the_person_of_other_requests():
    assert Call("chat", {"messages": [{"role": "user", "content": "hi"}], "user": "u1"}).person == "u1"
    assert Call("responses", {"instructions": "You are Lisa.", "input": "hi"}).person == "Lisa"
    parts = [{"type": "text", "text": "You are Lisa."}]
    assert Call("chat", {"messages": [{"role": "developer", "content": parts}]}).person == "Lisa"
    assert Call("chat", {"messages": "nonsense"}).messages == []


@pytest.mark.parametrize(
    ("method", "path", "endpoint"),
    [
        ("POST", "/v1/chat/completions", "chat"),
        ("POST", "/openai/deployments/x/chat/completions", "chat"),
        ("POST", "/v1/responses", "responses"),
        ("POST", "/v1/embeddings/", "embeddings"),
        ("GET", "/v1/models", "models"),
        ("GET", "/v1/models/gpt-x", "models"),
        ("GET", "/v1/chat/completions", ""),
        ("POST", "/other", ""),
    ],
)
def test_endpoints_by_path(method, path, endpoint):
    assert endpoint_of(method, path) == endpoint


@pytest.mark.parametrize(
    ("text", "latency"),
    [
        ("0.2", Constant(0.2)),
        ("constant:1", Constant(1.0)),
        ("uniform:0.1,0.4", Uniform(0.1, 0.4)),
        (" LogNormal:1.2,0.5", LogNormal(1.2, 0.5)),
        ("pertoken:0.3,0.02", PerToken(0.3, 0.02)),
    ],
)
def test_latencies_that_are_written_down(text, latency):
    assert parse_latency(text) == MockLLM(latency=text).latency == latency


@pytest.mark.parametrize("text", ["", "fast", "normal:1,2", "lognormal:1", "uniform:1,2,3", "lognormal:a,b"])
def test_malformed_latencies_name_the_forms(text):
    with pytest.raises(ValueError, match="lognormal:MEDIAN,SIGMA"):
        parse_latency(text)
    with pytest.raises(ValueError, match="lognormal:MEDIAN,SIGMA"):
        MockLLM().latency = text


@pytest.mark.parametrize(
    "make", [lambda: Constant(-1), lambda: Uniform(2, 1), lambda: Recorded([]), lambda: parse_latency("-1")]
)
def test_impossible_latencies_are_refused(make):
    with pytest.raises(ValueError):
        make()
    with pytest.raises(TypeError):
        MockLLM(latency=None)  # type: ignore[arg-type]


@settings(deadline=None)
@given(st.text(max_size=20), st.integers(0, 1000))
def test_draws_depend_on_the_key_alone_and_keep_their_bounds(key, tokens):
    for latency in (Uniform(0.1, 0.4), LogNormal(1.0, 0.5), Recorded([1.0, 2.0]), PerToken(0.5, 0.1)):
        assert latency.draw(key, tokens) == latency.draw(key, tokens) >= 0
    assert 0.1 <= Uniform(0.1, 0.4).draw(key, tokens) <= 0.4
    assert Recorded([1.0, 2.0]).draw(key, tokens) in (1.0, 2.0)
    assert PerToken(0.5, 0.1).draw(key, 11) == pytest.approx(1.5)


def test_latency_passes_on_the_loops_own_time():
    async def main():
        loop = asyncio.get_running_loop()
        mock = MockLLM(latency=0.02)
        start = loop.time()
        replies = await asyncio.gather(*(DirectModel(mock).complete(ChatRequest([])) for _ in range(5)))
        assert loop.time() - start >= 0.019
        assert [reply.latency_s for reply in replies] == [0.02] * 5
        assert mock.in_flight_peak == 5
        assert mock.in_flight == 0

    asyncio.run(main())


def test_cancelled_calls_leave_nothing_in_flight():
    async def main():
        mock = MockLLM(latency=60)
        task = asyncio.create_task(DirectModel(mock).complete(ChatRequest([])))
        await asyncio.sleep(0)
        assert mock.in_flight == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert mock.in_flight == 0

    asyncio.run(main())


def test_embeddings_are_unit_vectors_close_for_common_words():
    mock = MockLLM()
    tea, more_tea, cars = asyncio.run(
        DirectModel(mock).embed(["I like green tea", "green tea I drink", "fast red cars"])
    )

    def dot(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert dot(tea, tea) == pytest.approx(1.0, abs=1e-5)
    assert dot(tea, more_tea) > 0.5 > abs(dot(tea, cars)) + 0.2
