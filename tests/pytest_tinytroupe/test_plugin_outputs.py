"""JSON, Markdown, JUnit, annotations, the comparison of two runs, and who is behind a regression."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET
from fnmatch import fnmatch

import pytest

from pytest_tinytroupe.cause import NAMED, PEOPLE, cause_of, kept
from pytest_tinytroupe.commands import main
from pytest_tinytroupe.records import SessionReport, TestRecord
from pytest_tinytroupe.report.github import error_lines
from pytest_tinytroupe.report.markdown import markdown
from pytest_tinytroupe.report.perf_json import ResultError, read_json


def run(pytester, *args):
    return pytester.runpytest_inprocess("-p", "no:randomly", "--perf", "--no-perf-report", *args)


def write(pytester, queries=3):
    pytester.makepyfile(
        test_it=f"import pytest\n\n\n@pytest.mark.perf\ndef test_it(perf): perf.record('queries', {queries})"
        "\n\n@pytest.mark.perf\ndef test_other(): pass\n"
    )


@pytest.fixture
def project(pytester):
    pytester.makeini("[pytest]")
    write(pytester)
    run(pytester, "--perf-update").assert_outcomes(passed=2)
    return pytester


def test_json_holds_everything_and_can_be_read_back(project):
    result = run(project, "--perf-json=out/a.json")
    result.stdout.fnmatch_lines(["json: *out/a.json"])
    document = json.loads((project.path / "out" / "a.json").read_text())
    assert (document["format"], document["schema"]) == ("pytest-tinytroupe perf", 1)
    first = document["records"][0]
    assert (first["nodeid"], first["outcome"], first["line"]) == ("test_it.py::test_it", "passed", 4)
    (verdict,) = [each for each in first["verdicts"] if each["metric"]["name"] == "queries"]
    expected = {"name": "queries", "value": 3, "unit": "", "tier": "exact", "better": "lower", "steady": False}
    assert verdict["metric"] == expected
    assert (verdict["status"], verdict["baseline"], verdict["change"]) == ("ok", 3, 0.0)
    session, key = read_json(project.path / "out" / "a.json")
    records = session.to_json()["records"]
    assert [[record.pop(key) for key in ("agents", "turns", "calls_s")] for record in records] == [[[]] * 3] * 2
    assert records == document["records"]
    assert key == document["environment_key"]


def test_the_ini_sets_the_files_and_the_command_line_wins(project):
    project.makeini("[pytest]\nperf_json = ini.json\nperf_markdown = ini.md")
    run(project)
    assert (project.path / "ini.json").is_file()
    (project.path / "ini.json").unlink()
    run(project, "--perf-json=cli.json")
    assert (project.path / "cli.json").is_file()
    assert not (project.path / "ini.json").exists()
    assert "2 passed" in (project.path / "ini.md").read_text()


def test_pyproject_sets_them_as_an_ini_file_does(project):
    (project.path / "tox.ini").unlink()
    settings = 'perf_json = "out/x.json"\nperf_report = ""\nperf_strict = true\nperf_baseline_dir = "none/here"'
    project.makepyprojecttoml(f"[tool.pytest.ini_options]\n{settings}")
    result = project.runpytest_inprocess("-p", "no:randomly", "--perf")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["json: *out/x.json", "ERROR: *there is none in *none/here *"])
    assert not (project.path / "perf-report").exists()


def test_a_repeated_option_keeps_the_last_value_and_says_where(project):
    result = run(project, "--perf-json=a.json", "--perf-json=b.json")
    assert not (project.path / "a.json").exists()
    result.stdout.fnmatch_lines(["json: *b.json"])


@pytest.mark.parametrize("option", ["--perf-json", "--perf-markdown"])
def test_a_file_that_cannot_be_written_is_refused_before_the_tests(project, option):
    (project.path / "file").write_text("in the way")
    result = run(project, f"{option}=file/out")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {option}: cannot write to *file*"])


FILES = ["--perf-json", "--perf-markdown", "--perf-history"]


@pytest.mark.parametrize("option", FILES)
def test_a_directory_in_place_of_a_file_is_refused_before_the_tests(project, option):
    project.mkdir("adir")
    result = run(project, f"{option}=adir")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {option}: *adir is a directory; name a file"])
    assert "passed" not in result.stdout.str()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
@pytest.mark.parametrize("option", FILES)
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(project, option):
    os.mkfifo(project.path / "pipe")
    result = run(project, f"{option}=pipe")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {option}: *pipe is no ordinary file; name one"])


def test_a_link_goes_on_to_lead_where_it_does(project):
    (project.path / "link.json").symlink_to(project.path / "kept.json")
    assert run(project, "--perf-json=link.json").ret == 0
    assert (project.path / "link.json").is_symlink()
    assert read_json(project.path / "kept.json")[0].records


@pytest.mark.parametrize("option", [*FILES, "--perf-report"])
def test_what_could_not_be_written_in_the_end_fails_the_run(project, option):
    # The target is fine before the tests, and no longer when they are done.
    project.makeconftest(
        """
        import pathlib, pytest, shutil
        @pytest.hookimpl(tryfirst=True)
        def pytest_sessionfinish():
            out = pathlib.Path("out")
            if out.is_dir():
                shutil.rmtree(out)
            out.write_text("in the way")
        """
    )
    project.mkdir("out")
    args = ["--perf-report=out"] if option == "--perf-report" else ["--no-perf-report", f"{option}=out/file"]
    result = project.runpytest_inprocess("-p", "no:randomly", "--perf", *args)
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"ERROR: {option[len('--perf-') :]} *out*"])


@pytest.mark.parametrize("option", FILES)
def test_no_output_replaces_a_file_of_baselines(project, option):
    run(project, "--perf-update")
    (kept,) = (project.path / "baselines").rglob("*.json")
    before = kept.read_text()
    result = run(project, f"{option}={kept}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {option}: * holds baselines, which would be lost; name another file"])
    assert kept.read_text() == before


@pytest.mark.parametrize(("first", "second"), [FILES[:2], FILES[1:]])
def test_no_output_replaces_another(project, first, second):
    result = run(project, f"{first}=out/a", f"{second}=out/../out/a")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {second}: *a is the file of {first} already; name another file"])
    assert not (project.path / "out" / "a").exists()


def test_a_step_summary_that_cannot_be_written_fails_the_run(project, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "missing" / "summary.md"))
    result = run(project)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR: GITHUB_STEP_SUMMARY: *"])


def test_tests_without_figures_are_no_comparison(project, capsys):
    project.makepyfile(test_it="import pytest\n@pytest.mark.perf\ndef test_it(): pytest.skip('not today')")
    for name in ("a.json", "b.json"):
        run(project, f"--perf-json={name}").assert_outcomes(skipped=1)
    assert main(["compare", *(str(project.path / name) for name in ("a.json", "b.json"))]) == 1
    assert "nothing was compared: no test has figures in both files" in capsys.readouterr().out


def test_where_nothing_was_measured_no_earlier_file_stands_for_it(project, capsys):
    outputs = ["--perf-json=a.json", "--perf-markdown=a.md", "--perf-history=a.sqlite", "--perf-report=report"]

    def measured(*args):
        return project.runpytest_inprocess("-p", "no:randomly", "--perf", *outputs, *args)

    measured()
    (project.path / "a.json").rename(project.path / "b.json")
    for args in (["-k", "nothing"], []):
        if not args:
            project.makepyfile(test_it="import nothing_of_this_name")
        result = measured(*args)
        result.stdout.fnmatch_lines(["json: *a.json", "markdown: *a.md", "history: *a.sqlite", "report: *index.html"])
        session, _ = read_json(project.path / "a.json")
        assert session.records == ()
        assert "nothing was measured" in (project.path / "a.md").read_text()
        assert "test_other" not in (project.path / "report" / "index.html").read_text()
    # A comparison with it is no gate, in either direction.
    for pair in (["b.json", "a.json"], ["a.json", "b.json"]):
        assert main(["compare", *(str(project.path / name) for name in pair)]) == 1
        assert "nothing was compared: no test has figures in both files" in capsys.readouterr().out
    assert main(["compare", "--allow-missing", str(project.path / "b.json"), str(project.path / "a.json")]) == 0


def compare(pytester, capsys, *args):
    status = main(["compare", str(pytester.path / "a.json"), str(pytester.path / "b.json"), *args])
    return status, capsys.readouterr().out


def test_two_runs_are_compared_without_running_anything(project, capsys):
    run(project, "--perf-json=a.json")
    run(project, "--perf-json=b.json")
    assert compare(project, capsys)[0] == 0
    write(project, 4)
    run(project, "--perf-json=b.json")
    status, text = compare(project, capsys)
    assert status == 1
    assert "queries         4         3  +33.3 %      -  regressed" in text
    assert "1 worse, 0 otherwise different, 1 the same" in text
    status, text = compare(project, capsys, "--markdown")
    assert status == 1
    assert "| queries | 4 | 3 | +33.3 % | - | regressed |" in text
    write(project, 2)
    run(project, "--perf-json=b.json")
    status, text = compare(project, capsys)
    assert (status, "improved" in text) == (0, True)
    project.makepyfile(test_it="import pytest\n@pytest.mark.perf\ndef test_it(): pass\ndef test_new(): pass")
    run(project, "--perf-json=b.json")
    status, text = compare(project, capsys)
    assert status == 1  # what is no longer measured is no longer gated
    assert "unmeasured" in text
    assert "test_it.py::test_other  [gone]" in text


def test_a_test_that_fails_now_is_worse(project, capsys):
    run(project, "--perf-json=a.json")
    project.makepyfile(test_it="import pytest\n@pytest.mark.perf\ndef test_it(): assert 0")
    run(project, "--perf-json=b.json")
    status, text = compare(project, capsys)
    assert status == 1
    assert "test_it.py::test_it  [passed before, failed now]" in text


def test_another_python_compares_no_heap(project, capsys):
    run(project, "--perf-json=a.json")
    text = (project.path / "a.json").read_text()
    document = json.loads(text)
    document["environment_key"] = "other"
    for record in document["records"]:
        for verdict in record["verdicts"]:
            if verdict["metric"]["tier"] == "heap":
                verdict["metric"]["value"] = 1000.0
    (project.path / "b.json").write_text(json.dumps(document))
    status, text = compare(project, capsys)
    assert status == 0
    assert "heap not compared" in text


@pytest.mark.parametrize(
    "content", [None, "", "[]", "{}", '{"format": "pytest-tinytroupe perf", "schema": 2}', "\udcff", "["]
)
def test_what_is_no_result_is_refused(tmp_path, capsys, content):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ResultError, match=r"a\.json"):
        read_json(path)
    assert main(["compare", str(path), str(path)]) == 2
    assert "error: " in capsys.readouterr().err


def test_markdown_shows_what_failed_and_goes_to_the_step_summary(project, monkeypatch):
    summary = project.path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    write(project, 4)
    run(project, "--perf-markdown=out.md")
    text = (project.path / "out.md").read_text()
    assert "1 of 2 failed" in text
    assert "| queries | 4 | 3 | +33.3 % | - | regressed |" in text
    assert summary.read_text() == "before\n" + text


def test_names_cannot_break_markdown():
    record = {
        "duration_s": 0,
        "verdicts": [],
        "timelines": [],
        "notes": [],
        "worker": "",
        "line": 0,
        "people": [],
        "nodeid": "t.py::t[a|b`<script>\n# x]",
        "outcome": "passed",
    }
    session = {"title": "<b>*x*\n# y", "started": "", "environment": [], "baseline_dir": "", "command": ""}
    text = markdown(SessionReport.from_json({**session, "records": [record]}))
    assert "<b>" not in text
    assert "\n# " not in text
    assert "a\\|b" in text


def test_annotations_on_github(project, monkeypatch):
    write(project, 4)
    assert "::error" not in run(project).stdout.str()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = run(project)
    result.stdout.fnmatch_lines(
        ["::error file=test_it.py,line=4,title=test_it::queries regressed: 4, baseline 3 (+33.3 %25)"]
    )


def test_a_table_without_rows_has_no_head(project):
    project.makepyfile(test_it="import pytest\n@pytest.mark.perf\ndef test_it(): assert 1 == 2")
    for args in (["-q"], [], ["-v"]):
        result = run(project, *args)
        result.stdout.fnmatch_lines(["test_it.py::test_it  [[]failed]", "    assert 1 == 2"])
        result.stdout.no_fnmatch_line("*metric*measured*")


@pytest.mark.parametrize("columns", [80, 120])
def test_remarks_fit_the_terminal(pytester, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    source = """
        import pytest
        @pytest.mark.perf
        def test_it(make_world, troupe, mock_llm):
            mock_llm.latency = 1.0
            make_world(troupe(3)).run({})
    """
    pytester.makepyfile(test_it=source.format(1))
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    pytester.makepyfile(test_it=source.format(2))
    result = run(pytester, "--tb=no")
    result.assert_outcomes(failed=1)
    lines = result.outlines[result.outlines.index("test_it.py::test_it  [failed]") - 1 :]
    assert any(line.startswith("    more by ") for line in lines)
    table = lines[: lines.index("")]
    assert [line for line in table if len(line) > columns] == []
    # Where the failure's own message is shown it says who is behind it, and nothing says it once more.
    result = run(pytester)
    start = next(i for i, line in enumerate(result.outlines) if line.startswith("metric "))
    message = result.outlines[start : result.outlines.index("", start)]
    assert any(line.startswith("tokens: more by ") for line in message)
    assert [line for line in message if len(line) > 80] == []
    result.stdout.no_fnmatch_line("    more by *")


def test_the_reason_of_a_missing_fixture_is_its_name(pytester):
    pytester.makepyfile(test_it="import pytest\n@pytest.mark.perf\ndef test_it(mockllm): pass")
    run(pytester).stdout.fnmatch_lines(["test_it.py::test_it  [[]error]", "    fixture 'mockllm' not found"])


@pytest.mark.parametrize(
    ("source", "conflict", "why"),
    [
        ("def test_it(): pass", True, "perf: baseline *test_it.json: in the middle of a merge; take either side *"),
        ("def test_it(down): pass", False, "RuntimeError: still open"),
        ("@pytest.mark.xfail(strict=True)\ndef test_it(): pass", False, "[[]XPASS(strict)[]]*"),
    ],
    ids=["baseline", "teardown", "xpass"],
)
def test_a_failure_that_no_figure_shows_has_its_reason_in_every_output(pytester, monkeypatch, source, conflict, why):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    pytester.makepyfile(
        test_it=f"""
