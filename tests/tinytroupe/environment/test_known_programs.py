"""Programs as people write them for the well-known TinyTroupe API, unchanged, in a directory with their config.ini."""

from __future__ import annotations

import json
import logging

import pytest

from tinytroupe.config import ConfigError, ConfigManager, config_manager
from tinytroupe.runtime.clock import VirtualClock, use_clock
from tinytroupe.testing import MockLLM

CONFIG = """
[OpenAI]
API_TYPE=openai
AZURE_API_VERSION=2024-12-01-preview
MODEL=gpt-5-mini
REASONING_MODEL=o3-mini
EMBEDDING_MODEL=text-embedding-3-small
AZURE_EMBEDDING_MODEL_API_VERSION=2023-05-15
MAX_TOKENS=32000
MAX_COMPLETION_TOKENS=32000
TEMPERATURE=1.5
FREQ_PENALTY=0.1
PRESENCE_PENALTY=0.1
TIMEOUT=480
MAX_ATTEMPTS=5
WAITING_TIME=1
EXPONENTIAL_BACKOFF_FACTOR=5
MAX_CONCURRENT_MODEL_CALLS=4
REASONING_EFFORT=high
CACHE_API_CALLS=False
CACHE_FILE_NAME=openai_api_cache.pickle
MAX_CONTENT_DISPLAY_LENGTH=4000

[Simulation]
PARALLEL_AGENT_GENERATION=True
PARALLEL_AGENT_ACTIONS=True
RAI_HARMFUL_CONTENT_PREVENTION=True
RAI_COPYRIGHT_INFRINGEMENT_PREVENTION=True

[Cognition]
ENABLE_MEMORY_CONSOLIDATION=True
ENABLE_CONTINUOUS_CONTEXTUAL_SEMANTIC_MEMORY_RETRIEVAL=True
MIN_EPISODE_LENGTH=10
MAX_EPISODE_LENGTH=15
EPISODIC_MEMORY_FIXED_PREFIX_LENGTH=10
EPISODIC_MEMORY_LOOKBACK_LENGTH=20

[ActionGenerator]
MAX_ATTEMPTS=2
ENABLE_QUALITY_CHECKS=False
QUALITY_THRESHOLD = 5

[Logging]
LOGLEVEL=ERROR
LOGLEVEL_CONSOLE=INFO
LOGLEVEL_FILE=DEBUG
LOG_INCLUDE_THREAD_ID=False
"""

PROGRAM = '''
import json
import sys
sys.path.insert(0, '..')

import tinytroupe
from tinytroupe.agent import TinyPerson
from tinytroupe.environment import TinyWorld, TinySocialNetwork
from tinytroupe.factory import TinyPersonFactory
from tinytroupe.extraction import ResultsExtractor, ResultsReducer
from tinytroupe.examples import *
from tinytroupe import control
from tinytroupe import config_manager

config_manager.update("cache_api_calls", False)

# An interview.
factory = TinyPersonFactory(context="One of the largest banks in Brazil, full of bureaucracy and legacy systems.")
customer = factory.generate_person("The vice-president of one product innovation.")
customer.minibio()
customer.think("I am now talking to a business and technology consultant to help me with my professional problems.")
customer.listen_and_act("What would you say are your main problems today? Be specific.", max_content_length=3000)
actions = customer.listen_and_act("Can you elaborate on the fintechs?", return_actions=True)
answer = [a["action"]["content"] for a in actions if a["action"]["type"] == "TALK"][0]

# A focus group.
control.begin("focus.cache.json")
world = TinyWorld("Focus group", [create_lisa_the_data_scientist(), create_oscar_the_architect(),
                                  create_marcos_the_physician()])
world.make_everyone_accessible()
world.broadcast("""
     Folks, we need to brainstorm ideas for a new product. Please start the discussion now.
     """)
world.run(2)
control.checkpoint()
world.broadcast("Ok, great. Can you please add more detail to each of the suggested ideas?")
history = world.run(1, return_actions=True)
control.end()

# Results.
rapporteur = world.get_agent_by_name(world.agents[0].name)
rapporteur.listen_and_act("Can you please consolidate the ideas that the group came up with?")
extractor = ResultsExtractor()
ideas = extractor.extract_results_from_agent(rapporteur,
                          extraction_objective="Consolidate the ideas that the group came up with.",
                          situation="A focus group to brainstorm ideas for a new product.",
                          fields=["idea"], verbose=False)
verdict = extractor.extract_results_from_world(world, extraction_objective="Find out what they like.",
                                               fields=["name", "liked"],
                                               fields_hints={"liked": "Yes or No."})
extractor.save_as_json("ideas.extraction.json")

reducer = ResultsReducer()

def what_was_said(focus_agent, source_agent, target_agent, kind, event, content, timestamp):
    return focus_agent.name, str(content)[:20]

reducer.add_reduction_rule("TALK", what_was_said)
rows = reducer.reduce_agent(rapporteur)
rapporteur.pp_current_interactions()
rapporteur.save_specification("lisa.agent.json")
lisa = TinyPerson.load_specification("lisa.agent.json", new_agent_name="Another")
TinyPerson.clear_agents()
'''


