"""A desk that answers tickets through a ticket system's API, which could do far more."""

from typing import Any

import aip
from aip.models import LLMAgent


class Desk(LLMAgent):
    instructions = "You answer a customer's ticket."
    model = "small"
    tools = ("tickets",)


class Tickets(aip.Agent):
    """The ticket system, as generous as such wrappers are: it asks for whatever it is told to."""

    @aip.capability
    async def reply(self, url: str, text: str, ctx: aip.Context) -> int:
        """Answer a ticket."""
        return await self._request(ctx, {"method": "POST", "url": url, "body": text})

    @aip.capability
    async def forget(self, url: str, ctx: aip.Context) -> int:
        """Delete a record."""
        return await self._request(ctx, {"method": "DELETE", "url": url})

    async def _request(self, ctx: aip.Context, request: dict[str, Any]) -> int:
        answer: dict[str, Any] = await ctx.effect("tickets", request)
        return int(answer["status"])
