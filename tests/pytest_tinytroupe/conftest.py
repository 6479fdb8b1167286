"""Runs inside `pytester` are judged as on a developer's machine, wherever these tests run themselves."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
