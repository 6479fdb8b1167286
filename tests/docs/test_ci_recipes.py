"""The recipes for continuous integration: they parse, name what there is, and their gate leaves what they keep."""

from __future__ import annotations

import re

import pytest
import yaml
from pages import ROOT
from shell_commands import problems

OURS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
COPYABLE = [ROOT / "docs" / "ci" / name for name in ("github-actions.yml", "gitlab-ci.yml", "Jenkinsfile")]


def commands(path):
    """Return the shell commands of a recipe, one a line."""
    text = path.read_text("utf-8")
    if path.name == "Jenkinsfile":
        return re.findall(r"sh '([^']*)'", text)
    recipe = yaml.safe_load(text)
    if "jobs" not in recipe:
        return [line for job in recipe.values() for part in ("before_script", "script") for line in job[part]]
    steps = [step for job in recipe["jobs"].values() for step in job["steps"]]
    return [line for step in steps if "run" in step for line in step["run"].splitlines()]


def kept(path):
    """Return the files and directories that a recipe keeps."""
    text = path.read_text("utf-8")
    if path.name == "Jenkinsfile":
        archived = re.search(r"artifacts: '([^']*)'", text)[1].split(", ")
        published = re.search(r"reportDir: '([^']*)'", text)[1], re.search(r"junit '([^']*)'", text)[1]
        return [name.removesuffix("/**") for name in (*archived, *published)]
    recipe = yaml.safe_load(text)
    if "jobs" not in recipe:
        (job,) = recipe.values()
        return [*job["artifacts"]["paths"], *job["artifacts"]["reports"].values()]
    (job,) = recipe["jobs"].values()
    (step,) = [step for step in job["steps"] if step.get("uses", "").startswith("actions/upload-artifact")]
    return step["with"]["path"].split()


@pytest.fixture
def pytest_options(pytester):
    return set(re.findall(r"--[\w-]+", pytester.runpytest_inprocess("--help").stdout.str()))


@pytest.mark.parametrize("path", [*OURS, *COPYABLE], ids=lambda path: path.name)
def test_the_commands_name_what_there_is(path, pytest_options):
    assert len(commands(path)) >= 2
    assert problems("\n".join(commands(path)), pytest_options) == []


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_the_workflows_hold_what_a_workflow_needs(path):
    recipe = yaml.safe_load(path.read_text("utf-8"))
    assert recipe["permissions"] == {"contents": "read"}
    for job in recipe["jobs"].values():
        assert job["timeout-minutes"] <= 60
        assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)


@pytest.mark.parametrize("path", COPYABLE, ids=lambda path: path.name)
def test_the_gate_runs_as_written_and_leaves_what_the_recipe_keeps(path, pytester, monkeypatch):
    """In a project whose baseline is kept: it passes, and fails when the test asks once more."""
    pytester.makepyfile(
        test_panel="""
        import os, pytest

        @pytest.mark.perf
        def test_panel(world, mock_llm, troupe):
            mock_llm.latency = 1.0
            world.add_agents(troupe(2))
            world.run(steps=int(os.environ.get("STEPS", "2")))
        """
    )
    assert pytester.runpytest_inprocess("--perf", "--perf-update", "--no-perf-report").ret == 0
    monkeypatch.setenv("CI", "true")
    (line,) = [line for line in commands(path) if " -m pytest " in line]
    arguments = line.partition(" -m pytest ")[2].split()

    on_github = path.name == "github-actions.yml"
    summary = pytester.path / ("step.md" if on_github else "perf.md")
    if on_github:
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
        assert "GITHUB_STEP_SUMMARY" not in path.read_text("utf-8"), "the plugin writes it: it would be there twice"

    assert pytester.runpytest_inprocess(*arguments).ret == 0
    missing = [name for name in kept(path) if not (pytester.path / name).exists()]
    assert missing == []
    assert summary.read_text("utf-8").count("1 passed") == 1

    monkeypatch.setenv("STEPS", "3")
    assert pytester.runpytest_inprocess(*arguments).ret == 1
    assert "time" in summary.read_text("utf-8")
