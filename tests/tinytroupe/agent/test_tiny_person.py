"""One person, through the real client: perceive, act, remember, and be left alone by what fails."""

from __future__ import annotations

import asyncio
import json

import pytest

from tinytroupe.agent import Action, ReplyError, TinyPerson
from tinytroupe.agent.memory import EpisodicMemory, SemanticMemory
from tinytroupe.agent.memory.event import Perceived
from tinytroupe.agent.perceiving import stimulus
from tinytroupe.config import config_manager
from tinytroupe.environment import TinyWorld
from tinytroupe.llm import ModelError, RefusalError
from tinytroupe.runtime.clock import VirtualClock, use_clock
from tinytroupe.testing import MockLLM

HELLO = [("THINK", "Hm"), ("TALK", "Hello", "Bo")]


@pytest.fixture
def llm():
    with VirtualClock() as clock, use_clock(clock), MockLLM(latency=1.0) as mock:
        mock.clock = clock
        yield mock


def contents(person):
    return [memory.content for memory in person.episodic_memory.retrieve_all()]


def state_of(person):
    return person._state


def shown(llm):
    """The last request's second message."""
    return llm.exchanges[-1].call.content


# ---------------------------------------------------------------- names and persona


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x00", "x" * 201, "tab\t"])
def test_a_name_must_be_short_and_printable(name):
    with pytest.raises(ValueError, match="a person's name must be 1 to 200 printable characters"):
        TinyPerson(name)


def test_a_name_may_be_long_and_of_any_alphabet():
    assert TinyPerson("x" * 200).name == "x" * 200
    assert TinyPerson("Ñandú O'Hara 李").persona == {"name": "Ñandú O'Hara 李"}


def test_a_persona_is_built_piece_by_piece():
    ann = TinyPerson("Ann").define("age", 40).define("likes", ["tea"]).define("likes", "rain", merge=True)
    assert ann.get("likes") == ["tea", "rain"]
    assert ann["age"] == 40
    assert ann.get("height") is None
    with pytest.raises(KeyError):
        ann["height"]
    ann.define("likes", ["jazz"])
    assert ann.get("likes") == ["jazz"]


def test_a_person_keeps_the_name():
    ann = TinyPerson("Ann").define("name", "Ann")
    with pytest.raises(ValueError, match=r"Ann can't be renamed to 'Bo'; make a new TinyPerson\('Bo'\)"):
        ann.define("name", "Bo")
    assert ann.include_persona_definitions({"name": "Bo", "age": 4}).persona == {"name": "Ann", "age": 4}


def test_a_conflict_names_person_and_key():
    ann = TinyPerson("Ann").define("job", {"title": "baker"})
    with pytest.raises(ValueError, match="Ann's persona: job: title: has the value 'baker'"):
        ann.define("job", {"title": "chef"}, merge=True, overwrite_scalars=False)
    assert ann.get("job") == {"title": "baker"}


def test_persons_are_saved_and_loaded_with_fragments(tmp_path):
    TinyPerson("Ann").define("age", 40).save_specification(tmp_path / "ann.json")
    (tmp_path / "calm.json").write_text(json.dumps({"type": "Fragment", "persona": {"mood": "calm"}}))
    ann = TinyPerson.load_specification(tmp_path / "ann.json").import_fragment(tmp_path / "calm.json")
    assert ann.persona == {"name": "Ann", "age": 40, "mood": "calm"}
    (tmp_path / "no_name.json").write_text(json.dumps({"type": "TinyPerson", "persona": {}}))
    with pytest.raises(ValueError, match=r"no_name\.json: the persona has no 'name'"):
        TinyPerson.load_specification(tmp_path / "no_name.json")


@pytest.mark.parametrize("name", [7, None, ["Ann"]])
def test_a_file_in_which_the_name_is_no_text_is_refused(tmp_path, name):
    (tmp_path / "odd.json").write_text(json.dumps({"type": "TinyPerson", "persona": {"name": name}}))
    with pytest.raises(ValueError, match="name"):
        TinyPerson.load_specification(tmp_path / "odd.json")


