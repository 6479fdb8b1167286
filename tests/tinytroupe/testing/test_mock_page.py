"""Every snippet, command and script of the mock model's page works."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from pathlib import Path

import openai
import pytest

from tinytroupe.cli import _parser
from tinytroupe.testing import MockLLM, parse_latency
from tinytroupe.testing.faults import kinds
from tinytroupe.testing.server import load_script

PAGE = (Path(__file__).parents[3] / "docs" / "mock_model.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def blocks(language):
    return [code for found, code in BLOCKS if found == language]


def test_no_block_is_left_out():
    assert {language for language, _ in BLOCKS} == {"python", "console", "json"}
    assert len(blocks("python")) == 8


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.strip().splitlines()[-1][:40])
def test_snippets(code, request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = {"__name__": "snippet", "KEY": "sk-not-a-real-key-0123456789"}
    with contextlib.ExitStack() as stack:
        if "REAL_ENDPOINT" in code:
            real = MockLLM().reply("Tea, please.")
            scope["REAL_ENDPOINT"] = stack.enter_context(real.serve()).base_url
        exec(compile(code, "docs/mock_model.md", "exec"), scope)
    if "def test_my_program" in code:

        def my_program():
            with openai.OpenAI() as client:
                answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
                return answer.choices[0].message.content

        scope["my_program"] = my_program
        scope["test_my_program"](request.getfixturevalue("mock_llm"))


def test_commands():
    found = [line[2:] for code in blocks("console") for line in code.splitlines() if line.startswith("$ ")]
    assert len(found) == 3
    for line in found:
        program, *arguments = shlex.split(line)
        assert program == "tinytroupe"
        parsed = _parser().parse_args(arguments)
        parse_latency(parsed.latency)


def test_the_script_loads(tmp_path):
    (code,) = blocks("json")
    (tmp_path / "replies.jsonl").write_text(code)
    mock = MockLLM()
    assert load_script(mock, tmp_path / "replies.jsonl") == 6
    assert all(json.loads(line) for line in code.splitlines() if not line.startswith("#"))


def test_all_faults_are_told():
    told = PAGE.partition("## Faults")[2].partition("Details:")[0]
    assert set(kinds()) <= set(re.findall(r"`(\w+)`", told))


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", PAGE):
        assert (Path(__file__).parents[3] / "docs" / target).exists(), target
