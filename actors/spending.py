"""What a run spends, told to the kill switch's spend-rate trigger where it is on: a sum once a second, and nobody waits.

What could not be told is part of the next sum. Only a run whose plan has a budget has a ledger of what it spends, and only units
that the trigger watches are told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from aip.errors import AIPError, UsageError
from aip.governance.kill import settings as kill_settings
from aip.runtime.ports import CellLost, NotSent
from aip.settings import Home

KILL_SWITCH = "kill"
TELL_EVERY_S = 1.0
TELL_TIMEOUT_S = 1.0

_encode = msgspec.msgpack.Encoder().encode


def watched(home: Home) -> frozenset[str]:
    """The units that the trigger watches; none where it is off. A file that cannot be read is the kill switch's to report."""
    try:
        settings = kill_settings.load(home).triggers.spend_rate
    except (UsageError, OSError):
        settings = kill_settings.SpendRate()
    return frozenset(settings.per_minute) if settings.enabled else frozenset()


class Spending:
    """`spent` gives the run's totals by unit; `tell` is a call of the kill switch's method `observe`."""

    def __init__(
        self,
        run: str,
        units: frozenset[str],
        spent: Callable[[], Mapping[str, int]],
        tell: Callable[[bytes], Awaitable[bytes]],
    ) -> None:
        self._run = run
        self._units = units
        self._spent = spent
        self._tell = tell
        self._told: dict[str, int] = {}

    async def keep(self) -> None:
        while self._units:
            await asyncio.sleep(TELL_EVERY_S)
            await self.look()

    async def look(self) -> None:
        for unit, total in self._spent().items():
            amount = total - self._told.get(unit, 0)
            if unit not in self._units or amount <= 0:
                continue
            event = {"kind": "spent", "run": self._run, "unit": unit, "amount": amount}
            try:
                async with asyncio.timeout(TELL_TIMEOUT_S):
                    await self._tell(_encode(event))
            except (TimeoutError, AIPError, NotSent, CellLost):
                return  # The kill switch is away. It is told what came together when it is back.
            self._told[unit] = total
