"""A hand-over whose old owner is busy: the new one waits for it as long as courtesy goes, then the fence decides (A3, A4).

Time is the simulator's: a turn of minutes costs nothing here, and nothing here depends on how fast the machine is.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

import aip
import aip.testing
from aip.errors import AgentLost, AIPError, Fenced
from aip.runtime.host import HAND_OVER_WAIT_S
from aip.runtime.placement import CellRecord, Membership
from aip.simulation.clock import VirtualLoop

STARTS: list[tuple[float, str]] = []


class Slow(aip.Agent):
    """Counts; `work` takes as long as it is told, then checkpoints."""

    async def on_start(self, ctx: aip.Context) -> None:
        self.value = ctx.restored or 0
        STARTS.append((asyncio.get_running_loop().time(), ctx.agent))

    @aip.capability
    async def work(self, seconds: float, ctx: aip.Context) -> int:
        await asyncio.sleep(seconds)
        self.value += 1
        await ctx.checkpoint(self.value)
        return self.value


def virtual(story: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch) -> None:
    loop = VirtualLoop(random.Random(1))
    monkeypatch.setattr("time.time", loop.clock)
    STARTS.clear()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(asyncio.wait_for(story(), 3_600))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def moves(platform: aip.testing.TestPlatform) -> str:
    """An agent of the first cell that belongs to the second one as soon as there is one."""
    two = aip.runtime.placement.Placement(of_two(platform))
    return next(name for n in range(100) if two.locate(name := f"slow/{n}") == "cell-1")


def of_two(platform: aip.testing.TestPlatform) -> Membership:
    pool = tuple(CellRecord(cell_id=f"cell-{n}", pool="test", node="here", generation=1) for n in range(2))
    return Membership(epoch=2, pools={"test": pool}, types=platform.membership.types)


async def join(platform: aip.testing.TestPlatform) -> None:
    """The second cell comes, and both learn of it."""
    platform.add_cell("cell-1").start()
    platform.placement.offer(of_two(platform))
    for cell in platform.cells.values():
        cell.moved([])


async def outcome(call: Awaitable[object]) -> object:
    try:
        return await call
    except AIPError as error:
        return type(error)


@pytest.mark.parametrize(
    ("seconds", "first", "second", "timed_out"),
    [
        (HAND_OVER_WAIT_S * 0.8, 1, 2, 0),  # It ends in time: its state and its mail move, in order.
        (
            HAND_OVER_WAIT_S * 3,
            Fenced,
            1,
            1,
        ),  # It does not: its late checkpoint is refused, and counts for nobody.
    ],
    ids=["within the wait", "beyond the wait"],
)
def test_a_turn_that_is_at_work_when_its_agent_moves(
    seconds: float,
    first: object,
    second: object,
    timed_out: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        async with aip.testing.platform(Slow) as p:
            name = moves(p)
            loop = asyncio.get_running_loop()
            running = asyncio.ensure_future(outcome(p.call(name, "work", seconds=seconds, timeout_s=600)))
            await asyncio.sleep(1)
            joined_s = loop.time()
            await join(p)
            waiting = asyncio.ensure_future(outcome(p.call(name, "work", seconds=0, timeout_s=600)))
            assert await waiting == second
            assert await running in ((first,) if first is not Fenced else (Fenced, AgentLost))
            assert name not in p.cells["cell-0"].host.agents
            assert name in p.cells["cell-1"].host.agents
            assert len(p.audit.of("agent.hand_over_timeout")) == timed_out
            began_s = STARTS[-1][0] - joined_s
            assert began_s <= HAND_OVER_WAIT_S + 1, "nobody waits longer than courtesy goes"
            if not timed_out:
                assert began_s >= seconds - 1.5, "the new one starts after the old one's turn"
            assert await p.call(name, "work", seconds=0) == second + 1  # type: ignore[operator]

    virtual(story, monkeypatch)


def test_mail_that_waits_behind_a_turn_that_does_not_end_is_answered_by_the_new_owner_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        async with aip.testing.platform(Slow) as p:
            name = moves(p)
            running = asyncio.ensure_future(outcome(p.call(name, "work", seconds=300, timeout_s=600)))
            await asyncio.sleep(1)
            behind = [asyncio.ensure_future(p.call(name, "work", seconds=0, timeout_s=600)) for _ in range(5)]
            await asyncio.sleep(1)
            await join(p)
            assert await asyncio.gather(*behind) == [1, 2, 3, 4, 5]
            assert isinstance(await running, type)

    virtual(story, monkeypatch)
