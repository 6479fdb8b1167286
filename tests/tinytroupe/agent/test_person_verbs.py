"""Relations, files, perceptions with a turn, the registry, documents' knowledge, what is shown of a life."""

from __future__ import annotations

import gc
import json

import pytest

from tinytroupe.agent import Action, TinyPerson
from tinytroupe.config import config_manager
from tinytroupe.environment import TinyWorld
from tinytroupe.llm import ModelError
from tinytroupe.runtime.clock import VirtualClock, use_clock
from tinytroupe.testing import MockLLM


@pytest.fixture
def llm():
    with VirtualClock() as clock, use_clock(clock), MockLLM(latency=1.0) as mock:
        mock.clock = clock
        yield mock


def perceived(person):
    return [
        (each["type"], each["content"], each["source"])
        for memory in person.episodic_memory.retrieve_all("stimulus")
        for each in memory.content["stimuli"]
    ]


# ---------------------------------------------------------------- persona


def test_relationships_are_defined_added_and_cleared():
    ann, bo = TinyPerson("Ann"), TinyPerson("Bo")
    one, other = {"Name": "Cy", "Description": "a friend"}, {"Name": "Di", "Description": "a rival"}
    assert ann.define_relationships([one]).get("relationships") == [one]
    assert ann.define_relationships(other).get("relationships") == [other]
    assert ann.define_relationships(one, replace=False).get("relationships") == [other, one]
    ann.related_to(bo, "my brother", "my sister")
    assert ann.get("relationships")[-1] == {"Name": "Bo", "Description": "my brother"}
    assert bo.get("relationships") == [{"Name": "Ann", "Description": "my sister"}]
    bo.related_to(ann, "someone I owe")
    assert len(ann.get("relationships")) == 3
    assert ann.clear_relationships().get("relationships") is None
    assert ann.clear_relationships().persona == {"name": "Ann"}


@pytest.mark.parametrize("wrong", [{"Name": "Bo"}, [{"Description": "x"}], ["Bo"], [None]])
def test_a_relationship_needs_both_its_parts(wrong):
    ann = TinyPerson("Ann").define_relationships({"Name": "Cy", "Description": "a friend"})
    with pytest.raises(ValueError, match="Ann: a relationship needs 'Name' and 'Description', got"):
        ann.define_relationships(wrong)
    assert len(ann.get("relationships")) == 1


def test_relationships_are_part_of_what_the_model_sees(llm):
    ann = TinyPerson("Ann")
    ann.act()
    ann.related_to(TinyPerson("Bo"), "owes me money").act()
    before, after = (exchange.call.messages[0]["content"] for exchange in llm.exchanges)
    assert "Name: Bo; Description: owes me money" in after
    assert "owes me money" not in before


def test_plus_takes_definitions_a_fragment_and_a_person(tmp_path):
    path = tmp_path / "calm.fragment.json"
    path.write_text(json.dumps({"type": "Fragment", "persona": {"mood": "calm"}}))
    bo = TinyPerson("Bo").define("skills", ["chess"])
    ann = TinyPerson("Ann").define("skills", ["tea"])
    assert ann + {"age": 40, "name": "Zoe"} + path + bo is ann
    assert ann.persona == {"name": "Ann", "skills": ["tea", "chess"], "age": 40, "mood": "calm"}
    assert (ann + str(path)).get("mood") == "calm"
    assert bo.persona == {"name": "Bo", "skills": ["chess"]}
    with pytest.raises(TypeError):
        ann + 3


def test_specifications_in_a_folder_and_as_dictionaries(tmp_path):
    for name in ("Bo", "Ann"):
        TinyPerson(name).define("age", 30).save_specification(tmp_path / f"{name}.agent.json")
    TinyPerson("Cy").save_specification(tmp_path / "cy.json")
    assert [one.name for one in TinyPerson.load_specifications_from_folder(tmp_path)] == ["Ann", "Bo"]
    assert [one.name for one in TinyPerson.load_specifications_from_folder(tmp_path, "y.json")] == ["Cy"]
    with pytest.raises(ValueError, match="is not a folder"):
        TinyPerson.load_specifications_from_folder(tmp_path / "no")
    given = {"type": "TinyPerson", "persona": {"name": "Di", "age": 4}}
    assert TinyPerson.load_specification(given).persona == {"name": "Di", "age": 4}
    assert TinyPerson.load_specification(given, "Ed").persona == {"name": "Ed", "age": 4}
    with pytest.raises(ValueError, match=r"the specification must hold .*found type 'Person'"):
        TinyPerson.load_specification({"type": "Person", "persona": {}})
    (tmp_path / "bad.agent.json").write_text("{")
    with pytest.raises(ValueError, match=r"bad\.agent\.json is not a JSON file"):
        TinyPerson.load_specifications_from_folder(tmp_path)


