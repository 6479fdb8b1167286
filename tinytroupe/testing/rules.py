"""What the mock model is told to answer: replies, the rules that choose them, and what to show when none fits."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinytroupe.testing.call import Call
from tinytroupe.testing.faults import Fault, as_fault

Content = str | Mapping[str, Any] | Sequence[Any] | Callable[[Call], Any] | None
"""What a reply may hold: text, a dict or list (sent as JSON), or a callable, plain or async, that returns one."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the model.

    Attributes
    ----------
    text
        Content of the assistant's message.
    tool_calls
        Calls of tools as ``(name, arguments)`` pairs.
    refusal
        The model's words when it refuses.
    finish_reason
        As the API reports it; empty = ``stop``, or ``tool_calls`` where there are any.
    latency_s
        Seconds this answer takes; None = drawn from the mock's latency.
    """

    text: str = ""
    tool_calls: tuple[tuple[str, Any], ...] = ()
    refusal: str | None = None
    finish_reason: str = ""
    latency_s: float | None = None


Scripted = Reply | Fault | Callable[[Call], Any]


def as_reply(content: Any, **details: Any) -> Reply | Fault:
    """Return what a script or a callable gave as a reply or a fault; anything but text is sent as JSON."""
    if isinstance(content, (Reply, Fault)):
        return content
    if content is None:
        return Reply("", **details)
    if not isinstance(content, str):
        try:
            content = json.dumps(content, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise TypeError(f"a reply must be text or something JSON can hold, not {content!r}: {error}") from error
    return Reply(content, **details)


def scripted(content: Any, **details: Any) -> Scripted:
    """Return `content` ready to be queued: callables are kept, all else becomes a `Reply` or `Fault` now."""
    if callable(content) and not isinstance(content, (Reply, Fault)):
        if details:
            raise TypeError("a callable reply takes no further arguments: let it return a Reply")
        kept: Callable[[Call], Any] = content
        return kept
    return as_reply(content, **details)


def actions_reply(actions: Sequence[Any], **state: Any) -> str:
    """Return a turn in tinytroupe's reply schema, ended with DONE if `actions` does not end so itself.

    Parameters
    ----------
    actions
        Dicts with ``type``, ``content``, ``target``, or tuples in that order; content and target may be missing.
    state
        Fields of the cognitive state: ``goals``, ``context`` (a list), ``attention``, ``emotions``.
    """
    done = []
    for action in actions:
        if isinstance(action, str):
            action = (action,)
        if not isinstance(action, Mapping):
            action = dict(zip(("type", "content", "target"), action, strict=False))
        unknown = set(action) - {"type", "content", "target"}
        if unknown or not action.get("type"):
            raise ValueError(f"an action has type, content and target, not {dict(action)!r}")
        done.append({"type": action["type"], "content": action.get("content", ""), "target": action.get("target", "")})
    if not done or done[-1]["type"] != "DONE":
        done.append({"type": "DONE", "content": "", "target": ""})
    unknown = set(state) - {"goals", "context", "attention", "emotions"}
    if unknown:
        raise TypeError(
            f"a cognitive state has goals, context, attention and emotions, not {', '.join(sorted(unknown))}"
        )
    mind = {"goals": "", "context": [], "attention": "", "emotions": ""} | state
    return json.dumps({"actions": done, "cognitive_state": mind}, ensure_ascii=False)


def spoilt(fault: Fault, whole: Reply) -> tuple[Reply, ...]:
    """Return what is left of the answer `whole` when `fault` befalls it."""
    if fault.kind == "malformed":
        text = whole.text if whole.text.startswith(("{", "[")) else '{"answer": "' + whole.text
        return (Reply(text[: max(1, len(text) * 2 // 3)]),)
    if fault.kind == "wrong_schema":
        return (Reply('{"unexpected": true}'),)
    if fault.kind == "empty":
        return (Reply(""),)
    if fault.kind == "empty_choices":
        return ()
    if fault.kind == "refusal":
        return (Reply(refusal=fault.message or "I'm sorry, but I can't help with that."),)
    if fault.kind == "content_filter":
        return (Reply("", finish_reason="content_filter"),)
    if fault.kind == "length":
        return (Reply(whole.text[: len(whole.text) // 2], finish_reason="length"),)
    return (whole,)


_FIELDS = ("person", "content", "model", "schema", "call", "endpoint", "predicate")


class Rule:
    """A condition and what to answer when it holds. Made by `MockLLM.when`; its methods return the rule itself.

    With several replies each matching call takes the next one, and the last one stays. Without any, it is generated.
    """

    def __init__(self, **conditions: Any) -> None:
        self._conditions = {name: conditions[name] for name in _FIELDS if conditions.get(name) is not None}
        self._script: list[Scripted] = []
        self._limit: int | None = None
        self.used = 0
        """How many calls it has answered."""

    def reply(self, content: Content = None, **details: Any) -> Rule:
        """Answer with text, a dict or list (sent as JSON), or what a callable returns for the `Call`.

        Further arguments are those of `Reply`: ``tool_calls``, ``refusal``, ``finish_reason``, ``latency_s``.
        """
        self._script.append(scripted(content, **details))
        return self

    def reply_talk(self, text: str, target: str = "") -> Rule:
        """Answer with a turn that says `text` to `target` (everyone, if empty) and is done."""
        return self.reply_actions([("TALK", text, target)])

    def reply_actions(self, actions: Sequence[Any], **state: Any) -> Rule:
        """Answer with a turn of these actions; see `actions_reply`."""
        return self.reply(actions_reply(actions, **state))

    def fail(self, kind: str | int | Fault | None = None, *, status: int | None = None, **details: Any) -> Rule:
        """Answer with a fault: a name, a status, or a `Fault`; `details` are `Fault`'s."""
        self._script.append(as_fault(kind, status=status, **details))
        return self

    def times(self, n: int) -> Rule:
        """Answer at most `n` calls; `MockLLM.assert_all_replies_used` expects exactly `n`."""
        if n < 1:
            raise ValueError(f"times() wants at least 1, not {n}")
        self._limit = n
        return self

    @property
    def spent(self) -> bool:
        """Whether its number of calls is used up."""
        return self._limit is not None and self.used >= self._limit

    @property
    def missing(self) -> int:
        """How many answers nobody has asked for yet."""
        return max((self._limit if self._limit is not None else max(1, len(self._script))) - self.used, 0)

    def names(self, endpoint: str) -> bool:
        """Whether the rule is about `endpoint` by name."""
        return self._conditions.get("endpoint") == endpoint

    def matches(self, call: Call) -> bool:
        """Return whether every condition holds for `call`."""
        return all(_holds(name, wanted, call) for name, wanted in self._conditions.items())

    def take(self) -> Scripted | None:
        """Count one use and return what to answer with, or None for a generated reply."""
        position = self.used
        self.used += 1
        return self._script[min(position, len(self._script) - 1)] if self._script else None

    def differences(self, call: Call) -> list[str]:
        """Return one line for each condition that does not hold."""
        lines = []
        for name, wanted in self._conditions.items():
            if not _holds(name, wanted, call):
                lines.append(f"  {name}: wanted {_shown(wanted)}, got {_got(name, wanted, call)}")
        if not lines and self.spent:
            lines.append(f"  all conditions hold, but its {self._limit} answer(s) are used up")
        return lines

    def closeness(self, call: Call) -> float:
        """Return how near the rule is to `call`: the share of its conditions that hold, texts also by likeness."""
        if not self._conditions:
            return 1.0
        score = 0.0
        for name, wanted in self._conditions.items():
            if _holds(name, wanted, call):
                score += 1
            elif isinstance(wanted, str):
                score += 0.5 * difflib.SequenceMatcher(None, wanted[:500], _actual(name, call)[:2000]).ratio()
        return score / len(self._conditions)

    def __repr__(self) -> str:
        conditions = ", ".join(f"{name}={_shown(wanted)}" for name, wanted in self._conditions.items())
        return f"when({conditions})" + (f".times({self._limit})" if self._limit is not None else "")


