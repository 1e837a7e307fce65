"""The drawing side of a budget: what a cell may spend without asking, and the budget's seat among the checks of the guard.

A `Purse` draws in chunks from one account of the `Ledger` (`budget.py`), so that a message costs no round trip to the authority;
`Purses` holds those of one cell; `BudgetCheck` takes what a message costs, and says `BudgetNotDrawn` where a purse must be filled
first. What is drawn is reserved at the ledger: a purse never spends what the ledger does not know it holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ..errors import AIPError, BudgetExceeded, BudgetNotDrawn, UsageError
from .budget import Amounts, Draw, Drawn, GiveBack, add, check_amounts, positive

PURSES_MAX = 10_000  # Accounts one cell spends from at a time.
LOW_WATER = 4  # A purse draws again when less than 1/4 of a chunk is left.
CHUNK_OF_NEED = 4  # A unit without a chunk of its own is drawn at this many times the need at hand.

MESSAGE_COST: Amounts = {"messages": 1}
CHUNKS: Amounts = {  # What a purse likes to have in hand: some seconds of one busy agent.
    "messages": 64,
    "tool_calls": 8,
    "tokens": 20_000,
    "usd_micro": 50_000,
}


class Purse:
    """A drawer's share of one account: spends at once and locally, and knows what to draw next.

        EMPTY ──want, served──► OPEN ──want, served──► OPEN ──give_back──► CLOSING ──gave_back──► EMPTY

    `want` is None while a draw is under way: one at a time. If its answer is lost, `not_served` allows the
    next; the ledger enlarges the reservation that this holder already has and answers with totals: nothing is
    counted twice and nothing leaks. While CLOSING it spends nothing, and a `give_back` that nobody has
    acknowledged is repeated word for word. `holder` names one life of one drawer: when it ends untidily, the
    ledger's `lost(holder)` takes all that its purses held as spent.
    """

    __slots__ = (
        "_asked",
        "_beside",
        "_chunks",
        "_closing",
        "_drawing",
        "_dry",
        "_granted",
        "_held",
        "_reported",
        "_reservation",
        "_spent",
        "account",
        "holder",
    )

    def __init__(self, account: str, holder: str, chunks: Amounts = CHUNKS) -> None:
        if not holder:
            raise UsageError(
                "a purse needs a holder", hint="the address and incarnation of the cell that spends"
            )
        self.account = account
        self.holder = holder
        self._chunks = chunks
        self._held: dict[str, int] = {}
        self._empty()

    def _empty(self) -> None:
        self._reservation = ""
        self._asked = self._drawing = self._closing = False
        self._granted: dict[str, int] = {}
        self._spent: dict[str, int] = {}
        self._reported: dict[str, int] = {}
        self._beside: Amounts = {}  # What was left at the ledger, beside this purse, at the last draw.
        self._dry: set[str] = set()  # Units of which the ledger had nothing to spare; asked for only on need.

    @property
    def unheard(self) -> bool:
        """It has spent what the ledger knows nothing of and no reservation covers (charged while it was closing)."""
        return not self._reservation and bool(self._asked or self._spent)

    @property
    def idle(self) -> bool:
        """Nothing drawn, nothing spent, nothing under way: it may be forgotten."""
        return not (self._asked or self._spent or self._held)

    def left(self, unit: str) -> int:
        """What may be spent without asking; below 0 after a charge above it."""
        return self._granted.get(unit, 0) - self._spent.get(unit, 0) - self._held.get(unit, 0)

    def left_in_all(self) -> dict[str, int]:
        """Of each unit that is limited: what this purse has, and what was left beside it when it last drew."""
        return {unit: beside + self.left(unit) for unit, beside in self._beside.items()}

    def covers(self, amounts: Amounts) -> bool:
        return not self._closing and all(self.left(unit) >= amount for unit, amount in amounts.items())

    def spend(self, amounts: Amounts) -> BudgetNotDrawn | None:
        """All of it, or nothing and the reason."""
        if not self.covers(amounts):
            return not_drawn(self.account, amounts)
        add(self._spent, amounts)
        return None

    def unspend(self, amounts: Amounts) -> None:
        """Undo a `spend` whose cause did not happen, in the same step: what has been reported stays spent."""
        for unit, amount in amounts.items():
            if self._spent.get(unit, 0) - amount < self._reported.get(unit, 0):
                raise UsageError(f"{amount} {unit} of {self.account} were not spent since the last report")
        for unit, amount in amounts.items():
            self._spent[unit] -= amount

    def hold(self, amounts: Amounts) -> BudgetNotDrawn | None:
        """Set aside for something whose price is known only afterwards: all of it, or nothing and the reason."""
        if not self.covers(amounts):
            return not_drawn(self.account, amounts)
        add(self._held, amounts)
        return None

    def unhold(self, amounts: Amounts) -> None:
        """What was held is free again. What it came to is a `charge` of its own, in the same step."""
        for unit, amount in amounts.items():
            left = self._held.get(unit, 0) - amount
            if left < 0:
                raise UsageError(f"{amount} {unit} of {self.account} were not held")
            if left:
                self._held[unit] = left
            else:
                self._held.pop(unit, None)

    def charge(self, amounts: Amounts) -> None:
        """What something turned out to cost. Never refused: above its limit the ledger records an overrun."""
        check_amounts(amounts)
        add(self._spent, amounts)

    def want(self, need: Amounts | None = None) -> Draw | None:
        """What to draw to cover `need` and have a chunk in hand. None: nothing, or a draw is under way."""
        if self._drawing or self._closing:
            return None
        need = need or {}
        wanted, at_least = {}, {}
        for unit in dict.fromkeys((*need, *self._granted, *self._spent, *self._held)):
            left = max(0, self.left(unit))
            chunk = self._chunks.get(unit) or CHUNK_OF_NEED * need.get(unit, 0)
            short = max(0, need.get(unit, 0) - left)
            if short or (left * LOW_WATER < chunk and unit not in self._dry):
                wanted[unit], at_least[unit] = short + chunk, short
        # The ledger may not know of this purse: what it spent, or what an answer that was lost has granted.
        if not wanted and not self.unheard:
            return None
        self._asked = self._drawing = True
        self._reported = dict(self._spent)
        return Draw(self.account, self.holder, dict(self._spent), wanted, at_least)

    def served(self, drawn: Drawn) -> BudgetExceeded | None:
        """Take the ledger's answer; returns its refusal, if any. The same answer twice is as once."""
        self._drawing = False
        self._reservation = drawn.reservation.id
        self._beside = {**self._beside, **drawn.left}
        for unit, amount in drawn.reservation.amounts.items():
            (self._dry.discard if amount > self._granted.get(unit, 0) else self._dry.add)(unit)
            self._granted[unit] = amount
        for (
            unit,
            amount,
        ) in drawn.reservation.spent.items():  # Known there and not here: never spend that again.
            self._spent[unit] = max(self._spent.get(unit, 0), amount)
        return drawn.refusal

    def not_served(self) -> None:
        """The answer was lost, or the ledger could not be asked."""
        self._drawing = False

    def give_back(self) -> GiveBack | None:
        """Close: what to settle at the ledger. None: nothing to close, or `want` must be served first.

        Nor while something is held: the ledger would lend to others what this purse has promised. Who holds it closes after.
        """
        if self._drawing or not self._reservation or self._held:
            return None
        if not self._closing:
            self._closing = True
            self._reported = dict(self._spent)
        return GiveBack(self._reservation, dict(self._reported))

    def gave_back(self) -> None:
        """The ledger has settled, or knows no such reservation because it had settled before."""
        late = {unit: amount - self._reported.get(unit, 0) for unit, amount in self._spent.items()}
        self._empty()
        add(self._spent, positive(late))  # Charged while closing: the next reservation's first spending.


