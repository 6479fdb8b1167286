"""What the panel does: ordinary tests, offline."""

import openai
from price_panel import ask_panel, sum_up


def test_everyone_is_asked(world, mock_llm, troupe):
    people = troupe(3)
    world.add_agents(people).make_everyone_accessible()
    for person in people:
        mock_llm.when(person=person.name).reply_talk(f"{person.name} would pay ten euros.")

    said = ask_panel(world, "What would you pay for a kettle?", rounds=1)

    assert said == {person.name: [f"{person.name} would pay ten euros."] for person in people}
    mock_llm.assert_called(3, content="kettle")


def test_a_discussion_is_summed_up_in_one_call(mock_llm):
    mock_llm.when(content="Lisa: ten euros").reply("They would pay ten euros.")

    with openai.OpenAI() as client:
        assert sum_up({"Lisa": ["ten euros"]}, client) == "They would pay ten euros."

    mock_llm.assert_called(1)


def test_an_overloaded_model_is_asked_again(mock_llm):
    mock_llm.fail("overloaded").reply("They would pay ten euros.")

    with openai.OpenAI() as client:
        assert sum_up({"Lisa": ["ten euros"]}, client) == "They would pay ten euros."
