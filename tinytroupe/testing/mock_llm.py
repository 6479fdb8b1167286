"""The mock model: one scripted brain that any program can talk to, in process, over HTTP calls or over a socket."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tinytroupe.testing.accounting import Tally
from tinytroupe.testing.brain import Brain
from tinytroupe.testing.call import Call
from tinytroupe.testing.faults import Fault, as_fault
from tinytroupe.testing.replay import Replay
from tinytroupe.testing.rules import Content, Rule, Scripted, actions_reply, scripted

if TYPE_CHECKING:
    from tinytroupe.testing.interception import Router
    from tinytroupe.testing.server import MockServer


class MockLLM(Brain):
    """A language model that answers as it is told, counts everything, and never leaves the machine.

    As a context manager (``with`` or ``async with``) it answers every OpenAI-like HTTP request of the process and
    refuses all other traffic except to loopback. On leaving without an error it calls `verify`.

    Parameters
    ----------
    seed
        Decides generated replies, latencies and seeded faults, together with the person and the person's call number.
    latency
        Seconds an answer takes, or a distribution: `Constant`, `Uniform`, `LogNormal`, `PerToken`, `Recorded`,
        or a text that `parse_latency` reads, such as ``"lognormal:1.2,0.5"``.
    strict
        True: a request that nothing scripted fits is an error; False: it gets a generated reply;
        None: strict as soon as a rule or a queued reply exists.
    chunk_delay
        Seconds between two events of a stream.
    rpm, tpm
        Emulated limits on requests and tokens a minute, or None.
    prompt_cache
        Whether to emulate a provider's prompt cache (`cached_tokens`).
    pass_loopback
        Whether HTTP requests to this machine's own servers go through to them.
    max_exchanges, max_exchange_bytes
        Bounds of `exchanges`.
    models
        Names in the list of models.

    Attributes
    ----------
    by_person, by_endpoint
        A `Tally` for each.
    exchanges
        The last exchanges, oldest first.
    in_flight, in_flight_peak
        Requests being answered now, and the most there were at once.
    unmatched
        Why requests were refused in strict mode, and errors raised in callables (the first 100).
    refused
        HTTP requests to other hosts that were refused (the last 100).
    """

    # ---------------------------------------------------------------- what to answer

    def reply(self, content: Content = None, **details: Any) -> MockLLM:
        """Queue an answer for the next call that no rule takes: text, a dict or list (sent as JSON), or a callable.

        A callable, plain or async, gets the `Call` and returns one of the others, a `Reply` or a `Fault`.
        Further arguments are those of `Reply`: ``tool_calls``, ``refusal``, ``finish_reason``, ``latency_s``.
        """
        return self._enqueue(scripted(content, **details))

    def reply_talk(self, text: str, target: str = "") -> MockLLM:
        """Queue a turn that says `text` to `target` (everyone, if empty) and is done."""
        return self.reply_actions([("TALK", text, target)])

    def reply_actions(self, actions: Sequence[Any], **state: Any) -> MockLLM:
        """Queue a turn of `actions`: dicts or tuples of type, content and target; DONE is added at the end."""
        return self.reply(actions_reply(actions, **state))

    def fail(self, kind: str | int | Fault | None = None, *, status: int | None = None, **details: Any) -> MockLLM:
        """Queue a fault: a name such as ``"timeout"``, a status, or a `Fault`; `details` are `Fault`'s."""
        return self._enqueue(as_fault(kind, status=status, **details))

    def _enqueue(self, content: Scripted) -> MockLLM:
        with self._lock:
            self._queue.append(content)
            self._queued += 1
        return self

    def when(
        self,
        *,
        person: Any = None,
        content: Any = None,
        model: Any = None,
        schema: Any = None,
        call: Any = None,
        endpoint: str | None = None,
        predicate: Callable[[Call], Any] | None = None,
    ) -> Rule:
        """Add a rule, tried in the order of adding and before the queue; see `Rule` for what it can answer.

        Parameters
        ----------
        person, model, schema
            The person's name, the model's name, the name of the requested schema: text, compiled pattern or callable.
        content
            Text that occurs anywhere in the conversation, a compiled pattern, or a callable on the conversation's text.
        call
            The person's own call number, from 0: a number, a range or a set.
        endpoint
            ``chat``, ``responses``, ``embeddings`` or ``models``.
        predicate
            Any condition on the `Call`.
        """
        rule = Rule(
            person=person,
            content=content,
            model=model,
            schema=schema,
            call=call,
            endpoint=endpoint,
            predicate=predicate,
        )
        with self._lock:
            self._rules.append(rule)
        return rule

    def fault_rate(
        self, rate: float, kind: str | int | Fault | None = None, *, status: int | None = None, **details: Any
    ) -> MockLLM:
        """Let a share of all calls fail, chosen by seed, person and call number. Several rates add up."""
        if not 0 <= rate <= 1 or sum(each for each, _ in self._rates) + rate > 1 + 1e-9:
            raise ValueError(f"fault rates must be from 0 to 1, also added up; {rate!r} does not fit")
        self._rates.append((rate, as_fault(kind, status=status, **details)))
        return self

    def replay(self, path: str | os.PathLike[str], timing: bool = False, ignore: str | Sequence[str] = ()) -> MockLLM:
        """Answer from a recording that a `Recorder` made: each exchange once, equal requests in the order recorded.

        Rules come before it, queued replies after it. In strict mode (the default from here on) a request that was not
        recorded is an error that shows, as a diff, how it differs from the nearest one that was.

        Parameters
        ----------
        path
            The recording.
        timing
            Whether answers, and the events of streams, take as long as they took; else `latency` and `chunk_delay`.
        ignore
            Names of top-level fields of a request, such as ``"seed"``, that may differ from the recording.

        Raises
        ------
        RecordingError
            If the file is not a recording, naming the line.
        """
        self._replay = Replay(path, timing, ignore)
        return self

    # ---------------------------------------------------------------- what arrived

    def verify(self) -> None:
        """Fail if a strict mock refused a request or a callable reply raised, even if the program swallowed the error.

        Raises
        ------
        AssertionError
            With each request, the nearest rule, and what differs.
        """
        if self.unmatched:
            self._told = True
            shown = "\n\n".join(self.unmatched[:5])
            more = f"\n\n… and {len(self.unmatched) - 5} more" if len(self.unmatched) > 5 else ""
            raise AssertionError(f"{len(self.unmatched)} request(s) to the mock model went wrong:\n{shown}{more}")

    def assert_called(self, times: int | None = None, **conditions: Any) -> None:
        """Fail unless calls came that meet `conditions` (those of `when`): at least one, or exactly `times`."""
        count, complete = self._count(conditions)
        if count == times or (times is None and count):
            return
        wanted = "at least one call" if times is None else f"{times} call(s)"
        hint = "" if complete else f" (only the last {len(self.exchanges)} exchanges are kept: raise max_exchanges)"
        raise AssertionError(
            f"expected {wanted} with {conditions or 'anything'}, got {count}{hint}.\n{self._arrived()}"
        )

    def assert_not_called(self, **conditions: Any) -> None:
        """Fail if a call came that meets `conditions` (those of `when`)."""
        count, _ = self._count(conditions)
        if count:
            raise AssertionError(f"expected no call with {conditions or 'anything'}, got {count}.\n{self._arrived()}")

    def assert_all_replies_used(self) -> None:
        """Fail if queued replies are left, or a rule was used less often than it has replies or `times` says."""
        left = [f"queued, never asked for: {_brief(each)}" for each in list(self._queue)[:10]]
        left += [f"{rule!r}: {rule.missing} of its answers never asked for" for rule in self._rules if rule.missing]
        left += self._replay.missing[:10] if self._replay is not None else []
        if left:
            raise AssertionError("\n".join(["not every scripted reply was used:", *left, self._arrived()]))

    def _count(self, conditions: dict[str, Any]) -> tuple[int, bool]:
        with self._lock:
            if not conditions:
                return self.calls, True
            if len(conditions) == 1:
                (name, value), = conditions.items()  # fmt: skip
                table = {"person": self.by_person, "endpoint": self.by_endpoint}.get(name)
                if table is not None and isinstance(value, str):
                    return table.get(value, Tally()).calls, True
            rule = Rule(**_known(conditions))
            return sum(rule.matches(each.call) for each in self.exchanges), len(self.exchanges) == self.calls

    def _arrived(self) -> str:
        last = list(self.exchanges)[-5:]
        if not last:
            return "No call arrived."
        return "\n".join([f"{self.calls} call(s) arrived, the last of them:", *(f"  {each.call!r}" for each in last)])

    # ---------------------------------------------------------------- doors

    @cached_property
    def router(self) -> Router:
        """A respx router: add routes to it for other hosts. It is asked before the mock model itself."""
        from tinytroupe.testing.interception import Router

        return Router(self)

    @cached_property
    def _entered(self) -> list[ExitStack]:
        return []

    def serve(self, host: str = "127.0.0.1", port: int = 0) -> MockServer:
        """Answer on a real socket inside the ``with`` block, at the `base_url` of what it yields; port 0 = any free."""
        from tinytroupe.testing.server import MockServer

        return MockServer(self, host, port)

    def __enter__(self) -> MockLLM:
        from tinytroupe.testing.guard import network_guard
        from tinytroupe.testing.interception import dummy_api_key, intercepted

        with ExitStack() as stack:
            stack.enter_context(network_guard())
            stack.enter_context(dummy_api_key())
            stack.enter_context(intercepted(self.router))
            self._entered.append(stack.pop_all())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._entered.pop().close()
        if kind is None and not self._entered and not self._told:
            self.verify()

    async def __aenter__(self) -> MockLLM:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self.__exit__(kind, error, trace)

    def __repr__(self) -> str:
        return f"<MockLLM seed={self.seed} calls={self.calls} rules={len(self._rules)} queued={len(self._queue)}>"


def _known(conditions: dict[str, Any]) -> dict[str, Any]:
    unknown = set(conditions) - {"person", "content", "model", "schema", "call", "endpoint", "predicate"}
    if unknown:
        raise TypeError(f"unknown condition {', '.join(sorted(unknown))}: the conditions are those of when()")
    return conditions


def _brief(content: Any) -> str:
    text = repr(content)
    return text if len(text) <= 120 else text[:117] + "..."
