"""What comes with an installation: a library of the same purpose brings 268 packages and 6.6 GB to send JSON."""

from __future__ import annotations

from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

MOST_PACKAGES = 50
MOST_MB = 80.0


def required(root: str) -> dict[str, Distribution]:
    """Return what `root` needs here, itself included, with the extras that are asked for and no others."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    todo = {(root, "")}
    while todo:
        name, extra = todo.pop()
        seen.add((name, extra))
        found[name] = distribution(name)
        for each in map(Requirement, found[name].requires or ()):
            if each.marker is None or each.marker.evaluate({"extra": extra}):
                todo |= {(canonicalize_name(each.name), extra) for extra in ("", *each.extras)}
        todo -= seen
    return found


def weight_mb(package: Distribution) -> float:
    """Return the size of a package's files, without bytecode, which is there only once it was imported."""
    files = [Path(str(package.locate_file(each))) for each in package.files or () if each.suffix != ".pyc"]
    return sum(path.stat().st_size for path in files if path.is_file()) / 2**20


def test_an_installation_is_small() -> None:
    packages = required("pytest-tinytroupe")
    assert {"openai", "aiohttp", "pydantic", "pytest"} <= packages.keys()
    assert not {"tiktoken", "tokenizers"} & packages.keys()  # servers tell what they counted
    assert len(packages) <= MOST_PACKAGES, sorted(packages)
    weights = {name: weight_mb(package) for name, package in packages.items()}
    assert weights["openai"] > 1
    assert sum(weights.values()) <= MOST_MB, weights
