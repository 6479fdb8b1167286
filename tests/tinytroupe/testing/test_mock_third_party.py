"""Programs that were never written for the mock model run against it: an agent framework, an extractor, a command."""

from __future__ import annotations

import json

import pytest
from fresh_environment import run

from tinytroupe.testing import MockLLM

# Runs in the temporary environment: as it is against the server, wrapped in a MockLLM for interception.
PROGRAMS = """
import json, subprocess, sys
from pydantic import BaseModel

class City(BaseModel):
    name: str
    population: int

def agent():
    from agents import Agent, Runner, function_tool, set_tracing_disabled
    set_tracing_disabled(True)
    asked = []

    @function_tool
    def weather(city: str) -> str:
        asked.append(city)
        return f"sunny in {city}"

    guide = Agent(name="Guide", instructions="You are Guide.", tools=[weather], model="gpt-4o-mini")
    result = Runner.run_sync(guide, "What is the weather in Rome?")
    return [asked, result.final_output]

def extract():
    import instructor
    client = instructor.from_provider("openai/gpt-4o-mini")
    ask = [{"role": "user", "content": "Tell me about Oslo."}]
    return client.chat.completions.create(response_model=City, messages=ask).model_dump()

def command():
    import llm
    model = llm.get_model("gpt-4o-mini")
    return ["".join(model.prompt("Say hello.", stream=stream)) for stream in (True, False)]

def everything():
    return {"agent": agent(), "extract": extract(), "command": command()}
"""
OVER_THE_SERVER = "from programs import *; print(json.dumps(everything()))"
INTERCEPTED = """
from programs import *
from scripting import script
from tinytroupe.testing import MockLLM
with MockLLM() as llm:
    script(llm)
    print(json.dumps(everything()))
    llm.assert_all_replies_used()
"""
SCRIPTING = """
def script(llm):
    llm.when(content="weather").reply(tool_calls=[("weather", {"city": "Rome"})]).reply("It is sunny in Rome.")
    llm.when(content="Oslo").reply(tool_calls=[("City", {"name": "Oslo", "population": 724290})])
    llm.when(content="Say hello").times(2).reply("hello hello")
"""
EXPECTED = {
    "agent": [["Rome"], "It is sunny in Rome."],
    "extract": {"name": "Oslo", "population": 724290},
    "command": ["hello hello", "hello hello"],
}


@pytest.mark.packaging
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_agent_framework_an_extractor_and_a_command_run_against_the_mock_model(tmp_path, third_party):
    (tmp_path / "programs.py").write_text(PROGRAMS)
    (tmp_path / "scripting.py").write_text(SCRIPTING)
    environment = {"LLM_USER_PATH": str(tmp_path), "HOME": str(tmp_path), "OPENAI_API_KEY": "not-a-real-key"}

    done = run(third_party, "-c", INTERCEPTED, cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == EXPECTED

    llm = MockLLM()
    scope: dict = {}
    exec(SCRIPTING, scope)
    scope["script"](llm)
    with llm.serve() as server:
        environment["OPENAI_BASE_URL"] = server.base_url
        done = run(third_party, "-c", OVER_THE_SERVER, cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == EXPECTED
    llm.verify()
    llm.assert_all_replies_used()
    assert set(llm.by_endpoint) == {"chat", "responses"}
