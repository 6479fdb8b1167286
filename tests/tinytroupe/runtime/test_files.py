"""A lock is held by one alone, and ends with its process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tinytroupe.runtime.files import hold

HOLDER = """
import os, sys
from tinytroupe.runtime.files import hold

assert hold(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
os._exit(9)
"""


def test_one_alone_holds_a_lock(tmp_path):
    let_go = hold(tmp_path / "lock")
    assert hold(tmp_path / "lock") is None
    hold(tmp_path / "another")()
    let_go()
    hold(tmp_path / "lock")()


def test_a_lock_ends_with_its_process(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        assert hold(tmp_path / "lock") is None
        other.stdin.close()
        assert other.wait(30) == 9
    hold(tmp_path / "lock")()


def test_what_can_not_be_locked_is_named(tmp_path):
    with pytest.raises(OSError, match=r"cannot lock .*nowhere.*lock"):
        hold(tmp_path / "nowhere" / "lock")
