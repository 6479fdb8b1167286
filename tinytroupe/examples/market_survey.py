"""A market survey: fifty people answer one question at once, and the answers are counted by age.

``python -m tinytroupe.examples.market_survey [--people 50] [--online]``
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tinytroupe.examples import troupe
from tinytroupe.examples.stage import parser, perform, said

if TYPE_CHECKING:
    from tinytroupe.testing import Call

CHOICES = {
    "A": "buy one for the household",
    "B": "rent one for a monthly fee",
    "C": "share one with the neighbours",
}
QUESTION = (
    "A survey: your household needs a cargo bicycle now and then. Would you rather "
    + ", ".join(f"({letter}) {text}" for letter, text in CHOICES.items())
    + "? Answer 'CHOICE: ' and one letter, and give your reason in one sentence."
)
AGES = ((19, 34), (35, 54), (55, 84))
_BAR = 30


def choice(speech: str) -> str:
    """Return the letter that was chosen last, "?" where there is none."""
    found = re.findall(r"choice\W+([ABC])\b", speech, re.IGNORECASE)
    return found[-1].upper() if found else "?"


def improvise(call: Call) -> str:
    """Return what a person answers offline: drawn at random, the same for the same person in each run."""
    from tinytroupe.runtime.randomness import generator

    letter = generator("market survey", call.person).choice("ABC")
    return f"CHOICE: {letter}. To {CHOICES[letter]} suits how I live."


def play(people: int) -> None:
    """Ask everyone and print the counts."""
    from tinytroupe.environment import TinyWorld

    world = TinyWorld("Market survey", troupe(people))
    world.broadcast(QUESTION, source="Interviewer")
    print(QUESTION, end="\n\n")
    answers = (world.run(1, return_actions=True) or [{}])[0]
    counts: dict[tuple[int, int], Counter[str]] = {ages: Counter() for ages in AGES}
    for person in world.agents:
        ages = next(ages for ages in AGES if ages[0] <= person["age"] <= ages[1])
        counts[ages][choice(said(answers.get(person.name)))] += 1
    for letter in (*CHOICES, "?"):
        total = sum(count[letter] for count in counts.values())
        by_age = ", ".join(f"{low}-{high}: {count[letter]}" for (low, high), count in counts.items())
        label = CHOICES.get(letter, "no clear answer")
        print(f"{letter}  {label:<30} {total:>4}  {'#' * round(_BAR * total / people):<{_BAR}}  ({by_age})")
    cost = world.get_parallel_metrics()
    print(
        f"\n{cost['model_calls']} model calls, {cost['tokens']:,} tokens, "
        f"{cost['elapsed_s']:.1f} s on the world's clock instead of {cost['busy_s']:.1f} s one after the other"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example; returns the exit code."""
    arguments = parser("Ask many people one question and count the answers.")
    arguments.add_argument("--people", type=int, default=50, help="how many to ask (default: 50)")
    options = arguments.parse_args(argv)
    if options.people < 1:
        arguments.error(f"--people must be at least 1, got {options.people}")
    return perform(lambda: play(options.people), options.online, improvise)


if __name__ == "__main__":
    sys.exit(main())
