"""The tutorial, word by word, by a stranger: an empty directory, and an environment with the wheel and nothing else."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from fresh_environment import run
from pages import ROOT, of
from sessions import follow

PAGE = "docs/tutorial.md"


@pytest.mark.packaging
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_stranger_gets_from_nothing_to_a_gate(python: Path, tmp_path: Path) -> None:
    def reader(command: str) -> str:
        words = shlex.split(command)
        environment = {"COLUMNS": "80", "PATH": str(python.parent)}
        while re.fullmatch(r"[A-Z_]+=.*", words[0]):
            name, _, value = words.pop(0).partition("=")
            environment[name] = value
        done = run(python.with_name(words[0]), *words[1:], cwd=tmp_path, **environment)
        return done.stdout + done.stderr

    assert follow(of(PAGE), tmp_path, reader) == 8
    assert (tmp_path / "perf-report" / "index.html").is_file()


def test_its_recipe_is_the_one_to_copy() -> None:
    """But for what is installed: there is no package of one's own to install in it, and no need of a cache."""
    (shown,) = [yaml.safe_load(block.code) for block in of(PAGE) if block.language == "yaml"]
    recipe = yaml.safe_load((ROOT / "docs" / "ci" / "github-actions.yml").read_text("utf-8"))
    steps = recipe["jobs"]["perf"]["steps"]
    steps[1]["with"].pop("cache")
    steps[2]["run"] = steps[2]["run"].replace("-e . ", "")
    assert shown == recipe
