"""Command line and ini keys. Always imported, therefore small; `settings` reads what was given."""

from __future__ import annotations

import pytest

NEEDS_PERF = {
    "perf_update": "--perf-update",
    "perf_update_new": "--perf-update-new",
    "perf_prune": "--perf-prune",
    "perf_strict": "--perf-strict",
    "perf_report": "--perf-report",
    "no_perf_report": "--no-perf-report",
    "perf_baseline_dir": "--perf-baseline-dir",
    "perf_json": "--perf-json",
    "perf_markdown": "--perf-markdown",
    "perf_history": "--perf-history",
    "perf_time_limit": "--perf-time-limit",
}

MARKER_LINE = (
    "perf(min_speedup, max_time_s, max_llm_calls, max_tokens, max_heap_mb, ..., tolerance={}, baseline=True, seed=0, "
    "clock='virtual', rounds, warmup, isolate=False): "
    "a performance test, measured by pytest --perf and held against the given limits (max_... or min_... of any "
    "metric) and against its baseline in git; nearest of function, class and module wins, key by key."
)

FLAGS = {
    "--perf-update": "write the figures of passing perf tests to the baselines, changed and new ones alike",
    "--perf-update-new": "write only figures that have no baseline yet",
    "--perf-prune": "remove baselines that no test uses any more",
    "--no-perf-report": "write no HTML report",
}

SWITCHES = {
    "perf": "run the tests marked perf, measure them, and compare them with limits and baselines",
    "perf_strict": "fail the run if baselines are unused or could not be checked",
}

PATHS = {
    "perf_report": ("DIR", "directory of the HTML report; '' = none", "perf-report"),
    "perf_baseline_dir": ("DIR", "directory of the baselines", "baselines"),
    "perf_json": ("FILE", "write all figures and verdicts as JSON", ""),
    "perf_markdown": ("FILE", "write a summary in Markdown", ""),
    "perf_history": ("FILE", "add all figures to a SQLite file; see: python -m pytest_tinytroupe history", ""),
}


def add_options(parser: pytest.Parser) -> None:
    """Declare the options and ini keys."""
    group = parser.getgroup("tinytroupe", "performance tests (pytest-tinytroupe)")
    for name, text in SWITCHES.items():
        option = name.replace("_", "-")
        group.addoption(f"--{option}", action="store_true", default=None, help=f"{text} (default: ini {name}, or not)")
        group.addoption(
            f"--no-{option}",
            action="store_false",
            default=None,
            dest=name,
            help=f"turn {option} off, even where the ini turns it on",
        )
        parser.addini(name, text, type="bool", default=False)
    for flag, text in FLAGS.items():  # deeds, not settings: asked for each time
        group.addoption(flag, action="store_true", help=text)
    for name, (kind, text, default) in PATHS.items():
        told = f"default: ini {name}, or {default} in the root directory" if default else f"ini: {name}"
        group.addoption(f"--{name.replace('_', '-')}", metavar=kind, help=f"{text} ({told})")
        parser.addini(name, f"{text}; relative to the root directory", default=default)
    group.addoption(
        "--perf-time-limit",
        metavar="SECONDS",
        help="how long a fresh process may take for one test, and how long a measurement may wait for the machine "
        "(default: ini perf_time_limit, or 600)",
    )
    parser.addini("perf_time_limit", "how long a fresh process may take for one test, in seconds", default="600")


def switched_on(config: pytest.Config, name: str) -> bool:
    """Whether one of `SWITCHES` is on: by the command line, or else by the ini."""
    given = config.getoption(name)
    return bool(config.getini(name) if given is None else given)


def wanted(config: pytest.Config) -> bool:
    """Whether the run measures.

    Raises
    ------
    pytest.UsageError
        An option that only makes sense with ``--perf`` was given without it.
    """
    perf = switched_on(config, "perf")
    given = [flag for name, flag in NEEDS_PERF.items() if config.getoption(name) not in (None, False)]
    if given and not perf:
        raise pytest.UsageError(f"{', '.join(given)}: only with --perf, which runs and measures the perf tests")
    return perf
