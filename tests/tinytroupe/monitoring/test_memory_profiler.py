"""Calls, times and heap of functions of every kind."""

from __future__ import annotations

import asyncio
import io
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator

import pytest

from tinytroupe.monitoring import MemoryProfiler


class Time:
    """A clock that goes only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def profiler(time: Time) -> MemoryProfiler:
    return MemoryProfiler(clock=time)


def figures(profiler: MemoryProfiler, name: str) -> tuple[float, ...]:
    stats = profiler.get_stats(name)
    return tuple(stats[key] for key in ("calls", "total_s", "avg_s", "min_s", "max_s"))


def test_the_format_of_the_guide(time: Time, profiler: MemoryProfiler, capsys: pytest.CaptureFixture[str]) -> None:
    @profiler.profile
    def run_simulation() -> None:
        time.now += 15.23

    run_simulation()
    profiler.print_stats()
    assert capsys.readouterr().out == (
        "Function: run_simulation\n  Calls: 1\n  Total: 15.23s\n  Avg:   15.23s\n  Min:   15.23s\n  Max:   15.23s\n"
    )


def test_several_functions_are_set_apart_and_file_is_respected(time: Time, profiler: MemoryProfiler) -> None:
    @profiler.profile
    def one() -> None:
        time.now += 1

    @profiler.profile
    def never() -> None: ...

    one()
    out = io.StringIO()
    profiler.print_stats(file=out)
    first, second = out.getvalue().split("\n\n")
    assert first.startswith("Function: one\n  Calls: 1\n")
    assert second == "Function: never\n  Calls: 0\n  Total: 0.00s\n  Avg:   0.00s\n  Min:   0.00s\n  Max:   0.00s\n"


def test_functions_and_methods_keep_their_face(time: Time, profiler: MemoryProfiler) -> None:
    class Person:
        @profiler.profile
        def speak(self, seconds: float) -> float:
            """Say something."""
            time.now += seconds
            return seconds

    assert [Person().speak(s) for s in (1.0, 3.0)] == [1.0, 3.0]
    assert Person.speak.__doc__ == "Say something."
    assert figures(profiler, "Person.speak") == (2, 4.0, 2.0, 1.0, 3.0)


def test_recursion_counts_every_call_and_time_once(time: Time, profiler: MemoryProfiler) -> None:
    @profiler.profile
    def dive(depth: int) -> None:
        time.now += 1
        if depth:
            dive(depth - 1)

    dive(2)
    assert figures(profiler, "dive") == (3, 3.0, 2.0, 1.0, 3.0)
    assert profiler.get_stats("dive")["recursive_calls"] == 2


def test_exceptions_pass_through_and_are_counted(time: Time, profiler: MemoryProfiler) -> None:
    @profiler.profile
    def fail() -> None:
        time.now += 1
        raise KeyError("x")

    with pytest.raises(KeyError):
        fail()
    assert profiler.get_stats("fail")["errors"] == 1
    assert figures(profiler, "fail") == (1, 1.0, 1.0, 1.0, 1.0)


def test_coroutines_are_timed_to_their_end_and_overlap(time: Time, profiler: MemoryProfiler) -> None:
    async def main() -> None:
        second_started = asyncio.Event()

        @profiler.profile
        async def turn(first: bool) -> None:
            if first:
                await second_started.wait()
                time.now += 1
            else:
                second_started.set()
                time.now += 1

        await asyncio.gather(turn(True), turn(False))

    asyncio.run(main())
    stats = profiler.get_stats("turn")
    assert (stats["calls"], stats["recursive_calls"]) == (2, 0)
    assert (stats["min_s"], stats["max_s"]) == (1.0, 2.0)


def test_a_cancelled_coroutine_is_counted_as_failed(profiler: MemoryProfiler) -> None:
    @profiler.profile
    async def wait_for_ever() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.ensure_future(wait_for_ever())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert profiler.get_stats("wait_for_ever")["errors"] == 1


def test_generators_are_timed_only_while_they_run(time: Time, profiler: MemoryProfiler) -> None:
    @profiler.profile
    def count(n: int) -> Iterator[int]:
        for k in range(n):
            time.now += 1
            got = yield k
            assert got is None or got == "hello"
        return "done"  # type: ignore[return-value]

    for _ in count(3):
        time.now += 100
    generator = count(2)
    next(generator)
    assert generator.send("hello") == 1  # type: ignore[attr-defined]
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == "done"
    abandoned = count(5)
    next(abandoned)
    abandoned.close()  # type: ignore[attr-defined]
    assert figures(profiler, "count")[:2] == (3, 6.0)
    assert profiler.get_stats("count")["errors"] == 0


def test_an_exception_thrown_into_a_generator_arrives(profiler: MemoryProfiler) -> None:
    @profiler.profile
    def stubborn() -> Iterator[str]:
        try:
            yield "first"
        except ValueError:
            yield "caught"

    generator = stubborn()
    next(generator)
    assert generator.throw(ValueError("x")) == "caught"  # type: ignore[attr-defined]
    with pytest.raises(KeyError):
        generator.throw(KeyError("y"))  # type: ignore[attr-defined]
    assert profiler.get_stats("stubborn")["errors"] == 1


def test_async_generators(time: Time, profiler: MemoryProfiler) -> None:
    @profiler.profile
    async def stream() -> AsyncIterator[int]:
        for k in range(3):
            await asyncio.sleep(0)
            time.now += 1
            try:
                yield k
            except ValueError:
                yield -1

    async def main() -> None:
        async for _ in stream():
            time.now += 100
        generator = stream()
        await generator.__anext__()
        assert await generator.athrow(ValueError("x")) == -1  # type: ignore[attr-defined]
        await generator.aclose()  # type: ignore[attr-defined]

    asyncio.run(main())
    assert figures(profiler, "stream")[:2] == (2, 4.0)
    assert profiler.get_stats("stream")["errors"] == 0


def test_blocks(time: Time, profiler: MemoryProfiler) -> None:
    with profiler, profiler.measure("load"):
        time.now += 2
    with pytest.raises(ValueError, match="x"), profiler.measure("load"):
        raise ValueError("x")
    assert figures(profiler, "block")[:2] == (1, 2.0)
    assert profiler.get_stats("load")["errors"] == 1


def test_threads_are_counted_apart(profiler: MemoryProfiler) -> None:
    meet = threading.Barrier(4, timeout=10)

    @profiler.profile
    def work() -> None:
        meet.wait()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = profiler.get_stats("work")
    assert (stats["calls"], stats["recursive_calls"]) == (4, 0)


def test_functions_of_one_name_are_told_apart() -> None:
    profiler = MemoryProfiler()

    def step() -> None: ...

    def other() -> None: ...

    other.__qualname__, other.__module__ = "step", "elsewhere"
    profiler.profile(step)()
    profiler.profile(other)()
    profiler.profile(step)()
    assert {name: stats["calls"] for name, stats in profiler.get_stats().items()} == {"step": 2, "elsewhere.step": 1}


def test_unknown_names_and_what_is_no_function_are_refused(profiler: MemoryProfiler) -> None:
    with pytest.raises(LookupError, match="nothing yet"):
        profiler.get_stats("work")
    with pytest.raises(TypeError, match="decorates functions"):
        profiler.profile(3)  # type: ignore[type-var]


def test_reset_forgets_figures_and_keeps_functions(profiler: MemoryProfiler) -> None:
    @profiler.profile
    def work() -> None: ...

    work()
    profiler.reset()
    assert figures(profiler, "work") == (0, 0, 0, 0, 0)
    work()
    assert profiler.get_stats("work")["calls"] == 1


def test_heap_peak_and_net_of_nested_calls() -> None:
    profiler = MemoryProfiler(trace_heap=True)
    kept: list[bytearray] = []

    @profiler.profile
    def inner() -> None:
        kept.append(bytearray(2 * 2**20))

    @profiler.profile
    def outer() -> None:
        block = bytearray(20 * 2**20)
        del block
        inner()

    outer()
    assert not tracemalloc.is_tracing()
    assert profiler.get_stats("outer")["peak_heap_mb"] == pytest.approx(20, rel=0.02)
    assert profiler.get_stats("outer")["net_heap_mb"] == pytest.approx(2, rel=0.02)
    assert profiler.get_stats("inner")["peak_heap_mb"] == pytest.approx(2, rel=0.02)
    out = io.StringIO()
    profiler.print_stats(file=out)
    assert "  Peak heap: 2.00 MB\n  Net heap:  +2.00 MB\n" in out.getvalue()


def test_tracing_that_was_on_stays_on() -> None:
    profiler = MemoryProfiler(trace_heap=True)
    tracemalloc.start()
    try:
        with profiler.measure("x"):
            pass
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()