@pytest.fixture
def directory(tmp_path, monkeypatch):
    (tmp_path / "config.ini").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    config_manager.reset()
    yield tmp_path
    config_manager.reset()


def test_an_interview_a_focus_group_and_its_results(directory, capsys):
    names = {"__name__": "__main__"}
    with VirtualClock() as clock, use_clock(clock), MockLLM(latency=1.0, seed=2) as llm:
        exec(compile(PROGRAM, "program.py", "exec"), names)
        assert llm.unmatched == []
        body = next(each.call.body for each in llm.exchanges if each.call.schema_name == "turn")
    assert body["model"] == "gpt-5-mini"
    assert names["answer"]
    assert len(names["history"][0]) == 3
    assert names["ideas"] is not None
    assert names["verdict"] is not None
    assert names["rows"]
    assert json.loads((directory / "ideas.extraction.json").read_text())
    assert names["lisa"].name == "Another"
    assert "remembers:" in capsys.readouterr().out


def test_keys_without_a_meaning_here_are_named_once(tmp_path, caplog):
    (tmp_path / "config.ini").write_text(CONFIG)
    with caplog.at_level(logging.INFO, "tinytroupe.config"):
        settings = ConfigManager(lambda: tmp_path, {})
        assert settings.get("reasoning_effort") == "high"
        assert settings.get("max_attempts") == 5
        settings.get("timeout")
    (record,) = caplog.records
    assert record.levelname == "INFO"
    text = record.getMessage()
    assert text.startswith(f"{tmp_path / 'config.ini'}: passed over, having no meaning here: ")
    assert "AZURE_API_VERSION" not in text
    for key in ("FREQ_PENALTY", "MAX_TOKENS", "CACHE_FILE_NAME", "MIN_EPISODE_LENGTH", "LOGLEVEL_FILE"):
        assert key in text
    assert "MODEL," not in text.replace("REASONING_MODEL,", "")


def test_a_misspelt_key_beside_them_is_an_error_all_the_same(tmp_path):
    (tmp_path / "config.ini").write_text("[OpenAI]\nWAITING_TIME=1\nMAX_ATEMPTS=3\n")
    with pytest.raises(ConfigError, match=r"MAX_ATEMPTS: unknown setting .*did you mean 'max_attempts'"):
        ConfigManager(lambda: tmp_path, {}).get("seed")


def test_setting_one_of_them_is_passed_over_too(caplog):
    settings = ConfigManager(environment={})
    with caplog.at_level(logging.INFO, "tinytroupe.config"):
        settings.update("MAX_CONTENT_DISPLAY_LENGTH", 10)
    assert "passed over, having no meaning here: MAX_CONTENT_DISPLAY_LENGTH" in caplog.text
    with pytest.raises(ConfigError):
        settings.get("max_content_display_length")
