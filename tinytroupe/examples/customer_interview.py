"""A customer interview: one person, five questions.

``python -m tinytroupe.examples.customer_interview [--online]``
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tinytroupe.examples import create_lisa_the_data_scientist
from tinytroupe.examples.stage import parser, perform, said

if TYPE_CHECKING:
    from tinytroupe.testing import Call

# Each question with what Lisa says to it offline.
INTERVIEW = (
    (
        "We think of a device that warns households of storm damage before it happens. What comes to your mind first?",
        "Whose forecast is it, and how often was it wrong? I would want the false alarms before the features.",
    ),
    (
        "Where in your own home could it be of use?",
        "The roof, and my father's cellar. He would not hear a phone, but he would hear a radio.",
    ),
    (
        "What would keep you from buying it?",
        "An account I cannot delete, or a subscription that is easier to start than to end.",
    ),
    (
        "What would you pay for it?",
        "Somewhere between 60 and 120 dollars, once. Monthly, I would have to see it save me a claim first.",
    ),
    (
        "And if your insurer offered it for free?",
        "Then I am paying with data, and I would ask who raises whose premium with it.",
    ),
)


def improvise(call: Call) -> str:
    """Return what Lisa says offline."""
    return INTERVIEW[call.number % len(INTERVIEW)][1]


def play() -> None:
    """Hold the interview and print it."""
    lisa = create_lisa_the_data_scientist()
    print(lisa.minibio(), end="\n\n")
    for question, _ in INTERVIEW:
        answer = said(lisa.listen_and_act(question, source="Interviewer", return_actions=True))
        print(f"Interviewer: {question}\n{lisa.name}: {answer}\n")
    print(f"{lisa.usage.calls} model calls, {lisa.usage.tokens:,} tokens")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example; returns the exit code."""
    options = parser("Interview one customer.").parse_args(argv)
    return perform(play, options.online, improvise)


if __name__ == "__main__":
    sys.exit(main())
