"""The page for people who simulate: every snippet as written, one after the other; its table names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import tinytroupe
from tinytroupe.config import SETTINGS, config_manager
from tinytroupe.runtime.clock import VirtualClock, use_clock
from tinytroupe.testing import MockLLM

PAGE = Path(__file__).parents[3] / "docs" / "simulation.md"


def blocks():
    text = PAGE.read_text("utf-8")
    for match in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, match.start(1))
        yield "\n" * line + match[1]


def test_every_snippet_runs_as_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    with VirtualClock() as clock, use_clock(clock), MockLLM(latency=1.0):
        for source in blocks():
            exec(compile(source, str(PAGE), "exec"), names)
    config_manager.reset()
    tinytroupe.control.reset()
    printed = capsys.readouterr().out
    assert "Lisa remembers:" in printed
    assert re.search(r"^0 answers were known, \d+ were asked for$", printed, re.MULTILINE)
    assert len(list(blocks())) >= 12


def test_the_settings_named_are_there():
    named = set(re.findall(r"`([A-Z][A-Z_]{4,})(?:=\w+)?`", PAGE.read_text("utf-8")))
    others = {"THINK", "REACH_OUT", "OPENAI_API_KEY"}
    unknown = {name for name in named - others if name.lower().removeprefix("tinytroupe_") not in SETTINGS}
    assert unknown == set()


def test_the_files_it_points_to_are_there():
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE.read_text("utf-8")):
        assert (PAGE.parent / target).exists(), target
