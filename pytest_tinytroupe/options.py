"""Command line and ini keys. Always imported, therefore small; `settings` reads what was given."""

from __future__ import annotations

import pytest

NEEDS_PERF = {
    "perf_update": "--perf-update",
    "perf_report": "--perf-report",
    "no_perf_report": "--no-perf-report",
    "perf_baseline_dir": "--perf-baseline-dir",
}

MARKER_LINE = (
    "perf(min_speedup, min_efficiency, max_time_s, max_peak_memory_mb, max_heap_mb, max_llm_calls, max_tokens, "
    "baseline=True, seed=0): a performance test, measured by pytest --perf and held against the given limits and "
    "against its baseline in git."
)


def add_options(parser: pytest.Parser) -> None:
    """Declare the options and ini keys."""
    group = parser.getgroup("tinytroupe", "performance tests (pytest-tinytroupe)")
    group.addoption(
        "--perf",
        action="store_true",
        help="run the tests marked perf, measure them and hold them to limits and baselines",
    )
    group.addoption(
        "--perf-update", action="store_true", help="write the figures of passing perf tests to the baselines"
    )
    group.addoption(
        "--perf-report",
        metavar="DIR",
        help="directory of the HTML report (default: ini perf_report, or perf-report in the root directory; '' = none)",
    )
    group.addoption("--no-perf-report", action="store_true", help="write no HTML report")
    group.addoption(
        "--perf-baseline-dir",
        metavar="DIR",
        help="directory of the baselines (default: ini perf_baseline_dir, or baselines in the root directory)",
    )
    parser.addini(
        "perf_report",
        "directory of the HTML report, relative to the root directory; empty = none",
        default="perf-report",
    )
    parser.addini(
        "perf_baseline_dir", "directory of the baselines, relative to the root directory", default="baselines"
    )


def wanted(config: pytest.Config) -> bool:
    """Whether the run measures.

    Raises
    ------
    pytest.UsageError
        An option that only makes sense with ``--perf`` was given without it.
    """
    perf = bool(config.getoption("perf"))
    given = [flag for name, flag in NEEDS_PERF.items() if config.getoption(name) not in (None, False)]
    if given and not perf:
        raise pytest.UsageError(f"{', '.join(given)}: only with --perf, which runs and measures the perf tests")
    return perf
