"""Results taken out of people and worlds: by a model, by rules, as files."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from tinytroupe.agent import TinyPerson
from tinytroupe.config import config_manager
from tinytroupe.environment import TinyWorld
from tinytroupe.extraction import ArtifactExporter, ExtractionError, ResultsExtractor, ResultsReducer, exporter
from tinytroupe.extraction import results_extractor as module
from tinytroupe.extraction.exporter import safe_name
from tinytroupe.extraction.fields import shape_of
from tinytroupe.extraction.history import history
from tinytroupe.llm import ModelError
from tinytroupe.llm.asking import ReplyError, read_object
from tinytroupe.runtime.clock import VirtualClock, use_clock
from tinytroupe.testing import MockLLM


@pytest.fixture
def llm() -> Iterator[MockLLM]:
    with VirtualClock() as clock, use_clock(clock), MockLLM() as mock:
        yield mock


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


class Reason(BaseModel):
    text: str
    weight: int = Field(1, description="from 1 to 5")


class Verdict(BaseModel):
    buys: bool
    mood: Mood
    when: date | None = None
    reasons: list[Reason]


class Node(BaseModel):
    name: str
    children: list[Node]


VERDICT = {"buys": True, "mood": "good", "when": "2026-02-01", "reasons": [{"text": "it is cheap", "weight": 3}]}


# ---------------------------------------------------------------------------------------------- of a model


def test_names_give_texts_and_one_call_with_a_strict_schema(llm: MockLLM) -> None:
    llm.reply({"choice": "A", "why": "cheap"})
    lisa = TinyPerson("Lisa").define("occupation", "baker").listen("A or B?", "Bob")
    extractor = ResultsExtractor(extraction_objective="Which one", situation="a survey", fields=["choice", "why"])
    assert extractor.extract_results_from_agent(lisa, fields_hints={"why": "in a word"}) == {
        "choice": "A",
        "why": "cheap",
    }
    (call,) = [exchange.call for exchange in llm.exchanges]
    assert call.schema_name == "extraction"
    assert call.schema == {
        "type": "object",
        "properties": {"choice": {"type": "string"}, "why": {"type": "string", "description": "in a word"}},
        "required": ["choice", "why"],
        "additionalProperties": False,
    }
    assert call.body["response_format"]["json_schema"]["strict"] is True
    for told in ("Which one", "a survey", "baker", "Bob says: A or B?", "in a word"):
        assert told in call.text
    assert extractor.usage.calls == 1
    assert lisa.usage.calls == 0
    assert extractor.agent_extraction == {"Lisa": {"choice": "A", "why": "cheap"}}


def test_a_model_class_gives_validated_instances(llm: MockLLM) -> None:
    llm.reply(VERDICT)
    result = ResultsExtractor().extract_results_from_agent(TinyPerson("Lisa"), fields=Verdict)
    assert result == Verdict(
        buys=True, mood=Mood.GOOD, when=date(2026, 2, 1), reasons=[Reason(text="it is cheap", weight=3)]
    )
    schema = llm.exchanges[-1].call.schema
    assert schema is not None
    assert schema["required"] == ["buys", "mood", "when", "reasons"]
    assert schema["$defs"]["Reason"]["required"] == ["text", "weight"]
    assert schema["$defs"]["Reason"]["additionalProperties"] is False
    assert "default" not in json.dumps(schema)


def test_a_mapping_gives_typed_values(llm: MockLLM) -> None:
    llm.reply({"stars": "4", "verdict": "no", "copy": ["x"], "grade": "B", "my field": None})
    fields = {
        "stars": int,
        "verdict": Literal["yes", "no"],
        "copy": list[str],
        "grade": {"type": "string", "enum": ["A", "B"]},
        "my field": float | None,
    }
    found = ResultsExtractor(fields=fields).extract_results_from_agent(TinyPerson("Lisa"))
    assert found == {"stars": 4, "verdict": "no", "copy": ["x"], "grade": "B", "my field": None}


def test_without_fields_whatever_there_is(llm: MockLLM) -> None:
    llm.reply({"results": [{"name": "mood", "value": "good"}, {"name": "price", "value": "12"}]})
    assert ResultsExtractor().extract_results_from_agent(TinyPerson("Lisa")) == {"mood": "good", "price": "12"}


def test_an_unscripted_mock_fits_every_shape(llm: MockLLM) -> None:
    extractor = ResultsExtractor(fields=Verdict)
    assert isinstance(extractor.extract_results_from_agent(TinyPerson("Lisa")), Verdict)
    assert isinstance(extractor.extract_results_from_agent(TinyPerson("Lisa"), fields=Node), Node)
    assert set(extractor.extract_results_from_agent(TinyPerson("Lisa"), fields=["a"])) == {"a"}


def test_agents_are_asked_at_once_and_answered_in_order(llm: MockLLM) -> None:
    llm.latency = 1.0
    for name in ("Ann", "Bob", "Cleo"):
        llm.when(content=f"\n{name}. ").reply({"who": name})
    people = [TinyPerson(name) for name in ("Cleo", "Ann", "Bob")]
    with VirtualClock() as clock, use_clock(clock):
        extractor = ResultsExtractor(fields=["who"])
        assert extractor.extract_results_from_agents(people) == [{"who": "Cleo"}, {"who": "Ann"}, {"who": "Bob"}]
        assert clock.now() == 1.0
    assert extractor.usage.calls == 3


def test_of_several_agents_the_first_error_is_raised_and_the_rest_is_kept(llm: MockLLM) -> None:
    llm.when(content="\nAnn. ").reply({"who": "Ann"})
    llm.when(content="\nBob. ").fail(status=401)
    extractor = ResultsExtractor(fields=["who"])
    with pytest.raises(ModelError):
        extractor.extract_results_from_agents([TinyPerson("Bob"), TinyPerson("Ann")])
    assert extractor.agent_extraction == {"Ann": {"who": "Ann"}}
    assert extractor.extract_results_from_agents([]) == []


def test_world_and_async_forms(llm: MockLLM) -> None:
    llm.reply({"a": "1"}).reply({"a": "2"}).reply({"a": "3"}).reply({"a": "4"})
    world = TinyWorld("Market", [TinyPerson("Ann"), TinyPerson("Bob")])
    extractor = ResultsExtractor(fields=["a"])
    assert extractor.extract_results_from_world(world) == {"a": "1"}
    assert "the people of Market: Ann, Bob" in llm.exchanges[-1].call.text

    async def main() -> list[Any]:
        one = await extractor.extract_results_from_agent_async(world.agents[0])
        two = await extractor.extract_results_from_agents_async(world.agents[:1])
        return [one, two, await extractor.extract_results_from_world_async(world)]

    assert asyncio.run(main()) == [{"a": "2"}, [{"a": "3"}], {"a": "4"}]
    assert extractor.world_extraction == {"Market": {"a": "4"}}


def test_own_instructions_come_first_and_defaults_can_be_overruled(llm: MockLLM) -> None:
    llm.reply({"a": "1"})
    extractor = ResultsExtractor("Do it my way.", extraction_objective="one", situation="s1", fields=["b"])
    extractor.extract_results_from_agent(TinyPerson("Lisa"), "two", "", ["a"])
    call = llm.exchanges[-1].call
    assert call.messages[0]["content"] == "Do it my way."
    assert "two" in call.content
    assert "s1" not in call.content


def test_a_wrong_reply_is_told_and_asked_again(llm: MockLLM) -> None:
    llm.reply({"stars": "many"}).reply('```json\n{"stars": 5,}\n```')
    extractor = ResultsExtractor(fields={"stars": int})
    assert extractor.extract_results_from_agent(TinyPerson("Lisa")) == {"stars": 5}
    assert extractor.usage.calls == 2
    assert "stars: Input should be a valid integer" in llm.exchanges[-1].call.content


@pytest.mark.parametrize(
    ("reply", "wrong"),
    [
        ("", "empty"),
        ("no idea", "not JSON"),
        ("[1, 2]", "object"),
        ('{"grade": "Z"}', "none of"),
        ('{"grade": 3}', "not of type"),
        ("{}", "Field required"),
        ('{"grade": "' + "x" * 300_000 + '"}', "300,0.. characters, more than the 200,000"),
    ],
)
def test_replies_that_stay_wrong_end_in_an_error_with_the_beginning_of_the_reply(
    llm: MockLLM, reply: str, wrong: str
) -> None:
    llm.when(schema="extraction").reply(reply)
    extractor = ResultsExtractor(fields={"grade": {"type": "string", "enum": ["A", "B"]}})
    with pytest.raises(ExtractionError, match=f"about Lisa: .*{wrong}") as caught:
        extractor.extract_results_from_agent(TinyPerson("Lisa"))
    assert caught.value.raw == reply[:500]
    assert len(str(caught.value)) < 3000
    assert caught.value.__cause__ is not None
    assert llm.calls == 1 + config_manager.get("max_reply_repairs")
    assert extractor.agent_extraction == {}


def test_only_so_many_results_are_kept(llm: MockLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESULTS_KEPT", 2)
    extractor = ResultsExtractor(fields=["a"])
    extractor.extract_results_from_agents([TinyPerson(name) for name in "ABC"])
    assert list(extractor.agent_extraction) == ["B", "C"]


def test_results_are_saved_whole_or_not_at_all(llm: MockLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    llm.when(content="\nLisa. ").reply(VERDICT)
    extractor = ResultsExtractor(fields=Verdict)
    extractor.extract_results_from_agent(TinyPerson("Lisa"))
    file = tmp_path / "out" / "results.json"
    extractor.save_as_json(file)
    assert json.loads(file.read_text("utf-8")) == {"agent_extractions": {"Lisa": VERDICT}, "world_extractions": {}}

    def broken(*_: object) -> None:
        raise OSError("disk full")

    before = file.read_bytes()
    monkeypatch.setattr(exporter.os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        extractor.save_as_json(file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["results.json"]


# ---------------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    ("fields", "hints", "kind", "wrong"),
    [
        ("name", None, TypeError, "not the text"),
        (3, None, TypeError, "not int"),
        ([], None, ValueError, "at least one"),
        (["a", "a"], None, ValueError, "twice"),
        (["a", " "], None, ValueError, "something in it"),
        ([1], None, ValueError, "must be a text"),
        (["a"], {"b": "?"}, ValueError, "'b', which fields has not: a"),
        (Verdict, {"buys": "?"}, ValueError, "describe the fields of Verdict"),
        (int, None, TypeError, "must be an object"),
        ({"a": "int"}, None, TypeError, "field 'a': 'int' is no type"),
        ({"a": dict[str, int]}, None, TypeError, "fields.a: .*no room"),
        ({"a": list}, None, TypeError, "fields.a"),
        ({"a": Any}, None, TypeError, "fields.a"),
        ({"a": tuple[int, str]}, None, TypeError, "fields.a"),
        ({"a": list[dict[str, Any]]}, None, TypeError, r"fields.a\[\]"),
        ({"a": object()}, None, TypeError, "fields"),
        (Path, None, TypeError, "must be an object"),
        (ModelError, None, TypeError, "ModelError"),
    ],
)
def test_fields_that_make_no_schema(fields: Any, hints: Any, kind: type[Exception], wrong: str) -> None:
    with pytest.raises(kind, match=wrong):
        shape_of(fields, hints)


def test_the_schema_of_a_model_is_built_once() -> None:
    assert shape_of(Verdict) is shape_of(Verdict)


def test_what_is_said_beside_a_reference_is_said_in_its_place() -> None:
    class Holder(BaseModel):
        reason: Reason = Field(description="the main one")

    schema = shape_of(Holder).schema.schema
    reason = schema["properties"]["reason"]
    assert reason["description"] == "the main one"
    assert "$ref" not in reason
    assert reason["additionalProperties"] is False


def closed(schema: Any) -> bool:
    if isinstance(schema, dict):
        if schema.get("type") == "object" and (
            schema.get("additionalProperties") is not False or schema["required"] != list(schema["properties"])
        ):
            return False
        return all(closed(part) for part in schema.values())
    return all(closed(part) for part in schema) if isinstance(schema, list) else True


KINDS = st.recursive(
    st.sampled_from([str, int, bool, float, Mood, Reason, Verdict, Node, Literal["a", "b"]]),
    lambda inner: st.builds(lambda kind: list[kind], inner) | st.builds(lambda kind: kind | None, inner),  # type: ignore[valid-type]
    max_leaves=4,
)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=8).filter(str.strip), KINDS, min_size=1, max_size=4))
def test_every_schema_is_closed(fields: dict[str, Any]) -> None:
    schema = shape_of(fields).schema.schema
    assert closed(schema)
    assert schema["required"] == list(fields)


def test_json_is_mended_and_bounded() -> None:
    assert read_object('Sure: {"a": 1', max_characters=100) == {"a": 1}
    assert read_object('[{"a": 1}]', max_characters=10) == {"a": 1}
    with pytest.raises(ReplyError, match="more than the 9"):
        read_object('{"a": 123}', max_characters=9)
    with pytest.raises(ReplyError):
        read_object("[" * 100_000, max_characters=200_000)


# ---------------------------------------------------------------------------------------------- history


def test_speech_is_told_once_and_before_those_who_heard_it(llm: MockLLM) -> None:
    llm.when(person="Bob").reply_actions([("THINK", "hm", ""), ("TALK", "Hi Ann", "Ann")])
    llm.when(person="Ann").reply_talk("Hello all").reply_talk("Bye")
    llm.when(person="Cleo").reply_talk("Hello all")
    world = TinyWorld("W", [TinyPerson(name) for name in ("Cleo", "Ann", "Bob")]).make_everyone_accessible()
    world.broadcast("Begin", source="Host")
    world.run(2)
    lines = history(world.agents).splitlines()
    lines = [line.partition("] ")[2] for line in lines]
    assert lines.count("Host says: Begin") == 1
    assert lines[0] == "Host says: Begin"
    assert sorted(lines[1:5]) == [
        "Ann TALK: Hello all",
        "Bob TALK to Ann: Hi Ann",
        "Bob THINK: hm",
        "Cleo TALK: Hello all",
    ]
    assert lines.count("Cleo TALK: Hello all") == 2  # said twice, in two steps
    assert lines.count("Bob TALK to Ann: Hi Ann") == 2
    assert len(lines) == 1 + 2 * 4
    assert lines.index("Ann TALK: Bye") > lines.index("Bob TALK to Ann: Hi Ann")
    assert "Bob says: Hi Ann" in history(world.agents[1:2])  # alone, Ann's history has what she heard
    assert "Cleo" not in history([world.agents[2]], first_n=0, last_n=0)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from(["x", "y", "z"])), max_size=12),
    st.integers(0, 4),
)
def test_history_ends_and_loses_nothing_said_whatever_was_forgotten(talk: list[tuple[str, str]], last: int) -> None:
    people = {name: TinyPerson(name) for name in "ABC"}
    for speaker, text in talk:
        content = {"action": {"type": "TALK", "content": text, "target": ""}, "cognitive_state": {}}
        people[speaker].episodic_memory.store({"type": "action", "role": "assistant", "content": content})
        for other in people.values():
            if other.name != speaker:
                other.listen(text, people[speaker])
    full = [line for line in history(people.values()).splitlines() if "TALK" in line]
    assert sorted(full) == sorted(f"{speaker} TALK: {text}" for speaker, text in talk)
    assert isinstance(history(people.values(), last_n=last), str)


def test_of_a_long_history_the_end_is_kept() -> None:
    lisa = TinyPerson("Lisa")
    for number in range(10):
        lisa.see(f"thing {number}")
    text = history([lisa], max_characters=70)
    assert text.splitlines()[0] == "(8 earlier events are left out)"
    assert text.endswith("thing 9")
    assert history([TinyPerson("Nobody")]) == "(nothing yet)"


# ---------------------------------------------------------------------------------------------- rules


def test_rules_make_rows_of_actions_and_stimuli(llm: MockLLM) -> None:
    llm.when(person="Ann").reply_talk("Hi Bob", "Bob")
    llm.when(person="Bob").reply_actions([("THINK", "hm", "")])
    world = TinyWorld("W", [TinyPerson("Ann"), TinyPerson("Bob")]).make_everyone_accessible()
    world.run(1)
    ann, bob = world.agents
    reducer = ResultsReducer()
    reducer.add_reduction_rule(
        "TALK", lambda source_agent, target_agent, content, **_: (source_agent, target_agent, content)
    )
    reducer.add_reduction_rule("CONVERSATION", lambda focus_agent, kind, content, **_: (focus_agent, kind, content))
    reducer.add_reduction_rule("THINK", lambda **_: None)
    assert reducer.reduce_agent(ann) == [(ann, bob, "Hi Bob")]
    assert reducer.reduce_agent(bob) == [(bob, "stimulus", "Hi Bob")]
    with pytest.raises(ValueError, match="rule for 'TALK' already"):
        reducer.add_reduction_rule("TALK", print)


def test_a_dataframe_needs_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        ResultsReducer().reduce_agent_to_dataframe(TinyPerson("Ann"))

    class Pandas:
        @staticmethod
        def DataFrame(rows: Any, columns: Any) -> Any:
            return rows, columns

    monkeypatch.setitem(sys.modules, "pandas", Pandas)
    reducer = ResultsReducer()
    reducer.add_reduction_rule("VISUAL", lambda content, **_: (content,))
    assert reducer.reduce_agent_to_dataframe(TinyPerson("Ann").see("x"), ("seen",)) == ([("x",)], ["seen"])


# ---------------------------------------------------------------------------------------------- files


def test_artifacts_become_files_in_their_folder(tmp_path: Path) -> None:
    files = ArtifactExporter(tmp_path / "out")
    assert files.export("Plan", "text", "Document").read_text("utf-8") == "text"
    assert files.export("Plan", {"content": "# T"}, "Document", target_format="md").name == "Plan.md"
    assert json.loads(files.export("Plan", {"a": "é"}, target_format="json").read_text("utf-8")) == {"a": "é"}
    with pytest.raises(ValueError, match="txt, md, json"):
        files.export("Plan", "x", target_format="exe")
    with pytest.raises(TypeError, match="no text"):
        files.export("Plan", {"a": 1})


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "base" / "Document").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="leads out of"):
        ArtifactExporter(tmp_path / "base").export("x", "y", "Document")


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a/b", "a\\b", "C:\\x", "..", "", "con", "NUL", "x" * 500, "\x00", "漢" * 300]
)
def test_hostile_names_stay_in_the_folder(tmp_path: Path, name: str) -> None:
    path = ArtifactExporter(tmp_path).export(name, "x")
    assert path.parent == tmp_path
    assert path.read_text("utf-8") == "x"


@given(st.text(max_size=200), st.text(max_size=200))
def test_different_names_are_different_files(one: str, other: str) -> None:
    first, second = safe_name(one), safe_name(other)
    assert (first == second) == (one == other)
    assert 0 < len(first.encode("utf-8")) <= 220
    assert not set(first) & set('/\\:*?"<>|.\x00')
