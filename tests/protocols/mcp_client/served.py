"""A platform with one tool server on it, as `tools.x/any`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aip.testing
from aip.protocols.mcp.tool_server import ToolServer

HOSTILE = Path(__file__).with_name("hostile.py")


class Served:
    """The tools of the server, to be called by a test as by any client."""

    def __init__(self, platform: aip.testing.TestPlatform) -> None:
        self.platform = platform

    async def call(self, tool: str, /, *, timeout_s: float | None = None, **arguments: Any) -> Any:
        return await self.platform.call("tools.x/any", tool, timeout_s=timeout_s, **arguments)

    async def describe(self) -> dict[str, Any]:
        described: dict[str, Any] = await self.platform.call("tools.x/any", "aip.describe")
        return described


@asynccontextmanager
async def served(*, budget: dict[str, int] | None = None, **config: Any) -> AsyncIterator[Served]:
    kind = aip.testing.configured(ToolServer, name="tools.x", config={"name": "x", **config})
    async with aip.testing.platform(kind, budget=budget) as platform:
        yield Served(platform)


def hostile(vice: str, *words: str, **config: Any) -> Any:
    return served(command=["python", str(HOSTILE), vice, *words], protocol="2025-11-25", **config)
