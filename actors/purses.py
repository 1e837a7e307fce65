"""Money on the cell's side: purses that draw from the ledger of the run they pay for (`aip.orchestration.budget`)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from aip.errors import BudgetExceeded, ErrorRecord, NotFound, from_record
from aip.orchestration.budget import Draw, Drawn, GiveBack, Purses, Reservation

from .peers import Peers

_encode = msgspec.msgpack.Encoder().encode


class RunPurses:
    """Spends locally, draws from `run-<id>` when a purse is short, gives back when a turn that spent has ended."""

    def __init__(self, peers: Peers, holder: str) -> None:
        self.core = Purses(holder)
        self._peers = peers
        self._locks: dict[str, asyncio.Lock] = {}

    async def spend(self, account: str, amounts: Mapping[str, int]) -> None:
        """Raises `BudgetExceeded` where the ledger has no more for this account."""
        while self.core.of(account).spend(amounts) is not None:
            await self.fill(account, amounts)

    async def fill(self, account: str, need: Mapping[str, int]) -> None:
        async with self._locks.setdefault(account, asyncio.Lock()):
            purse = self.core.of(account)
            draw = purse.want(need)
            if purse.covers(need) or draw is None:
                return
            try:
                drawn = await self._draw(draw)
            except BaseException:
                purse.not_served()
                raise
            refusal = purse.served(drawn)
            if refusal is not None and not purse.covers(need):
                raise refusal

    async def close(self, account: str) -> None:
        """A turn on this account has ended: tell the ledger what was spent, before the turn's answer goes out."""
        purse = self.core.find(account)
        if purse is None:
            return
        async with self._locks.setdefault(account, asyncio.Lock()):
            given = purse.give_back()
            if given is not None:
                await self._give_back(account, given)
                purse.gave_back()
        if purse.idle:
            self._locks.pop(account, None)
            self.core.forget_idle()

    async def _draw(self, draw: Draw) -> Drawn:
        answer: dict[str, Any] = await self._ask(draw.account, "draw", msgspec.to_builtins(draw))
        refused = answer["refusal"]
        error = from_record(msgspec.convert(refused, ErrorRecord)) if refused else None
        return Drawn(
            msgspec.convert(answer["reservation"], Reservation),
            error if isinstance(error, BudgetExceeded) else None,
        )

    async def _give_back(self, account: str, given: GiveBack) -> None:
        try:
            await self._ask(account, "settle", msgspec.to_builtins(given))
        except NotFound:
            return  # The run is over and its ledger with it.

    async def _ask(self, account: str, method: str, arguments: Any) -> Any:
        run = account.partition("/")[0]
        return msgspec.msgpack.decode(await self._peers.insist(f"run-{run}", method, _encode(arguments)))