def test_a_copy_has_the_persona_and_nothing_else():
    class Neighbour(TinyPerson):
        pass

    ann = Neighbour("Ann").define("likes", {"tea": ["green"]}).listen("Hello")
    zoe = ann.create_new_agent_from_current_spec("Zoe")
    assert type(zoe) is Neighbour
    assert zoe.persona == {"name": "Zoe", "likes": {"tea": ["green"]}}
    assert zoe.episodic_memory.count() == 0
    zoe.define("likes", {"tea": ["black"]}, merge=True)
    assert ann.get("likes") == {"tea": ["green"]}


# ---------------------------------------------------------------- perception and action

AND_ACT = {
    "listen_and_act": "CONVERSATION",
    "see_and_act": "VISUAL",
    "think_and_act": "THOUGHT",
    "internalize_goal_and_act": "INTERNAL_GOAL_FORMULATION",
}


@pytest.mark.parametrize("verb", AND_ACT)
def test_perceiving_and_acting_in_one(llm, verb):
    ann = TinyPerson("Ann")
    assert getattr(ann, verb)("Something") is None
    assert [kind for kind, *_ in perceived(ann)] == [AND_ACT[verb]]
    assert getattr(ann, verb)("More", True, 3000)[-1] == Action("DONE")
    assert getattr(ann, verb)("More", return_actions=True, max_content_length=20)[-1] == Action("DONE")
    actions = llm.clock.run(getattr(ann, verb + "_async")("And more", return_actions=True))
    assert actions[-1] == Action("DONE")
    assert llm.calls == 4


def test_who_said_it_can_be_told(llm):
    bo = TinyPerson("Bo")
    ann = TinyPerson("Ann")
    ann.listen_and_act("Hello", source=bo)
    ann.see_and_act("A wave", source="Cy")
    assert perceived(ann) == [("CONVERSATION", "Hello", "Bo"), ("VISUAL", "A wave", "Cy")]


def test_what_is_perceived_is_remembered_even_where_the_turn_fails(llm):
    llm.fail("invalid_key")
    ann = TinyPerson("Ann")
    with pytest.raises(ModelError):
        ann.listen_and_act("Hello")
    assert perceived(ann) == [("CONVERSATION", "Hello", "")]


def test_place_and_context_change(llm):
    ann = TinyPerson("Ann").move_to("the kitchen", ["it rains"]).change_context("a lone light")
    ann.act()
    assert "Place: the kitchen\n" in llm.exchanges[-1].call.content
    assert "Situation: a lone light\n" in llm.exchanges[-1].call.content


def test_a_class_that_replaces_act_with_fewer_parameters_keeps_working(llm):
    class Old(TinyPerson):
        def act(self, until_done=True, n=None, return_actions=False):
            return super().act(until_done, n, return_actions)

    assert Old("Ann").listen_and_act("Hello", return_actions=True)[-1] == Action("DONE")


def test_contents_of_actions_by_type(llm):
    llm.reply_actions([("THINK", "a"), ("TALK", "b"), ("TALK", "c")]).reply_actions([("TALK", "d"), ("TALK", "e")])
    ann = TinyPerson("Ann")
    ann.act()
    assert ann.pop_actions_and_get_contents_for("TALK") == "c"
    assert ann.pop_actions_and_get_contents_for("TALK") == ""
    ann.act()
    assert ann.pop_actions_and_get_contents_for("TALK", only_last_action=False) == "d\ne"
    assert ann.pop_latest_actions() == []


def test_actions_read_as_dictionaries_of_both_shapes(llm):
    llm.reply_actions([("TALK", "b", "Bo")])
    (first, _) = TinyPerson("Ann").act(return_actions=True)
    assert first["type"] == first["action"]["type"] == "TALK"
    assert first["action"]["content"] == "b"
    assert first.get("target") == "Bo"
    with pytest.raises(KeyError):
        first["actions"]


