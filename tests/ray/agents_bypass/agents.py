"""An agent whose cell lies, and one that is lied to; in two copies of this file, so in two pools."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

import aip
from aip.runtime.guard import Guard, OpenFence
from aip.runtime.turn import CURRENT


class Intruder(aip.Agent):
    """Its cell's guard lets everything through, and its messages say what it likes."""

    reentrant = True

    @aip.capability
    async def send(self, to: str, lies: dict[str, Any], ctx: aip.Context) -> str:
        """What becomes of a call that claims all this of itself."""
        cell = CURRENT.get().cell
        cell.guard = Guard(OpenFence())
        honest = cell.request(ctx.agent, time.time_ns(), to, "add", {"amount": 1}, timeout_s=10)
        try:
            await cell.ask(msgspec.structs.replace(honest, **lies))
        except aip.AIPError as error:
            return error.code
        return "done"

    @aip.capability
    async def insist(self, to: str, seconds: float, ctx: aip.Context) -> str:
        """Call until it is refused, or until the time is up."""
        outcome, until = "", time.monotonic() + seconds
        while not outcome.startswith("refused") and time.monotonic() < until:
            outcome = await self.send(to, {}, ctx)
            await asyncio.sleep(0.05)
        return outcome


class Victim(aip.Agent):
    async def on_start(self, ctx: aip.Context) -> None:
        self.value = 0

    @aip.capability
    async def add(self, amount: int) -> int:
        self.value += amount
        return self.value
