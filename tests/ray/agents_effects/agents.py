"""An agent that touches the outside through the effect gateway."""

from typing import Any

import aip


class Reporter(aip.Agent):
    @aip.capability
    async def report(self, path: str, text: str, ctx: aip.Context, key: str = "") -> Any:
        request = {"path": path, "text": text, "mode": "create"}
        return await ctx.effect("reports", request, key=key or path)
