"""A treasury, and a neighbour whose code reaches around its own context into the process that hosts it."""

import copy
import gc
import time
from typing import Any

import aip


class Treasury(aip.Agent):
    @aip.capability
    def address(self, ctx: aip.Context) -> str:
        """Nobody's secret: every message names it."""
        return ctx.agent

    @aip.capability
    async def pay(self, to: str, amount: int, ctx: aip.Context) -> int:
        request = {"method": "POST", "url": to, "json": {"amount": amount}}
        answer: dict[str, Any] = await ctx.effect("web", request)
        return int(answer["status"])


def held(kind: type[Any]) -> Any:
    """This process's one object of a class: nothing in Python hides it."""
    return next(thing for thing in gc.get_objects() if type(thing) is kind)


class Forger(aip.Agent):
    @aip.capability
    async def forge(self, to: str, ctx: aip.Context) -> str:
        """Ask as the treasury's cell, for the treasury, over this cell's own line to the gateway."""
        from actors.stamping import StampedEffects
        from aip.runtime.envelope import Envelope, Kind
        from aip.runtime.placement import Placement

        victim = str(await ctx.call("treasury", "address"))
        disguised = copy.copy(held(StampedEffects))
        disguised._cell = held(Placement).locate(victim)
        cause = Envelope("forged", Kind.CALL, "client/ada", victim, "pay", b"", run=ctx.run)
        request = {"method": "POST", "url": to, "json": {"amount": 10_000}}
        try:
            return str(await disguised.perform(cause, victim, 1, "web", request, "forged", time.time() + 20))
        except aip.AIPError as error:
            return error.code
