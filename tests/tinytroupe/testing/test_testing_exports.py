"""What `tinytroupe.testing` offers, and what merely importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tinytroupe.testing

NAMES = [
    "Call", "Constant", "DirectModel", "Fault", "LogNormal", "MockLLM", "NetworkBlockedError", "PerToken", "Recorded",
    "Recorder", "RecordingError", "Reply", "Traffic", "Uniform", "network_guard", "parse_latency", "run_server",
]  # fmt: skip


def test_the_public_names():
    assert sorted(tinytroupe.testing.__all__) == dir(tinytroupe.testing) == NAMES
    for name in NAMES:
        assert callable(getattr(tinytroupe.testing, name))
    with pytest.raises(AttributeError, match="has no attribute 'MockLM'"):
        tinytroupe.testing.MockLM  # noqa: B018


def test_a_mock_model_needs_no_heavy_library_until_it_is_entered():
    code = (
        "import sys; from tinytroupe.testing import MockLLM, DirectModel, network_guard; MockLLM()\n"
        "heavy = {'openai', 'httpx', 'httpx2', 'respx', 'aiohttp', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