def test_a_short_biography():
    ann = TinyPerson("Ann")
    assert ann.minibio() == "Ann: nothing further is known."
    ann.define("age", 40).define("occupation", {"title": "baker"}).define("residence", "Oslo")
    assert ann.minibio() == "Ann: 40 years old, baker, living in Oslo."
    assert repr(ann) == "TinyPerson(name='Ann')"


def test_memories_can_be_given():
    own, knowledge = EpisodicMemory(max_size=2), SemanticMemory()
    ann = TinyPerson("Ann", episodic_memory=own, semantic_memory=knowledge)
    assert ann.episodic_memory is own
    assert ann.semantic_memory is knowledge


# ---------------------------------------------------------------- perception


def test_everything_perceived_is_remembered_and_shown(llm):
    bo = TinyPerson("Bo")
    ann = TinyPerson("Ann").listen("Good morning", bo).see("A cat").think("I am late").socialize("Bo nods", bo)
    ann.internalize_goal("to rest").move_to("the kitchen", ["it rains"])
    ann.act()
    for line in (
        "Bo says: Good morning",
        "VISUAL: A cat",
        "THOUGHT from Ann: I am late",
        "SOCIAL from Bo: Bo nods",
        "INTERNAL_GOAL_FORMULATION from Ann: to rest",
        "Place: the kitchen",
        "Situation: it rains",
        "People you can reach: nobody",
    ):
        assert line in shown(llm)
    assert llm.calls == 1


def test_only_text_can_be_perceived():
    with pytest.raises(TypeError, match="what a person perceives must be a text, got int"):
        TinyPerson("Ann").listen(3)
    with pytest.raises(TypeError, match="NoneType"):
        TinyPerson("Ann").see(None)
    assert contents(TinyPerson("Ann").see("", "Bo")) == [
        {"stimuli": [{"type": "VISUAL", "content": "", "source": "Bo"}]}
    ]


def test_one_object_is_shared_by_all_who_perceive_it():
    content = Perceived([stimulus("VISUAL", "A cat")])
    people = [TinyPerson(name).perceive_all(content) for name in ("Ann", "Bo")]
    assert all(person.episodic_memory.retrieve_all()[0].event is content for person in people)
    assert contents(people[0]) == [{"stimuli": [{"type": "VISUAL", "content": "A cat", "source": ""}]}]


# ---------------------------------------------------------------- action


def test_a_turn_is_one_call_and_everything_of_it_is_remembered(llm):
    llm.reply_actions(HELLO, goals="to rest", context=["a room"], attention="the door", emotions="calm")
    ann = TinyPerson("Ann")
    assert ann.act(return_actions=True) == [
        Action("THINK", "Hm"),
        Action("TALK", "Hello", "Bo"),
        Action("DONE"),
    ]
    assert llm.calls == 1
    assert llm.clock.now() == 1.0
    assert [content["action"]["type"] for content in contents(ann)] == ["THINK", "TALK"]
    assert ann.usage.calls == 1
    assert ann.usage.prompt_tokens == llm.prompt_tokens
    assert dict(state_of(ann)) == {
        "goals": "to rest",
        "context": ("a room",),
        "attention": "the door",
        "emotions": "calm",
    }


def test_actions_are_returned_only_when_asked_for(llm):
    ann = TinyPerson("Ann")
    assert ann.act() is None
    assert ann.listen_and_act("Hello") is None
    for verb in (ann.listen_and_act, ann.see_and_act, ann.think_and_act):
        assert verb("x", return_actions=True)[-1] == Action("DONE")


def test_the_next_turn_knows_of_the_last(llm):
    llm.reply_actions(HELLO, emotions="calm").reply_actions([])
    ann = TinyPerson("Ann")
    ann.act()
    ann.act()
    assert "You THINK: Hm\nYou TALK to Bo: Hello" in shown(llm)
    assert "Your emotions: calm" in shown(llm)


