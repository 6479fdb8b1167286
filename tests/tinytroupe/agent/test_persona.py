"""Who a person is: merging, describing, and the file."""

from __future__ import annotations

import copy
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytroupe.agent.persona import described, load, merged, save

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)
objects = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


def test_objects_merge_by_key_and_lists_are_joined_without_repeating():
    old = {"likes": ["tea", "rain"], "job": {"title": "baker", "since": 2001}}
    new = {"likes": ["rain", "jazz"], "job": {"title": "chef"}, "age": 40}
    assert merged(old, new) == {
        "likes": ["tea", "rain", "jazz"],
        "job": {"title": "chef", "since": 2001},
        "age": 40,
    }


def test_a_single_item_joins_a_list():
    assert merged(["tea"], "rain") == ["tea", "rain"]
    assert merged(["tea"], "tea") == ["tea"]


def test_scalars_are_not_overwritten_without_leave_and_the_key_is_named():
    with pytest.raises(ValueError, match="job: title: has the value 'baker' already and would be overwritten with 'c"):
        merged({"job": {"title": "baker"}}, {"job": {"title": "chef"}}, overwrite_scalars=False)
    assert merged({"a": None, "b": 1}, {"a": 2, "b": 1}, overwrite_scalars=False) == {"a": 2, "b": 1}


@given(objects, objects)
def test_merging_changes_neither_side(old, new):
    before = copy.deepcopy((old, new))
    merged(old, new)
    assert (old, new) == before


@given(objects)
def test_merging_with_itself_or_with_nothing_changes_nothing(one):
    assert merged(one, {}) == one
    assert merged({}, one) == one
    assert merged(one, one, overwrite_scalars=False).keys() == one.keys()


@given(objects, objects)
def test_nothing_new_is_lost(old, new):
    result = merged(old, new)
    assert result.keys() == old.keys() | new.keys()
    for key, value in new.items():
        if isinstance(value, list) and isinstance(old.get(key), list):
            assert all(item in result[key] for item in value)


def test_a_description_is_indented_text_without_what_is_empty():
    persona = {
        "name": "Ann",
        "date_of_birth": "1980",
        "nickname": "",
        "pets": None,
        "job": {"title": "baker", "hours": {"from": 4}},
        "likes": ["tea", {"what": "rain", "when": "in spring"}],
    }
    assert described(persona).splitlines() == [
        "name: Ann",
        "date of birth: 1980",
        "job:",
        "  title: baker",
        "  hours:",
        "    from: 4",
        "likes:",
        "  - tea",
        "  - what: rain; when: in spring",
    ]


@given(objects)
def test_a_description_is_the_same_for_the_same_content(one):
    assert described(one) == described(copy.deepcopy(one))


@given(objects)
def test_what_is_saved_is_loaded(tmp_path_factory, one):
    path = tmp_path_factory.mktemp("persona") / "someone.json"
    save(one, path)
    assert load(path) == one
    assert json.loads(path.read_text("utf-8")) == {"type": "TinyPerson", "persona": one}
    assert os.listdir(path.parent) == ["someone.json"]


def test_fragments_and_people_are_told_apart(tmp_path):
    path = tmp_path / "calm.json"
    save({"mood": "calm"}, path, kind="Fragment")
    assert load(path, kind="Fragment") == {"mood": "calm"}
    with pytest.raises(ValueError, match=r"calm\.json must hold .*\"TinyPerson\".*found type 'Fragment'"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"3", b'{"type": "TinyPerson", "persona": []}'])
def test_what_is_no_persona_is_refused_with_the_file_s_name(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.json"):
        load(path)


def test_a_file_nested_too_deep_is_refused(tmp_path):
    path = tmp_path / "deep.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"deep\.json"):
        load(path)


def test_what_can_t_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "someone.json"
    save({"name": "Ann"}, path)
    with pytest.raises(TypeError):
        save({"name": object()}, path)
    assert load(path) == {"name": "Ann"}
    assert os.listdir(tmp_path) == ["someone.json"]
    with pytest.raises(OSError, match="cannot write"):
        save({"name": "Ann"}, path / "someone.json")


def test_missing_directories_are_made(tmp_path):
    save({"name": "Ann"}, tmp_path / "new" / "someone.json")
    assert load(tmp_path / "new" / "someone.json") == {"name": "Ann"}


def test_a_saved_file_can_be_read_by_whom_a_new_file_can(tmp_path):
    save({"name": "Ann"}, tmp_path / "someone.json")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "someone.json").stat().st_mode == (tmp_path / "plain").stat().st_mode
