"""Virtual time: exact, honest about what it can't do, and never stuck."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytroupe.runtime.clock import VirtualClock, VirtualTimeError, WallClock, current_clock, use_clock


def test_a_thousand_sleeps_at_once_take_exactly_one():
    async def main() -> None:
        await asyncio.gather(*(asyncio.sleep(2) for _ in range(1000)))

    with VirtualClock() as clock:
        clock.run(main())
        assert clock.now() == 2.0


@given(st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=50))
def test_concurrent_sleeps_take_the_longest(delays):
    async def main() -> list[float]:
        order: list[float] = []

        async def one(delay: float) -> None:
            await asyncio.sleep(delay)
            order.append(delay)

        await asyncio.gather(*(one(delay) for delay in delays))
        return order

    with VirtualClock() as clock:
        order = clock.run(main())
        assert clock.now() == pytest.approx(max(delays), abs=1e-8)
        assert [round(x, 8) for x in order] == sorted(round(x, 8) for x in order)


def test_time_starts_where_told_and_only_goes_on():
    with VirtualClock(start_s=100.0) as clock:
        clock.run(asyncio.sleep(0.5))
        clock.run(asyncio.sleep(0.25))
        assert clock.now() == 100.75
        assert "100.75" in repr(clock)


def test_a_time_out_is_exact():
    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.sleep(10), 1.5)

    with VirtualClock() as clock:
        clock.run(main())
        assert clock.now() == 1.5


def test_time_waits_for_a_busy_worker_thread():
    finished: list[bool] = []

    async def main() -> float:
        reached = asyncio.Event()
        asyncio.get_running_loop().call_later(3600, reached.set)
        await asyncio.to_thread(lambda: (time.sleep(0.05), finished.append(True)))
        assert not reached.is_set()
        return clock.now()

    with VirtualClock() as clock:
        assert clock.run(main()) == 0.0
    assert finished == [True]


def test_time_waits_for_anyio_workers_and_its_time_limits_hold():
    anyio = pytest.importorskip("anyio")
    pytest.importorskip("anyio.to_thread")

    async def main() -> None:
        with anyio.fail_after(30):
            await anyio.to_thread.run_sync(time.sleep, 0.05)
        assert clock.now() == 0.0
        with pytest.raises(TimeoutError), anyio.fail_after(2):
            await anyio.sleep(10)

    with VirtualClock() as clock:
        clock.run(main())
        assert clock.now() == 2.0


def test_a_worker_that_waits_for_the_loop_lets_time_pass():
    with VirtualClock() as clock:

        async def main() -> None:
            await asyncio.to_thread(clock.portal.call, asyncio.sleep, 5)

        clock.run(main())
        assert clock.now() == 5.0


def test_timers_that_are_always_due_do_not_stop_time():
    # As a rate limiter does that rounds its wait to "now".
    async def main() -> None:
        loop = asyncio.get_running_loop()
        goal = loop.time() + 1e-5
        while loop.time() < goal:
            future = loop.create_future()
            loop.call_at(loop.time(), future.set_result, None)
            await future

    with VirtualClock() as clock:
        clock.run(main())
        assert clock.now() < 1e-3


def test_much_work_at_one_instant_takes_no_virtual_time():
    async def main() -> None:
        for _ in range(5000):
            await asyncio.sleep(0)

    with VirtualClock() as clock:
        clock.run(main())
        assert clock.now() == 0.0


def test_time_stands_still_between_calls():
    async def leave_a_timer_behind() -> None:
        asyncio.get_running_loop().call_later(1000, lambda: None)

    with VirtualClock() as clock:
        clock.run(leave_a_timer_behind())
        time.sleep(0.02)
        clock.run(asyncio.sleep(1))
        assert clock.now() == 1.0


@pytest.mark.parametrize(
    "outside",
    [
        lambda loop: loop.create_connection(asyncio.Protocol, "127.0.0.1", 1),
        lambda loop: loop.getaddrinfo("localhost", 80),
        lambda loop: asyncio.create_subprocess_exec("true"),
        lambda loop: loop.create_server(asyncio.Protocol, "127.0.0.1", 0),
        lambda loop: asyncio.sleep(0, loop.add_reader(0, print)),
    ],
    ids=["connection", "name", "subprocess", "server", "reader"],
)
def test_the_outside_world_is_refused(outside):
    async def main() -> None:
        await outside(asyncio.get_running_loop())

    with VirtualClock() as clock, pytest.raises(VirtualTimeError, match="MockLLM"):
        clock.run(main())


def test_current_clock_is_the_one_in_use():
    clock = VirtualClock()
    assert isinstance(current_clock(), WallClock)
    with use_clock(clock):
        assert current_clock() is clock
    assert current_clock() is not clock


class TestPortal:
    @pytest.fixture(params=[VirtualClock, WallClock])
    def clock(self, request):
        with request.param() as clock:
            yield clock

    def test_passes_results_errors_and_context_through(self, clock):
        async def seen() -> bool:
            return current_clock() is clock

        async def fails() -> None:
            raise LookupError("as is")

        with use_clock(clock):
            assert clock.portal.call(seen)
        with pytest.raises(LookupError, match="as is"):
            clock.portal.call(fails)

    def test_refuses_to_wait_for_itself(self, clock):
        async def inside() -> None:
            clock.portal.call(asyncio.sleep, 0)

        with pytest.raises(RuntimeError, match="_async"):
            clock.portal.call(inside)

    def test_works_where_a_loop_is_running(self, clock):
        async def notebook() -> str:
            return clock.portal.call(asyncio.sleep, 0, "done")

        assert asyncio.run(notebook()) == "done"

    def test_can_be_entered_from_many_threads(self, clock):
        results: list[int] = []
        threads = [
            threading.Thread(target=lambda n=n: results.append(clock.portal.call(asyncio.sleep, 0.01, n)))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(results) == list(range(8))

    def test_closing_cancels_what_runs_and_ends_the_thread(self, clock):
        cancelled: list[bool] = []

        async def forever() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(True)

        async def start() -> None:
            task = asyncio.create_task(forever())
            keep.append(task)
            await asyncio.sleep(0)

        async def thread() -> threading.Thread:
            return threading.current_thread()

        keep: list[asyncio.Task[None]] = []
        clock.portal.call(start)
        its_own = clock.portal.call(thread)
        assert its_own is not threading.current_thread()
        assert its_own.is_alive()
        clock.close()
        clock.close()
        assert cancelled == [True]
        assert not its_own.is_alive()
        assert clock.portal.call(asyncio.sleep, 0, "again") == "again"

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_is_made_anew_after_a_fork(self, clock):
        clock.portal.call(asyncio.sleep, 0)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = 0 if clock.portal.call(asyncio.sleep, 0, "in the child") == "in the child" else 1
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    @pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers that signal on this platform")
    def test_whatever_ends_the_wait_ends_the_call(self, clock):
        # As a time-out plugin does that raises out of a signal handler into the waiting thread.
        ended = threading.Event()

        class Alarm(BaseException):
            pass

        async def forever() -> None:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        def ring(*_: object) -> None:
            raise Alarm

        clock.portal.call(asyncio.sleep, 0)
        before = signal.signal(signal.SIGALRM, ring)
        try:
            with pytest.raises(Alarm):
                clock.portal.call(forever)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert ended.is_set()

    @pytest.mark.parametrize("handed_over", [True, False])
    def test_whatever_ends_the_call_before_the_wait_ends_what_it_began(self, clock, handed_over, monkeypatch, caplog):
        # As a signal does between the hand-over and the wait for the result.
        began, ended = threading.Event(), threading.Event()

        async def forever() -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        loop = clock.portal.loop
        hand_over = loop.call_soon_threadsafe

        def interrupted(*args: Any, **options: Any) -> None:
            monkeypatch.undo()
            if handed_over:
                hand_over(*args, **options)
                began.wait(30)
            raise KeyboardInterrupt

        monkeypatch.setattr(loop, "call_soon_threadsafe", interrupted)
        with pytest.raises(KeyboardInterrupt):
            clock.portal.call(forever)
        assert began.is_set() == ended.is_set() == handed_over
        assert caplog.text == ""  # nor was anything waited for in vain
        assert clock.portal.call(asyncio.sleep, 0, "again") == "again"

    def test_nobody_waits_for_ever_for_a_loop_that_closes(self, clock):
        results: list[object] = []

        def keep_calling() -> None:
            for n in range(200):
                try:
                    results.append(clock.portal.call(asyncio.sleep, 0, n))
                except RuntimeError as error:
                    results.append(str(error))
                except asyncio.CancelledError:
                    results.append("cancelled")

        threads = [threading.Thread(target=keep_calling, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            clock.close()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads)
        assert len(results) == 800
