"""Requests and replies as bytes."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytroupe.llm.canonical import (
    DIFF_LINES,
    canonical_request,
    canonical_text,
    decode_reply,
    decode_vector,
    difference,
    encode_reply,
    encode_vector,
    readable,
)
from tinytroupe.llm.model import ChatReply, ChatRequest, Origin, ReplySchema
from tinytroupe.llm.usage import Usage

anything = st.text(st.characters(), max_size=40)  # lone surrogates included
contents = st.one_of(anything, st.text("ab\n", min_size=250, max_size=300), st.none(), st.just([{"type": "text"}]))
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user"]), "content": contents}, optional={"name": anything}
    )
)
schemas = st.one_of(st.none(), st.builds(ReplySchema, anything, st.dictionaries(anything, st.integers())))
requests = st.builds(
    ChatRequest, messages, anything, schemas, st.dictionaries(anything, st.one_of(st.floats(0, 2), anything))
)


def content(request):
    schema = request.schema and (request.schema.name, dict(request.schema.schema))
    return [dict(m) for m in request.messages], request.model, schema, dict(request.parameters)


@settings(deadline=None)
@given(requests, requests)
def test_equal_bytes_mean_equal_requests(one, other):
    a, b = canonical_request(one, {}), canonical_request(other, {})
    assert (a == b) == (a.hash == b.hash) == (content(one) == content(other))


@settings(deadline=None)
@given(requests)
def test_it_can_be_read_back(request):
    form = canonical_request(request, {"seed": 1})
    read = readable(form.prefix, form.rest)
    assert [dict(m) for m in read["messages"]] == [{"content": None, **m} for m in request.messages]
    assert read["model"] == request.model
    assert read["settings"] == {"seed": 1}


def test_neither_the_order_of_keys_nor_the_asker_counts():
    one = ChatRequest([{"role": "user", "content": "x"}], parameters={"a": 1, "b": 2}, origin=Origin("w", "Ann", 3))
    other = ChatRequest([{"content": "x", "role": "user"}], parameters={"b": 2, "a": 1})
    assert canonical_request(one, {}) == canonical_request(other, {})


@pytest.mark.parametrize(
    "change",
    [
        {"messages": [{"role": "user", "content": "ab"}, {"role": "user", "content": "c"}]},
        {"messages": [{"role": "user", "content": 1}, {"role": "user", "content": "bc"}]},
        {"model": "n"},
        {"schema": ReplySchema("s", {})},
        {"parameters": {"temperature": 0.5}},
    ],
)
def test_whatever_decides_the_reply_counts(change):
    request = ChatRequest([{"role": "user", "content": "a"}, {"role": "user", "content": "bc"}], "m")
    assert canonical_request(request, {}).hash != canonical_request(replace(request, **change), {}).hash
    assert canonical_request(request, {}).hash != canonical_request(request, {"seed": 1}).hash


def test_what_a_persons_requests_have_in_common_is_the_prefix():
    schema = ReplySchema("s", {"type": "object"})
    forms = [
        canonical_request(
            ChatRequest([{"role": "system", "content": "p" * 300}, {"role": "user", "content": f"{n}"}], schema=schema),
            {},
        )
        for n in range(2)
    ]
    assert forms[0].prefix == forms[1].prefix == b'{"type":"object"}' + b"p" * 300
    assert forms[0].hash != forms[1].hash


def test_a_short_prefix_is_not_stored_apart():
    assert canonical_request(ChatRequest([{"role": "system", "content": "p" * 255}]), {}).prefix == b""
    assert canonical_request(ChatRequest([{"role": "system", "content": "p" * 256}]), {}).prefix == b"p" * 256


def test_what_json_does_not_know_is_an_error():
    with pytest.raises(TypeError):
        canonical_request(ChatRequest([], parameters={"x": object()}), {})


def test_texts_to_embed_differ_from_each_other_and_by_settings():
    forms = {canonical_text(text, settings).hash for text in ("a", "b") for settings in ({}, {"m": 1})}
    assert len(forms) == 4


@settings(deadline=None)
@given(anything, anything, st.integers(0), st.floats(0, 1e9))
def test_replies_come_back_as_they_were(text, model, tokens, latency_s):
    reply = ChatReply(text, Usage(1, tokens, 2, 3, 4), model, "length", latency_s, 0.5)
    assert decode_reply(encode_reply(reply)) == reply


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(allow_nan=False), st.floats(width=32, allow_nan=False)), max_size=20))
def test_vectors_come_back_as_they_were(vector):
    assert decode_vector(encode_vector(vector)) == vector


def test_single_precision_is_stored_as_such():
    assert len(encode_vector([0.5] * 100)) == 401
    assert len(encode_vector([0.1] * 100)) == 801


def shown(one, other):
    forms = [canonical_request(request, {}) for request in (one, other)]
    return difference(*(readable(form.prefix, form.rest) for form in forms))


def test_the_difference_shows_what_differs_and_nothing_else():
    one = ChatRequest([{"role": "system", "content": "same"}, {"role": "user", "content": "hello\nworld"}], "m")
    other = ChatRequest([{"role": "system", "content": "same"}, {"role": "user", "content": "hello\nmoon"}], "m")
    text = shown(one, other)
    assert "-world" in text
    assert "+moon" in text
    assert "same" not in text
    assert "message 1, user:" in text


def test_a_difference_at_the_end_of_a_long_line_is_visible():
    one, other = ("word " * 500 + end for end in ("cat", "dog"))
    text = shown(ChatRequest([{"role": "user", "content": one}]), ChatRequest([{"role": "user", "content": other}]))
    assert "cat" in text
    assert "dog" in text


def test_a_message_more_and_another_schema_are_shown():
    one = ChatRequest([{"role": "user", "content": "a"}], schema=ReplySchema("s", {"x": 1}))
    other = ChatRequest([{"role": "user", "content": "a"}, {"role": "tool", "content": [1], "name": "n"}])
    text = shown(one, other)
    assert '-schema: s {"x":1}' in text
    assert "+message 1, tool:" in text
    assert '+{"name":"n"}' in text


def test_the_difference_is_bounded():
    one, other = ("\n".join(f"{word} {n}" for n in range(100_000)) for word in ("cat", "dog"))
    text = shown(ChatRequest([{"role": "user", "content": one}]), ChatRequest([{"role": "user", "content": other}]))
    assert text.count("\n") == DIFF_LINES - 1
    assert "more lines" in text
