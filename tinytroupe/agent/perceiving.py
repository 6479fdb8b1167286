"""What reaches a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tinytroupe.agent.base import PersonBase
from tinytroupe.agent.memory.event import Perceived, Stimulus, as_stimulus

if TYPE_CHECKING:
    from typing_extensions import Self

    from tinytroupe.agent.tiny_person import TinyPerson


def stimulus(kind: str, content: str, source: TinyPerson | str | None = None) -> Stimulus:
    """Return something to perceive: made once, shared by all who perceive it, and never changed.

    Raises
    ------
    TypeError
        The content is not a text.
    """
    if not isinstance(content, str):
        raise TypeError(f"what a person perceives must be a text, got {type(content).__name__}")
    name = source.name if isinstance(source, PersonBase) else source or ""
    return Stimulus(kind, content, name)


class Perceiving(PersonBase):
    """The verbs of perception. They ask no model, and return the person."""

    def listen(self, speech: str, source: TinyPerson | str | None = None) -> Self:
        """Hear something said."""
        return self.perceive(stimulus("CONVERSATION", speech, source))

    def see(self, visual_description: str, source: TinyPerson | str | None = None) -> Self:
        """See something."""
        return self.perceive(stimulus("VISUAL", visual_description, source))

    def think(self, thought: str) -> Self:
        """Have something come to mind."""
        return self.perceive(stimulus("THOUGHT", thought, self.name))

    def socialize(self, social_description: str, source: TinyPerson | str | None = None) -> Self:
        """Take part in something social that is not speech, such as being approached."""
        return self.perceive(stimulus("SOCIAL", social_description, source))

    def internalize_goal(self, goal: str) -> Self:
        """Take on a goal."""
        return self.perceive(stimulus("INTERNAL_GOAL_FORMULATION", goal, self.name))

    def move_to(self, location: str, context: Sequence[str] = ()) -> Self:
        """Be somewhere else, in another situation."""
        self._place = location
        return self.change_context(context)

    def change_context(self, context: Sequence[str]) -> Self:
        """Have a different situation around oneself."""
        self._context = (context,) if isinstance(context, str) else tuple(context)
        return self

    def perceive(self, *stimuli: Stimulus | Mapping[str, str]) -> Self:
        """Take in stimuli that were made with `stimulus`, or mappings that read so, as one memory."""
        return self.perceive_all(Perceived(map(as_stimulus, stimuli)))

    def perceive_all(self, content: Perceived | dict[str, Any]) -> Self:
        """Take in stimuli that others may share: all who hear a crowd remember one object.

        The dictionary ``{"stimuli": [{"type", "content", "source"}, …]}`` is understood, too.
        """
        self._remember("stimulus", "user", content)
        return self
