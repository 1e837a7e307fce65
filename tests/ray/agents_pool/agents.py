"""Agents whose processes are looked at: where they run, in what environment, and how they end."""

from __future__ import annotations

import asyncio
import os

import aip


class One(aip.Agent):
    @aip.capability
    async def where(self) -> int:
        return os.getpid()

    @aip.capability
    async def environment(self, name: str) -> str:
        return os.environ.get(name, "")

    @aip.capability
    async def crash(self) -> None:
        os._exit(9)

    @aip.capability
    async def tell(self, words: list[str], seconds: float, ctx: aip.Context) -> int:
        """Say each word in the log, and wait after it."""
        for word in words:
            ctx.log.info("saying %s", word)
            await asyncio.sleep(seconds)
        return len(words)


class Two(aip.Agent):
    @aip.capability
    async def where(self) -> int:
        return os.getpid()
