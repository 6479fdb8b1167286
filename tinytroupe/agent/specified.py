"""Who a person is: the persona, its file, and copies of the person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinytroupe.agent import persona as personas
from tinytroupe.agent.base import PersonBase

if TYPE_CHECKING:
    from typing_extensions import Self

    from tinytroupe.agent.tiny_person import TinyPerson

SPECIFICATION_SUFFIX = ".agent.json"


class Specified(PersonBase):
    """The verbs that concern the persona."""

    def define(self, key: str, value: Any, merge: bool = False, overwrite_scalars: bool = True) -> Self:
        """Set a part of the persona.

        Parameters
        ----------
        key
            Such as ``age`` or ``occupation``.
        value
            Anything that JSON can hold.
        merge
            Merge with what is there (objects by key, lists joined) instead of replacing it.
        overwrite_scalars
            While merging, whether a different scalar may be replaced.

        Raises
        ------
        ValueError
            A scalar would be overwritten without leave, or ``name`` changed.
        """
        if key == "name" and value != self.name:
            raise ValueError(f"{self.name} can't be renamed to {value!r}; make a new TinyPerson({value!r})")
        old = self._persona.get(key) if merge else None
        try:
            self._persona[key] = personas.merged(old, value, overwrite_scalars=overwrite_scalars)
        except ValueError as error:
            raise ValueError(f"{self.name}'s persona: {key}: {error}") from error
        self._identity = None
        return self

    def include_persona_definitions(self, additional: Mapping[str, Any]) -> Self:
        """Merge a whole set of definitions into the persona; its ``name``, if any, is passed over."""
        for key, value in additional.items():
            if key != "name":
                self.define(key, value, merge=True)
        return self

    def import_fragment(self, path: str | Path) -> Self:
        """Merge a fragment file (``{"type": "Fragment", "persona": {…}}``) into the persona."""
        return self.include_persona_definitions(personas.load(path, kind="Fragment"))

    def __add__(self, other: Mapping[str, Any] | str | Path | TinyPerson) -> Self:
        """Merge definitions, a fragment file or another person's persona into this one."""
        if isinstance(other, Specified):
            return self.include_persona_definitions(other.persona)
        if isinstance(other, Mapping):
            return self.include_persona_definitions(other)
        if isinstance(other, (str, Path)):
            return self.import_fragment(other)
        return NotImplemented

    def get(self, key: str) -> Any:
        """Return a part of the persona, None where it is not defined."""
        return self._persona.get(key)

    def __getitem__(self, key: str) -> Any:
        return self._persona[key]

    @property
    def persona(self) -> personas.Persona:
        """A copy of the persona's top level."""
        return dict(self._persona)

    def minibio(self) -> str:
        """Return one sentence about the person."""
        occupation = self.get("occupation")
        if isinstance(occupation, dict):
            occupation = occupation.get("title")
        age, place = self.get("age"), self.get("residence")
        parts = [f"{age} years old" if age else "", str(occupation or ""), f"living in {place}" if place else ""]
        return f"{self.name}: {', '.join(part for part in parts if part) or 'nothing further is known'}."

    # ------------------------------------------------------------------ relationships

    def define_relationships(
        self, relationships: Sequence[Mapping[str, str]] | Mapping[str, str], replace: bool = True
    ) -> Self:
        """Say how this person is related to others.

        Parameters
        ----------
        relationships
            ``{"Name": …, "Description": …}``, or a list of such.
        replace
            Forget those defined before.

        Raises
        ------
        ValueError
            One has no name or no description.
        """
        given = [relationships] if isinstance(relationships, Mapping) else list(relationships)
        for one in given:
            if not isinstance(one, Mapping) or not {"Name", "Description"} <= one.keys():
                raise ValueError(f"{self.name}: a relationship needs 'Name' and 'Description', got {one!r}")
        old = [] if replace else list(self.get("relationships") or [])
        self._persona["relationships"] = old + [dict(one) for one in given]
        self._identity = None
        return self

    def related_to(self, other: TinyPerson, description: str, symmetric_description: str | None = None) -> Self:
        """Relate this person to another, and the other to this one where `symmetric_description` is given."""
        self.define_relationships({"Name": other.name, "Description": description}, replace=False)
        if symmetric_description is not None:
            back = {"Name": self.name, "Description": symmetric_description}
            other.define_relationships(back, replace=False)
        return self

    def clear_relationships(self) -> Self:
        """Forget all relationships."""
        self._persona.pop("relationships", None)
        self._identity = None
        return self

    # ------------------------------------------------------------------ files and copies

    @classmethod
    def load_specification(
        cls, path_or_dict: str | Path | Mapping[str, Any], new_agent_name: str | None = None
    ) -> Self:
        """Make a person of a JSON file, or of its content: ``{"type": "TinyPerson", "persona": {"name": …}}``.

        Parameters
        ----------
        path_or_dict
            The file, or the content.
        new_agent_name
            A name other than the persona's.

        Raises
        ------
        ValueError
            Not such a file, or without a name.
        """
        given = isinstance(path_or_dict, Mapping)
        persona = personas.checked(path_or_dict) if given else personas.load(path_or_dict)  # type: ignore[arg-type]
        name = new_agent_name or persona.get("name")
        if not name:
            raise ValueError(f"{'the specification' if given else path_or_dict}: the persona has no 'name'")
        return cls(name).include_persona_definitions(persona)

    @classmethod
    def load_specifications_from_folder(cls, folder: str | Path, file_suffix: str = SPECIFICATION_SUFFIX) -> list[Self]:
        """Make people of all specification files in a folder, in the order of their names.

        Raises
        ------
        ValueError
            There is no such folder, or a file is not a specification.
        """
        if not Path(folder).is_dir():
            raise ValueError(f"{folder} is not a folder")
        return [cls.load_specification(path) for path in sorted(Path(folder).glob(f"*{file_suffix}"))]

    def save_specification(self, path: str | Path) -> None:
        """Write the persona to a JSON file, whole or not at all."""
        personas.save(self._persona, path)

    def create_new_agent_from_current_spec(self, new_name: str) -> Self:
        """Return another person with the same persona, no memories and another name."""
        return type(self)(new_name).include_persona_definitions(self._persona)
