"""From a model's reply to actions: what is mended, what is refused, and how that is said."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytroupe.agent.action import (
    ACTION_TYPES,
    TURN_SCHEMA,
    Action,
    CognitiveState,
    ReplyError,
    parse_reply,
    reply_schema,
)

DONE = Action("DONE")
TALK = {"type": "TALK", "content": "Hello", "target": "Lisa"}
STATE = {"goals": "rest", "context": ["a room", "rain"], "attention": "the door", "emotions": "calm"}


def reply(*actions, **more):
    return json.dumps({"actions": [*actions, {"type": "DONE", "content": "", "target": ""}], **more})


# ---------------------------------------------------------------- what is right


def test_a_good_reply_is_read_whole():
    read = parse_reply(reply({"type": "THINK", "content": "Hm", "target": ""}, TALK, cognitive_state=STATE))
    assert read.actions == (Action("THINK", "Hm"), Action("TALK", "Hello", "Lisa"), DONE)
    assert read.state == CognitiveState("rest", ("a room", "rain"), "the door", "calm")


def test_the_schema_is_strict_and_names_the_actions():
    def objects(part):
        if isinstance(part, dict):
            if part.get("type") == "object":
                yield part
            for value in part.values():
                yield from objects(value)

    found = list(objects(TURN_SCHEMA.schema))
    assert len(found) == 3
    for each in found:
        assert each["additionalProperties"] is False
        assert each["required"] == list(each["properties"])
    action = reply_schema(("TALK", "DONE")).schema["properties"]["actions"]["items"]
    assert action["properties"]["type"]["enum"] == ["TALK", "DONE"]
    assert TURN_SCHEMA.schema["properties"]["actions"]["items"]["properties"]["type"]["enum"] == list(ACTION_TYPES)


def test_the_schema_is_built_once_for_each_set_of_types():
    for types in (ACTION_TYPES, ("TALK", "THINK", "DONE")):
        assert reply_schema(types) is reply_schema((*types,))
        assert reply_schema(types) is not reply_schema(types[1:])


def test_actions_and_states_read_like_dicts_too():
    action = Action("TALK", "Hello", "Lisa")
    assert dict(action) == {"type": "TALK", "content": "Hello", "target": "Lisa"}
    assert action["content"] == "Hello"
    assert action.get("content") == "Hello"
    assert action.get("colour", "none") == "none"
    with pytest.raises(KeyError, match="colour"):
        action["colour"]
    with pytest.raises(KeyError):
        action[0]
    assert dict(CognitiveState("g"))["goals"] == "g"


def test_names_of_methods_are_no_fields():
    action = Action("TALK", "Hello")
    with pytest.raises(KeyError):
        action["keys"]
    assert action.get("keys") is None


# ---------------------------------------------------------------- what is mended

WHOLE = reply(TALK, cognitive_state=STATE)


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{WHOLE}\n```",
        f"```\n{WHOLE}\n```",
        f"```json\n{WHOLE}",
        f"Sure! Here is what I do:\n\n```json\n{WHOLE}\n```\nI hope that helps.",
        f"Sure, here you are: {WHOLE}",
        f"{WHOLE}\nLet me know if you need more.",
        f"  \n\t{WHOLE}\n ",
        f"\ufeff{WHOLE}",
        f"[{WHOLE}]",
        WHOLE[:-1],
        WHOLE[:-2],
        WHOLE.replace('"calm"}', '"calm",}'),
        WHOLE.replace('"Lisa"}', '"Lisa",}').replace('""}]', '""},]'),
        WHOLE.replace('"', "'"),
        WHOLE.replace("TALK", "talk"),
        WHOLE.replace("TALK", " Talk "),
        WHOLE.replace('"Hello"', '"  Hello\\n"'),
        WHOLE.replace(', "cognitive_state"', ', "note": null, "cognitive_state"'),
        json.dumps({"actions": [TALK], "cognitive_state": STATE}),
    ],
)
def test_what_is_plainly_meant_is_mended(text):
    read = parse_reply(text)
    assert read.actions == (Action("TALK", "Hello", "Lisa"), DONE)
    assert read.state == CognitiveState("rest", ("a room", "rain"), "the door", "calm")


def test_content_with_fences_in_it_is_left_alone():
    said = "Use ```json\n{}\n``` for that"
    assert parse_reply(reply({**TALK, "content": said})).actions[0].content == said
    assert parse_reply(f"```json\n{reply({**TALK, 'content': said})}\n```").actions[0].content == said


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([TALK]),
        json.dumps({"actions": TALK}),
        json.dumps({"action": TALK}),
        json.dumps([TALK, {"type": "DONE"}]),
    ],
)
def test_actions_without_their_wrapping_are_taken(text):
    read = parse_reply(text)
    assert read.actions == (Action("TALK", "Hello", "Lisa"), DONE)
    assert read.state == CognitiveState()


def test_a_reply_cut_off_in_the_middle_keeps_what_was_whole():
    cut = reply(TALK, {"type": "TALK", "content": "Second", "target": ""})
    read = parse_reply(cut[: cut.index("Second") + 3])
    assert read.actions[0] == Action("TALK", "Hello", "Lisa")
    assert read.actions[-1] == DONE


def test_actions_after_done_are_left_out():
    text = json.dumps({"actions": [TALK, {"type": "DONE"}, {"type": "TALK", "content": "more"}, {"type": "NONSENSE"}]})
    assert parse_reply(text).actions == (Action("TALK", "Hello", "Lisa"), DONE)


def test_done_alone_is_a_turn():
    assert parse_reply(reply()).actions == (DONE,)


@pytest.mark.parametrize(("given", "kept"), [(14, 14), (15, 15), (16, 15), (500, 15)])
def test_no_more_actions_than_allowed(given, kept):
    many = [{"type": "THINK", "content": f"{number}", "target": ""} for number in range(given)]
    read = parse_reply(reply(*many))
    assert [action.content for action in read.actions] == [*(str(number) for number in range(kept)), ""]
    assert read.actions[-1] == DONE


@pytest.mark.parametrize(
    ("raw", "state"),
    [
        (None, CognitiveState()),
        ("words", CognitiveState()),
        ([], CognitiveState()),
        ({"goals": None, "context": None}, CognitiveState()),
        ({"goals": ["a", "b"], "context": "one", "emotions": 3}, CognitiveState("a; b", ("one",), "", "3")),
        ({"context": {"odd": 1}}, CognitiveState()),
        ({"context": [1, " b "]}, CognitiveState(context=("1", "b"))),
    ],
)
def test_a_state_of_mind_of_another_shape_never_spoils_a_turn(raw, state):
    assert parse_reply(reply(TALK, cognitive_state=raw)).state == state


def test_content_that_is_no_text_becomes_json():
    assert parse_reply(reply({"type": "TALK", "content": {"a": "é"}})).actions[0].content == '{"a": "é"}'
    assert parse_reply(reply({"type": "TALK", "content": 4})).actions[0].content == "4"


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the reply is empty"),
        (" \n\t ", "the reply is empty"),
        ("I would rather not.", "not JSON"),
        ("null", "must be a JSON object"),
        ("42", "must be a JSON object"),
        ('"TALK"', "must be a JSON object"),
        ("[]", "must be a JSON object"),
        ("[1, 2]", "must be a JSON object"),
        ("{}", "non-empty list 'actions'"),
        ('{"unexpected": true}', "non-empty list 'actions'"),
        ('{"actions": []}', "non-empty list 'actions'"),
        ('{"actions": null}', "non-empty list 'actions'"),
        ('{"actions": "TALK"}', "non-empty list 'actions'"),
        ('{"actions": [null]}', "every action needs a 'type'"),
        ('{"actions": ["TALK"]}', "every action needs a 'type'"),
        ('{"actions": [{"content": "x"}]}', "every action needs a 'type'"),
        ('{"actions": [{"type": 3}]}', "every action needs a 'type'"),
        (reply({"type": "TALKK", "content": "x"}), "unknown action type 'TALKK', did you mean TALK?"),
        (reply({"type": "DANCE", "content": "x"}), "unknown action type 'DANCE'"),
        (reply({"type": "TALK", "content": ""}), "the action TALK has no content"),
        (reply({"type": "TALK", "content": "  "}), "the action TALK has no content"),
        (reply({"type": "THINK"}), "the action THINK has no content"),
        (reply({"type": "TALK", "content": "x", "target": ["a"]}), "'target' must be a name"),
    ],
)
def test_what_can_t_be_a_turn_is_refused_in_words_a_model_can_act_on(text, said):
    with pytest.raises(ReplyError) as caught:
        parse_reply(text)
    assert said in str(caught.value)
    assert caught.value.raw == text[:500]


def test_every_known_type_is_listed_where_one_is_unknown():
    with pytest.raises(ReplyError, match=r"DANCE.*Known: THINK, TALK, REACH_OUT, DONE"):
        parse_reply(reply({"type": "DANCE", "content": "x"}))


@pytest.mark.parametrize("extra", [0, 1])
def test_the_bound_on_length_holds_at_its_edge(extra):
    text = reply(TALK)
    if extra:
        with pytest.raises(ReplyError, match="characters, more than the"):
            parse_reply(text, max_characters=len(text) - 1)
    else:
        assert parse_reply(text, max_characters=len(text)).actions[0].type == "TALK"


def test_two_megabytes_are_refused_and_only_the_beginning_is_carried():
    text = '{"actions": [' * 200_000
    with pytest.raises(ReplyError, match=r"has 2,600,000 characters, more than the 200,000 allowed") as caught:
        parse_reply(text)
    assert len(str(caught.value)) < 1200
    assert len(caught.value.raw) == 500
    assert "2,600,000 characters in all" in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 30_000, '{"actions": ' + "[" * 50_000])
def test_depth_is_refused_rather_than_crashed_on(text):
    with pytest.raises(ReplyError):
        parse_reply(text)


@given(st.text(max_size=300))
def test_any_text_is_a_turn_or_a_clear_error(text):
    try:
        read = parse_reply(text)
    except ReplyError as error:
        assert len(error.raw) <= 500  # noqa: PT017
    else:
        assert read.actions[-1] == DONE


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "content", "target"]), inner),
    max_leaves=10,
)


@given(values, values)
def test_any_json_is_a_turn_or_a_clear_error(actions, state):
    try:
        read = parse_reply(json.dumps({"actions": actions, "cognitive_state": state}))
    except ReplyError:
        return
    assert read.actions[-1] == DONE
    assert all(action.type in ACTION_TYPES and (action.content or action == DONE) for action in read.actions)


@pytest.mark.parametrize(
    "text", [f"[1] Here it is: {WHOLE}", f"[] {WHOLE}", f"```json\n[{json.dumps(TALK)}]\n```", f"[{WHOLE}] [1]"]
)
def test_brackets_in_the_text_around_do_not_mislead(text):
    assert parse_reply(text).actions == (Action("TALK", "Hello", "Lisa"), DONE)