def test_what_comes_first_never_changes_while_the_persona_does_not(llm):
    ann = TinyPerson("Ann").define("age", 40)
    for _ in range(3):
        ann.listen("more").act()
    first = [exchange.call.messages[0] for exchange in llm.exchanges]
    assert first[0] == first[1] == first[2]
    ann.define("age", 41).act()
    assert llm.exchanges[-1].call.messages[0] != first[0]


@pytest.mark.parametrize("n", [1, 2])
def test_the_number_of_actions_can_be_bounded(llm, n):
    llm.reply_actions([("THINK", "1"), ("THINK", "2"), ("THINK", "3")])
    ann = TinyPerson("Ann")
    assert len(ann.act(n=n, return_actions=True)) == n + 1
    assert len(contents(ann)) == n


@pytest.mark.parametrize("n", [0, -1])
def test_a_turn_of_no_actions_can_t_be_asked_for(llm, n):
    with pytest.raises(ValueError, match=f"a turn takes at least 1 action, got n={n}"):
        TinyPerson("Ann").act(n=n)
    assert llm.calls == 0


def test_the_setting_for_the_number_of_actions_holds_at_once(llm):
    ann = TinyPerson("Ann")
    with config_manager.override(max_actions_per_turn=2):
        llm.reply_actions([("THINK", str(number)) for number in range(20)])
        assert len(ann.act(return_actions=True)) == 3
        assert "At most 2 actions" in llm.exchanges[-1].call.text
    llm.reply_actions([("THINK", str(number)) for number in range(20)])
    assert len(ann.act(return_actions=True)) == 16
    assert "At most 15 actions" in llm.exchanges[-1].call.text


def test_latest_actions_are_given_once(llm):
    llm.reply_actions(HELLO).reply_actions([("TALK", "Again")])
    ann = TinyPerson("Ann")
    ann.act()
    ann.act()
    assert [action.content for action in ann.pop_latest_actions()] == ["Hm", "Hello", "", "Again", ""]
    assert ann.pop_latest_actions() == []


def test_latest_actions_nobody_asks_for_do_not_grow_without_end(llm):
    llm.when().reply_actions([("THINK", str(number)) for number in range(15)])
    ann = TinyPerson("Ann")
    for _ in range(70):
        ann.act()
    assert len(ann.pop_latest_actions()) == 1000


def test_the_asynchronous_twins(llm):
    ann = TinyPerson("Ann")

    async def both():
        await ann.act_async()
        return await ann.listen_and_act_async("Hello", return_actions=True)

    assert llm.clock.run(both())[-1] == Action("DONE")
    assert llm.calls == 2


def test_it_works_inside_a_running_loop_as_in_a_notebook(llm):
    async def cell():
        return TinyPerson("Ann").act(return_actions=True)

    assert asyncio.run(cell())[-1] == Action("DONE")


def test_the_waiting_form_inside_the_simulation_s_own_loop_is_refused(llm):
    ann = TinyPerson("Ann")

    async def wrong():
        ann.act()

    with pytest.raises(RuntimeError, match="suffix _async"):
        llm.clock.run(wrong())


def test_a_person_s_own_model_wins_over_the_world_s():
    one, other = MockLLM().reply_talk("one"), MockLLM().reply_talk("other")
    from tinytroupe.testing import DirectModel

    with VirtualClock() as clock:
        ann = TinyPerson("Ann", model=DirectModel(one))
        bo = TinyPerson("Bo")
        TinyWorld("w", [ann, bo], clock=clock, model=DirectModel(other)).run(1)
    assert (one.calls, other.calls) == (1, 1)
    assert ann.pop_latest_actions()[0].content == "one"


# ---------------------------------------------------------------- replies that are not right

