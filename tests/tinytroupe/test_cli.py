"""The command ``tinytroupe`` when something is wrong: it says what in a line of its own."""

from __future__ import annotations

import pytest

from tinytroupe.cli import main


def test_a_demo_that_needs_a_key_says_so(monkeypatch, capsys):
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--online", "--people", "1", "--steps", "1"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tinytroupe: ")
    assert "set OPENAI_API_KEY" in line
