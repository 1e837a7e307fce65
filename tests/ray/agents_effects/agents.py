"""An agent that touches the outside through the effect gateway."""

import asyncio
import itertools
from typing import Any

import aip


class Reporter(aip.Agent):
    @aip.capability
    async def report(self, path: str, text: str, ctx: aip.Context, key: str = "") -> Any:
        request = {"path": path, "text": text, "mode": "create"}
        return await ctx.effect("reports", request, key=key or path)

    @aip.capability
    async def pass_on(self, to: str, ctx: aip.Context) -> None:
        await ctx.call(to, "hear")

    @aip.capability
    async def hear(self) -> None:
        pass

    @aip.capability
    async def tell_the_world(self, text: str, ctx: aip.Context) -> Any:
        request = {"method": "POST", "url": "https://sink.invalid/", "body": text}
        return await ctx.effect("outside", request)


class Hammer(aip.Agent):
    """Has effects without end, some at a time."""

    @aip.capability
    async def hit(self, url: str, ctx: aip.Context) -> None:
        async def one(number: int) -> None:
            for count in itertools.count():
                key = f"{number}-{count}"
                await ctx.effect("sink", {"method": "POST", "url": url, "body": key}, key=key)

        await asyncio.gather(*(one(number) for number in range(8)))


class Secrets(aip.Agent):
    """What it answers is labelled secret by the policy's catalogue."""

    @aip.capability
    async def read(self) -> str:
        return "the combination is 12345"
