"""What people can do beyond thinking and talking: offered, done after the turn, and what comes of failures."""

from __future__ import annotations

import json
import logging

import pytest

from tinytroupe.agent import Action, CustomMentalFaculty, RecallFaculty, TinyMentalFaculty, TinyPerson, TinyToolUse
from tinytroupe.environment import SimulationError, TinyWorld
from tinytroupe.runtime.clock import VirtualClock, use_clock
from tinytroupe.testing import MockLLM
from tinytroupe.tools import TinyCalendar, TinyTool, TinyWordProcessor


@pytest.fixture
def llm():
    with VirtualClock() as clock, use_clock(clock), MockLLM(latency=1.0) as mock:
        mock.clock = clock
        yield mock


def seen(person):
    return [
        each["content"]
        for memory in person.episodic_memory.retrieve_all("stimulus")
        for each in memory.content["stimuli"]
    ]


def types_offered(call):
    action = call.body["response_format"]["json_schema"]["schema"]["properties"]["actions"]["items"]
    return action["properties"]["type"]["enum"]


def create(title="Tea"):
    return ("CREATE_EVENT", json.dumps({"date": "2026-01-06", "title": title}))


WRITE = ("WRITE_DOCUMENT", json.dumps({"title": "Notes", "content": "Tea is good."}))


def office(*names):
    calendar, writer = TinyCalendar(), TinyWordProcessor()
    people = [TinyPerson(name, mental_faculties=[TinyToolUse([calendar, writer])]) for name in names]
    return calendar, writer, people


# ---------------------------------------------------------------- offered and done


def test_tools_are_offered_in_the_prompt_and_in_the_schema(llm):
    calendar, writer, (ann,) = office("Ann")
    ann.act()
    call = llm.exchanges[-1].call
    for kind, meaning in {**calendar.actions, **writer.actions}.items():
        assert kind in types_offered(call)
        assert f"- {kind}: {meaning}" in call.messages[0]["content"]
    assert types_offered(call)[-1] == "DONE"
    TinyPerson("Bo").act()
    assert types_offered(llm.exchanges[-1].call) == ["THINK", "TALK", "REACH_OUT", "DONE"]
    assert "CREATE_EVENT" not in llm.exchanges[-1].call.messages[0]["content"]


def test_a_turn_uses_a_calendar_and_a_word_processor(llm):
    calendar, writer, (ann,) = office("Ann")
    llm.reply_actions([("THINK", "Busy."), create(), WRITE])
    ann.act()
    assert [event.title for event in calendar.events] == ["Tea"]
    assert [document.title for document in writer.documents] == ["Notes"]
    actions = [memory.content["action"]["type"] for memory in ann.episodic_memory.retrieve_all("action")]
    assert actions == ["THINK", "CREATE_EVENT", "WRITE_DOCUMENT"]


@pytest.mark.parametrize("parallelize", [True, False])
def test_so_do_people_in_a_world_in_their_order(llm, parallelize):
    calendar, writer, people = office("Ann", "Bo", "Cy")
    for person in people:
        llm.when(person=person.name).reply_actions([create(f"{person.name}'s tea"), WRITE])
    TinyWorld("Office", people).run(1, parallelize=parallelize)
    assert [document.author for document in writer.documents] == ["Ann", "Bo", "Cy"]
    assert [event.title for event in calendar.events] == ["Ann's tea", "Bo's tea", "Cy's tea"]


def test_an_action_that_the_person_has_no_faculty_for_is_asked_for_again(llm):
    llm.reply_actions([create()]).reply_talk("Well then.")
    ann = TinyPerson("Ann")
    ann.act()
    assert llm.calls == 2
    assert "unknown action type 'CREATE_EVENT'" in llm.exchanges[-1].call.messages[-1]["content"]


def test_a_model_s_mistake_is_told_to_the_person_and_ends_nothing(llm):
    calendar, _, (ann,) = office("Ann")
    llm.reply_actions([("CREATE_EVENT", "tomorrow")])
    ann.act()
    assert calendar.events == ()
    (said,) = seen(ann)
    assert said.startswith("The calendar did not do it (CREATE_EVENT): the content must be a JSON object")


def test_a_turn_that_fails_does_nothing(llm):
    calendar, _, (ann,) = office("Ann")
    llm.when().reply_actions([create(), ("DANCE", "x")])
    TinyWorld("Office", [ann]).run(1)
    assert llm.calls == 3
    assert calendar.events == ()


# ---------------------------------------------------------------- recalling


def test_recalling_comes_to_mind_for_the_next_turn(llm):
    ann = TinyPerson("Ann", mental_faculties=[RecallFaculty(top_k=1)])
    ann.semantic_memory.store_all(["The ferry to Riga leaves at nine.", "Cats sleep a lot."])
    llm.reply_actions([("RECALL", "the ferry to Riga")]).reply_actions([])
    ann.act()
    assert seen(ann) == ["On 'the ferry to Riga' this comes to mind:\n- The ferry to Riga leaves at nine."]
    ann.act()
    assert "MEMORY from Ann: On 'the ferry to Riga'" in llm.exchanges[-1].call.content


