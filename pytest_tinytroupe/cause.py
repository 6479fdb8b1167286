"""Who is behind a regression, and when: compares what each person, and each step, asked with what the baseline says."""

from __future__ import annotations

from collections.abc import Mapping

PEOPLE = 20
"""The most people kept in a record or a baseline: the causes of a regression are few, and files stay readable."""

STEPS = 50
"""The most steps kept in a baseline: of a longer run nobody reads them, and they would fill the file."""

NAMED = 3
"""The most people and the most steps named in a message."""

By = Mapping[str, Mapping[str, int]]
"""Metric name -> person, or number of the step -> amount."""


def kept(people: By, limit: int = PEOPLE) -> dict[str, dict[str, int]]:
    """Return the amounts as a baseline keeps them: nothing where there are too many, or nobody has a name."""
    return {
        metric: dict(sorted(amounts.items()))
        for metric, amounts in people.items()
        if 0 < len(amounts) <= limit and any(amounts)
    }


def cause_of(metric: str, now: By, before: By, steps: By | None = None, steps_before: By | None = None) -> str:
    """Say who asked for more than before, and in which step, or else who asked for the most.

    Parameters
    ----------
    metric
        ``llm_calls`` or a kind of tokens.
    now, before
        Amounts by person of this run and of the baseline, which may lack them.
    steps, steps_before
        The same by step.

    Returns
    -------
    str
        Nothing where nobody has a name and no step is known.
    """
    amounts = {name: amount for name, amount in now.get(metric, {}).items() if name}
    stored = before.get(metric)
    if amounts and stored is None:
        ranked = sorted(amounts.items(), key=lambda pair: (-pair[1], pair[0]))
        return "most by " + _listed([f"{name} {amount}" for name, amount in ranked])
    more = _increases(amounts, stored or {})
    parts = ["more by " + _listed(more)] if more else []
    known = (steps_before or {}).get(metric)
    more = _increases((steps or {}).get(metric, {}), known, ":") if known else []
    if more:
        parts.append(("" if parts else "more ") + ("in step " if len(more) == 1 else "in steps ") + _listed(more))
    return ", ".join(parts)


def _increases(now: Mapping[str, int], before: Mapping[str, int], mark: str = "") -> list[str]:
    """Return what has grown, the most first; `mark` parts a name that is a number from the amounts."""
    more = {name: amount - before.get(name, 0) for name, amount in now.items() if amount > before.get(name, 0)}
    ranked = sorted(more, key=lambda name: (-more[name], len(name), name))
    return [f"{name}{mark} {before.get(name, 0)} → {now[name]} (+{more[name]})" for name in ranked]


def _listed(parts: list[str]) -> str:
    more = f" and {len(parts) - NAMED} more" if len(parts) > NAMED else ""
    return ", ".join(parts[:NAMED]) + more
