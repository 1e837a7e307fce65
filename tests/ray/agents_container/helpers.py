"""Agents that the plan's author trusts."""

from __future__ import annotations

import aip


class Helper(aip.Agent):
    @aip.capability
    async def shout(self, text: str) -> str:
        return text.upper()

    @aip.capability
    async def gather(self, of: str, number: int, ctx: aip.Context) -> list[int]:
        return [part async for part in ctx.stream(of, "numbers", {"number": number})]

    @aip.capability
    async def ask(self, of: str, ctx: aip.Context) -> str:
        answer: str = await ctx.call(of, "answer")
        return answer


class Untrusted(aip.Agent):
    """Trusted by its author, and not by the policy that ships: that goes by its name."""

    @aip.capability
    async def answer(self) -> str:
        return "outside"
