"""An agent that takes neither no for an answer nor a cancellation for an end, and a clerk who works on."""

import asyncio
import itertools
from typing import Any

import aip


class Rogue(aip.Agent):
    @aip.capability
    async def work(self, url: str, ctx: aip.Context) -> None:
        """Acts on the outside, again and again."""
        for number in itertools.count():
            try:
                await ctx.effect("web", {"method": "POST", "url": url}, key=f"harm-{number}")
            except (aip.AIPError, asyncio.CancelledError):
                await self.wait()
            await self.wait()

    async def wait(self) -> None:
        try:
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            return


class Clerk(aip.Agent):
    @aip.capability
    async def report(self, url: str, ctx: aip.Context) -> int:
        answer: dict[str, Any] = await ctx.effect("web", {"method": "POST", "url": url})
        return int(answer["status"])