import pytest
calls = []
@pytest.fixture
def down():
    yield
    calls.append(1)
    if len(calls) == 2:  # when the verdict has been reached
        raise RuntimeError("still open")
@pytest.mark.perf
{source}
"""
    )
    if conflict:
        pytester.mkdir("baselines").joinpath("test_it.json").write_text("<<<<<<< HEAD\n")
    result = run(pytester, "--tb=no", "--perf-json=a.json", "--perf-markdown=a.md")
    lines = result.outlines
    assert any(fnmatch(" ".join(map(str.strip, lines[at : at + 5])), why + "*") for at in range(len(lines)))
    (annotation,) = [line for line in lines if line.startswith("::error")]
    assert fnmatch(annotation.rpartition("::")[2], why)
    (record,) = json.loads((pytester.path / "a.json").read_text())["records"]
    assert record["verdicts"]
    assert fnmatch(record["notes"][0], why)
    (reason,) = [line for line in (pytester.path / "a.md").read_text().splitlines() if line.startswith("- ")]
    assert fnmatch(reason[2:].replace("\\", ""), why)


def test_annotations_of_tests_that_were_not_judged(pytester, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    pytester.makepyfile(
        test_it="""
        import pytest
        @pytest.fixture
        def broken(): raise ValueError("no 100 %: such a model,\\nreally")
        @pytest.mark.perf
        def test_error(broken): pass
        @pytest.mark.perf
        def test_failed(): assert 1 == 2
        @pytest.mark.perf
        @pytest.mark.parametrize("n", ["a:b,c%"])
        def test_name(n): assert n == 1
        def test_plain(): assert 0
        """
    )
    result = run(pytester)
    found = [line for line in result.outlines if line.startswith("::")]
    assert found[:2] == [
        "::error file=test_it.py,line=4,title=test_error::ValueError: no 100 %25: such a model,",
        "::error file=test_it.py,line=6,title=test_failed::assert 1 == 2",
    ]
    assert found[2].startswith("::error file=test_it.py,line=8,title=test_name[a%3Ab%2Cc%25]::")
    assert len(found) == 3


@pytest.mark.parametrize(
    ("workspace", "file"), [("", "test_it.py"), (".", "project/test_it.py"), ("elsewhere", "test_it.py")]
)
def test_annotations_name_files_from_the_repository(pytester, monkeypatch, workspace, file):
    project = pytester.mkdir("project")
    project.joinpath("pytest.ini").write_text("[pytest]")
    project.joinpath("test_it.py").write_text("import pytest\n@pytest.mark.perf\ndef test_it(): assert 0")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(pytester.path / workspace) if workspace else "")
    result = run(pytester, "--rootdir=project", "-c", "project/pytest.ini", "project")
    result.stdout.fnmatch_lines([f"::error file={file},line=2,title=test_it::assert 0"])


@pytest.mark.parametrize(("tests", "lines", "last"), [(10, 10, "assert n == 0"), (11, 10, "2 more perf tests failed*")])
def test_annotations_are_as_many_as_github_shows(pytester, monkeypatch, tests, lines, last):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    records = [TestRecord(f"test_it.py::test_it[{n}]", "failed", 0.0, notes=("assert n == 0",)) for n in range(tests)]
    found = list(error_lines([TestRecord("test_it.py::test_ok", "passed", 0.0), *records], pytester.path))
    assert len(found) == lines
    assert fnmatch(found[-1].rpartition("::")[2], last)


@pytest.mark.parametrize("xdist", [[], pytest.param(["-n1"], marks=pytest.mark.slow)], ids=["plain", "xdist"])
def test_junit_has_the_metrics(project, xdist):
    run(project, "--junitxml=junit.xml", *xdist)
    cases = {case.get("name"): case for case in ET.parse(project.path / "junit.xml").iter("testcase")}
    found = {each.get("name"): each.get("value") for each in cases["test_it"].iter("property")}
    assert found["perf_queries"] == "3"
    assert float(found["perf_heap_mb"]) >= 0


def test_a_regression_names_who_is_behind_it(pytester):
    source = """
        import pytest
        @pytest.mark.perf
        def test_it(make_world, mock_llm, troupe):
            mock_llm.latency = 1.0
            world = make_world(troupe(3))
            world.run(2)
            for _ in range({more}):
                world.agents[1].listen("And now?")
                world.agents[1].act()
    """
    pytester.makepyfile(test_it=source.format(more=0))
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    people = json.loads((pytester.path / "baselines" / "test_it.json").read_text())["tests"]["test_it"]["people"]
    assert list(people["llm_calls"].values()) == [2, 2, 2]
    pytester.makepyfile(test_it=source.format(more=3))
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["llm_calls: more by * 2 → 5 (+3)"])


def test_causes():
    now = {"llm_calls": {"Ann": 5, "Bob": 2, "Cy": 9, "": 100}}
    assert cause_of("llm_calls", now, {"llm_calls": {"Ann": 1, "Bob": 2}}) == "more by Cy 0 → 9 (+9), Ann 1 → 5 (+4)"
    assert cause_of("llm_calls", now, {}) == "most by Cy 9, Ann 5, Bob 2"
    assert cause_of("llm_calls", now, now) == ""
    assert cause_of("time_s", now, {}) == ""
    assert cause_of("llm_calls", {"llm_calls": {"": 4}}, {}) == ""
    many = {"llm_calls": {f"P{i:02}": 1 for i in range(PEOPLE)}}
    assert cause_of("llm_calls", many, {}).endswith(f" and {PEOPLE - NAMED} more")
    assert kept(many) == many
    assert kept({"llm_calls": {**many["llm_calls"], "Q": 1}}) == {}
    assert kept({"llm_calls": {"": 3}}) == {}
