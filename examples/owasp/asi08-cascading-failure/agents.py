"""A backend that is out of order, and an agent that takes no for a reason to ask again."""

import collections

import aip


class Backend(aip.Agent):
    @aip.capability
    async def load(self, url: str, ctx: aip.Context) -> None:
        """Every call costs the outside something, and fails."""
        await ctx.effect("web", {"method": "POST", "url": url}, key=ctx.idempotency_key)
        raise RuntimeError("the database is gone")

    @aip.capability
    def health(self) -> str:
        return "still here"


class Storm(aip.Agent):
    @aip.capability
    async def ask_again(self, calls: int, url: str, ctx: aip.Context) -> dict[str, int]:
        """How often it heard what."""
        heard: collections.Counter[str] = collections.Counter()
        for number in range(calls):
            try:
                await ctx.call("backend", "load", {"url": url}, idempotency_key=f"storm-{number}")
            except aip.AIPError as error:
                heard[error.code] += 1
        return dict(heard)
