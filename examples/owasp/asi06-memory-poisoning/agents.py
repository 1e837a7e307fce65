"""A memory that agents share, one that feeds it from pages, and one that acts on it."""

from typing import Any

import aip


class Memory(aip.Agent):
    """Facts, over crashes and runs."""

    async def on_start(self, ctx: aip.Context) -> None:
        self.facts: dict[str, str] = ctx.restored or {}

    @aip.capability
    async def remember(self, name: str, value: str, ctx: aip.Context) -> None:
        self.facts[name] = value
        await ctx.checkpoint(self.facts)

    @aip.capability
    def recall(self, name: str) -> str:
        return self.facts[name]


class Web(aip.Agent):
    """Pages of other people: what it answers is labelled untrusted by the policy's catalogue."""

    @aip.capability
    def fetch(self) -> dict[str, str]:
        return {"name": "baker", "value": "http://127.0.0.1:8765/asi06/mallory"}


class Curator(aip.Agent):
    """Remembers whatever pages say."""

    @aip.capability
    async def curate(self, ctx: aip.Context) -> str:
        fact = await ctx.call("web", "fetch")
        try:
            await ctx.call("memory", "remember", fact)
        except aip.AIPError as error:
            return error.code
        return "remembered"


class Treasury(aip.Agent):
    @aip.capability
    async def pay(self, to: str, amount: int, ctx: aip.Context) -> int:
        request = {"method": "POST", "url": to, "json": {"amount": amount}}
        answer: dict[str, Any] = await ctx.effect("web", request)
        return int(answer["status"])
