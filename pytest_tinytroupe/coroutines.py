"""Perf tests that are coroutine functions: run to completion, on virtual time where the test has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import iscoroutine, iscoroutinefunction
from typing import Any

import pytest


@contextmanager
def runnable(item: pytest.Function) -> Iterator[None]:
    """Replace an ``async def`` test by a function that runs it to its end, while it is called.

    Where the test runs on virtual time (`mock_llm`), its clock's loop runs it, whichever plugin would have: on that
    plugin's loop simulated latency would be real. Else pytest-asyncio or anyio run what is theirs, and a loop of our
    own the rest.
    """
    run = _runner(item)
    if run is None:
        yield
        return
    original = item.obj
    item.obj = run
    try:
        yield
    finally:
        item.obj = original


def _runner(item: pytest.Function) -> Callable[..., Any] | None:
    theirs = type(item).__module__.startswith("pytest_asyncio")  # where it has wrapped the function
    coroutine = _coroutine_function(item.obj, theirs)
    if coroutine is None or _runs_on_trio(item):
        return None
    if "mock_llm" in item.fixturenames:
        from tinytroupe.runtime.clock import VirtualClock, current_clock

        clock = current_clock()
        if isinstance(clock, VirtualClock):
            return _synchronous(coroutine, clock.run)
    if theirs or "anyio_backend" in item.fixturenames:
        return None  # they run it
    import asyncio

    return _synchronous(coroutine, asyncio.run)


def _coroutine_function(function: Any, unwrapped: bool) -> Any:
    """Return what gives the coroutine: the function, also where a decorator has put a plain one around it.

    `unwrapped` asks for the coroutine function itself, below what a plugin has wrapped it in to run it.
    """
    inner = function
    while not iscoroutinefunction(inner):
        inner = getattr(inner, "__wrapped__", None)
        if inner is None:
            return None
    return inner if unwrapped else function


def _runs_on_trio(item: pytest.Function) -> bool:
    backend = item.funcargs.get("anyio_backend")
    return (backend[0] if isinstance(backend, tuple) else backend) == "trio"


def _synchronous(coroutine: Any, run: Callable[[Any], Any]) -> Callable[..., Any]:
    @wraps(coroutine)
    def call(**arguments: Any) -> Any:
        found = coroutine(**arguments)
        return run(found) if iscoroutine(found) else found  # a decorator may have run it already

    return call
