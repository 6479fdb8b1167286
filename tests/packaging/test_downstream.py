"""A project of somebody else's: the built wheel in a new environment, a test of ten lines, a gate that closes."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from fresh_environment import ROOT, environment_with, run

pytestmark = [pytest.mark.packaging, pytest.mark.slow, pytest.mark.timeout(900)]

TEN_LINES = """\
import pytest


@pytest.mark.perf(min_speedup=3.0)
def test_panel(world, mock_llm, troupe, memory_monitor):
    mock_llm.latency = 1.0
    world.add_agents(troupe(5))
    world.broadcast("What do you expect of a city to live in?")
    world.run(steps=4)
    assert memory_monitor.get_agent_stats(world.agents[0].name)["current_memory"]["total_size"] > 0
"""

NEEDLESS_CALL = """\
import pytest

from tinytroupe import TinyPerson
from tinytroupe.llm import ChatRequest, model_in_use


class Doubtful(TinyPerson):
    async def deliberate(self, **options):
        await model_in_use().complete(ChatRequest([{"role": "user", "content": f"Is {self.name} sure?"}]))
        return await super().deliberate(**options)


@pytest.fixture
def troupe(troupe):
    def doubtful(n):
        return [Doubtful(person.name).include_persona_definitions(person.persona) for person in troupe(n)]

    return doubtful


"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\nfilterwarnings = ["error"]\n')
    (tmp_path / "test_panel.py").write_text(TEN_LINES)
    return tmp_path


def test_the_wheel_carries_all_that_is_not_code(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to(ROOT).as_posix())
        for package in ("tinytroupe", "pytest_tinytroupe")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted <= names
    assert {"tinytroupe/py.typed", "pytest_tinytroupe/py.typed", "tinytroupe/config.ini"} <= names
    assert not [name for name in names if name.startswith(("tests/", "baselines/", "docs/"))]


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_the_gate_holds_closes_and_opens_again(project: Path, python: Path, workers: tuple[str, ...]) -> None:
    def perf(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run(python, "-m", "pytest", "--perf", *workers, *arguments, cwd=project)

    first = perf("--perf-update")
    assert first.returncode == 0, first.stdout + first.stderr
    stored = json.loads((project / "baselines" / "test_panel.json").read_text())
    assert stored["tests"]["test_panel"]["exact"]["llm_calls"] == 20
    assert stored["tests"]["test_panel"]["exact"]["speedup"] == 5.0
    assert perf().returncode == 0

    (project / "conftest.py").write_text(NEEDLESS_CALL)
    worse = perf()
    assert worse.returncode == 1, worse.stdout + worse.stderr
    assert "llm_calls regressed" in worse.stdout or "llm_calls" in worse.stdout
    row = next(line for line in worse.stdout.splitlines() if line.split()[:2] == ["llm_calls", "40"])
    assert "20" in row.split()
    assert "+100" in row
    assert "regressed" in row

    (project / "conftest.py").unlink()
    mended = perf()
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert (project / "perf-report" / "index.html").is_file()


def test_without_perf_the_test_is_skipped_and_says_how_to_run_it(project: Path, python: Path) -> None:
    done = run(python, "-m", "pytest", "-rs", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 skipped" in done.stdout
    assert "pytest --perf" in done.stdout


def test_nothing_heavy_is_imported_by_the_plugin_or_the_package(python: Path, tmp_path: Path) -> None:
    heavy = ("openai", "pydantic", "respx", "psutil", "jinja2", "aiohttp")
    code = f"import sys, tinytroupe, pytest_tinytroupe.plugin; print([m for m in {heavy} if m in sys.modules])"
    done = run(python, "-c", code, cwd=tmp_path)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_command_works(python: Path, tmp_path: Path) -> None:
    done = run(python.with_name("tinytroupe"), "demo", "--people", "2", "--steps", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 model calls" in done.stdout
    assert not list(tmp_path.iterdir()), "nothing is written unasked"


def test_the_sample_project_passes_and_its_gate_closes(python: Path, tmp_path: Path) -> None:
    sample = tmp_path / "sample"
    shutil.copytree(ROOT / "examples" / "downstream", sample, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    python = environment_with(tmp_path / "venv", str(sample), beneath=python)

    plain = run(python, "-m", "pytest", cwd=sample)
    assert plain.returncode == 0, plain.stdout + plain.stderr
    assert "3 passed, 2 skipped" in plain.stdout

    kept = run(python, "-m", "pytest", "--perf", cwd=sample, CI="true")
    assert kept.returncode == 0, kept.stdout + kept.stderr
    assert "5 passed" in kept.stdout

    panel = sample / "src" / "price_panel" / "__init__.py"
    panel.write_text(panel.read_text("utf-8").replace("world.run(rounds,", "world.run(rounds + 1,"), "utf-8")
    worse = run(python, "-m", "pytest", "--perf", "tests/test_panel_speed.py", cwd=sample, CI="true")
    assert worse.returncode == 1, worse.stdout + worse.stderr
    assert "2 failed" in worse.stdout
    assert "perf: time_s regressed: 3 s, baseline 2 s (+50.0 %)" in worse.stdout