class Purses:
    """The purses of one cell, by account."""

    def __init__(self, holder: str, chunks: Amounts = CHUNKS) -> None:
        self._holder = holder
        self._chunks = chunks
        self._purses: dict[str, Purse] = {}

    def __len__(self) -> int:
        return len(self._purses)

    def __iter__(self) -> Iterator[Purse]:
        return iter(self._purses.values())

    def of(self, account: str) -> Purse:
        purse = self._purses.get(account)
        if purse is None:
            if len(self._purses) >= PURSES_MAX:
                self.forget_idle()
            if len(self._purses) >= PURSES_MAX:
                raise UsageError(f"this cell spends from {PURSES_MAX} accounts", hint="give idle purses back")
            purse = self._purses[account] = Purse(account, self._holder, self._chunks)
        return purse

    def find(self, account: str) -> Purse | None:
        return self._purses.get(account)

    def forget_idle(self) -> None:
        self._purses = {account: purse for account, purse in self._purses.items() if not purse.idle}


class Paid(Protocol):
    """What the check reads of an envelope."""

    @property
    def budget(self) -> str: ...


class BudgetCheck:
    """The budget as a permit of the guard: every message that names an account costs it `cost`.

    A purse that is not filled answers `BudgetNotDrawn`: the cell serves `purses.of(account).want(cost)` at
    the ledger and asks the guard again; if the ledger refuses, its `BudgetExceeded` is the answer. A message
    that was sent stays paid, however it ends; what its turn costs besides (tokens, money) is charged to the
    purse by the agent's context.
    """

    name = "budget"

    def __init__(self, purses: Purses, cost: Amounts = MESSAGE_COST) -> None:
        check_amounts(cost)
        self.purses = purses
        self.cost = dict(cost)

    def peek(self, envelope: Paid, now: float) -> AIPError | None:
        if not envelope.budget:
            return None
        purse = self.purses.find(envelope.budget)
        return (
            None if purse is not None and purse.covers(self.cost) else not_drawn(envelope.budget, self.cost)
        )

    def take(self, envelope: Paid, now: float) -> AIPError | None:
        if not envelope.budget:
            return None
        purse = self.purses.find(envelope.budget)
        return purse.spend(self.cost) if purse is not None else not_drawn(envelope.budget, self.cost)

    def give_back(self, envelope: Paid, now: float) -> None:
        if envelope.budget:
            self.purses.of(envelope.budget).unspend(self.cost)

    def settle(self, envelope: Paid, now: float, duration_s: float, error: AIPError | None) -> None:
        """Nothing: a message that was sent is spent."""


def not_drawn(account: str, amounts: Amounts) -> BudgetNotDrawn:
    return BudgetNotDrawn(
        f"the purse of {account} must be filled first", account=account, needed=dict(amounts)
    )
