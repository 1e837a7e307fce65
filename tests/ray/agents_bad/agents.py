"""Agents that do what agents must not do."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial

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
    async def flood(
        self, target: str, capability: str, messages: int, timeout_s: float, ctx: aip.Context
    ) -> dict[str, int]:
        """Calls that nobody answers in time, more than a mailbox holds; how many ended in which error."""
        ask = partial(ctx.call, target, capability, {}, timeout_s=timeout_s)
        calls = [asyncio.create_task(ask()) for _ in range(messages)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        return Counter(error.code for error in done if isinstance(error, aip.AIPError))

    @aip.capability
    async def slow(self) -> None:
        await asyncio.sleep(1.0)

    @aip.capability
    async def slow_too(self) -> None:
        """The same under a name, and so behind a circuit, of its own."""
        await asyncio.sleep(1.0)

    @aip.capability
    async def breed(self, at_once: int, ctx: aip.Context) -> None:
        born = 0
        while True:
            await asyncio.gather(*(ctx.spawn(Bad, f"child-{born + n}") for n in range(at_once)))
            born += at_once