def _actual(name: str, call: Call) -> str:
    if name == "content":
        return call.text
    return str(call.schema_name if name == "schema" else call.number if name == "call" else getattr(call, name, ""))


def _holds(name: str, wanted: Any, call: Call) -> bool:
    if name == "predicate":
        return bool(wanted(call))
    if name == "call":
        return bool(call.number in wanted if isinstance(wanted, Container) else call.number == wanted)
    actual = _actual(name, call)
    if isinstance(wanted, re.Pattern):
        return wanted.search(actual) is not None
    if callable(wanted):
        return bool(wanted(actual))
    return wanted in actual if name == "content" else actual == wanted


def _shown(value: Any, limit: int = 200) -> str:
    if isinstance(value, re.Pattern):
        return f"/{value.pattern}/"
    text = getattr(value, "__qualname__", "") if callable(value) else repr(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def _got(name: str, wanted: Any, call: Call) -> str:
    if name == "predicate":
        return f"False for {call!r}"
    if name == "call":
        return str(call.number)
    actual = _actual(name, call)
    if name == "content" and isinstance(wanted, str):
        # The likeliest line says more than the first 200 characters of a long prompt.
        near = difflib.get_close_matches(wanted[:500], [line[:500] for line in actual.splitlines()[-200:]], 1, 0.3)
        if near:
            return f"no such text; the nearest line is {_shown(near[0])}"
        return f"no such text; the last message is {_shown(call.content)}"
    return _shown(actual)


def explain_unmatched(call: Call, rules: Sequence[Rule], queue_spent: int) -> str:
    """Return why nothing answers `call`: the nearest rule with its differences, and what became of the queue."""
    lines = [f"no reply is scripted for {call!r}"]
    if rules:
        nearest = max(rules, key=lambda rule: rule.closeness(call))
        lines += [f"nearest rule of {len(rules)}: {nearest!r}", *nearest.differences(call)]
    else:
        lines.append("there are no rules")
    if queue_spent:
        lines.append(f"all {queue_spent} queued replies are used up")
    return "\n".join(lines)
