"""The example of ``docs/third_party.md``, as it stands there, in an environment of its own."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from fresh_environment import ROOT, THIRD_PARTY, run

PAGE = (ROOT / "docs" / "third_party.md").read_text(encoding="utf-8")

pytestmark = [pytest.mark.packaging, pytest.mark.slow, pytest.mark.timeout(900)]


def block(language: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[1]


def test_an_agent_framework_is_measured_and_its_regression_caught(tmp_path: Path, third_party: Path) -> None:
    assert f"pip install {THIRD_PARTY[0]} pytest-tinytroupe" in PAGE  # whose requests the page's figures are of
    project = tmp_path / "project"
    project.mkdir()
    test = project / "test_guide.py"
    good = block("python")
    test.write_text(good, encoding="utf-8")

    def perf(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run(third_party, "-m", "pytest", "--perf", "-q", *arguments, cwd=project, COLUMNS="80")

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
