"""One class under two names, and one that knows them by their names in the plan."""

import pydantic

import aip


class Writer(aip.Agent):
    class Config(pydantic.BaseModel):
        tone: str = "dry"

    @aip.capability
    async def write(self, word: str) -> str:
        return f"{self.config.tone} {word}"


class Editor(aip.Agent):
    @aip.capability
    async def edit(self, word: str, ctx: aip.Context) -> list[str]:
        return [await ctx.agent_at(name).write(word=word) for name in ("warm", "harsh", "plain")]

    @aip.capability
    async def lost(self, ctx: aip.Context) -> None:
        await ctx.call("nobody", "write", {"word": "x"})

    @aip.capability
    async def buy(self, ctx: aip.Context, held: int, cost: int) -> None:
        async with ctx.reserve(tokens=held) as reservation:
            reservation.settle(tokens=cost)
