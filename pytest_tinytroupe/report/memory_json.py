"""What a run found out about memory as JSON, described in ``docs/memory.md``: beside the pages of the report."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from pytest_tinytroupe.environment import environment_key
from pytest_tinytroupe.records import SessionReport, TestRecord, Timeline
from tinytroupe.visualization.axis import thin

NAME = "memory.json"
FORMAT = "pytest-tinytroupe memory"
SCHEMA = 1
POINT_LIMIT = 2000
"""The most points of a curve; extremes are among them."""


def memory_json(session: SessionReport) -> str:
    """Return the text of the file: metrics of memory, curves, heap sites, and the memories of people, by test."""
    document = {
        "format": FORMAT,
        "schema": SCHEMA,
        "environment_key": environment_key(),
        "started": session.started,
        "environment": [list(pair) for pair in session.environment],
        "tests": [_test(record) for record in session.records],
    }
    return json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _test(record: TestRecord) -> dict[str, Any]:
    about_memory = [v for v in record.verdicts if v.metric.unit == "MB" or v.metric.name == "memory_entries"]
    names = {verdict.metric.name for verdict in about_memory}
    return {
        "nodeid": record.nodeid,
        "outcome": record.outcome,
        "verdicts": [verdict.to_json() for verdict in about_memory],
        "notes": [note for note in record.notes if note.partition(":")[0] in names],
        "timelines": [_timeline(timeline) for timeline in record.timelines if timeline.unit == "MB"],
        "sites": [asdict(site) for site in record.sites],
        "agents": [agent.to_json() for agent in record.agents],
    }


def _timeline(timeline: Timeline) -> dict[str, Any]:
    return replace(timeline, points=tuple(thin(timeline.points, POINT_LIMIT))).to_json()
