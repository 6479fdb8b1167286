"""Who is behind a regression: compares what each person asked of the model with what the baseline remembers."""

from __future__ import annotations

from collections.abc import Mapping

PEOPLE = 20
"""The most people kept in a record or a baseline: the causes of a regression are few, and files stay readable."""

NAMED = 3
"""The most people named in a message."""

By = Mapping[str, Mapping[str, int]]
"""Metric name -> person -> amount."""


def kept(people: By, limit: int = PEOPLE) -> dict[str, dict[str, int]]:
    """Return the amounts as a baseline keeps them: nothing where there are many people, or nobody has a name."""
    return {
        metric: dict(sorted(amounts.items()))
        for metric, amounts in people.items()
        if 0 < len(amounts) <= limit and any(amounts)
    }


def cause_of(metric: str, now: By, before: By) -> str:
    """Say who asked for more than before, or else who asked for the most; nothing where nobody has a name.

    Parameters
    ----------
    metric
        ``llm_calls`` or a kind of tokens.
    now, before
        Amounts of this run and of the baseline, which may lack them.
    """
    amounts = {name: amount for name, amount in now.get(metric, {}).items() if name}
    if not amounts:
        return ""
    stored = before.get(metric)
    if stored is None:
        ranked = sorted(amounts.items(), key=lambda pair: (-pair[1], pair[0]))
        return "most by " + _listed([f"{name} {amount}" for name, amount in ranked])
    more = {name: amount - stored.get(name, 0) for name, amount in amounts.items()}
    ranked = sorted(((name, extra) for name, extra in more.items() if extra > 0), key=lambda p: (-p[1], p[0]))
    if not ranked:
        return ""
    return "more by " + _listed(
        [f"{name} {stored.get(name, 0)} → {amounts[name]} (+{extra})" for name, extra in ranked]
    )


def _listed(parts: list[str]) -> str:
    more = f" and {len(parts) - NAMED} more" if len(parts) > NAMED else ""
    return ", ".join(parts[:NAMED]) + more
