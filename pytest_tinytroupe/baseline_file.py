"""The files in ``baselines/``: one a test file, in git, readable in a diff.

::

    {
      "schema": 2,
      "tests": {
        "test_market[10]": {
          "exact": {"llm_calls": 150, "time_s": 50.0},
          "heap": {"cpython-3.11-linux-x86_64": {"heap_mb": 1.25}},
          "process": {"cpython-3.11-linux-x86_64": {"peak_memory_mb": 98.5}},
          "wall": {"cpython-3.11-linux-x86_64 2x Some Processor": ["0.51 0.12 0.014", ...]},
          "people": {"llm_calls": {"Lisa": 75, "Oscar": 75}},
          "steps": {"llm_calls": {"1": 50, "2": 50, "3": 50}}
        }
      }
    }

Exact figures hold everywhere, heap and process figures on one Python and platform, times on one machine: seconds of
real time, of CPU time and of calibration, a line a run. People and steps are not judged; they name causes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_tinytroupe.timing import Run

SCHEMA = 2
OLDEST_SCHEMA = 1
"""Its files have no ``process``, ``wall`` and ``steps``, and are else the same; an update writes them anew."""

PARTS = ("exact", "heap", "process", "wall", "people", "steps")
_CONFLICT = ("<<<<<<< ", ">>>>>>> ")
_NESTED = ("heap", "process", "people", "steps")


class BaselineError(Exception):
    """A baseline file cannot be used. The message names the file and what to do."""


def load(path: Path) -> dict[str, Any]:
    """Read a baseline file; a missing one is empty.

    Raises
    ------
    BaselineError
        It cannot be read, is not JSON, has the wrong shape, or was written by a newer version.
    """
    text = ""
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text, object_pairs_hook=_once_each)
    except FileNotFoundError:
        return {"schema": SCHEMA, "tests": {}}
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise BaselineError(f"baseline {path}: cannot be read ({reason}); mend its permissions") from error
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        if any(line.startswith(_CONFLICT) for line in text.splitlines()):
            hint = "take either side of each conflict, then run: pytest --perf --perf-update"
            raise BaselineError(f"baseline {path}: in the middle of a merge; {hint}") from error
        hint = "restore it from version control, or delete it and run: pytest --perf --perf-update"
        raise BaselineError(f"baseline {path}: not valid JSON ({error}); {hint}") from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise BaselineError(f"baseline {path}: schema {schema} is newer than {SCHEMA}; upgrade pytest-tinytroupe")
    known = isinstance(schema, int) and schema is not True and schema >= OLDEST_SCHEMA
    wrong = _wrong(document) if known else "no schema, or a wrong one"
    if not wrong:
        return dict(document)
    hint = "restore it from version control, or delete it and run: pytest --perf --perf-update"
    raise BaselineError(f"baseline {path}: not a baseline file ({wrong}); {hint}")


def dump(document: Mapping[str, Any]) -> str:
    """Return the text of a baseline file: the same figures always give the same bytes."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that stands there twice, as where both sides of a merge were kept: which one is meant?"""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{twice!r} stands there twice: were both sides of a merge kept?")
    return found


def _wrong(document: Mapping[str, Any]) -> str:
    """Say what is wrong with the shape of a file, or nothing."""
    tests = document.get("tests")
    if not isinstance(tests, dict):
        return "no tests in it"
    for test, entry in tests.items():
        if not isinstance(entry, dict):
            return f"the entry of {test} is no object"
        unknown = sorted(set(entry) - set(PARTS))
        if unknown:
            return f"the entry of {test} has an unknown key {unknown[0]!r}"
        if not _is_entry(entry):
            return f"a figure of {test} has the wrong shape"
    return ""


def _is_entry(entry: Mapping[str, Any]) -> bool:
    parts = [entry.get(part, {}) for part in PARTS]
    return (
        all(isinstance(part, dict) for part in parts)
        and _is_figures(entry.get("exact", {}))
        and all(_is_figures(each) for part in _NESTED for each in entry.get(part, {}).values())
        and all(_is_runs(each) for each in entry.get("wall", {}).values())
    )


def _is_runs(lines: object) -> bool:
    if not isinstance(lines, list) or not lines or not all(isinstance(line, str) for line in lines):
        return False
    try:
        return all(Run.from_text(line) for line in lines)
    except ValueError:
        return False


def _is_figures(figures: object) -> bool:
    return isinstance(figures, dict) and all(
        # The bound also refuses NaN and infinities, which JSON does not have but Python's reader accepts.
        isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
        for value in figures.values()
    )


def write(path: Path, text: str | None) -> None:
    """Replace a file in one step, or remove it: a reader, or a crash, sees the old text or the new, never half."""
    from tinytroupe.runtime.files import write_atomically

    try:
        # A read-only file in a writable directory could be replaced all the same; read-only is meant as a lock.
        # The bits, not only os.access: for root everything is accessible.
        if path.exists() and not (os.access(path, os.W_OK) and path.stat().st_mode & 0o222):
            raise PermissionError(13, "Permission denied", str(path))
        if text is None:
            path.unlink(missing_ok=True)
        else:
            write_atomically(path.resolve(), text)  # a link goes on to lead where it does
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise BaselineError(f"baseline {path}: cannot be written ({reason}); mend its permissions") from error
