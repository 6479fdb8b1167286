"""All figures and verdicts of a run as JSON, described in ``docs/perf_json.md``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pytest_tinytroupe.environment import environment_key
from pytest_tinytroupe.records import SessionReport
from tinytroupe.runtime.files import write_atomically

FORMAT = "pytest-tinytroupe perf"
SCHEMA = 1


class ResultError(Exception):
    """A file is no result of ``--perf-json``. The message names it and what to do."""


def write_json(path: Path, session: SessionReport) -> Path:
    """Write a run to a file, replacing it in one step.

    Raises
    ------
    OSError
        It cannot be written.
    """
    document = {"format": FORMAT, "schema": SCHEMA, "environment_key": environment_key(), **session.to_json()}
    for record in document["records"]:  # what people remembered is in the report's memory.json, when they acted drawn
        del record["agents"], record["turns"], record["calls_s"]
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return write_atomically(path, text + "\n")


def read_json(path: Path) -> tuple[SessionReport, str]:
    """Read a run, and the key of the Python and platform it was measured on.

    Raises
    ------
    ResultError
        It cannot be read, is something else, or was written by a newer version.
    """
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise ResultError(f"{path}: not valid JSON ({error}); write it with: pytest --perf --perf-json FILE") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ResultError(f"{path}: not a result of pytest --perf --perf-json FILE")
    schema = document.get("schema")
    if schema != SCHEMA:
        raise ResultError(
            f"{path}: schema {schema!r} is not {SCHEMA}; use the version of pytest-tinytroupe that wrote it"
        )
    try:
        return SessionReport.from_json(document), str(document["environment_key"])
    except (KeyError, TypeError, ValueError) as error:
        raise ResultError(f"{path}: {type(error).__name__}: {error}; write it anew") from error
