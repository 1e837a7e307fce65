"""The virtual loop: time jumps, nothing sleeps, and a world that stands still says so."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator

import pytest

from aip.simulation.clock import Stalled, VirtualLoop


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop(random.Random(0))
    yield loop
    loop.close()


def test_an_hour_passes_at_once(loop: VirtualLoop) -> None:
    began = time.monotonic()
    loop.run_until_complete(asyncio.sleep(3600))
    assert loop.time() == pytest.approx(3600)
    assert time.monotonic() - began < 1


def test_timers_ring_in_order_of_their_time(loop: VirtualLoop) -> None:
    heard: list[int] = []

    async def wait() -> None:
        for delay_s in (3, 1, 2):
            loop.call_later(delay_s, heard.append, delay_s)
        await asyncio.sleep(4)

    loop.run_until_complete(wait())
    assert heard == [1, 2, 3]


def test_work_for_a_thread_is_done_on_the_loop_a_little_later(loop: VirtualLoop) -> None:
    async def work() -> float:
        return await loop.run_in_executor(None, loop.time)

    assert 0 < loop.run_until_complete(work()) < loop.time() < 0.01


def test_work_that_was_cancelled_before_its_thread_came_to_it_is_not_done(loop: VirtualLoop) -> None:
    done: list[str] = []

    async def work() -> None:
        loop.run_in_executor(None, done.append, "done").cancel()
        await asyncio.sleep(1)

    loop.run_until_complete(work())
    assert not done


def test_a_world_in_which_nothing_can_happen_any_more_is_not_waited_for(loop: VirtualLoop) -> None:
    async def wait() -> None:
        await loop.create_future()

    task = loop.create_task(wait())
    with pytest.raises(Stalled):
        loop.run_until_complete(task)
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
