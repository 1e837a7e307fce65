"""Money on the cell's side: purses that draw from the ledger of the run they pay for (`aip.orchestration.budget`)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from aip.errors import BudgetExceeded, NotFound, from_record
from aip.orchestration.budget import Draw, Drawn, GiveBack, Reservation
from aip.orchestration.purse import Purses

from .peers import Peers
from .run_ledger import Granted

_encode = msgspec.msgpack.Encoder().encode


class RunPurses:
    """Spends locally, draws from `run-<id>` when a purse is short, gives back when a turn that spent has ended."""

    def __init__(self, peers: Peers, holder: str) -> None:
        self.core = Purses(holder)
        self._holder = holder
        self._peers = peers
        self._locks: WeakValueDictionary[str, asyncio.Lock] = (
            WeakValueDictionary()
        )  # Live while somebody uses them.

    async def spend(self, account: str, amounts: Mapping[str, int]) -> None:
        """Raises `BudgetExceeded` where the ledger has no more for this account."""
        while self.core.of(account).spend(amounts) is not None:
            await self.fill(account, amounts)

    async def hold(self, account: str, amounts: Mapping[str, int]) -> None:
        """Raises `BudgetExceeded` where the ledger has no more for this account."""
        while self.core.of(account).hold(amounts) is not None:
            await self.fill(account, amounts)

    def unhold(self, account: str, held: Mapping[str, int], spent: Mapping[str, int]) -> None:
        purse = self.core.of(account)
        purse.unhold(held)
        purse.charge(spent)

    def left(self, account: str) -> Mapping[str, int]:
        """What is left on an account as far as this cell knows, for policies. Nothing where it never drew."""
        purse = self.core.find(account)
        return {} if purse is None else purse.left_in_all()

    async def split(self, account: str, part: str, limits: Mapping[str, int]) -> None:
        await self._ask(account, "split", {"account": account, "part": part, "limits": dict(limits)})

    async def fill(self, account: str, need: Mapping[str, int]) -> None:
        async with self._lock(account):
            purse = self.core.of(account)
            if purse.covers(need):
                return  # Whoever drew before us drew enough for two.
            draw = purse.want(need)
            assert draw is not None, "one draw at a time: the lock sees to it"
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
        async with self._lock(account):
            if purse.unheard and (draw := purse.want()) is not None:
                try:
                    purse.served(await self._draw(draw))
                except BaseException:
                    purse.not_served()
                    raise
            given = purse.give_back()
            if given is not None:
                await self._give_back(account, given)
                purse.gave_back()
            if purse.idle:
                self.core.forget_idle()

    def _lock(self, account: str) -> asyncio.Lock:
        lock = self._locks.get(account)
        if lock is None:
            lock = self._locks[account] = asyncio.Lock()
        return lock

    async def _draw(self, draw: Draw) -> Drawn:
        answer = await self._ask(draw.account, "draw", msgspec.to_builtins(draw))
        granted = msgspec.convert(answer, Granted)
        given = Reservation(granted.id, granted.account, granted.holder, granted.amounts, granted.spent)
        error = None if granted.refusal is None else from_record(granted.refusal)
        return Drawn(given, error if isinstance(error, BudgetExceeded) else None, granted.left)

    async def _give_back(self, account: str, given: GiveBack) -> None:
        settled = {
            "account": account,
            "holder": self._holder,
            "reservation": given.reservation,
            "spent": dict(given.spent),
        }
        try:
            await self._ask(account, "settle", settled)
        except NotFound:
            return  # The run is over and its ledger with it.

    async def _ask(self, account: str, method: str, arguments: Any) -> Any:
        run = account.partition("/")[0]
        return msgspec.msgpack.decode(await self._peers.insist(f"run-{run}", method, _encode(arguments)))
