"""Tools: what models ask of them is data, checked and bounded; what goes wrong is told to the person."""

from __future__ import annotations

import asyncio
import json
from datetime import date, time
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytroupe.agent import Action, TinyPerson
from tinytroupe.extraction import ArtifactExporter
from tinytroupe.tools import TinyCalendar, TinyTool, TinyToolUse, TinyWordProcessor, ToolError
from tinytroupe.tools.tiny_tool import MAX_CONTENT_CHARACTERS
from tinytroupe.tools.tiny_word_processor import MAX_DOCUMENT_CHARACTERS


@pytest.fixture
def lisa() -> TinyPerson:
    return TinyPerson("Lisa")


def action(kind: str, content: Any) -> Action:
    return Action(kind, content if isinstance(content, str) else json.dumps(content))


def told(person: TinyPerson) -> str:
    memories = person.episodic_memory.retrieve_all()
    return str(memories[-1].content["stimuli"][0]["content"]) if memories else ""


# ---------------------------------------------------------------------------------------------- calendar


def test_events_are_put_in_and_found() -> None:
    calendar = TinyCalendar()
    talk = calendar.add_event("2026-01-05", "Talk", start_time="09:30", end_time="11:00", mandatory_attendees=["Bob"])
    day = calendar.add_event(date(2026, 1, 5), "Holiday", "all day", owner="Ann")
    noon = calendar.add_event("2026-01-05", "Bell", start_time=time(12, 0))
    later = calendar.add_event("2026-02-01", "Move")
    assert calendar.events == (day, talk, noon, later)
    assert calendar.find_events(2026) == [day, talk, noon, later]
    assert calendar.find_events(2026, 1) == [day, talk, noon]
    assert calendar.find_events(2026, 2, 2) == []
    assert calendar.find_events(2026, 1, 5, 9) == [day, talk]
    assert calendar.find_events(2026, 1, 5, 9, 29) == [day]
    assert calendar.find_events(2026, 1, 5, 9, 30) == [day, talk]
    assert calendar.find_events(2026, 1, 5, 10, 59) == [day, talk]
    assert calendar.find_events(2026, 1, 5, 11, 0) == [day]
    assert calendar.find_events(2026, 1, 5, 12, 0) == [day, noon]
    assert calendar.find_events(2026, 1, 5, 12, 1) == [day]
    assert str(talk) == "2026-01-05 09:30-11:00 Talk with Bob"


@pytest.mark.parametrize(
    ("event", "wrong"),
    [
        ({"date": "tomorrow", "title": "x"}, "'tomorrow' is no date"),
        ({"date": "2026-02-30", "title": "x"}, "no date"),
        ({"date": "2026-01-05", "title": " "}, "title"),
        ({"date": "2026-01-05", "title": "x", "start_time": "noon"}, "start_time 'noon' is no time"),
        ({"date": "2026-01-05", "title": "x", "end_time": "10:00"}, "starts never"),
        ({"date": "2026-01-05", "title": "x", "start_time": "10:00", "end_time": "09:59"}, "starts at 10:00"),
    ],
)
def test_events_that_make_no_sense(event: dict[str, str], wrong: str, lisa: TinyPerson) -> None:
    calendar = TinyCalendar()
    with pytest.raises(ToolError, match=wrong):
        calendar.add_event(**event)  # type: ignore[arg-type]
    assert calendar.process_action(lisa, action("CREATE_EVENT", event)) is True
    assert told(lisa).startswith("The calendar did not do it (CREATE_EVENT)")
    assert calendar.events == ()


@pytest.mark.parametrize("size", [1, 5, 6])
def test_a_calendar_keeps_so_many_and_the_earliest_go(size: int) -> None:
    calendar = TinyCalendar(max_events=size)
    for day in (3, 1, 5, 2, 4):
        calendar.add_event(date(2026, 1, day), "x")
    assert [event.date.day for event in calendar.events] == [1, 2, 3, 4, 5][-size:]
    with pytest.raises(ValueError, match="max_events"):
        TinyCalendar(max_events=0)


def test_people_put_events_in_and_look_them_up(lisa: TinyPerson) -> None:
    calendar = TinyCalendar(owner=lisa)
    event = {"title": "Lunch", "date": "2026-01-05", "start_time": "12:00", "optional_attendees": "Bob", "odd": {}}
    assert calendar.process_action(lisa, {"type": "CREATE_EVENT", "content": event, "target": ""}) is True
    assert calendar.events[0].owner == "Lisa"
    calendar.process_action(lisa, action("FIND_EVENTS", {"date": "2026-01-05"}))
    assert told(lisa) == "The calendar has for 2026-01-05: 2026-01-05 12:00 Lunch with Bob (optional)"
    calendar.process_action(lisa, action("FIND_EVENTS", {"date": "2026-01-06"}))
    assert told(lisa).endswith(": nothing")
    for number in range(30):
        calendar.add_event("2026-01-06", f"e{number}")
    calendar.process_action(lisa, action("FIND_EVENTS", {"date": "2026-01-06"}))
    assert told(lisa).endswith("; and 10 more")


def test_a_tool_belongs_to_its_owner(lisa: TinyPerson) -> None:
    bob = TinyPerson("Bob")
    calendar = TinyCalendar(owner=lisa)
    assert calendar.process_action(bob, action("CREATE_EVENT", {"title": "x", "date": "2026-01-05"})) is True
    assert "belongs to Lisa" in told(bob)
    assert calendar.events == ()


# ---------------------------------------------------------------------------------------------- word processor


