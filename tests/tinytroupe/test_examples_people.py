"""Ready-made people: each a proper persona, all different, and as many as one asks for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from importlib.resources import files
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinytroupe.examples as examples
from tinytroupe.examples import (
    customer_interview,
    focus_group,
    market_survey,
    persona,
    persona_specs,
    personas,
    recombine,
    troupe,
)

BIG_FIVE = ("openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism")
TEXT = (str, 2, 400)


def strings(least: int, most: int) -> tuple[str, int, int]:
    return ("strings", least, most)


# A text (least and most characters), a list of texts (least and most entries), or an object of such.
SCHEMA: dict[str, Any] = {
    "name": TEXT,
    "age": int,
    "gender": TEXT,
    "nationality": TEXT,
    "residence": TEXT,
    "education": TEXT,
    "occupation": {"title": TEXT, "organization": TEXT, "description": TEXT},
    "style": TEXT,
    "personality": {"traits": strings(3, 6), "big_five": dict.fromkeys(BIG_FIVE, TEXT)},
    "preferences": {"interests": strings(3, 6), "likes": strings(3, 6), "dislikes": strings(3, 6)},
    "skills": strings(2, 6),
    "beliefs": strings(3, 6),
    "behaviors": {"general": strings(3, 6)},
    "health": TEXT,
    "relationships": [{"name": TEXT, "description": TEXT}],
    "other_facts": strings(3, 5),
}


def check(value: Any, schema: Any, where: str) -> None:
    if isinstance(schema, dict):
        assert list(value) == list(schema), where
        for key, part in schema.items():
            check(value[key], part, f"{where}.{key}")
    elif isinstance(schema, list):
        assert 2 <= len(value) <= 5, where
        for entry in value:
            check(entry, schema[0], where)
    elif schema is int:
        assert type(value) is int, where
    elif schema[0] == "strings":
        _, least, most = schema
        assert least <= len(value) <= most, where
        assert len(set(value)) == len(value), where
        for entry in value:
            check(entry, TEXT, where)
    else:
        _, least, most = schema
        assert isinstance(value, str), where
        assert least <= len(value) <= most, where
        assert value == value.strip(), where
        assert value.isprintable(), where


def check_persona(spec: dict[str, Any]) -> None:
    check(spec, SCHEMA, spec["name"])
    assert 19 <= spec["age"] <= 84
    assert spec["gender"] in ("female", "male", "non-binary")
    assert 1500 <= len(json.dumps(spec, ensure_ascii=False)) <= 3000, spec["name"]
    assert not {*spec["preferences"]["likes"]} & {*spec["preferences"]["dislikes"]}


# ---------------------------------------------------------------- ready-made


@pytest.mark.parametrize("name", personas())
def test_ready_made_person_is_a_proper_persona(name: str) -> None:
    spec = persona(name)
    assert spec["name"] == name
    check_persona(spec)


def test_fifty_ready_made_people_with_distinct_names() -> None:
    assert len(personas()) == 50
    assert len(set(personas())) == 50
    assert [name.split()[0] for name in personas()[:4]] == ["Lisa", "Oscar", "Marcos", "Lila"]


def test_every_persona_file_belongs_to_a_person_and_has_the_form_of_a_specification() -> None:
    found = {}
    for file in files("tinytroupe.examples").joinpath("personas").iterdir():
        specification = json.loads(file.read_text(encoding="utf-8"))
        assert list(specification) == ["type", "persona"], file.name
        assert specification["type"] == "TinyPerson", file.name
        found[specification["persona"]["name"]] = specification["persona"]
    assert set(found) == set(personas())
    assert all(persona(name) == spec for name, spec in found.items())


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for part in value.values() for text in texts(part)]
    if isinstance(value, list):
        return [text for part in value for text in texts(part)]
    return [value] if isinstance(value, str) else []


def phrases(spec: dict[str, Any]) -> set[tuple[str, ...]]:
    """All runs of three words."""
    found = set()
    for text in texts(spec):
        words = re.findall(r"\w+", text.lower())
        found.update(zip(words, words[1:], words[2:], strict=False))
    return found


def test_no_two_ready_made_people_share_their_text() -> None:
    spoken = {name: phrases(persona(name)) for name in personas()}
    for one, other in combinations(personas(), 2):
        shared = len(spoken[one] & spoken[other]) / min(len(spoken[one]), len(spoken[other]))
        assert shared <= 0.05, f"{one} and {other} share {shared:.0%} of their phrases"


def test_no_sentence_is_used_for_two_ready_made_people() -> None:
    sentences = Counter(
        text
        for name in personas()
        for text in set(texts({**persona(name), "nationality": "", "residence": ""}))
        if len(text) > 30
    )
    assert [text for text, times in sentences.items() if times > 1] == []


def test_ready_made_people_are_diverse() -> None:
    people = [persona(name) for name in personas()]
    ages = [spec["age"] for spec in people]
    genders = Counter(spec["gender"] for spec in people)
    assert min(ages) == 19
    assert max(ages) == 84
    assert len(set(ages)) >= 30
    assert len({spec["nationality"] for spec in people}) >= 35
    assert len({spec["occupation"]["title"] for spec in people}) >= 48
    assert min(genders["female"], genders["male"]) >= 20
    for trait in BIG_FIVE:
        levels = {spec["personality"]["big_five"][trait].split(";")[0].split(",")[0].lower() for spec in people}
        assert len(levels) >= 4, trait


@pytest.mark.parametrize("name", ["Tomás Echeverri Gil", "tomas_echeverri_gil", "TOMAS  echeverri-gil"])
def test_a_person_is_found_by_name_or_slug(name: str) -> None:
    assert persona(name)["name"] == "Tomás Echeverri Gil"


def test_an_unknown_name_is_an_error_that_suggests_the_nearest() -> None:
    with pytest.raises(LookupError, match="'Lisa Halworth'; did you mean 'Lisa Hallworth'"):
        persona("Lisa Halworth")


@pytest.mark.parametrize("name", ["", "???", "../../secrets", "personas"])
def test_what_is_no_name_at_all_is_an_error(name: str) -> None:
    with pytest.raises(LookupError, match=r"personas\(\) lists all 50"):
        persona(name)


def test_changing_a_persona_does_not_change_the_next_one() -> None:
    first = persona("Lisa Hallworth")
    first["preferences"]["likes"].clear()
    assert persona("Lisa Hallworth")["preferences"]["likes"]


# ---------------------------------------------------------------- as many as one asks for


@pytest.mark.parametrize("n", [1, 50, 51, 5000])
def test_people_are_distinct_and_the_same_each_time(n: int) -> None:
    specs = persona_specs(n)
    assert len(specs) == n
    assert len({spec["name"] for spec in specs}) == n
    assert [spec["name"] for spec in specs[:50]] == list(personas()[:n])
    assert specs == persona_specs(n)
    without_name = {json.dumps({**spec, "name": ""}, sort_keys=True) for spec in specs}
    assert len(without_name) == n


def test_further_people_are_proper_personas() -> None:
    for spec in persona_specs(1000, seed=1)[50:]:
        check_persona(spec)


def test_further_people_are_diverse_from_the_first_on() -> None:
    people = persona_specs(110)[50:]
    genders = Counter(spec["gender"] for spec in people)
    assert len({spec["nationality"] for spec in people}) == 24
    assert min(genders.values()) >= 15
    assert len({spec["occupation"]["title"] for spec in people}) >= 20
    assert len({spec["name"][0] for spec in people}) >= 12


def test_a_longer_list_begins_with_the_shorter_one() -> None:
    assert persona_specs(200, seed=7)[:120] == persona_specs(120, seed=7)


def test_the_seed_chooses_further_people_and_leaves_the_ready_made_ones() -> None:
    one, other = persona_specs(250, seed=1), persona_specs(250, seed=2)
    assert one[:50] == other[:50]
    assert not {json.dumps(spec) for spec in one[50:]} & {json.dumps(spec) for spec in other[50:]}


def test_a_hundred_thousand_names_are_distinct() -> None:
    names = {*personas(), *(recombine.full_name(index) for index in range(99_950))}
    assert len(names) == 100_000


@given(st.integers(0, recombine.capacity() - 1), st.integers(0, recombine.capacity() - 1), st.integers(-(2**40), 2**40))
def test_different_people_have_different_names(one: int, other: int, seed: int) -> None:
    assert (recombine.full_name(one, seed) == recombine.full_name(other, seed)) == (one == other)


@given(st.integers(0, recombine.capacity() - 1), st.integers(-(2**40), 2**40))
def test_any_further_person_is_a_proper_persona(index: int, seed: int) -> None:
    spec = recombine.recombined(index, seed)
    check_persona(spec)
    assert spec["name"] == recombine.full_name(index, seed)
    assert all(relative["name"] not in spec["name"].split() for relative in spec["relationships"])


def test_the_pools_have_the_shape_that_makes_names_distinct() -> None:
    pools = json.loads(files("tinytroupe.examples").joinpath("pools.json").read_text(encoding="utf-8"))
    surnames = Counter(surname for region in pools["regions"] for surname in region["surnames"])
    assert max(surnames.values()) == 1
    for region in pools["regions"]:
        assert len(region["surnames"]) == 30
        assert len(set(region["female"])) == len(set(region["male"])) == 16
        assert not {*region["female"]} & {*region["male"]}


@pytest.mark.parametrize("n", [0, -1, 325_491, 2.5, "3", None, True])
def test_what_is_no_number_of_people_is_an_error(n: Any) -> None:
    with pytest.raises(ValueError, match=f"n must be a whole number from 1 to 325490, got {n!r}"):
        persona_specs(n)
    with pytest.raises(ValueError, match="n must be a whole number"):
        troupe(n)


# ---------------------------------------------------------------- TinyPerson


@pytest.mark.parametrize(
    ("create", "name"),
    [
        ("create_lisa_the_data_scientist", "Lisa Hallworth"),
        ("create_oscar_the_architect", "Oscar Teixeira"),
        ("create_marcos_the_physician", "Marcos Villalba"),
        ("create_lila_the_linguist", "Lila Benhaddou"),
    ],
)
def test_the_well_known_four(create: str, name: str) -> None:
    person = getattr(examples, create)()
    assert person.name == name
    assert person.get("occupation") == persona(name)["occupation"]
    assert getattr(examples, create)() is not person


def test_a_troupe_is_made_of_the_same_people() -> None:
    people, specs = troupe(60, seed=3), persona_specs(60, seed=3)
    assert [person.name for person in people] == [spec["name"] for spec in specs]
    for person, spec in zip(people, specs, strict=True):
        assert {key: person.get(key) for key in spec} == spec


# ---------------------------------------------------------------- the package


def test_exported_names() -> None:
    assert sorted(examples.__all__) == [
        "create_lila_the_linguist",
        "create_lisa_the_data_scientist",
        "create_marcos_the_physician",
        "create_oscar_the_architect",
        "persona",
        "persona_specs",
        "personas",
        "troupe",
    ]
    assert set(examples.__all__) <= set(dir(examples))
    assert all(callable(getattr(examples, name)) for name in examples.__all__)
    with pytest.raises(AttributeError, match="no attribute 'create_nobody'"):
        examples.create_nobody  # noqa: B018


def test_reading_personas_does_not_load_the_simulation() -> None:
    code = (
        "import sys, tinytroupe.examples as e; e.persona_specs(60);"
        "print([m for m in ('openai', 'jinja2', 'pydantic', 'tinytroupe.agent') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


# ---------------------------------------------------------------- runnable examples


def test_the_interview_asks_each_question_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert customer_interview.main([]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Offline: ")
    for question, answer in customer_interview.INTERVIEW:
        assert f"Interviewer: {question}\nLisa Hallworth: {answer}\n" in out
    assert "5 model calls" in out


def test_the_focus_group_ends_in_counted_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    assert focus_group.main([]) == 0
    out = capsys.readouterr().out
    for name, speeches in focus_group.SCRIPT.items():
        for speech in speeches:
            assert out.count(f"  {name}: {speech}\n") == 1
    assert "  yes       2  Oscar Teixeira, Marcos Villalba\n" in out
    assert "  no        3  " in out
    assert "  undecided 1  Lisa Hallworth\n" in out
    assert "  unclear   0\n" in out
    assert "18 model calls" in out


@pytest.mark.parametrize("people", [1, 50, 60])
def test_the_survey_counts_everyone(people: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert market_survey.main(["--people", str(people)]) == 0
    out = capsys.readouterr().out
    counts = [int(line[33:].split()[0]) for line in out.splitlines() if re.match(r"[ABC?]  ", line)]
    assert len(counts) == 4
    assert sum(counts) == people
    assert counts[-1] == 0
    assert f"\n{people} model calls" in out


def test_an_example_tells_the_same_story_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for _ in range(2):
        market_survey.main([])
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]


@pytest.mark.parametrize("people", ["0", "-3", "many"])
def test_a_survey_of_nobody_is_a_usage_error(people: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        market_survey.main(["--people", people])
    assert ended.value.code == 2
    assert "--people" in capsys.readouterr().err


@pytest.mark.parametrize("example", [customer_interview, focus_group, market_survey])
def test_online_without_a_key_is_one_clear_line(
    example: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    assert example.main(["--online"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "set OPENAI_API_KEY" in error


@pytest.mark.parametrize(
    ("speech", "wanted"),
    [
        ("VERDICT: yes", "yes"),
        ("I think... Verdict: **No**, too dear", "no"),
        ("not 'verdict: yes' but VERDICT: undecided", "undecided"),
        ("verdict: yesterday", "unclear"),
        ("", "unclear"),
    ],
)
def test_a_verdict_is_read_from_speech(speech: str, wanted: str) -> None:
    assert focus_group.verdict(speech) == wanted


@pytest.mark.parametrize(
    ("speech", "wanted"), [("CHOICE: B", "B"), ("choice - (c).", "C"), ("Choice: all", "?"), ("A", "?"), ("", "?")]
)
def test_a_choice_is_read_from_speech(speech: str, wanted: str) -> None:
    assert market_survey.choice(speech) == wanted
