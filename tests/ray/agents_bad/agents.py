"""Agents that do what agents must not do."""

from __future__ import annotations

import asyncio

import aip


class Bad(aip.Agent):
    @aip.capability
    async def fail(self) -> None:
        raise ValueError("the number is 3")

    @aip.capability
    async def hang(self) -> None:
        await asyncio.Event().wait()

    @aip.capability
    async def unspeakable(self) -> object:
        return object()

    @aip.capability
    async def deep(self) -> object:
        value: object = 1
        for _ in range(5_000):
            value = [value]
        return value

    @aip.capability
    async def huge(self) -> str:
        return "x" * (9 << 20)

    @aip.capability
    async def flood(self, target: str, messages: int, ctx: aip.Context) -> str:
        """Calls that nobody answers, far more than a mailbox holds."""
        calls = [asyncio.create_task(ctx.call(target, "slow", {}, timeout_s=5)) for _ in range(messages)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        codes = {error.code for error in done if isinstance(error, aip.AIPError)}
        return ",".join(sorted(codes))

    @aip.capability
    async def slow(self) -> None:
        await asyncio.sleep(1.0)

    @aip.capability
    async def breed(self, at_once: int, ctx: aip.Context) -> None:
        born = 0
        while True:
            await asyncio.gather(*(ctx.spawn(Bad, f"child-{born + n}") for n in range(at_once)))
            born += at_once
