"""What the cells of one run draw from: the live side of its budget (semantics R4).

The run's machine reserves a task's own budget as a whole and learns what an attempt spent when it ends. In between agents
spend, in other processes, out of purses that draw here. Two kinds of account:

    a task with a budget of its own   a ledger of its own; the whole of it is earmarked in the plan's, so nobody else spends it
    any other task                    an account under the plan's limits

After a restart of the run's process this ledger begins with what its journal knows as spent. Purses that outlived it say, with
their next draw or when they close, how much they have spent in all; what this ledger has not heard of is charged then, in full.
A reservation is named with the life of the ledger that gave it, so that no purse settles another one's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec

from aip.errors import ErrorRecord, NotFound, to_record
from aip.orchestration.budget import Amounts, Draw, Ledger, parent_of


class Granted(msgspec.Struct, frozen=True):
    """The answer to a draw, as it travels."""

    id: str
    account: str
    holder: str
    amounts: dict[str, int]
    spent: dict[str, int]
    refusal: ErrorRecord | None = None
    left: dict[str, int] = {}


class RunLedger:
    def __init__(self, run: str, life: int, limits: Amounts, spent: Amounts) -> None:
        self._run = run
        self._life = life
        self._spent_before = dict(spent)
        self._plan = Ledger()
        self._plan.open(run, {unit: max(0, limit - spent.get(unit, 0)) for unit, limit in limits.items()})
        self._own: dict[
            str, tuple[Ledger, int, str]
        ] = {}  # account -> (its ledger, generation, earmark in the plan's)
        self._reported: dict[str, dict[str, int]] = {}

    def begin(self, account: str, generation: int, budget: Amounts) -> None:
        """An attempt on this account is about to start; `budget` is what the task's own still allows, if it has one."""
        known = self._own.get(account)
        if known is not None and known[1] != generation:
            self.end(account)
        if account in self._reported:
            return
        self._reported[account] = {}
        if not budget:
            self._plan.open(account)
            return
        own = Ledger()
        own.open(self._run)
        own.open(account, budget)
        earmark = self._plan.reserve(self._run, budget, holder=account)
        self._own[account] = (own, generation, earmark.id if not isinstance(earmark, Exception) else "")

    def end(self, account: str) -> None:
        """The task is over: what its earmark did not spend is the plan's again."""
        known = self._own.pop(account, None)
        if known is not None:
            ledger, _, earmark = known
            if earmark:
                self._plan.settle(earmark, ledger.statement(account).spent)
            self._reported.pop(account, None)

    def owned(self) -> list[str]:
        return list(self._own)

    def draw(self, account: str, holder: str, spent: Amounts, wanted: Amounts, at_least: Amounts) -> Granted:
        drawn = self._of(account).serve(Draw(account, holder, spent, wanted, at_least))
        given = drawn.reservation
        refusal = None if drawn.refusal is None else to_record(drawn.refusal)
        name = f"{self._life}:{given.id}"
        amounts, spent = dict(given.amounts), dict(given.spent)
        return Granted(name, given.account, given.holder, amounts, spent, refusal, dict(drawn.left))

    def settle(self, account: str, holder: str, reservation: str, spent: Amounts) -> None:
        """A purse closes. One that an earlier life filled is charged here with all it has spent."""
        life, _, name = reservation.partition(":")
        ledger = self._of(account)
        if int(life) != self._life:
            name = ledger.serve(Draw(account, holder, spent, {}, {})).reservation.id
        try:
            ledger.settle(name, spent)
        except NotFound:
            return  # Settled before; the answer was lost.

    def charge(self, account: str, holder: str, spent: Amounts) -> None:
        """What another run has spent on this account, all at once, when it has ended."""
        ledger = self._of(account)
        ledger.settle(ledger.serve(Draw(account, holder, spent, {}, {})).reservation.id, spent)

    def news(self, account: str) -> dict[str, int]:
        """What the account has spent since this was last asked."""
        reported = self._reported.get(account)
        if reported is None:
            return {}
        spent = dict(self._of(account).statement(account).spent)
        self._reported[account] = spent
        return {
            unit: amount - reported.get(unit, 0)
            for unit, amount in spent.items()
            if amount > reported.get(unit, 0)
        }

    def spent(self) -> dict[str, int]:
        """What the run has spent since this ledger began, by tasks under way, too."""
        total = Counter(self._plan.statement(self._run).spent)
        for account, (own, _, _) in self._own.items():
            total.update(own.statement(account).spent)
        return dict(total)

    def raise_limits(self, limits: Mapping[str, int]) -> None:
        """The plan's limits are higher now."""
        whole = self._plan.statement(self._run)
        for unit, limit in limits.items():
            used = whole.spent.get(unit, 0) + whole.reserved.get(unit, 0)
            self._plan.limit(self._run, unit, max(used, limit - self._spent_before.get(unit, 0)))

    def split(self, account: str, part: str, limits: Amounts) -> None:
        """A part of the account, for whom its agent hands it to. It ends with the account."""
        self._of(account).part(account, part, limits)

    def _of(self, account: str) -> Ledger:
        """The ledger that an account is in, or a part of it, or a part of that."""
        above = account
        while above not in self._reported:
            above = parent_of(above)
            if not above:
                raise NotFound(f"nothing of {self._run} works on the account {account}")
        known = self._own.get(above)
        return self._plan if known is None else known[0]
