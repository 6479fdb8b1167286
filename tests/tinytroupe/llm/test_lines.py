"""Whose turn it is: first come, first served within a line, and one of each line in turn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytroupe.llm.lines import Lines


def served(lines):
    order = []
    while lines:
        order.append(lines.first()[0])
        lines.serve()
    return order


def test_one_line_is_first_come_first_served():
    lines = Lines()
    for who in "abc":
        lines.join("", who, None)
    assert served(lines) == ["a", "b", "c"]


def test_lines_are_served_in_turn():
    lines = Lines()
    for who in ("a1", "a2", "a3", "b1", "c1", "c2"):
        lines.join(who[0], who, None)
    assert served(lines) == ["a1", "b1", "c1", "a2", "c2", "a3"]


def test_who_leaves_is_passed_over_and_a_line_that_was_empty_begins_at_the_end():
    lines = Lines()
    for who in ("a1", "a2", "b1"):
        lines.join(who[0], who, who.upper())
    lines.leave("a1")
    lines.leave("a1")
    assert lines.first() == ("a2", "A2")
    lines.serve()
    lines.join("a", "a3", None)
    assert served(lines) == ["b1", "a3"]


def test_nobody_waits():
    lines = Lines()
    lines.join("", 1, None)
    lines.clear()
    assert len(lines) == 0
    for ask in (lines.first, lines.serve):
        with pytest.raises(LookupError, match="nobody waits"):
            ask()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans())))
def test_nobody_is_lost_or_passed_by_more_than_once_by_another_line(steps):
    lines, waiting, passed = Lines(), [], {}
    for number, (line, joins) in enumerate(steps):
        if joins:
            lines.join(line, (line, number), None)
            waiting.append((line, number))
        elif waiting:
            who = lines.first()[0]
            lines.serve()
            waiting.remove(who)
            assert not [each for each in waiting if each[0] == who[0] and each[1] < who[1]]
            firsts = {min(each for each in waiting if each[0] == line) for line in {line for line, _ in waiting}}
            passed = {first: [*passed.get(first, []), who[0]] for first in firsts if first[0] != who[0]}
            assert all(len(by) == len(set(by)) for by in passed.values())
        assert len(lines) == len(waiting)
    rest = served(lines)
    assert sorted(rest) == sorted(waiting)