def test_documents_are_kept_and_become_files(lisa: TinyPerson, tmp_path: Path) -> None:
    office = TinyWordProcessor(exporter=ArtifactExporter(tmp_path))
    content = {"title": "../Plan", "content": "# One", "author": "Bob"}
    office.process_action(lisa, action("WRITE_DOCUMENT", content))
    office.process_action(lisa, action("WRITE_DOCUMENT", {**content, "content": "# Two"}))
    (document,) = office.documents
    assert (document.title, document.content, document.author) == ("../Plan", "# Two", "Lisa")
    files = sorted((tmp_path / "Document").iterdir())
    assert [path.suffix for path in files] == [".json", ".md"]
    assert files[1].read_text("utf-8") == "# Two"
    assert json.loads(files[0].read_text("utf-8")) == {"title": "../Plan", "content": "# Two", "author": "Lisa"}
    assert sorted(tmp_path.iterdir()) == [tmp_path / "Document"]


def test_documents_are_bounded(lisa: TinyPerson) -> None:
    office = TinyWordProcessor(max_documents=2)
    for title in ("a", "b", "a", "c"):
        office.write_document(title, "x" * MAX_DOCUMENT_CHARACTERS)
    assert [document.title for document in office.documents] == ["a", "c"]
    with pytest.raises(ToolError, match="at most 100,000 characters"):
        office.write_document("d", "x" * (MAX_DOCUMENT_CHARACTERS + 1))
    with pytest.raises(ToolError, match="title"):
        office.write_document("", "x")
    with pytest.raises(ValueError, match="max_documents"):
        TinyWordProcessor(max_documents=0)


def test_a_file_that_can_not_be_written_is_an_error_of_the_program(lisa: TinyPerson, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    office = TinyWordProcessor(exporter=ArtifactExporter(tmp_path / "file"))
    with pytest.raises(OSError):
        office.process_action(lisa, action("WRITE_DOCUMENT", {"title": "x", "content": "y"}))
    assert office.documents == ()


# ---------------------------------------------------------------------------------------------- all tools


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("", "the reply is empty"),
        ("__import__('os').system('true')", "not JSON"),
        ("[1]", "JSON object"),
        ("{}", "'title' is missing"),
        ('{"title": ["x"]}', "'title' must be a text"),
        ('{"title": "' + "x" * 1001 + '"}', "1,001 characters"),
        ('{"title": "x"}', "'content' is missing"),
        ("x" * (MAX_CONTENT_CHARACTERS + 1), "100,001 characters"),
        ('{"a":' * 50_00 + "1" + "}" * 50_00, "The word processor did not do it"),
    ],
)
def test_what_models_write_is_checked_and_told(lisa: TinyPerson, content: str, wrong: str) -> None:
    office = TinyWordProcessor()
    assert office.process_action(lisa, action("WRITE_DOCUMENT", content)) is True
    assert wrong in told(lisa)
    assert len(told(lisa)) < 1000
    assert office.documents == ()


@given(
    st.text(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda x: (
            st.lists(x, max_size=3)
            | st.dictionaries(st.sampled_from(["title", "date", "start_time", "mandatory_attendees"]), x, max_size=4)
        ),
    ).map(json.dumps)
)
def test_no_content_breaks_a_tool(content: str) -> None:
    lisa = TinyPerson("Lisa")
    use = TinyToolUse([TinyCalendar(), TinyWordProcessor()])
    for kind in use.actions:
        assert use.process_action(lisa, Action(kind, content)) is True


def test_tools_are_used_as_one(lisa: TinyPerson) -> None:
    calendar, office = TinyCalendar(), TinyWordProcessor()
    use = TinyToolUse([calendar, office])
    assert list(use.actions) == ["CREATE_EVENT", "FIND_EVENTS", "WRITE_DOCUMENT"]
    assert all(use.actions.values())
    assert use.process_action(lisa, Action("TALK", "hi")) is False
    assert calendar.process_action(lisa, Action("WRITE_DOCUMENT", "{}")) is False
    actions = [
        Action("TALK", "hi"),
        action("WRITE_DOCUMENT", {"title": "a", "content": "1"}),
        action("CREATE_EVENT", {"title": "e", "date": "2026-01-05"}),
        Action("DONE"),
    ]
    assert asyncio.run(use.process_actions_async(lisa, actions)) == 2
    assert (len(office.documents), len(calendar.events)) == (1, 1)
    assert asyncio.run(use.process_actions_async(lisa, actions[:1])) == 0
    assert TinyToolUse().actions == {}


def test_tools_of_ones_own(lisa: TinyPerson) -> None:
    class Lamp(TinyTool):
        actions: ClassVar = {"SWITCH_LAMP": "switch your lamp"}
        lit = False

        def use(self, agent: TinyPerson, kind: str, fields: Any) -> None:
            if self.lit:
                raise ToolError("it is lit")
            self.lit = True

    lamp = Lamp("lamp")
    assert TinyToolUse([lamp]).process_action(lisa, Action("SWITCH_LAMP", "{}")) is True
    assert lamp.lit
    lamp.process_action(lisa, Action("SWITCH_LAMP", "{}"))
    assert told(lisa) == "The lamp did not do it (SWITCH_LAMP): it is lit"
    with pytest.raises(ValueError, match="both 'lamp' and 'lamp' know actions of type SWITCH_LAMP"):
        TinyToolUse([lamp, Lamp("lamp")])
    with pytest.raises(NotImplementedError, match="must define use"):
        TinyTool("thing").use(lisa, "X", {})


@pytest.mark.parametrize("kind", ["talk", "TALK", "DONE", "A B", "", "X" * 41, "A\n"])
def test_types_of_actions_that_can_not_be(kind: str) -> None:
    class Odd(TinyTool):
        actions: ClassVar = {kind: "odd"}

    with pytest.raises(ValueError, match="type of action"):
        Odd("odd")
