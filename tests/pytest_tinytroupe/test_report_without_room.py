"""A report that cannot be written: the error is clear, the verdicts stand, and no half file is left."""

from __future__ import annotations

import sys

import pytest

PERF_TEST = """
    import pathlib, shutil
    import pytest
    @pytest.mark.perf(baseline=False)
    def test_passes(): {body}
    @pytest.mark.perf(baseline=False, max_time_s=0)
    def test_fails(): pass
"""


def run(pytester, *args):
    return pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:cacheprovider", "--perf", *args)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files there")
def test_a_disk_that_fills_up_while_the_report_is_written(pytester):
    pytester.makepyfile(test_it=PERF_TEST.format(body="pass"))
    run(pytester, "--perf-report=out").assert_outcomes(passed=1, failed=1)
    before = {path: path.read_bytes() for path in (pytester.path / "out").rglob("*.*")}
    pytester.makeconftest(
        """
        import pytest, resource
        # The innermost wrapper: what the terminal has to say comes after it, and that file is none of the report's.
        @pytest.hookimpl(wrapper=True, trylast=True)
        def pytest_sessionfinish():
            before = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))  # a write stops in the middle of the file
            try:
                return (yield)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
        """
    )
    result = run(pytester, "--perf-report=out", "--perf-json=out.json", "--perf-markdown=out.md")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines_random(
        [
            "ERROR: report *out: OSError: * cannot write *report.css: File too large; free space or choose another *",
            "ERROR: json *out.json: OSError: * cannot write *out.json: File too large; free space or choose another *",
            "markdown:  *out.md",
        ]
    )
    assert {path: path.read_bytes() for path in (pytester.path / "out").rglob("*.*")} == before
    assert not (pytester.path / "out.json").exists()
    assert not list(pytester.path.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("shutil.rmtree('out', ignore_errors=True)", "report: *out*index.html"),
        (
            "shutil.rmtree('out', ignore_errors=True); pathlib.Path('out').touch()",
            "ERROR: report *out: * cannot write *report.css: *; free space or choose another directory",
        ),
    ],
    ids=["gone", "replaced by a file"],
)
def test_a_directory_that_vanishes_while_the_tests_run(pytester, body, told):
    pytester.makepyfile(test_it=PERF_TEST.format(body=body))
    result = run(pytester, "--perf-report=out")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([told])
    result.stdout.fnmatch_lines(["FAILED test_it.py::test_fails - Failed: perf: time_s over limit*"])
    assert not list(pytester.path.rglob("*.tmp"))
