"""The parts that decide when and how often a server is asked."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from mmalign.models.retry import retry_after_s
from mmalign.models.traffic import AdaptiveLimit, CircuitBreaker


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_breaker_opens_probes_and_closes() -> None:
    """Opens at the third failure in a row; after 5 s one request passes; its success closes."""
    clock = Clock()
    breaker = CircuitBreaker(failures_to_open=3, pause_s=5.0, clock=clock)
    for available in (False, False, True, False, False):
        assert breaker.admit() is None
        breaker.report(available=available)
    assert not breaker.is_open
    assert breaker.admit() is None
    breaker.report(available=False)
    assert breaker.is_open
    clock.now_s += 2.0
    assert breaker.admit() == pytest.approx(3.0)
    clock.now_s += 3.0
    assert breaker.admit() is None
    assert breaker.admit() == 5.0
    breaker.report(available=True)
    assert not breaker.is_open
    assert breaker.admit() is None


def test_a_failed_probe_opens_for_another_pause() -> None:
    clock = Clock()
    breaker = CircuitBreaker(failures_to_open=1, pause_s=5.0, clock=clock)
    breaker.report(available=False)
    clock.now_s += 5.0
    assert breaker.admit() is None
    breaker.report(available=False)
    assert breaker.admit() == 5.0


def test_a_cancelled_probe_lets_the_next_one_try() -> None:
    clock = Clock()
    breaker = CircuitBreaker(failures_to_open=1, pause_s=5.0, clock=clock)
    breaker.report(available=False)
    clock.now_s += 5.0
    assert breaker.admit() is None
    breaker.abandon()
    assert breaker.admit() is None


def test_limit_halves_once_per_wave_and_grows_by_one_per_round() -> None:
    """16 -> 8 for all requests sent before; then 8 answers add about one; never above 16."""

    async def run() -> None:
        limit = AdaptiveLimit(16)
        async with limit.slot() as first, limit.slot() as second:
            limit.shrink(first)
            limit.shrink(second)
        assert limit.limit == 8.0
        for _ in range(8):
            limit.grow()
        assert 8.9 < limit.limit < 9.01
        for _ in range(1000):
            limit.grow()
        assert limit.limit == 16.0
        for _ in range(9):
            async with limit.slot() as sent_at:
                limit.shrink(sent_at)
        assert limit.limit == 1.0

    asyncio.run(run())


def test_slots_are_given_in_order_and_survive_cancelling() -> None:
    async def run() -> list[int]:
        limit, entered = AdaptiveLimit(1), []

        async def enter(who: int) -> None:
            async with limit.slot():
                entered.append(who)
                await asyncio.sleep(0)

        async with limit.slot():
            tasks = [asyncio.create_task(enter(who)) for who in range(4)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            await asyncio.sleep(0)
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert limit.active == 0
        return entered

    assert asyncio.run(run()) == [0, 3]


def test_retry_after_in_all_its_forms() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert retry_after_s({"retry-after": "2"}) == 2.0
    assert retry_after_s({"retry-after": "2", "retry-after-ms": "150"}) == pytest.approx(0.15)
    assert retry_after_s({"retry-after": later}) == pytest.approx(30, abs=2)
    assert retry_after_s({"retry-after": "-3"}) == 0.0
    assert retry_after_s({"retry-after": "soon"}) is None
    assert retry_after_s({"retry-after": "nan"}) is None
    assert retry_after_s({}) is None