BAD = {
    "not JSON": "I would rather not.",
    "not the schema": '{"unexpected": true}',
    "empty": "",
    "an unknown action": '{"actions": [{"type": "DANCE", "content": "x", "target": ""}]}',
    "no actions": '{"actions": [], "cognitive_state": {}}',
    "an action without content": '{"actions": [{"type": "TALK", "content": " ", "target": ""}]}',
    "a target that is no name": '{"actions": [{"type": "TALK", "content": "x", "target": ["Bo"]}]}',
    "a bad action after good ones": '{"actions": [{"type": "TALK", "content": "x"}, {"type": "FLY", "content": "y"}]}',
    "2 MB long": '{"actions": [{"type": "TALK", "content": "' + "x" * 2_000_000 + '"}]}',
    "2 MB of brackets": "[" * 2_000_000,
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_reply_is_asked_for_again_with_the_error_told(llm, kind):
    llm.reply(BAD[kind]).reply_actions(HELLO)
    ann = TinyPerson("Ann").listen("Hi")
    ann.act()
    assert llm.calls == 2
    assert ann.usage.calls == 2
    *_, answer, correction = llm.exchanges[-1].call.messages
    assert answer["role"] == "assistant"
    assert answer["content"] == BAD[kind][:500]
    assert "That could not be used" in correction["content"]
    assert len(correction["content"]) < 1200
    assert len(contents(ann)) == 3


@pytest.mark.parametrize("kind", BAD)
def test_after_the_repairs_it_is_an_error_that_carries_the_reply_and_nothing_is_stored(llm, kind):
    llm.when().reply(BAD[kind])
    ann = TinyPerson("Ann").listen("Hi")
    before, state = contents(ann), state_of(ann)
    with pytest.raises(ReplyError, match="Ann could not act: ") as caught:
        ann.act()
    assert caught.value.raw == BAD[kind][:500]
    assert len(str(caught.value)) < 1500
    assert llm.calls == 3
    assert contents(ann) == before
    assert state_of(ann) is state
    assert ann.pop_latest_actions() == []


def test_a_reply_that_was_cut_off_is_never_used_however_sound_it_looks(llm):
    whole = {"actions": [{"type": "TALK", "content": "I only ever wanted", "target": ""}], "cognitive_state": {}}
    llm.reply(whole, finish_reason="length").reply_talk("to rest.")
    ann = TinyPerson("Ann")
    ann.act()
    assert [content["action"]["content"] for content in contents(ann)] == ["to rest."]
    assert "cut off at its greatest length; say it in fewer words" in llm.exchanges[-1].call.messages[-1]["content"]


def test_a_model_that_is_always_cut_off_is_an_error_that_says_so(llm):
    llm.when().fail("length")
    ann = TinyPerson("Ann")
    with pytest.raises(ReplyError, match="Ann could not act: the reply was cut off"):
        ann.act()
    assert contents(ann) == []
    assert ann.usage.calls == llm.calls == 3  # it was of no use, and has cost something


@pytest.mark.parametrize("repairs", [0, 1])
def test_the_number_of_repairs_is_a_setting(llm, repairs):
    llm.when().reply("no")
    with config_manager.override(max_reply_repairs=repairs), pytest.raises(ReplyError):
        TinyPerson("Ann").act()
    assert llm.calls == repairs + 1


@pytest.mark.parametrize("kind", ["refusal", "content_filter"])
def test_a_refusal_is_an_error_of_its_own_and_not_tried_again(llm, kind):
    llm.fail(kind)
    ann = TinyPerson("Ann").listen("Hi")
    with pytest.raises(RefusalError):
        ann.act()
    assert llm.calls == 1
    assert len(contents(ann)) == 1


def test_a_wrong_key_fails_at_once_and_says_so(llm):
    llm.fail("invalid_key")
    ann = TinyPerson("Ann")
    with pytest.raises(ModelError, match=r"401: .*Incorrect API key") as caught:
        ann.act()
    assert (caught.value.status, caught.value.transient) == (401, False)
    assert caught.value.__cause__ is not None
    assert llm.calls == 1
    assert llm.clock.now() == 0.0
    assert contents(ann) == []


def test_without_a_key_the_error_says_what_to_do(monkeypatch):
    from tinytroupe.llm.openai_model import OpenAIModel

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with VirtualClock() as clock, pytest.raises(ModelError, match=r"set OPENAI_API_KEY, or .*MockLLM"):
        TinyPerson("Ann", clock=clock, model=OpenAIModel()).act()


# ---------------------------------------------------------------- others


def test_whom_a_person_can_reach():
    ann, bo, cy = (TinyPerson(name) for name in ("Ann", "Bo", "Cy"))
    ann.make_agents_accessible([ann, bo, cy])
    assert ann.accessible_agents == [bo, cy]
    ann.make_agent_inaccessible(bo)
    ann.make_agent_inaccessible(bo)
    assert ann.accessible_agents == [cy]
    ann.make_all_agents_inaccessible()
    assert ann.accessible_agents == []
    assert bo.accessible_agents == []


def test_people_are_shown_with_their_relation_and_not_without_end(llm):
    ann = TinyPerson("Ann")
    ann.make_agent_accessible(TinyPerson("Bo"), "your brother")
    ann.act()
    assert "People you can reach: Bo (your brother)\n" in shown(llm)
    ann.make_agents_accessible([TinyPerson(f"P{number}") for number in range(49)])
    ann.act()
    assert "more" not in shown(llm).partition("People you can reach")[2].partition("\n")[0]
    ann.make_agent_accessible(TinyPerson("Zoe"))
    ann.act()
    assert "P48, and 1 more\n" in shown(llm)


# ---------------------------------------------------------------- memory


def test_memories_shown_are_bounded_by_the_setting(llm):
    ann = TinyPerson("Ann")
    for number in range(20):
        ann.listen(f"#{number}.")
    with config_manager.override(recent_memories_in_prompt=3):
        ann.act()
    assert 1 <= shown(llm).count("Someone says: #") <= 3
    assert "#19." in shown(llm)


def test_the_bound_on_memory_can_be_changed_while_running(llm):
    ann = TinyPerson("Ann")
    for number in range(20):
        ann.listen(f"#{number}.")
    ann.episodic_memory.max_size = 5
    assert ann.episodic_memory.get_memory_stats()["current_size"] <= 5


def test_consolidation_is_due_at_the_threshold(llm):
    ann = TinyPerson("Ann")
    with config_manager.override(auto_consolidation_threshold=10):
        for _ in range(5):
            ann.listen("x").act()
        due = ann.should_consolidate()
        with config_manager.override(auto_consolidate_on_threshold=False):
            assert not ann.should_consolidate()
    assert due
    assert not ann.should_consolidate()


def test_a_forced_consolidation_at_least_halves_what_is_there(llm):
    ann = TinyPerson("Ann")
    for number in range(40):
        ann.listen(f"#{number}.")
    ann.episodic_memory.commit_episode()
    assert len(ann.episodic_memory.memory) == 40
    assert ann.consolidate_episode_memories(force=True) is True
    assert 0 < len(ann.episodic_memory.memory) <= 20
    assert all(isinstance(value, (int, float)) for value in ann.get_consolidation_metrics().values())


def test_a_consolidation_that_is_not_due_asks_nobody(llm):
    ann = TinyPerson("Ann").listen("x")
    assert ann.consolidate_episode_memories() is False
    assert llm.calls == 0


def test_a_consolidation_that_fails_leaves_the_memories(llm):
    ann = TinyPerson("Ann")
    for number in range(40):
        ann.listen(f"#{number}.")
    before = contents(ann)
    llm.when().fail("invalid_key")
    with pytest.raises(ModelError):
        ann.consolidate_episode_memories(force=True)
    assert contents(ann) == before