def test_the_last_remembered_action(llm):
    ann = TinyPerson("Ann").listen("Hi")
    assert ann.last_remembered_action() is None
    llm.reply_actions([("THINK", "a"), ("TALK", "b", "Bo")])
    ann.act()
    ann.listen("And?")
    assert ann.last_remembered_action() == {"type": "TALK", "content": "b", "target": "Bo"}


# ---------------------------------------------------------------- the window of memories


def test_the_window_of_memories_stands_still_and_then_moves_by_half(llm):
    llm.when().reply_actions([])
    ann = TinyPerson("Ann")
    shown = []
    with config_manager.override(recent_memories_in_prompt=10):
        for number in range(30):
            ann.listen(f"#{number}.").act()
            text = llm.exchanges[-1].call.content
            shown.append([n for n in range(30) if f"#{n}." in text])
    firsts = [each[0] for each in shown]
    assert all(each == list(range(each[0], number + 1)) for number, each in enumerate(shown))
    assert all(len(each) <= 10 for each in shown)
    assert firsts == sorted(firsts)
    assert len(set(firsts)) == 5  # 0, 6, 12, 18, 24: five beginnings in thirty turns


def test_a_turn_that_fails_does_not_move_the_window(llm):
    ann = TinyPerson("Ann")
    for number in range(11):
        ann.listen(f"#{number}.")
    with config_manager.override(recent_memories_in_prompt=10):
        llm.fail("invalid_key")
        with pytest.raises(ModelError):
            ann.act()
        assert ann.encode_complete_state()["shown_from"] == 0
        llm.reply_actions([])
        ann.act()
        assert ann.encode_complete_state()["shown_from"] == 6


def test_a_crowd_too_large_for_half_a_window_shows_its_latest_words(llm):
    llm.when().reply_actions([])
    ann = TinyPerson("Ann")
    with config_manager.override(recent_memories_in_prompt=10):
        for step in range(3):
            said = [{"type": "CONVERSATION", "content": f"{step}:{n}.", "source": "Bo"} for n in range(8)]
            ann.perceive_all({"stimuli": said}).act()
    text = llm.exchanges[-1].call.content
    assert "(6 more were heard)" in text
    assert [f"2:{n}." in text for n in range(8)] == [True] * 8
    assert "1:6." in text


def test_summaries_of_earlier_times_are_shown_before_the_latest_events(llm):
    llm.when(schema="consolidation").reply({"summary": "We sold the boat.", "key_facts": ["It was blue."]})
    llm.when().reply_actions([])
    ann = TinyPerson("Ann")
    for number in range(40):
        ann.listen(f"#{number}.")
    assert ann.consolidate_episode_memories(force=True)
    with config_manager.override(recent_memories_in_prompt=10):
        ann.act()
    text = llm.exchanges[-1].call.content
    assert text.startswith(
        "# What you remember of earlier times\nIn short: We sold the boat. It was blue.\n\n# What you"
    )
    assert text.index("In short") < text.index("#39.")


# ---------------------------------------------------------------- memory


def test_knowledge_for_the_present_situation(llm):
    ann = TinyPerson("Ann").move_to("the harbour").listen("When does the ferry to Riga leave?")
    assert ann.retrieve_relevant_memories_for_current_context() == []
    for fact in ("The ferry to Riga leaves at nine.", "Tea is served at five.", "Cats sleep a lot."):
        ann.semantic_memory.store(fact)
    (first,) = ann.retrieve_relevant_memories_for_current_context(top_k=1)
    assert str(first) == "The ferry to Riga leaves at nine."
    assert str(ann.retrieve_relevant_memories("tea at five", top_k=1)[0]) == "Tea is served at five."
    ann.act()
    assert "# What you know that bears on this\n- The ferry to Riga leaves at nine." in llm.exchanges[-1].call.content
    assert llm.by_person["Ann"].calls == 1


