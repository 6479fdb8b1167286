"""The reference says what the code says: tables are written from it, and every public name has its place."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from importlib.metadata import metadata
from typing import get_args

import offline_site
import pytest
import tables
import yaml
from pages import ROOT

import tinytroupe
from pytest_tinytroupe import baseline_file
from pytest_tinytroupe.marker import KEYWORDS, LIMITS
from pytest_tinytroupe.metrics import CATALOGUE
from pytest_tinytroupe.records import FAILING, Status

API = ROOT / "docs" / "reference" / "api"
REFERENCE = ROOT / "docs" / "reference"


@pytest.mark.parametrize("name", tables.TABLES)
def test_a_table_is_what_the_code_says(name):
    page, make = tables.TABLES[name]
    text = (REFERENCE / page).read_text("utf-8")
    assert tables.with_table(text, name, make()) == text, "run: python tests/docs/tables.py"


@pytest.mark.parametrize(("page", "names"), [("metrics.md", CATALOGUE), ("fixtures.md", None)])
def test_each_has_a_section_of_its_own(page, names):
    text = (REFERENCE / page).read_text("utf-8")
    names = names or re.findall(r"\(#(\w+)\)", text)
    assert len(names) >= 6
    assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == list(names)


def test_each_keyword_of_the_marker_is_explained():
    rows = re.findall(r"^\| (`.*?) \|", (REFERENCE / "marker.md").read_text("utf-8"), re.MULTILINE)
    explained = set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert explained == set(KEYWORDS) - set(LIMITS)


def test_every_public_name_is_in_the_reference():
    shown = "\n".join(path.read_text("utf-8") for path in API.glob("*.md"))
    directives = set(re.findall(r"^::: ([\w.]+)$", shown, re.MULTILINE))
    for target in directives:
        module, _, name = target.rpartition(".")
        try:
            importlib.import_module(target)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(module), name), target
    for package in pkgutil.iter_modules(tinytroupe.__path__, "tinytroupe."):
        names = getattr(importlib.import_module(package.name), "__all__", ()) if package.ispkg else ()
        assert not names or package.name in directives, f"no page shows {package.name}"
    for name in tinytroupe.__all__:
        assert f"`{name}`" in (API / "tinytroupe.md").read_text("utf-8"), name


def test_every_extra_is_on_the_first_page():
    listed = (ROOT / "docs" / "index.md").read_text("utf-8").partition("## Extras")[2]
    assert set(re.findall(r"^\| `(\w+)` \|", listed, re.MULTILINE)) == set(
        metadata("pytest-tinytroupe").get_all("Provides-Extra") or ()
    )


def test_every_status_of_a_verdict_is_explained():
    table = (ROOT / "docs" / "verdicts.md").read_text("utf-8").partition("## Statuses")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `([\w ]+)` \|.*\| (passes|fails) \|$", table, re.MULTILINE))
    assert set(rows) == set(get_args(Status))
    assert {name for name, outcome in rows.items() if outcome == "fails"} == FAILING


def test_the_page_on_baseline_files_names_the_keys_of_a_test(tmp_path):
    page = (REFERENCE / "baseline_files.md").read_text("utf-8")
    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "test_market.json"
    file.write_text(example, "utf-8")
    (entry,) = baseline_file.load(file)["tests"].values()
    assert set(entry) == set(baseline_file.PARTS)
    explained = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(explained))) == {"schema", "tests", *baseline_file.PARTS}


def test_the_notes_on_what_was_not_measured_are_those_of_the_code():
    page = (ROOT / "docs" / "how-to" / "failing_test.md").read_text("utf-8").partition("| note begins with |")[2]
    notes = re.findall(r"^\| `(.*?)` \|", page, re.MULTILINE)
    assert len(notes) >= 5
    for note in notes:
        assert any(kind.why.startswith(note) for kind in CATALOGUE.values()), note


def test_every_page_of_the_site_is_in_its_navigation_and_no_other():
    def leaves(node):
        return [node] if isinstance(node, str) else [leaf for each in node for leaf in leaves(inner(each))]

    def inner(each):
        return next(iter(each.values())) if isinstance(each, dict) else each

    listed = leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"])
    assert sorted(listed) == sorted(
        path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")
    )


# ---------------------------------------------------------------- no request to other hosts


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/a.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/css">',
        '<link rel="preconnect" crossorigin href="https://fonts.example">',
        "<img alt='' src='http://example.org/badge.svg'>",
        "<style>@import 'https://example.org/a.css';</style>",
        '<p style="background: url(https://example.org/a.png)">',
    ],
)
def test_a_page_that_asks_other_hosts_is_refused(html):
    assert len(offline_site.requests_of_page(html)) == 1


@pytest.mark.parametrize(
    "html",
    [
        '<a href="https://example.org">a link is no request</a>',
        '<link rel="canonical" href="https://example.org/">',
        '<script src="assets/a.js"></script><img src="data:image/png;base64,AA"><link rel="icon" href="i.png">',
        '<svg xmlns="http://www.w3.org/2000/svg"></svg>',
    ],
)
def test_what_stays_at_home_is_not(html):
    assert offline_site.requests_of_page(html) == []


# ---------------------------------------------------------------- the file of --perf-json


def test_the_page_on_perf_json_names_the_keys_of_a_run_and_no_others(pytester):
    pytester.makepyfile("import pytest\n@pytest.mark.perf\ndef test_it(world, mock_llm, troupe): pass\n")
    pytester.runpytest_inprocess("--perf", "--perf-json=run.json", "--no-perf-report")
    written = json.loads((pytester.path / "run.json").read_text("utf-8"))
    (record,) = written["records"]
    page = (ROOT / "docs" / "perf_json.md").read_text("utf-8") + "\n"
    first_columns = [
        " ".join(re.findall(r"^\| (`[^|]*)\|", table, re.MULTILINE))
        for table in re.findall(r"\| key \| type .*?\n\n", page, re.DOTALL)
    ]
    named = [set(re.findall(r"`(\w+)`", cells)) for cells in first_columns]
    assert named == [set(written), set(record), set(record["verdicts"][0])]
