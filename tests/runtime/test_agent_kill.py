"""`ctx.kill`: an agent stops itself and its descendants, and nobody else."""

from __future__ import annotations

import asyncio

import pytest

import aip
import aip.testing
from aip.errors import Denied, Killed


class Keeper(aip.Agent):
    @aip.capability
    async def beget(self, ctx: aip.Context) -> str:
        return await ctx.spawn("keeper", "child")

    @aip.capability
    async def end(self, target: str, ctx: aip.Context) -> str:
        await ctx.kill(target or ctx.agent, "it sends nonsense")
        await asyncio.sleep(30)
        return "never"

    @aip.capability
    async def name(self, ctx: aip.Context) -> str:
        return ctx.agent


async def test_an_agent_stops_what_descends_from_it_and_goes_on_itself() -> None:
    async with aip.testing.platform(Keeper, cells=2) as platform:
        child = await platform.call("keeper/parent", "beget")
        ending = asyncio.ensure_future(platform.call("keeper/parent", "end", target=child))
        with pytest.raises(Killed) as refused:
            async with asyncio.timeout(5):
                while True:
                    await platform.call(child, "name")
        assert refused.value.details["target"] == child
        assert "it sends nonsense" in refused.value.message
        assert "keeper/parent" in refused.value.message
        ending.cancel()


async def test_an_agent_stops_itself_in_the_middle_of_its_turn() -> None:
    async with aip.testing.platform(Keeper) as platform:
        async with asyncio.timeout(5):
            with pytest.raises(Killed):
                await platform.call("keeper/tired", "end", target="")
        assert await platform.call("keeper/other", "name") == "keeper/other"


@pytest.mark.parametrize("target", ["keeper/stranger", "keeper", "platform", "run/r-test", "pool:test"])
async def test_an_agent_stops_nobody_else(target: str) -> None:
    async with aip.testing.platform(Keeper) as platform:
        with pytest.raises(Denied, match="may stop itself"):
            await platform.call("keeper/proud", "end", target=target)
        assert await platform.call("keeper/stranger", "name") == "keeper/stranger"
