"""The ladder on the road: real cells, real mailboxes, one fence in memory."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest
from kill_kit import Board, order

import aip
import aip.testing
from aip.errors import DeadlineExceeded, Killed
from aip.governance.kill import Level
from aip.runtime import codec
from aip.runtime.guard import Guard


class Worker(aip.Agent):
    started = 0
    gate = threading.Event()

    async def on_start(self, ctx: aip.Context) -> None:
        Worker.started += 1
        self.heard: list[int] = []

    @aip.capability
    async def hear(self, number: int) -> int:
        self.heard.append(number)
        return number

    @aip.capability
    async def recall(self) -> list[int]:
        return self.heard

    @aip.capability
    async def linger(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

    @aip.capability
    async def cling(self) -> str:
        """What no agent should: it does not let itself be cancelled."""
        for _ in range(50):
            try:
                await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                continue
        return "clung"

    @aip.capability
    def sit(self) -> None:
        """In a thread, deaf to everything."""
        Worker.gate.wait(5)

    @aip.capability
    async def act(self, ctx: aip.Context) -> str:
        return await ctx.effect("outside", lambda: "acted")

    @aip.capability
    async def beget(self, key: str, ctx: aip.Context) -> str:
        return await ctx.spawn("worker", key)


@asynccontextmanager
async def governed(*places: str):
    board = Board()
    async with aip.testing.platform(Worker) as platform:
        for cell in platform.cells.values():
            cell.guard = Guard(board.check(*places))
        Worker.started = 0
        Worker.gate.clear()
        yield board, platform
        Worker.gate.set()


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("level", [Level.PAUSE, Level.QUARANTINE])
async def test_paused_mail_waits_and_goes_on_in_order_when_the_order_is_lowered(level):
    async with governed() as (board, platform):
        await platform.call("worker/a", "hear", number=0)
        board.write(order("worker/a", level))
        calls = [asyncio.ensure_future(platform.call("worker/a", "hear", number=n)) for n in range(1, 6)]
        assert await platform.call("worker/b", "hear", number=9) == 9
        await asyncio.sleep(0.25)
        assert not any(call.done() for call in calls)
        board.lift("worker/a")
        assert await asyncio.gather(*calls) == [1, 2, 3, 4, 5]
        assert await platform.call("worker/a", "recall") == [0, 1, 2, 3, 4, 5]


async def test_paused_mail_waits_up_to_its_deadline_and_no_longer():
    async with governed() as (board, platform):
        board.write(order("platform", Level.PAUSE))
        with pytest.raises(DeadlineExceeded):
            await platform.call("worker/a", "hear", timeout_s=0.2, number=1)
        board.lift("platform")
        assert await platform.call("worker/a", "recall") == []


async def test_an_agent_does_not_come_to_life_for_mail_that_waits_and_a_platform_can_stop_over_it():
    async with governed() as (board, platform):
        board.write(order("worker", Level.PAUSE))
        await platform.tell("worker/new", "hear", number=1)
        await asyncio.sleep(0.15)
        assert Worker.started == 0
    assert Worker.started == 0


async def test_mail_of_others_passes_by_what_is_held_back_and_later_mail_of_its_sender_does_not():
    async with governed() as (board, platform):
        await platform.call("worker/a", "hear", number=0)
        board.write(order("capability:linger", Level.PAUSE))
        held = asyncio.ensure_future(platform.call("worker/a", "linger", seconds=0.0))
        await asyncio.sleep(0.05)
        behind = asyncio.ensure_future(platform.call("worker/a", "hear", number=1))
        await asyncio.sleep(0.25)
        assert not behind.done()
        (cell,) = platform.cells.values()
        other = cell.request("client/other", 1, "worker/a", "hear", {"number": 2})
        assert await cell.ask(other) == codec.encode(2)
        board.lift("capability:linger")
        assert await held == "done"
        assert await behind == 1


async def test_a_throttle_lets_its_rate_through():
    async with governed() as (board, platform):
        await platform.call("worker/a", "hear", number=0)
        board.write(order("worker/a", Level.THROTTLE, rate=1.0))
        calls = [asyncio.ensure_future(platform.call("worker/a", "hear", number=n)) for n in range(4)]
        await until(calls[0].done)
        await asyncio.sleep(0.15)
        assert not calls[3].done()
        board.lift("worker/a")
        assert await asyncio.gather(*calls) == [0, 1, 2, 3]


@pytest.mark.parametrize("level", [Level.QUARANTINE, Level.DRAIN])
async def test_a_turn_under_quarantine_or_drain_goes_on_and_begins_no_effect(level):
    async with governed() as (board, platform):
        running = asyncio.ensure_future(platform.call("worker/a", "linger", seconds=0.3))
        acting = asyncio.ensure_future(platform.call("worker/b", "act"))
        assert await acting == "acted"
        await until(lambda: any(cell.host.turns for cell in platform.cells.values()))
        board.write(order("worker", level))
        assert await running == "done"


async def test_a_drained_target_refuses_new_mail_and_what_waits():
    async with governed() as (board, platform):
        running = asyncio.ensure_future(platform.call("worker/a", "linger", seconds=0.3))
        await until(lambda: any(cell.host.turns for cell in platform.cells.values()))
        waiting = asyncio.ensure_future(platform.call("worker/a", "hear", number=1))
        await asyncio.sleep(0)
        board.write(order("worker/a", Level.DRAIN))
        with pytest.raises(Killed):
            await platform.call("worker/a", "hear", number=2)
        assert await running == "done"
        with pytest.raises(Killed):
            await waiting


async def test_an_effect_under_quarantine_is_refused_and_its_record_says_that_nothing_happened():
    async with governed() as (board, platform):
        await platform.call("worker/a", "hear", number=0)
        (cell,) = platform.cells.values()
        begin = cell.checkpoints.begin_effect

        async def order_meanwhile(*arguments):
            granted = await begin(*arguments)
            board.write(order("worker/a", Level.QUARANTINE))
            return granted

        cell.checkpoints.begin_effect = order_meanwhile
        with pytest.raises(Killed):
            await platform.call("worker/a", "act")
        ((_, detail),) = platform.audit.of("effect.refused")
        assert detail["key"], "so that it pairs with its beginning"


@pytest.mark.parametrize("level", [Level.TERMINATE, Level.REVOKE, Level.LOCKDOWN])
async def test_a_running_turn_is_stopped_from_terminate_on(level):
    async with governed() as (board, platform):
        running = asyncio.ensure_future(platform.call("worker/a", "linger", seconds=30))
        await until(lambda: any(cell.host.turns for cell in platform.cells.values()))
        board.write(order("worker/a", level))
        with pytest.raises(Killed):
            await running


@pytest.mark.parametrize("capability", ["cling", "sit"])
async def test_a_cell_can_tell_who_goes_on_working_though_it_was_stopped(capability):
    async with governed() as (board, platform):
        (cell,) = platform.cells.values()
        running = asyncio.ensure_future(platform.call("worker/a", capability))
        await until(lambda: cell.host.turns and (capability != "sit" or cell.host.threads))
        assert cell.host.overrun(cell.clock()) == []
        board.write(order("worker/a"))
        with pytest.raises(Killed):
            await running
        assert [agent.partition("/")[2] for agent in cell.host.overrun(cell.clock())] == ["a"]
        Worker.gate.set()
        await until(lambda: not cell.host.overrun(cell.clock()))


async def test_an_agent_that_is_spawned_is_under_the_orders_on_its_parent_also_when_others_ask_it():
    async with governed() as (board, platform):
        child = await platform.call("worker/parent", "beget", key="child")
        assert await platform.call(child, "hear", number=1) == 1
        board.write(order("worker/parent"))
        with pytest.raises(Killed):
            await platform.call(child, "hear", number=2)
        assert await platform.call("worker/other", "hear", number=3) == 3


async def test_spawning_an_agent_that_lived_before_makes_it_nobodys_child():
    async with governed() as (board, platform):
        await platform.call("worker/elder", "hear", number=0)
        await platform.call("worker/parent", "beget", key="elder")
        board.write(order("worker/parent"))
        assert await platform.call("worker/elder", "hear", number=1) == 1


async def test_a_child_whose_parent_is_killed_while_it_is_being_born_never_starts():
    async with governed() as (board, platform):
        await platform.call("worker/parent", "hear", number=0)
        (cell,) = platform.cells.values()
        activate = cell.checkpoints.activate

        async def order_meanwhile(*arguments):
            granted = await activate(*arguments)
            board.write(order("worker/parent"))
            return granted

        cell.checkpoints.activate = order_meanwhile
        with pytest.raises(Killed):
            await platform.call("worker/parent", "beget", key="child")
        assert Worker.started == 1
        assert board.births


async def test_an_agent_that_starts_is_stopped_like_one_that_works():
    class Slow(aip.Agent):
        async def on_start(self, ctx: aip.Context) -> None:
            await asyncio.sleep(30)

        @aip.capability
        async def hear(self) -> None: ...

    board = Board()
    async with aip.testing.platform(Slow) as platform:
        (cell,) = platform.cells.values()
        cell.guard = Guard(board.check())
        starting = asyncio.ensure_future(platform.call("slow/a", "hear"))
        await until(lambda: cell.host.turns)
        board.write(order("slow/a"))
        with pytest.raises(Killed):
            await starting
        board.lift("slow/a")
        assert not cell.host.turns


async def test_orders_on_a_pool_hold_in_its_cells():
    async with governed("pool:p1") as (board, platform):
        board.write(order("pool:p1"))
        with pytest.raises(Killed):
            await platform.call("worker/a", "hear", number=1)
        board.lift("pool:p1")
        assert await platform.call("worker/a", "hear", number=1) == 1
