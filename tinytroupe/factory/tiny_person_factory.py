"""People made up by a model: one call each, all at once, no two of one name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from tinytroupe.agent.tiny_person import TinyPerson
from tinytroupe.config import config_manager
from tinytroupe.factory.particulars import particulars
from tinytroupe.llm import ChatModel, ChatReply, ChatRequest, Origin, ReplySchema, Usage, model_in_use
from tinytroupe.llm.asking import ReplyError, ask, instructed, read_object
from tinytroupe.runtime.clock import current_clock

_NAMES_TOLD = 100

INSTRUCTIONS = """\
Invent one person for a simulation, so concretely that somebody else could live as this person.

- Real people are particular: mixed motives, blind spots, dull habits, opinions that do not fit together. Do not make
  the person agreeable, successful or typical unless they are meant to be.
- Everything must fit together: age, history, place, work, money, language and the times they live in.
- Be specific: places, firms, titles, years and sums, not kinds of them. Each list has three to six entries, each entry
  a short sentence of its own; beliefs and dislikes are as strong as those of real people.
- The name is a first and a family name that fit origin and generation, and is not that of a known person.
- What is said of the person comes first, then the context, then the starting points; where they contradict one another,
  the earlier wins.

Reply with one JSON object in the form that is asked for, and nothing else."""


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}

PERSON_SCHEMA = ReplySchema(
    "person",
    _object(
        name=_TEXT,
        age={"type": "integer"},
        gender=_TEXT,
        nationality=_TEXT,
        residence=_TEXT,
        education=_TEXT,
        occupation=_object(title=_TEXT, organization=_TEXT, description=_TEXT),
        style=_TEXT,
        personality=_object(
            traits=_TEXTS,
            big_five=_object(
                openness=_TEXT, conscientiousness=_TEXT, extraversion=_TEXT, agreeableness=_TEXT, neuroticism=_TEXT
            ),
        ),
        preferences=_object(interests=_TEXTS, likes=_TEXTS, dislikes=_TEXTS),
        skills=_TEXTS,
        beliefs=_TEXTS,
        behaviors=_object(general=_TEXTS),
        health=_TEXT,
        relationships={"type": "array", "items": _object(name=_TEXT, description=_TEXT)},
        other_facts=_TEXTS,
    ),
)


class FactoryError(RuntimeError):
    """People could not be created."""


class TinyPersonFactory:
    """Creates people that fit a context, each different from the others.

    Parameters
    ----------
    context
        Where and for what the people are wanted, such as "Customers of a bank in São Paulo".
    total_population_size
        How many `generate_people` makes unless told otherwise.
    sampling_space_description
        Whom the people are drawn from; told to the model beside the context.
    taken_names
        Names that nobody may get, such as those of the people who are there already.
    seed
        Decides the starting points that are given to the model, so that people differ; default: setting ``SEED``.
    model
        Who is asked; default: the model in use.

    Attributes
    ----------
    usage
        What the people cost.

    Notes
    -----
    One model call a person; a name that is taken costs another. All methods raise `ModelError` where the model does not
    answer, `ReplyError` where it keeps answering in a way that can't be used, and `FactoryError` where it keeps giving
    names that are taken. Of a failed call nobody is kept.
    """

    def __init__(
        self,
        context: str | None = None,
        total_population_size: int | None = None,
        *,
        sampling_space_description: str | None = None,
        taken_names: Iterable[str] = (),
        seed: int | None = None,
        model: ChatModel | None = None,
    ) -> None:
        self.context = context or ""
        self.sampling_space_description = sampling_space_description or ""
        self.total_population_size = None if total_population_size is None else _count(total_population_size)
        self.seed = seed
        self.model = model
        self.usage = Usage()
        # One short text a person made, for as long as the factory is used: what makes names distinct.
        self._taken = {_same(name): name for name in taken_names}
        self._made = 0
        self._calls = 0

    def generate_person(
        self,
        agent_particularities: str | None = None,
        *,
        attempts: int = 5,
        post_processing_func: Callable[[TinyPerson], Any] | None = None,
        **parameters: Any,
    ) -> TinyPerson:
        """Return a new person.

        Parameters
        ----------
        agent_particularities
            What must hold for the person; wins over everything else.
        attempts
            Rounds of asking for a name that nobody has, at least 1.
        post_processing_func
            Called with each person before they are returned.
        **parameters
            Sampling parameters of the model call, such as ``temperature``.
        """
        return self.generate_people(
            1, agent_particularities, attempts=attempts, post_processing_func=post_processing_func, **parameters
        )[0]

    async def generate_person_async(
        self,
        agent_particularities: str | None = None,
        *,
        attempts: int = 5,
        post_processing_func: Callable[[TinyPerson], Any] | None = None,
        **parameters: Any,
    ) -> TinyPerson:
        """See `generate_person`."""
        people = await self.generate_people_async(
            1, agent_particularities, attempts=attempts, post_processing_func=post_processing_func, **parameters
        )
        return people[0]

    def generate_people(
        self,
        number_of_people: int | None = None,
        agent_particularities: str | None = None,
        *,
        attempts: int = 5,
        post_processing_func: Callable[[TinyPerson], Any] | None = None,
        **parameters: Any,
    ) -> list[TinyPerson]:
        """Return new people, asked for all at once; see `generate_person`."""
        return current_clock().portal.call(
            self.generate_people_async,
            number_of_people,
            agent_particularities,
            attempts=attempts,
            post_processing_func=post_processing_func,
            **parameters,
        )

    async def generate_people_async(
        self,
        number_of_people: int | None = None,
        agent_particularities: str | None = None,
        *,
        attempts: int = 5,
        post_processing_func: Callable[[TinyPerson], Any] | None = None,
        **parameters: Any,
    ) -> list[TinyPerson]:
        """See `generate_people`."""
        wanted = self.total_population_size if number_of_people is None else _count(number_of_people)
        if wanted is None:
            raise ValueError("say how many people: generate_people(10), or total_population_size of the factory")
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, got {attempts!r}")
        parameters = {name: value for name, value in parameters.items() if value is not None}
        first, self._made = self._made, self._made + wanted
        made = await self._distinct(range(first, first + wanted), agent_particularities or "", attempts, parameters)
        self._taken.update((_same(persona["name"]), persona["name"]) for persona in made)
        people = [TinyPerson(persona["name"]).include_persona_definitions(persona) for persona in made]
        if post_processing_func is not None:
            for person in people:
                post_processing_func(person)
        return people

    async def _distinct(
        self, indices: Sequence[int], particularities: str, attempts: int, parameters: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Ask for all at once; who comes with a taken name is asked for again, with the others who do."""
        found: dict[int, dict[str, Any]] = {}
        taken = dict(self._taken)
        missing = list(indices)
        for _ in range(attempts):
            names = list(taken.values())[-_NAMES_TOLD:]
            answers = await asyncio.gather(
                *(self._persona(index, particularities, names, parameters) for index in missing),
                return_exceptions=True,
            )
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
            # In order of their numbers: who keeps a name does not depend on who was faster.
            for index, answer in zip(missing, answers, strict=True):
                assert not isinstance(answer, BaseException)
                if _same(answer["name"]) not in taken:
                    taken[_same(answer["name"])] = answer["name"]
                    found[index] = answer
                else:
                    refused = answer["name"]
            missing = [index for index in missing if index not in found]
            if not missing:
                return [found[index] for index in indices]
        raise FactoryError(
            f"{len(missing)} of {len(indices)} people came with names that are taken, in {attempts} rounds (the last: "
            f"{refused!r}); allow more attempts, or say more of the people in context or agent_particularities"
        )

    async def _persona(
        self, index: int, particularities: str, names: Sequence[str], parameters: Mapping[str, Any]
    ) -> dict[str, Any]:
        seed = config_manager.get("seed") if self.seed is None else self.seed
        start = particulars(seed, f"{self.context}\n{self.sampling_space_description}", index)
        question = "\n\n".join(
            f"# {title}\n{text}"
            for title, text in (
                ("Context", self.context),
                ("Drawn from", self.sampling_space_description),
                ("What is said of the person", particularities),
                ("Names that are taken", ", ".join(names)),
                ("Starting points", "\n".join(f"- {name}: {level}" for name, level in start.items())),
            )
            if text
        )
        # The number of the call is given before anything is awaited, so it does not depend on who is faster.
        origin = Origin("", "", self._calls)
        self._calls += 1
        request = partial(ChatRequest, schema=PERSON_SCHEMA, parameters=parameters, origin=origin)
        messages = instructed(INSTRUCTIONS, question)
        try:
            return await ask(model_in_use(self.model), request, messages, _read, self._answered)
        except ReplyError as error:
            error.args = (f"person {index} could not be made: {error}",)
            raise

    def _answered(self, reply: ChatReply) -> None:
        self.usage += reply.usage


def _read(text: str) -> dict[str, Any]:
    data = read_object(text)
    name = data.get("name")
    if not isinstance(name, str):
        raise ValueError("'name' must be a text")
    name = " ".join(name.split())
    TinyPerson(name)  # says what is wrong with a name
    age = data.get("age")
    if age is not None and (isinstance(age, bool) or not isinstance(age, int) or not 0 <= age <= 130):
        raise ValueError(f"'age' must be a whole number of years, got {str(age)[:80]!r}")
    # What is not asked for is left out: a persona goes into every prompt.
    return {"name": name, **{key: data[key] for key in PERSON_SCHEMA.schema["required"][1:] if key in data}}


def _same(name: str) -> str:
    return " ".join(name.casefold().split())


def _count(number: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"the number of people must be a whole number of at least 1, got {number!r}")
    return number
