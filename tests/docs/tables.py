"""The tables of the reference that code knows better than people: what they hold is written from it, and tested.

python tests/docs/tables.py          writes them anew where the code has changed
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Iterable
from importlib import resources
from pathlib import Path

from pytest_tinytroupe import commands, fixtures, options
from pytest_tinytroupe.marker import KEYWORDS, LIMITS, SYNONYMS
from pytest_tinytroupe.metrics import CATALOGUE, ON_DEMAND, TIMED
from tinytroupe import cli
from tinytroupe.config import SETTINGS, Setting, parse_ini

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


def settings() -> str:
    """Name, default, what it may hold, and what it does: the comments of the packaged ``config.ini``."""
    text = resources.files("tinytroupe").joinpath("config.ini").read_text("utf-8")
    defaults = parse_ini(text, "config.ini")
    remarks = dict(re.findall(r"^([A-Z_]+)=[^#\n]*?(?:#\s*(.*))?$", text, re.MULTILINE))
    parts = []
    for section in dict.fromkeys(SETTINGS[name].section for name in defaults):
        rows = [
            (f"`{name.upper()}`", f"`{value}`", _range(SETTINGS[name]), _cell(remarks.get(name.upper(), "")))
            for name, value in defaults.items()
            if SETTINGS[name].section == section
        ]
        parts.append(f"### {section}\n\n{_table(('key', 'default', 'may be', 'what it does'), rows)}")
    return "\n\n".join(parts)


def _range(setting: Setting) -> str:
    if setting.choices:
        text = ", ".join(f"`{choice}`" for choice in setting.choices)
    else:
        text = {bool: "`True`, `False`", int: "whole number", float: "number", str: "text"}[setting.kind]
    if setting.minimum is not None and setting.maximum is not None:
        text += f", {setting.minimum:g} to {setting.maximum:g}"
    elif setting.minimum is not None:
        text += f", at least {setting.minimum:g}"
    return text + ("; `None`" if setting.optional else "")


def command_line() -> str:
    """Option, ini key with its default, and what it does: what ``pytest --help`` says."""

    class Declared:
        """Takes down what the plugin declares."""

        def __init__(self) -> None:
            self.options: dict[str, dict[str, str]] = {}
            self.keys: dict[str, dict[str, str]] = {}

        def getgroup(self, *names: str) -> Declared:
            return self

        def addoption(self, name: str, **details: str) -> None:
            self.options[name] = details

        def addini(self, name: str, help: str, **details: str) -> None:
            self.keys[name] = details

    told = Declared()
    options.add_options(told)  # type: ignore[arg-type]
    rows = []
    for name, details in told.options.items():
        key = name.removeprefix("--").replace("-", "_")
        value = f" {details['metavar']}" if "metavar" in details else ""
        own = told.keys.get(key)
        ini = "" if own is None else f"`{key}`, default `{own.get('default')}`" if own.get("default") else f"`{key}`"
        rows.append((f"`{name}{value}`", ini, _cell(re.sub(r" \((?:default: )?ini.*?\)$", "", details["help"]))))
    unexplained = set(told.keys) - {name.removeprefix("--").replace("-", "_") for name in told.options}
    assert not unexplained, unexplained
    return _table(("option", "ini key", "what it does"), rows)


def metrics() -> str:
    """Name, unit, tier, direction, and how it meets limits and baselines, in the order in which they are shown."""
    rows = []
    for name, kind in CATALOGUE.items():
        rows.append(
            (
                f"[`{name}`](#{name})",
                kind.unit or "–",
                kind.tier,
                kind.better,
                "yes" if kind.kept and kind.tier != "process" else "with `isolate=True`" if kind.kept else "no",
                _when(name),
            )
        )
    return _table(("metric", "unit", "tier", "better", "kept as baseline", "measured"), rows)


def _when(name: str) -> str:
    if name in TIMED:
        return 'with `clock="wall"`, or where it is limited or given a tolerance'
    return "where it is limited" if name in ON_DEMAND else "always"


def keywords() -> str:
    """The marker's limits, and the keywords that are none, as a list."""
    plain = [name for name in KEYWORDS if name not in LIMITS and name not in SYNONYMS]
    limits = ", ".join(f"`{name}`" for name in LIMITS)
    return f"Limits: {limits}.\n\nOthers: {', '.join(f'`{name}`' for name in plain)}."


def fixture_table() -> str:
    """Name and first sentence of each fixture."""
    rows = []
    for name, value in vars(fixtures).items():
        function = getattr(value, "_fixture_function", None) or getattr(value, "__wrapped__", None)
        if function is not None and function.__module__ == fixtures.__name__ and not name.startswith("_"):
            rows.append((f"[`{name}`](#{name})", _cell((inspect.getdoc(function) or "").partition("\n")[0])))
    return _table(("fixture", "what it gives"), rows)


def shell(parser: argparse.ArgumentParser) -> Callable[[], str]:
    """Each command of a program with its arguments and options: what its ``--help`` says."""

    def tables() -> str:
        (choice,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        parts = []
        for name, command in choice.choices.items():
            rows = [
                (f"`{_called(action)}`", _cell(command._get_formatter()._expand_help(action)))
                for action in command._actions
                if action.dest != "help"
            ]
            parts.append(f"### {name}\n\n{_table(('argument', 'what it does'), rows)}")
        return "\n\n".join(parts)

    return tables


def _called(action: argparse.Action) -> str:
    if not action.option_strings:
        return action.dest if action.nargs is None else f"[{action.dest}]"
    value = "" if action.nargs == 0 else f" {_value(action)}"
    return f"{action.option_strings[-1]}{value}{' …' if action.nargs == '+' else ''}"


def _value(action: argparse.Action) -> str:
    if action.metavar is None and action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return str(action.metavar or action.dest.upper())


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "settings": ("settings.md", settings),
    "options": ("options.md", command_line),
    "metrics": ("metrics.md", metrics),
    "keywords": ("marker.md", keywords),
    "fixtures": ("fixtures.md", fixture_table),
    "tinytroupe": ("commands.md", shell(cli._parser())),
    "pytest_tinytroupe": ("commands.md", shell(commands._parser())),
}
"""By name: the page of the reference that holds it, and who makes it."""


def with_table(text: str, name: str, table: str) -> str:
    """Return a page with what stands between its two marks replaced.

    Raises
    ------
    ValueError
        The page does not have the marks, exactly once.
    """
    marks = re.compile(rf"(<!-- table: {name} -->\n).*?(\n<!-- /table -->)", re.DOTALL)
    replaced, count = marks.subn(lambda found: f"{found[1]}\n{table}\n{found[2]}", text)
    if count != 1:
        raise ValueError(f"there are {count} places for the table {name!r}")
    return replaced


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(header), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> None:
    """Write all tables."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for name, (page, make) in TABLES.items():
        path = REFERENCE / page
        path.write_text(with_table(path.read_text("utf-8"), name, make()), "utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
