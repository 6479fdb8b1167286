"""Every snippet of README and docs is run, or says why it can't be; every command names what there is."""

from __future__ import annotations

import configparser
import contextlib
import io
import json
import re
import runpy
import shlex
import sys

import pytest
from pages import ELSEWHERE, ROOT, blocks, of, pages
from sessions import follow
from shell_commands import problems

from tinytroupe import config_manager, control
from tinytroupe.cli import main as tinytroupe
from tinytroupe.runtime.clock import VirtualClock, use_clock
from tinytroupe.testing import MockLLM

SHELL = ("sh", "bash", "shell", "console")
MOST_NOT_RUN = 6
"""Snippets that say why they are not run: each of them is one that may be wrong without anybody knowing."""

PYTHON = sorted({b.page for b in blocks() if b.language == "python" and not b.directive} - set(ELSEWHERE))
SESSIONS = sorted({block.page for block in blocks() if block.directive == "run"} - set(ELSEWHERE))


def is_test_module(code: str) -> bool:
    return bool(re.search(r"^(async )?def test_", code, re.MULTILINE))


@pytest.fixture
def pytest_options(pytester):
    return set(re.findall(r"--[\w-]+", pytester.runpytest_inprocess("--help").stdout.str()))


@pytest.fixture
def here(pytester, monkeypatch):
    """An empty directory, without traces of earlier runs in it or in the process."""
    monkeypatch.setenv("COLUMNS", "80")
    yield pytester
    config_manager.reset()
    control.reset()


@pytest.mark.parametrize("page", PYTHON)
def test_the_python_of_a_page_runs_from_top_to_bottom(page, here):
    scope: dict[str, object] = {"__name__": "snippet"}
    for block in of(page):
        if block.language != "python" or block.directive:
            continue
        if is_test_module(block.code):
            name = re.match(r"# (test_\w+)\.py", block.code)
            here.makepyfile(**{name[1] if name else f"test_line_{block.line}": block.code})
            done = here.runpytest_inprocess("--perf", "--perf-update", "-q", "-p", "no:cacheprovider")
            assert done.ret == 0, f"{block.place}:\n{done.stdout.str()}"
        else:
            with VirtualClock() as clock, use_clock(clock), MockLLM(latency=1.0):
                exec(compile("\n" * (block.line - 1) + block.code, str(ROOT / page), "exec"), scope)


@pytest.mark.parametrize("page", SESSIONS)
def test_a_reader_who_does_what_the_page_says_sees_what_it_shows(page, here, monkeypatch):
    assert follow(of(page), here.path, lambda command: run(here, command, monkeypatch)) >= 1


def run(here, command, monkeypatch):
    """Run a command in this process and return its output."""
    words = shlex.split(command)
    with monkeypatch.context() as patch:
        while re.fullmatch(r"[A-Z_]+=.*", words[0]):
            patch.setenv(*words.pop(0).split("=", 1))
        return run_here(here, *words)


def run_here(here, program, *arguments):
    if program == "python" and arguments[:2] == ("-m", "pytest"):
        program, arguments = "pytest", arguments[2:]
    if program == "pytest":
        return here.runpytest_inprocess("-p", "no:cacheprovider", *arguments).stdout.str()
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        if program == "tinytroupe":
            tinytroupe(arguments)
        else:
            assert program == "python", f"a session can't run {program!r}"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "argv", list(arguments))
                runpy.run_path(arguments[0], run_name="__main__")
    return out.getvalue()


def test_what_is_not_run_says_why_and_is_little():
    left_out = [block for block in blocks() if block.directive == "no-run"]
    assert [block.place for block in left_out if not block.value] == []
    assert len(left_out) <= MOST_NOT_RUN, [f"{block.place}: {block.value}" for block in left_out]


def test_pages_that_are_tested_elsewhere_are():
    for page, test in ELSEWHERE.items():
        assert page in pages()
        assert page.rpartition("/")[2] in (ROOT / test).read_text("utf-8")


def test_commands_name_what_there_is(pytest_options):
    found = {}
    for block in blocks():
        if block.language in SHELL and block.directive != "no-run":
            code = block.code
            if block.language == "console":
                code = "\n".join(line for line in code.splitlines() if line.startswith("$ "))
            found[block.place] = problems(code, pytest_options)
    for page, text in pages().items():
        indented = re.findall(r"^ {4}((?:\S*/)?(?:python|pytest|tinytroupe)3? .*?)(?: {3,}.*)?$", text, re.MULTILINE)
        outside = [line for line in indented if not any(line in block.code for block in of(page))]
        found[page] = problems("\n".join(outside), pytest_options)
    assert {place: wrong for place, wrong in found.items() if wrong} == {}


def test_wrong_commands_are_found(pytest_options):
    text = "pytest --perf --perff-json=x\ntinytroupe sing && python nothing.py\n"
    text += "pip install 'pytest-tinytroupe[moon]'\nmake"
    assert len(problems(text, pytest_options)) == 5


@pytest.mark.parametrize("block", [b for b in blocks() if b.language in ("ini", "toml", "json")], ids=lambda b: b.place)
def test_data_can_be_read(block):
    if block.directive == "no-run" or block.page in ELSEWHERE or "--8<--" in block.code:
        return
    if block.language == "json":
        json.loads(block.code)
    elif block.language == "ini":
        configparser.ConfigParser(interpolation=None).read_string(block.code)
    elif sys.version_info >= (3, 11):
        import tomllib

        tomllib.loads(block.code)
