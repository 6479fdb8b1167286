"""Axes, thinning and the drawing of charts."""

from __future__ import annotations

import math
import random
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytroupe.visualization import pages
from tinytroupe.visualization.charts import (
    MARK_LIMIT,
    POINT_LIMIT,
    TABLE_LIMIT,
    Chart,
    Mark,
    Series,
    chart_view,
    nice_ticks,
    spark_view,
    thin,
)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e9))
def test_ticks_are_few_even_and_cover_the_range(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= low + span * 1e-6
    assert ticks[-1] >= (low + span) - span * 1e-6
    steps = [b - a for a, b in pairwise(ticks)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-3, abs=1e-9)


def test_ticks_worth_a_look() -> None:
    assert nice_ticks(0, 97) == [0, 25, 50, 75, 100]
    assert nice_ticks(0, 410, 6) == [0, 100, 200, 300, 400, 500]
    assert nice_ticks(0, 0) == [0, 0.25, 0.5, 0.75, 1]
    assert nice_ticks(5, 5)[0] < 5 < nice_ticks(5, 5)[-1]
    for bad in ((1, 0), (math.nan, 1), (0, math.inf)):
        with pytest.raises(ValueError, match="finite ends"):
            nice_ticks(*bad)


def test_thinning_leaves_out_what_cannot_be_drawn() -> None:
    assert thin([(0, 1), (1, math.nan), (2, math.inf), (3, 2)], 10) == [(0, 1), (3, 2)]


def curve(count: int) -> list[tuple[float, float]]:
    rng = random.Random(1)
    points = [(k * 0.01, 100 + rng.random()) for k in range(count)]
    points[count // 2] = (count // 2 * 0.01, 250.0)
    return points


def test_a_long_curve_is_thinned_and_keeps_its_peak() -> None:
    view = chart_view(Chart("c", "Memory", "MB", [Series("rss", curve(100_000))]))
    (series,) = view["series"]
    assert series["line"].count("L") < POINT_LIMIT
    assert "250 MB at 8.333 min" in view["description"].replace("\u00a0", " ")
    (table,) = view["tables"]
    assert len(table["rows"]) <= TABLE_LIMIT
    assert any(value == "250" for _, value in table["rows"])
    assert table["total"] == 100_000


def test_without_points_a_chart_says_so() -> None:
    assert chart_view(Chart("c", "x", "MB", []))["empty"]
    assert chart_view(Chart("c", "x", "MB", [Series("a", [(0, math.nan)])]))["empty"]
    assert spark_view([]) is None
    assert spark_view([(0, 1)]) is None


def test_one_point_and_a_flat_line_can_be_drawn() -> None:
    assert chart_view(Chart("c", "x", "MB", [Series("a", [(3, 7)])]))["series"][0]["dot"][0] == "50"
    assert chart_view(Chart("c", "x", "MB", [Series("a", [(0, 0), (1, 0)])]))["y_ticks"]
    assert spark_view([(0, 5), (0, 5)]) is not None


@pytest.mark.parametrize(("limit", "drawn"), [(100, True), (160, True), (161, False), (None, False)])
def test_a_limit_far_above_is_told_and_not_drawn(limit: float | None, drawn: bool) -> None:
    view = chart_view(Chart("c", "x", "MB", [Series("a", [(0, 0), (1, 100)])], limit=limit))
    assert (view["limit"] is not None) is drawn
    assert ("outside the chart" in view["caption"]) is (limit is not None and not drawn)


@given(st.lists(st.tuples(st.floats(0, 100), st.text(max_size=30)), max_size=120))
def test_marks_are_bounded_and_their_labels_do_not_overlap(marks: list[tuple[float, str]]) -> None:
    chart = Chart("c", "x", "MB", [Series("a", [(0, 1), (100, 2)])], [Mark(t, label) for t, label in marks])
    views = chart_view(chart)["marks"]
    assert len(views) <= MARK_LIMIT
    spans = []
    for view in views:
        if view["label"]:
            x, width = float(view["x"]), 3 + 1.6 * len(view["label"])
            spans.append((x - width, x) if view["anchor"] == "end" else (x, x + width))
    assert all(right[0] >= left[1] - 0.2 for left, right in pairwise(sorted(spans)))


def drawing(chart: Chart) -> ElementTree.Element:
    module: Any = pages.environment().get_template("charts.html.j2").module
    return ElementTree.fromstring(module.chart(chart_view(chart)))


def test_the_drawing_is_well_formed_accessible_and_within_the_strict_policy() -> None:
    hostile = '<script>alert("x")</script>\u202e'
    chart = Chart(
        "c", hostile, "MB", [Series(hostile, curve(50)), Series("b", curve(20))], [Mark(0.1, hostile, "critical")], 200
    )
    figure = drawing(chart)
    svg = next(e for e in figure.iter("svg") if e.get("role") == "img")
    ids = {e.get("id") for e in svg.iter() if e.get("id")}
    assert set(svg.get("aria-labelledby", "").split()) == ids
    assert svg.findtext("title")
    assert svg.findtext("desc")
    assert figure.find(".//details//table") is not None
    for element in figure.iter():
        assert element.tag not in ("script", "style", "image", "foreignObject")
        assert "style" not in element.attrib
        assert not [name for name in element.attrib if name.startswith("on") or name.endswith("href")]
    assert len([e for e in figure.iter("path") if e.get("vector-effect")]) == 2
