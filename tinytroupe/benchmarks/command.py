"""The benchmarks' command: what ``tinytroupe bench`` and the scripts in ``tests/performance`` do."""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tinytroupe._version import __version__
from tinytroupe.benchmarks.general import Benchmark
from tinytroupe.benchmarks.section import Plan, Section
from tinytroupe.runtime.files import write_atomically
from tinytroupe.visualization import pages

FORMAT = "tinytroupe benchmarks"
SCHEMA = 1


def main(
    benchmarks: Mapping[str, Benchmark],
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    description: str,
    json_file: str,
) -> int:
    """Run a script's benchmarks and return its exit status: 0 well, 1 a bound is missed, 2 wrong use, 130 interrupted.

    Parameters
    ----------
    benchmarks
        By name; all of them run unless the arguments choose.
    argv
        Arguments; default: those of the process.
    prog, description
        For ``--help``.
    json_file
        Where the results go unless the arguments say otherwise; the page goes beside it. Empty: nowhere.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description)
    add_options(parser, benchmarks, json_file)
    chosen = parser.parse_args(argv)
    try:
        return run(chosen, benchmarks)
    except KeyboardInterrupt:
        print("interrupted; no file was written", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        parser.exit(2, f"{prog}: {error}\n")


def add_options(parser: argparse.ArgumentParser, benchmarks: Mapping[str, Benchmark], json_file: str = "") -> None:
    """Declare the options that all benchmarks share."""
    page = str(Path(json_file).with_suffix(".html")) if json_file else ""
    parser.add_argument("--list", action="store_true", help="list the benchmarks, and run nothing")
    parser.add_argument(
        "--only", nargs="+", choices=tuple(benchmarks), metavar="NAME", help=f"only these of: {', '.join(benchmarks)}"
    )
    parser.add_argument("--quick", action="store_true", help="smaller workloads, which take less than a minute")
    parser.add_argument(
        "--clock",
        choices=("virtual", "wall"),
        default="virtual",
        help="virtual (exact, no waiting) or wall (real time, a server on 127.0.0.1); default %(default)s",
    )
    parser.add_argument("--agents", type=_sizes, metavar="N[,N…]", help="numbers of people, instead of the usual ones")
    parser.add_argument("--steps", type=_positive, metavar="N", help="number of steps, instead of the usual one")
    parser.add_argument("--latency", metavar="S", help="seconds per call, or e.g. lognormal:1.0,0.5")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default %(default)s")
    written = "file for {}; default: {}"
    parser.add_argument(
        "--json", default=json_file, metavar="FILE", help=written.format("all figures", json_file or "nowhere")
    )
    parser.add_argument("--html", default=page, metavar="FILE", help=written.format("a page", page or "nowhere"))


def run(chosen: argparse.Namespace, benchmarks: Mapping[str, Benchmark]) -> int:
    """Run what was chosen, print tables as they come, write the files, and return the exit status.

    Raises
    ------
    ValueError
        A latency that can't be read.
    OSError
        A file can't be written.
    """
    if chosen.list:
        for name, benchmark in benchmarks.items():
            print(f"{name:14} {(benchmark.__doc__ or '').splitlines()[0]}")
        return 0
    if chosen.latency is not None:
        from tinytroupe.testing import parse_latency

        parse_latency(chosen.latency)  # a mistake shows before anything has run
    plan = Plan(chosen.clock, chosen.agents, chosen.steps, chosen.latency, chosen.seed, chosen.quick)
    names = [name for name in benchmarks if name in (chosen.only or benchmarks)]
    if chosen.clock == "wall" and "speedup" in names and "real-time" in names:
        names.remove("real-time")  # the same again
    sections = []
    for number, name in enumerate(names, 1):

        def tell(what: str, place: str = f"[{number}/{len(names)}] {name}") -> None:
            print(f"{place}: {what} …", file=sys.stderr, flush=True)

        with _quiet():
            section = benchmarks[name](plan, tell)
        print(f"\n{section.as_text()}\n", flush=True)
        sections.append(section)
    for kind, path, text in (("results", chosen.json, document), ("page", chosen.html, as_page)):
        if path:
            print(f"{kind}: {write_atomically(path, text(plan, sections))}")
    if chosen.html:
        write_atomically(Path(chosen.html).with_name(pages.STYLESHEET), pages.stylesheet())
    missed = [check for section in sections for check in section.checks if not check.met]
    for check in missed:
        print(check, file=sys.stderr)
    return 1 if missed else 0


def run_plan(chosen: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Print what the run described by ``--plan`` would take; with ``--json -`` as JSON.

    Raises
    ------
    ValueError
        Something that can't be planned, or an option that has no meaning beside it.
    """
    from tinytroupe.benchmarks.plan import forecast
    from tinytroupe.benchmarks.plan_keys import read_asked
    from tinytroupe.benchmarks.plan_text import as_json, as_text

    idle = ("list", "only", "quick", "clock", "agents", "steps", "latency", "html")
    given = [f"--{name}" for name in idle if getattr(chosen, name) != parser.get_default(name)]
    if given:
        raise ValueError(f"{', '.join(given)} has no meaning beside --plan, which takes KEY=VALUE, such as steps=5")
    asked = read_asked(chosen.plan)

    def tell(what: str) -> None:
        print(f"plan: {what} …", file=sys.stderr, flush=True)

    with _quiet():
        found = forecast(asked, seed=chosen.seed, tell=tell)
    told = json.dumps({**as_json(found), "environment": environment()}, indent=2, sort_keys=True, allow_nan=False)
    if chosen.json == "-":
        print(told)
        return 0
    print(as_text(found))
    if chosen.json:
        print(f"\nplan: {write_atomically(chosen.json, told + chr(10))}")
    return 0


def document(plan: Plan, sections: Sequence[Section]) -> str:
    """Return the results as a JSON document; ``docs/benchmarks_json.md`` describes it."""
    content = {
        "format": FORMAT,
        "schema": SCHEMA,
        "environment": environment(),
        "plan": asdict(plan),
        "met": all(section.met for section in sections),
        "sections": [section.to_json() for section in sections],
    }
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"


def as_page(plan: Plan, sections: Sequence[Section]) -> str:
    """Return the results as a page that needs no script; its stylesheet lies beside it."""
    checks = [check for section in sections for check in section.checks]
    return pages.render(
        "benchmarks.html.j2",
        "tinytroupe.benchmarks",
        root="",
        plan=plan,
        environment=environment(),
        sections=sections,
        checks=len(checks),
        missed=[check for check in checks if not check.met],
    )


def environment() -> dict[str, Any]:
    """Return what the figures depend on: versions and machine."""
    from importlib.metadata import version

    return {
        "tinytroupe": __version__,
        "openai": version("openai"),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep warnings of turns that are meant to fail off the terminal, unless the program has configured logging."""
    handler, logger = logging.NullHandler(), logging.getLogger("tinytroupe")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(_positive(part) for part in text.split(","))


def _positive(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)
