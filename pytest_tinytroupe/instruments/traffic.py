"""Model calls of tests that have no `mock_llm`: to a server of their own, or to a real model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tinytroupe.instruments import Reading
from pytest_tinytroupe.metrics import metric
from pytest_tinytroupe.probe import Probe

if TYPE_CHECKING:
    from tinytroupe.testing import Traffic as Counter

METRICS = ("llm_calls", "tokens", "prompt_tokens", "completion_tokens", "cached_tokens")


class Traffic:
    """Counts the requests that go through HTTP clients to OpenAI-compatible APIs, where no fixture does.

    Parameters
    ----------
    probe
        What fixtures have attached: where it has a model, that one counts.
    none
        Whether the marker limits any of `METRICS` to 0, which a test meets by asking nobody. Without calls there are no
        figures otherwise: whoever allows for some and makes none that can be seen asks, more likely, elsewhere.
    """

    def __init__(self, probe: Probe, *, none: bool) -> None:
        self._probe = probe
        self._none = none
        self._counter: Counter | None = None

    def start(self) -> None:
        """Watch what passes, whether or not the clients' libraries are there yet: tests may import them."""
        if self._probe.models.sources:
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
        if self._counter is None or self._probe.models.sources:
            return Reading()
        tally, untold = self._counter.tally, self._counter.untold
        if not tally.calls and not (self._none and not self._probe.worlds.counts().get("model_calls")):
            return Reading()
        if untold:
            return Reading(
                [metric("llm_calls", tally.calls)],
                notes=[f"tokens: {untold} of {tally.calls} calls told none; for streams ask for include_usage"],
            )
        told = (tally.calls, tally.tokens, tally.prompt_tokens, tally.completion_tokens, tally.cached_tokens)
        return Reading([metric(name, value) for name, value in zip(METRICS, told, strict=True)])
