"""An agent that plans: it adds tasks to its run, and hands a child a part of its budget."""

from pathlib import Path

import aip


class Planner(aip.Agent):
    @aip.capability
    async def plan(self, chapters: int, folder: str, ctx: aip.Context) -> int:
        parts = {
            f"part_{n}": {"agent": "writer", "capability": "draft", "with": {"chapter": n, "folder": folder}}
            for n in range(chapters)
        }
        await ctx.add_tasks(parts)
        await ctx.add_tasks(
            {
                "edit": {
                    "agent": "writer",
                    "capability": "edit",
                    "needs": list(parts),
                    "with": {"texts": [f"${{{{ tasks.{name}.output }}}}" for name in parts]},
                }
            }
        )
        (Path(folder) / "planned").touch()
        return chapters

    @aip.capability
    async def plan_wrongly(self, ctx: aip.Context) -> None:
        await ctx.add_tasks({"x": {"agent": "writer", "capability": "drift"}})

    @aip.capability
    async def delegate(self, limit: int, costs: list[int], ctx: aip.Context) -> list[str]:
        part = await ctx.split("draft", tokens=limit)
        ends = []
        for tokens in costs:
            try:
                ends.append(await part.call("writer", "think", {"tokens": tokens}))
            except aip.AIPError as error:
                ends.append(error.code)
        return ends


class Writer(aip.Agent):
    @aip.capability
    async def draft(self, chapter: int, folder: str) -> str:
        with (Path(folder) / "drafts").open("a") as file:
            file.write(f"{chapter}\n")
        return f"chapter {chapter}"

    @aip.capability
    async def edit(self, texts: list[str]) -> str:
        return " / ".join(texts)

    @aip.capability
    async def fill(self, chars: int) -> str:
        return "x" * chars

    @aip.capability
    async def think(self, tokens: int, ctx: aip.Context) -> str:
        await ctx.spend(tokens=tokens)
        return "thought"