def test_a_full_scan_asks_once_for_each_batch_at_the_same_time_and_once_for_the_whole(llm):
    llm.when(content="Bo borrowed 3 euros.").reply("Bo owes me 3 euros.")
    llm.when(content="#7.").reply("Bo borrowed 3 euros.")
    llm.when(content="#12.").reply("Bo paid nothing back.")
    llm.when().reply("NOTHING")
    ann = TinyPerson("Ann")
    for number in range(25):
        ann.listen(f"#{number}.")
    found = ann.summarize_relevant_memories_via_full_scan("What does Bo owe me?", batch_size=5)
    assert found == "Bo owes me 3 euros."
    assert llm.calls == 6
    assert llm.clock.now() == 2.0
    assert ann.usage.calls == 6
    assert "Bo borrowed 3 euros.\n\nBo paid nothing back." in llm.exchanges[-1].call.content


@pytest.mark.parametrize(("reply", "said"), [("NOTHING", ""), ("nothing.", ""), (" Bo owes 3. ", "Bo owes 3.")])
def test_a_full_scan_of_one_batch(llm, reply, said):
    llm.when().reply(reply)
    ann = TinyPerson("Ann").listen("x")
    assert ann.summarize_relevant_memories_via_full_scan("What?") == said
    assert llm.calls == 1


def test_a_full_scan_may_look_at_one_kind_and_of_nothing_asks_nobody(llm):
    ann = TinyPerson("Ann").listen("x")
    assert ann.summarize_relevant_memories_via_full_scan("What?", item_type="action") == ""
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        ann.summarize_relevant_memories_via_full_scan("What?", batch_size=0)
    assert llm.calls == 0


# ---------------------------------------------------------------- all people


def test_people_are_known_by_name_as_long_as_somebody_holds_them():
    TinyPerson.clear_agents()
    ann = TinyPerson("Ann")
    assert TinyPerson.get_agent_by_name("Ann") is ann
    assert TinyPerson.has_agent("Ann")
    assert TinyPerson.all_agents_names() == ["Ann"]
    latest = TinyPerson("Ann")
    assert TinyPerson.get_agent_by_name("Ann") is latest
    del ann, latest
    gc.collect()
    assert not TinyPerson.has_agent("Ann")
    assert TinyPerson.get_agent_by_name("Ann") is None
    held = TinyPerson("Bo")
    TinyPerson.clear_agents()
    assert TinyPerson.all_agents_names() == []
    assert held.name == "Bo"


def test_a_world_and_its_people_leave_nothing_behind(llm):
    TinyPerson.clear_agents()
    world = TinyWorld("Town", [TinyPerson("Ann"), TinyPerson("Bo")]).make_everyone_accessible()
    world.run(2)
    del world
    gc.collect()
    assert TinyPerson.all_agents_names() == []


# ---------------------------------------------------------------- what is shown of a life


def test_a_life_as_text(llm, capsys):
    llm.reply_actions([("THINK", "Hm"), ("TALK", "Hello", "Bo")])
    ann = TinyPerson("Ann")
    assert ann.pretty_current_interactions() == "Ann remembers:\n  nothing"
    ann.listen("x" * 100, "Bo").act()
    lines = ann.pretty_current_interactions(max_content_length=10).splitlines()
    assert lines == [
        "Ann remembers:",
        "  Bo says: xxxxx […90 characters left out…] xxxxx",
        "  I THINK: Hm",
        "  I TALK to Bo: Hello",
    ]
    ann.pp_current_interactions(first_n=1, last_n=1)
    printed = capsys.readouterr().out.splitlines()
    assert printed[2:] == ["  (1 left out)", "  I TALK to Bo: Hello"]
    assert ann.pretty_current_interactions(last_n=1).splitlines()[1:] == ["  (2 left out)", "  I TALK to Bo: Hello"]
    assert ann.pretty_current_interactions(first_n=1, max_content_length=9).splitlines()[2:] == ["  (2 left out)"]
    assert ann.pretty_current_interactions(first_n=9, last_n=9).splitlines()[-1] == "  I TALK to Bo: Hello"


def test_a_world_s_lives_as_text(llm, capsys):
    world = TinyWorld("Town", [TinyPerson("Ann"), TinyPerson("Bo")]).broadcast("Hello")
    text = world.pretty_current_interactions()
    assert text == (
        "Ann remembers:\n  [2026-01-05 09:00] Town says: Hello\n\nBo remembers:\n  [2026-01-05 09:00] Town says: Hello"
    )
    world.pp_current_interactions(last_n=1)
    assert capsys.readouterr().out == text + "\n"
