"""A focus group: six people talk about an idea for three rounds and end with a verdict each, which is counted.

``python -m tinytroupe.examples.focus_group [--online]``
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

TALKING_STEPS = 2
IDEA = (
    "Welcome. The idea: for a monthly fee, somebody comes and repairs any appliance in your household, whatever its "
    "age. Say what you think of it, and answer each other."
)
ASK_FOR_VERDICT = "Time is up. Say 'VERDICT: yes', 'VERDICT: no' or 'VERDICT: undecided', and why, in one sentence."
VERDICTS = ("yes", "no", "undecided")


def verdict(speech: str) -> str:
    """Return the verdict that was said last, "unclear" where there is none."""
    found: list[str] = re.findall(r"verdict\W+(yes|no|undecided)\b", speech, re.IGNORECASE)
    return found[-1].lower() if found else "unclear"


# What the six say offline: a first opinion, an answer to the others, a verdict.
SCRIPT = {
    "Lisa Hallworth": (
        "How old is 'any age'? The repairs follow the age of the machines, and so will the fee, sooner or later.",
        "Ingrid is right that few things break often. Then show me the numbers, and I may prefer to pay per repair.",
        "VERDICT: undecided, until I have seen what an average household would have paid last year.",
    ),
    "Oscar Teixeira": (
        "I like it. People throw a stove away because nobody answers the phone, not because it can't be repaired.",
        "Lisa, think of it as you think of a roof: you do not pay for the storm, you pay for the person who comes.",
        "VERDICT: yes, if the same person comes each time and learns my kitchen.",
    ),
    "Marcos Villalba": (
        "A good idea with an old danger: who is paid to visit finds something to do. I know it from medicine.",
        "Then pay for the machine that keeps running, and not for the visit. That would convince me, Oscar.",
        "VERDICT: yes, provided that they are also allowed to say that nothing is wrong.",
    ),
    "Lila Benhaddou": (
        "'Any appliance' is lovely and means nothing. Is a lamp an appliance? My coffee grinder has its doubts.",
        "I rent, like half of my street. My landlord should subscribe, and he would be the last to do it.",
        "VERDICT: no, because one more monthly fee is exactly what people on yearly contracts avoid.",
    ),
    "Tendai Mukwashi": (
        "A question first: what happens in the month in which I can't pay? Repairs are needed in just that month.",
        "Mr Teixeira speaks of trust. Trust is built by a fixed price on the door, known before anyone knocks.",
        "VERDICT: no, for I would rather train two young people in my street to do it.",
    ),
    "Ingrid Solheimsvik": (
        "I repair mine.",
        "Sell the spare parts and the drawings. Most of it is a belt or a seal.",
        "VERDICT: no, but for my sister below, yes.",
    ),
}


def improvise(call: Call) -> str:
    """Return what a person says offline."""
    return SCRIPT[call.person][call.number]


def play() -> None:
    """Run the group and print what is said, and what came of it."""
    from tinytroupe.environment import TinyWorld

    world = TinyWorld("Focus group", troupe(len(SCRIPT))).make_everyone_accessible()
    for person in world.agents:
        print(person.minibio())
    world.broadcast(IDEA, source="Moderator")
    print(f"\nModerator: {IDEA}")
    rounds = world.run(TALKING_STEPS, return_actions=True) or []
    world.broadcast(ASK_FOR_VERDICT, source="Moderator")
    rounds += world.run(1, return_actions=True) or []
    for number, actions in enumerate(rounds, start=1):
        print(f"\nRound {number}")
        for name, done in actions.items():
            print(f"  {name}: {said(done)}")

    verdicts = {person.name: verdict(said(rounds[-1].get(person.name))) for person in world.agents}
    counts = Counter(verdicts.values())
    print("\nResult")
    for which in (*VERDICTS, "unclear"):
        names = ", ".join(name for name, said_so in verdicts.items() if said_so == which)
        print(f"  {which:<9} {counts[which]}  {names}".rstrip())
    cost = world.get_parallel_metrics()
    print(
        f"\n{cost['model_calls']} model calls, {cost['tokens']:,} tokens, "
        f"{cost['elapsed_s']:.1f} s on the world's clock"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example; returns the exit code."""
    options = parser("Hold a focus group and count its verdicts.").parse_args(argv)
    return perform(play, options.online, improvise)


if __name__ == "__main__":
    sys.exit(main())
