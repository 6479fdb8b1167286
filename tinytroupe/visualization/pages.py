"""The pages: one set of templates and one stylesheet for every report."""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from tinytroupe.visualization.text import display_text, format_change, format_number, format_quantity

if TYPE_CHECKING:
    from jinja2 import Environment

STYLESHEET = "report.css"


@functools.cache
def environment(*packages: str) -> Environment:
    """Build the environment of the shared templates and of those in the `templates` folder of other packages."""
    from jinja2 import ChoiceLoader, Environment, FunctionLoader, StrictUndefined

    def loader_for(package: str) -> FunctionLoader:
        def load(name: str) -> str | None:
            template = files(package) / "templates" / name
            return template.read_text(encoding="utf-8") if template.is_file() else None

        return FunctionLoader(load)

    built = Environment(
        loader=ChoiceLoader([loader_for(package) for package in (*packages, "tinytroupe.visualization")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    built.filters.update(shown=display_text, number=format_number, quantity=format_quantity, change=format_change)
    return built


def render(template: str, *packages: str, **values: Any) -> str:
    """Render a page."""
    return environment(*packages).get_template(template).render(**values)


def stylesheet() -> str:
    """Give the stylesheet that lies beside each report."""
    return (files("tinytroupe.visualization") / "templates" / STYLESHEET).read_text(encoding="utf-8")
