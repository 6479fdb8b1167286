"""What the calls would cost in money, by the price list of the extra ``prices``. Only where the marker limits it."""

from __future__ import annotations

from typing import Any

from pytest_tinytroupe.instruments import Reading
from pytest_tinytroupe.metrics import metric
from pytest_tinytroupe.probe import Probe


class Cost:
    """Prices the tokens that went through the watched models."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    def start(self) -> None:
        """Nothing: the models count."""

    def stop(self) -> None:
        """Nothing to release."""

    def read(self) -> Reading:
        """Return the cost, or a remark on why there is none."""
        if not self._probe.models.sources:
            return Reading()
        from tinytroupe.llm.prices import PriceError, cost_usd
        from tinytroupe.llm.usage import Usage

        counts = {name: int(value) for name, value in self._probe.models.counts().items()}
        kept: list[Any] = [each for model in self._probe.models.sources for each in getattr(model, "exchanges", ())]
        names = sorted({each.call.model for each in kept})
        problem = ""
        if len(kept) < counts["calls"]:
            problem = (
                f"only the last {len(kept)} of {counts['calls']} calls are remembered, so that the others' models are "
                f"not known: set mock_llm.exchanges.max_count = {counts['calls']} (and max_bytes)"
            )
        elif len(names) > 1:
            problem = f"several models were asked ({', '.join(names)}), whose tokens are not counted apart"
        if problem or not names:
            return Reading(notes=[f"cost_usd: {problem}"] if problem else [])
        usage = Usage(
            calls=counts["calls"],
            prompt_tokens=counts["prompt_tokens"],
            completion_tokens=counts["completion_tokens"],
            cached_tokens=counts["cached_tokens"],
        )
        try:
            cost = float(cost_usd(usage, names[0]))
        except PriceError as error:
            return Reading(notes=[f"cost_usd: {error}"])
        return Reading([metric("cost_usd", round(cost, 9))])
