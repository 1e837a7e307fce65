"""A hand-over whose old owner is busy: the new one waits for it as long as courtesy goes, then the fence decides (A3, A4).

Time is the simulator's: a turn of minutes costs nothing here, and nothing here depends on how fast the machine is.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import msgspec
import pytest

import aip
import aip.testing
from aip.errors import AgentLost, AIPError, Fenced, PlatformUnavailable
from aip.runtime.checkpoint import CheckpointTable, decode_record, encode_record
from aip.runtime.host import HAND_OVER_WAIT_S
from aip.runtime.placement import CellRecord, Membership
from aip.runtime.ports import Activated
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
    return next(name for n in range(100) if two.locate(name := f"slow/{n}") == "cell-test-1")


def of_two(platform: aip.testing.TestPlatform) -> Membership:
    pool = tuple(
        CellRecord(cell_id=f"cell-test-{n}", pool="test", node="here", generation=1) for n in range(2)
    )
    return Membership(epoch=2, pools={"test": pool}, types=platform.membership.types)


async def join(platform: aip.testing.TestPlatform) -> None:
    """The second cell comes, and both learn of it."""
    platform.add_cell("cell-test-1").start()
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
            assert name not in p.cells["cell-test-0"].host.agents
            assert name in p.cells["cell-test-1"].host.agents
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


def test_a_cell_with_an_old_membership_waits_before_it_takes_a_holder_for_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The holder was granted the agent under epoch 2, of which this cell has not heard: it may well live (A4')."""

    async def story() -> None:
        async with aip.testing.platform(Slow) as p:
            await p.checkpoints.activate("slow/a", "cell-test-1", 2, False)
            asked = asyncio.ensure_future(p.call("slow/a", "work", seconds=0))
            await asyncio.sleep(HAND_OVER_WAIT_S / 2)
            assert not STARTS, "it took the agent from a holder it cannot know"
            p.placement.offer(
                msgspec.structs.replace(p.membership, epoch=2)
            )  # Without cell-test-1: it is gone.
            p.cells["cell-test-0"].moved([])
            assert await asked == 1
            assert p.checkpoints.table.incarnation("slow/a") == 2

    virtual(story, monkeypatch)


def test_a_cell_that_is_told_no_newer_membership_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with aip.testing.platform(Slow) as p:
            await p.checkpoints.activate("slow/a", "cell-test-1", 2, False)
            assert await outcome(p.call("slow/a", "work", seconds=0)) is PlatformUnavailable
            assert p.checkpoints.table.incarnation("slow/a") == 1

    virtual(story, monkeypatch)


def test_force_is_for_those_who_know_at_least_what_the_holder_knew() -> None:
    table = CheckpointTable()

    def ask(cell: str, epoch: int, force: bool) -> Activated:
        answer, record = table.decide_activate("slow/a", cell, epoch, force)
        if record is not None:
            table.apply(decode_record(encode_record(record)))
        return answer

    assert ask("one", 5, False) == Activated(1)
    assert ask("two", 9, False) == Activated(held_by="one", epoch=5)
    assert ask("two", 4, True) == Activated(held_by="one", epoch=5)
    assert ask("two", 5, True) == Activated(2)
    table = CheckpointTable.restore(table.snapshot())
    assert ask("one", 4, True) == Activated(held_by="two", epoch=5)


def test_records_and_snapshots_from_before_epochs_are_read() -> None:
    table = CheckpointTable.restore(msgspec.msgpack.encode({"slow/a": [3, "one", b"x", {}]}))
    assert table.decide_activate("slow/a", "two", 0, False)[0] == Activated(held_by="one")
    table.apply(decode_record(msgspec.msgpack.encode(["a", "slow/b", 7, "one"])))
    assert table.decide_activate("slow/b", "two", 0, True)[0] == Activated(8)
