"""What the plans of this folder run."""

import time
from pathlib import Path

import aip


class Worker(aip.Agent):
    @aip.capability
    def write(self, title: str, folder: str, seconds: float = 0.0) -> str:
        with Path(folder, "marks").open("a") as file:
            file.write(f"{title}\n")
        time.sleep(seconds)
        if title == "bad":
            raise ValueError("a bad title")
        return title.upper()

    @aip.capability
    async def buy(self, tokens: int, ctx: aip.Context) -> int:
        await ctx.spend(tokens=tokens)
        return tokens
