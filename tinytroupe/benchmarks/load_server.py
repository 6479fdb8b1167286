"""The process behind `tinytroupe.benchmarks.load.ModelServer`: ``python -m tinytroupe.benchmarks.load_server JSON``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tinytroupe.runtime.files import write_atomically
from tinytroupe.testing import MockLLM, parse_latency
from tinytroupe.testing.server import serve

MOST_LOGGED = 1_000_000
"""Requests that a log holds; beyond it, the oldest are left out."""


def main(details: dict[str, Any]) -> None:
    """Serve until SIGTERM, and then write the log."""
    logs = details["log"] is not None
    mock = MockLLM(
        details["seed"],
        parse_latency(details["latency"]),
        max_exchanges=MOST_LOGGED if logs else 0,
        max_exchange_bytes=2**40 if logs else 0,
    )
    for kind, share in details["faults"].items():
        more = {"retry_after_ms": details["retry_after_ms"]} if kind == "rate_limit" else {}
        mock.fault_rate(share, kind, **more)
    serve(mock)
    if logs:
        entries = ([one.call.person, one.call.number, one.call.fingerprint(), one.fault] for one in mock.exchanges)
        write_atomically(Path(details["log"]), "".join(json.dumps(entry) + "\n" for entry in entries))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
