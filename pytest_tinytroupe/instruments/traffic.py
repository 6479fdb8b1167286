"""Model calls of tests that have no `mock_llm`: to a server of their own, or to a real model."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pytest_tinytroupe.instruments import Reading
from pytest_tinytroupe.metrics import metric
from pytest_tinytroupe.probe import Probe

if TYPE_CHECKING:
    from tinytroupe.testing import Traffic as Counter

METRICS = ("llm_calls", "tokens", "prompt_tokens", "completion_tokens", "cached_tokens")
_LIBRARIES = ("httpx", "httpx2")


class Traffic:
    """Counts the requests that go through HTTP clients to OpenAI-compatible APIs, where no fixture does.

    Parameters
    ----------
    probe
        What fixtures have attached: where it has a model, that one counts.
    asked
        Whether the marker asks for any of `METRICS`. If not, the requests are watched only where a library for them has
        been imported before the call: watching would import it.
    """

    def __init__(self, probe: Probe, *, asked: bool) -> None:
        self._probe = probe
        self._asked = asked
        self._counter: Counter | None = None

    def start(self) -> None:
        """Watch what passes."""
        if self._probe.models.sources or not (self._asked or any(name in sys.modules for name in _LIBRARIES)):
            return
        from tinytroupe.testing import Traffic as Counter

        self._counter = Counter()
        self._counter.__enter__()

    def stop(self) -> None:
        """Watch no more."""
        if self._counter is not None:
            self._counter.__exit__(None, None, None)

    def read(self) -> Reading:
        """Return calls and tokens, of a test that has called at all; no tokens where a server did not tell them."""
        if self._counter is None or not self._counter.tally.calls or self._probe.models.sources:
            return Reading()
        tally, untold = self._counter.tally, self._counter.untold
        if untold:
            return Reading(
                [metric("llm_calls", tally.calls)],
                notes=[f"tokens: {untold} of {tally.calls} answers told none; for streams ask for include_usage"],
            )
        told = (tally.calls, tally.tokens, tally.prompt_tokens, tally.completion_tokens, tally.cached_tokens)
        return Reading([metric(name, value) for name, value in zip(METRICS, told, strict=True)])
