"""Agents of the tests on real Ray."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import aip


class Short(aip.AgentFailed):
    code = "test.short"


class Counter(aip.Agent):
    async def on_start(self, ctx: aip.Context) -> None:
        self.value = ctx.restored or 0

    @aip.capability
    async def add(self, amount: int, ctx: aip.Context) -> int:
        self.value += amount
        await ctx.checkpoint(self.value)
        return self.value

    @aip.capability
    async def where(self) -> int:
        return os.getpid()

    @aip.capability
    async def sleep(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "slept"

    @aip.capability
    async def block(self, seconds: float) -> str:
        time.sleep(seconds)  # What an agent must not do.
        return "blocked"

    @aip.capability
    async def fail(self) -> None:
        raise Short("by 3", by=3)

    @aip.capability
    async def crash(self) -> None:
        os._exit(9)

    @aip.capability
    async def ask(self, target: str, capability: str, arguments: dict, ctx: aip.Context) -> object:
        return await ctx.call(target or None, capability, arguments)

    @aip.capability
    async def mark(self, path: str, seconds: float, text: str, ctx: aip.Context) -> str:
        """Append a line to an outside file once the work is done."""
        await asyncio.sleep(seconds)
        with Path(path).open("a") as file:
            file.write(text + "\n")
        return text

    @aip.capability
    async def publish(self, path: str, seconds: float, ctx: aip.Context) -> str:
        def append() -> str:
            with Path(path).open("a") as file:
                file.write("published\n")
            time.sleep(seconds)
            return "published"

        return await ctx.effect("file.append", append)

    @aip.capability
    async def spend(self, tokens: int, times: int, ctx: aip.Context) -> int:
        for _ in range(times):
            await ctx.spend(tokens=tokens)
        return tokens * times
