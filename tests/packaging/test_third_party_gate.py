"""The example of ``docs/third_party.md``, as it stands there, in an environment of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "third_party.md").read_text(encoding="utf-8")

pytestmark = [pytest.mark.packaging, pytest.mark.slow, pytest.mark.timeout(900)]


def block(language: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[1]


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "OPENAI", "CI"))}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**ours, "COLUMNS": "80"},
        text=True,
        encoding="utf-8",
        capture_output=True,
        timeout=600,
        check=False,
    )


def test_an_agent_framework_is_measured_and_its_regression_caught(tmp_path: Path) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    packages = re.search(r"pip install ([\w-]+) pytest-tinytroupe", PAGE)[1]
    done = run(python, "-m", "pip", "install", "-q", packages, ROOT, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr

    project = tmp_path / "project"
    project.mkdir()
    test = project / "test_guide.py"
    good = block("python")
    test.write_text(good, encoding="utf-8")

    def perf(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run(python, "-m", "pytest", "--perf", "-q", *arguments, cwd=project)

    kept = perf("--perf-update")
    assert kept.returncode == 0, kept.stdout + kept.stderr
    stored = json.loads((project / "baselines" / "test_guide.json").read_text(encoding="utf-8"))
    exact = stored["tests"]["test_guide"]["exact"]
    assert (exact["llm_calls"], exact["time_s"]) == (2, 4.0)
    assert perf().returncode == 0

    before, added, after = (line[1:] for line in block("diff").splitlines())
    worse = good.replace(f"{before}\n{after}", f"{before}\n{added}\n{after}")
    assert worse != good
    test.write_text(worse, encoding="utf-8")
    limited = perf()
    assert limited.returncode == 1
    assert re.search(r"llm_calls +3 +2 +\+50.0 % +≤ 2  over limit", limited.stdout)

    test.write_text(worse.replace("(max_llm_calls=2, max_time_s=4.0)", ""), encoding="utf-8")
    caught = perf()
    assert caught.returncode == 1
    # Tokens are counted exactly, but the framework's next release may word its request otherwise.
    for line in block("text").splitlines()[:5]:
        assert line in caught.stdout
    assert "llm_calls: more by a guide 2 \N{RIGHTWARDS ARROW} 3 (+1)" in caught.stdout

    test.write_text(good, encoding="utf-8")
    assert perf().returncode == 0
