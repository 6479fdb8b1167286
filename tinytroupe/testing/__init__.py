"""Test doubles for model calls: a scripted model behind three doors, a recorder, and a guard against the network."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinytroupe.testing.call import Call
    from tinytroupe.testing.direct import DirectModel
    from tinytroupe.testing.faults import Fault
    from tinytroupe.testing.guard import NetworkBlockedError, network_guard
    from tinytroupe.testing.latency import Constant, LogNormal, PerToken, Recorded, Uniform, parse_latency
    from tinytroupe.testing.mock_llm import MockLLM
    from tinytroupe.testing.recorder import Recorder
    from tinytroupe.testing.recording import RecordingError
    from tinytroupe.testing.rules import Reply
    from tinytroupe.testing.server import run_server
    from tinytroupe.testing.traffic import Traffic

_HOMES = {
    "Call": "call",
    "Constant": "latency",
    "DirectModel": "direct",
    "Fault": "faults",
    "LogNormal": "latency",
    "MockLLM": "mock_llm",
    "NetworkBlockedError": "guard",
    "PerToken": "latency",
    "Recorded": "latency",
    "Recorder": "recorder",
    "RecordingError": "recording",
    "Reply": "rules",
    "Traffic": "traffic",
    "Uniform": "latency",
    "network_guard": "guard",
    "parse_latency": "latency",
    "run_server": "server",
}

__all__ = [
    "Call",
    "Constant",
    "DirectModel",
    "Fault",
    "LogNormal",
    "MockLLM",
    "NetworkBlockedError",
    "PerToken",
    "Recorded",
    "Recorder",
    "RecordingError",
    "Reply",
    "Traffic",
    "Uniform",
    "network_guard",
    "parse_latency",
    "run_server",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