def test_recalling_what_one_does_not_know(llm):
    ann = TinyPerson("Ann").add_mental_faculty(RecallFaculty())
    llm.reply_actions([("RECALL", "the ferry")])
    ann.act()
    assert seen(ann) == ["Nothing on 'the ferry'."]


# ---------------------------------------------------------------- faculties of one's own


def test_faculties_of_functions_plain_and_async(llm):
    done = []

    async def sleep(agent, action):
        done.append((agent.name, action.type, action.content))

    def sing(agent, action):
        done.append((agent.name, action.type, action.content))
        agent.see("People stop and listen.")

    faculty = CustomMentalFaculty(
        "arts",
        {
            "SLEEP": {"description": "rest a while", "function": sleep},
            "SING": {"description": "sing; content is the song", "function": sing},
        },
    )
    ann = TinyPerson("Ann", mental_faculties=[faculty])
    assert ann.mental_faculties == (faculty,)
    llm.reply_actions([("SING", "Row your boat"), ("TALK", "Good night"), ("SLEEP", "")])
    ann.act()
    assert done == [("Ann", "SING", "Row your boat"), ("Ann", "SLEEP", "")]
    assert seen(ann) == ["People stop and listen."]


@pytest.mark.parametrize(
    "config",
    [
        {"sing": {"description": "x", "function": print}},
        {"TALK": {"description": "x", "function": print}},
        {"SING": {"function": print}},
        {"SING": {"description": "x"}},
    ],
)
def test_a_faculty_that_makes_no_sense_is_refused(config):
    with pytest.raises(ValueError, match=r"faculty 'arts': .* needs a 'description' and a 'function'"):
        CustomMentalFaculty("arts", config)


def test_no_two_faculties_offer_one_type():
    ann = TinyPerson("Ann", mental_faculties=[RecallFaculty()])
    with pytest.raises(ValueError, match="Ann: more than one faculty offers RECALL"):
        ann.add_mental_faculties([RecallFaculty()])
    assert len(ann.mental_faculties) == 1
    with pytest.raises(ValueError, match="know actions of type CREATE_EVENT"):
        TinyToolUse([TinyCalendar(), TinyCalendar()])


# ---------------------------------------------------------------- what fails


class Broken(TinyTool):
    actions = {"BREAK": "break it"}  # noqa: RUF012

    def __init__(self):
        super().__init__("machine")

    def use(self, agent, kind, fields):
        raise OSError("the disk is full")


class Unlucky(TinyMentalFaculty):
    actions = {"WISH": "wish for something"}  # noqa: RUF012

    async def process_action_async(self, agent, action):
        await agent.semantic_memory.retrieve_relevant_async(action.content, 1)


def test_a_bug_of_a_tool_reaches_whoever_lets_the_person_act(llm):
    ann = TinyPerson("Ann", mental_faculties=[TinyToolUse([Broken()])])
    llm.reply_actions([("BREAK", "{}")])
    with pytest.raises(OSError, match="the disk is full"):
        ann.act()


@pytest.mark.parametrize("parallelize", [True, False])
def test_in_a_world_it_ends_the_run_after_the_step(llm, parallelize):
    _, writer, (ann, bo) = office("Ann", "Bo")
    ann.add_mental_faculty(TinyToolUse([Broken()]))
    llm.when(person="Ann").reply_actions([("BREAK", "{}")])
    llm.when(person="Bo").reply_actions([WRITE])
    world = TinyWorld("Office", [ann, bo])
    steps = []
    world.on("step", lambda event: steps.append(event.step))
    said = "world 'Office', step 0: what Ann decided could not be done: the disk is full"
    with pytest.raises(SimulationError, match=said) as caught:
        world.run(3, parallelize=parallelize)
    assert isinstance(caught.value.__cause__, OSError)
    assert len(writer.documents) == 1
    assert steps == [0]
    assert world.get_parallel_metrics()["model_calls"] == 2
    with pytest.raises(SimulationError, match="step 1: what Ann decided"):
        world.run(1)


@pytest.mark.parametrize("on_error", ["skip", "raise"])
def test_a_model_that_fails_a_faculty_for_a_while_is_passed_over_or_not(llm, caplog, on_error):
    ann = TinyPerson("Ann", mental_faculties=[Unlucky()])
    llm.when(endpoint="chat").reply_actions([("WISH", "a boat")])
    llm.when(endpoint="embeddings").fail("overloaded")
    world = TinyWorld("Office", [ann], on_error=on_error)
    ann.semantic_memory.store("Boats float.")
    ann.retrieve_relevant_memories_for_current_context_async = nothing
    if on_error == "raise":
        with pytest.raises(SimulationError, match="what Ann decided could not be done"):
            world.run(1)
    else:
        with caplog.at_level(logging.WARNING, "tinytroupe.world"):
            world.run(1)
        assert "step 0: what Ann decided could not be done: the model's API answered 503" in caplog.text


async def nothing(top_k=7):
    return []


def test_actions_are_of_use_only_to_whose_they_are():
    assert TinyToolUse([TinyCalendar()]).process_action(TinyPerson("Ann"), Action("TALK", "Hi")) is False
