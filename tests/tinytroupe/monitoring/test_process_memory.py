"""Resident memory of the process: now, at its highest, and over time."""

from __future__ import annotations

import os
import sys
import threading
import tracemalloc

import psutil
import pytest

from tinytroupe.monitoring import HighWaterMark, TimelineSampler, process_memory, rss_bytes
from tinytroupe.monitoring.process_memory import LIFETIME_PEAK, MB, SAMPLED, VMHWM, SharedPeak

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's mark is Linux's")


def test_resident_memory_agrees_with_psutil() -> None:
    assert abs(rss_bytes() - psutil.Process(os.getpid()).memory_info().rss) < 8 * MB


@linux
def test_a_short_peak_is_seen_and_does_not_stay() -> None:
    with HighWaterMark() as first:
        del_me = bytearray(b"x") * (64 * MB)
        del del_me
    with HighWaterMark() as second:
        pass
    assert first.method == VMHWM
    assert 60 * MB < first.peak_bytes - first.start_bytes < 72 * MB
    assert second.peak_bytes - second.start_bytes < 16 * MB
    assert first.peak_mb == first.peak_bytes / MB


@linux
def test_an_inner_mark_takes_nothing_from_the_outer_one() -> None:
    with HighWaterMark() as outer:
        block = bytearray(b"x") * (64 * MB)
        del block
        with HighWaterMark() as inner:
            pass
    assert outer.peak_bytes - outer.start_bytes > 60 * MB
    assert inner.peak_bytes - inner.start_bytes < 16 * MB


@pytest.mark.parametrize("rises", [False, True])
def test_where_the_mark_cannot_be_reset_it_says_what_it_did(monkeypatch: pytest.MonkeyPatch, rises: bool) -> None:
    def refuse() -> None:
        raise PermissionError("read-only /proc")

    lifetime = iter([10_000 * MB, 10_500 * MB if rises else 10_000 * MB])
    monkeypatch.setattr(process_memory, "_vmhwm", SharedPeak(lambda: 0, refuse))
    monkeypatch.setattr(process_memory, "_lifetime_peak_bytes", lambda: next(lifetime))
    with HighWaterMark() as mark:
        pass
    assert mark.method == (LIFETIME_PEAK if rises else SAMPLED)
    assert mark.peak_bytes == 10_500 * MB if rises else mark.start_bytes <= mark.peak_bytes < 10_000 * MB
    assert not [thread for thread in threading.enumerate() if thread.name == "memory-timeline"]


def test_overlapping_measurements_share_one_mark() -> None:
    level = mark = 0

    def rise(to: int) -> None:
        nonlocal level, mark
        level, mark = to, max(mark, to)

    def reset() -> None:
        nonlocal mark
        mark = level

    shared = SharedPeak(lambda: mark, reset)
    first = shared.begin()
    rise(50)
    rise(10)
    second = shared.begin()
    rise(30)
    rise(5)
    assert shared.end(first) == 50
    rise(20)
    assert shared.end(second) == 30


def test_a_sampler_takes_the_first_and_the_last_sample_and_marks() -> None:
    now = [5.0]
    sampler = TimelineSampler(interval_s=3600, clock=lambda: now[0])
    with sampler:
        now[0] = 6.5
        sampler.mark("loaded")
        with pytest.raises(RuntimeError, match="running already"):
            sampler.start()
        now[0] = 7.0
    sampler.stop()
    assert [t for t, _ in sampler.values] == [0.0, 2.0]
    assert sampler.marks == [(1.5, "loaded")]
    assert all(0 < mb < 100_000 for _, mb in sampler.values)
    assert sampler.peak_mb == max(mb for _, mb in sampler.values)
    assert sampler.heap_values == []


def test_a_sampler_is_bounded() -> None:
    sampler = TimelineSampler(limit=10)
    for k in range(50):
        sampler.sample()
        sampler.mark(str(k))
    assert len(sampler.values) <= 10
    assert [label for _, label in sampler.marks] == [str(k) for k in range(0, 50, 8)]


def test_a_sampler_follows_the_heap_while_it_is_traced() -> None:
    sampler = TimelineSampler()
    tracemalloc.start()
    try:
        sampler.sample()
        block = bytearray(10 * MB)
        sampler.sample()
        del block
    finally:
        tracemalloc.stop()
    (_, before), (_, after) = sampler.heap_values
    assert after - before == pytest.approx(10, abs=0.1)


def test_the_thread_samples_by_itself() -> None:
    sampled = threading.Event()

    class Counting(TimelineSampler):
        def sample(self) -> None:
            super().sample()
            if threading.current_thread().name == "memory-timeline":
                sampled.set()

    with Counting(interval_s=0.001):
        assert sampled.wait(10)


@pytest.mark.parametrize("interval_s", [0, -1, float("nan"), float("inf")])
def test_a_bad_interval_is_refused(interval_s: float) -> None:
    with pytest.raises(ValueError, match="positive number of seconds"):
        TimelineSampler(interval_s)
