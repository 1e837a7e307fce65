"""Budgets: a tree of accounts that 200 agents can share and never overspend.

An account is a path, `plan/task/agent`; its parent is what stands before the last slash. It may limit any
unit (tokens, usd_micro, tool_calls, messages, …); a unit that nothing limits on the way to the root is only
counted. All amounts are integers. The authority, one per run, holds the `Ledger`; cells spend from a `Purse` (`purse.py`) that
draws in chunks.

    reserve ──┬─► open ──settle──► closed      what was spent is charged, the rest goes back
    draw ─────┘   │ ▲  ──lost────► closed      all of it counts as spent: its drawer cannot be asked any more
                  └─┘ report, draw again       charged as far as known; enlarged

For every account and unit, after every operation (`check` proves it):

    spent, reserved = its own + those of its children; a closed child's spent is its parent's own
    spent + reserved <= limit + overrun

where `overrun` grows only when `report` or `settle` brings more than fits: the price of a model's answer is
known only afterwards.

Guarantees. `reserve` and `draw` look at the whole path before they change anything: all or nothing, and never
past a limit. What was really spent is always charged in full. An account above its limit in one unit grants
nothing below it, in no unit, until the limit is raised. Reports name the total spent so far: one that is
repeated or late changes nothing. The same operations give the same ledger; `to_state` and `from_state` turn
it into plain data for a journal and back.

Not guaranteed. The ledger does not notice that a drawer is gone: its owner calls `lost`. What is drawn and
not used is money others wait for; so beyond what it needs at once no draw gets more than a quarter of what is
left, and chunks shrink as the budget runs out (guided self-scheduling: Polychronopoulos and Kuck, 1987).

Whoever refuses *returns* a `BudgetExceeded`; only misuse raises (`NotFound`, `UsageError`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import BudgetExceeded, Corrupt, NotFound, UsageError

ACCOUNTS_MAX = 250_000  # Every item of the largest fan-out, twice.
RESERVATIONS_MAX = 250_000
DEPTH_MAX = 8  # plan > task > agent, and room for agents that hand budgets on.
UNITS_MAX = 16
AMOUNT_MAX = 2**53 - 1  # Amounts travel as JSON numbers; beyond this some readers round.
DRAW_SHARE = 4  # A draw gets at most 1/4 of what is left, beyond what it needs at once.
STATE_VERSION = 1

Amounts = Mapping[str, int]


def account_of(*names: str) -> str:
    """The path of an account; an address among its names loses its slash: `r-1/audit/greeter:ada`."""
    return "/".join(name.replace("/", ":") for name in names)


def parent_of(account: str) -> str:
    return account.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Reservation:
    """`amounts` is the total of all draws into it so far, `spent` what has been reported of it."""

    id: str
    account: str
    holder: str
    amounts: Amounts
    spent: Amounts


@dataclass(frozen=True, slots=True)
class Overrun:
    """By how much an account has just been charged above its limit."""

    account: str
    unit: str
    amount: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a report or a settlement did: charged now, given back now, and what went above a limit by it."""

    account: str
    charged: Amounts
    returned: Amounts
    overruns: tuple[Overrun, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """An account as a person reads it; its spent and reserved hold those of every account below it."""

    account: str
    limits: Amounts
    spent: Amounts
    reserved: Amounts
    overrun: Amounts

    def left(self, unit: str) -> int | None:
        """What may still be reserved by this account's own limit; None if it has none for this unit."""
        limit = self.limits.get(unit)
        return None if limit is None else max(0, limit - self.spent.get(unit, 0) - self.reserved.get(unit, 0))


@dataclass(frozen=True, slots=True)
class Draw:
    """What a purse asks of the ledger: take note of what I have spent, then grant me this."""

    account: str
    holder: str
    spent: Amounts
    wanted: Amounts
    at_least: Amounts


@dataclass(frozen=True, slots=True)
class Drawn:
    """The ledger's answer: the purse's reservation as it stands, why it was not enlarged, if so, and what is left."""

    reservation: Reservation
    refusal: BudgetExceeded | None
    left: Amounts = field(default_factory=dict)  # What could still be drawn, of units with a limit.


@dataclass(frozen=True, slots=True)
class GiveBack:
    """What a purse says when it closes, for `Ledger.settle`: this is all I have spent."""

    reservation: str
    spent: Amounts


@dataclass(slots=True)
class _Account:
    limits: dict[str, int]
    children: int = 0
    holds: int = 0  # Open reservations of this very account.
    own: dict[str, int] = field(default_factory=dict)  # Spent here, or by children that are closed.
    spent: dict[str, int] = field(default_factory=dict)
    reserved: dict[str, int] = field(default_factory=dict)
    overrun: dict[str, int] = field(default_factory=dict)

    def left(self, unit: str) -> int | None:
        """What fits below the limit; negative above it; None without one."""
        limit = self.limits.get(unit)
        return None if limit is None else limit - self.spent.get(unit, 0) - self.reserved.get(unit, 0)


@dataclass(slots=True)
class _Hold:
    account: str
    holder: str
    granted: dict[str, int]
    spent: dict[str, int] = field(default_factory=dict)

    def outstanding(self, unit: str) -> int:
        return max(0, self.granted.get(unit, 0) - self.spent.get(unit, 0))


Path = list[tuple[str, _Account]]  # An account and all above it, the root last.


class Ledger:
    """The accounts of one authority. Not shared between threads: one actor owns it."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}
        self._holds: dict[str, _Hold] = {}
        self._by_holder: dict[str, dict[str, None]] = {}  # Their reservations, the oldest first.
        self._units: set[str] = set()
        self._number = 0

    # Accounts

    def open(self, account: str, limits: Amounts | None = None) -> None:
        """A new account under an open parent (or a root, if its path has one name)."""
        _check_path(account)
        self._admit(limits or {})
        if account in self._accounts:
            raise UsageError(f"account {account} is open already")
        if len(self._accounts) >= ACCOUNTS_MAX:
            raise UsageError(f"{ACCOUNTS_MAX} accounts are open", hint="close those whose work has ended")
        parent = parent_of(account)
        if parent:
            self._account(parent).children += 1
        self._accounts[account] = _Account(dict(limits or {}))

    def part(self, account: str, part: str, limits: Amounts) -> None:
        """Open `part` under `account`, or find it as it was opened before. Raises `UsageError` where it has other limits."""
        if parent_of(part) != account:
            raise UsageError(f"{part} is not a part of {account}")
        known = self._accounts.get(part)
        if known is None:
            self.open(part, limits)
        elif known.limits != dict(limits):
            raise UsageError(
                f"{part} was split off with {known.limits} before, not {dict(limits)}",
                hint="the same name in the same piece of work is the same part; give the new one another name",
            )

    def close(self, account: str) -> Statement:
        """End an account that has no open children and reservations. Its spent becomes its parent's own."""
        node = self._account(account)
        if node.children or node.holds:
            raise UsageError(
                f"account {account} has {node.children} open children and {node.holds} open reservations",
                hint="close and settle those first; `lost` settles those of a holder that is gone",
            )
        statement = self.statement(account)
        del self._accounts[account]
        parent = self._accounts.get(parent_of(account))
        if parent is not None:
            parent.children -= 1
            add(parent.own, node.spent)
        return statement

    def limit(self, account: str, unit: str, amount: int) -> None:
        """Set a limit at run time. It may be lowered too, but not below what is spent and reserved by now."""
        node = self._account(account)
        self._admit({unit: amount})
        used = node.spent.get(unit, 0) + node.reserved.get(unit, 0)
        if amount < used and amount < node.limits.get(unit, amount + 1):
            raise UsageError(f"{account} has used {used} {unit}; its limit cannot become {amount}")
        node.limits[unit] = amount

    def statement(self, account: str) -> Statement:
        node = self._account(account)
        spent, reserved = positive(node.spent), positive(node.reserved)
        return Statement(account, dict(node.limits), spent, reserved, positive(node.overrun))

    def accounts(self) -> Iterator[str]:
        return iter(self._accounts)

    def available(self, account: str, unit: str) -> int | None:
        """What could be reserved now, by every limit up to the root; None if none limits this unit."""
        room = [left for _, node in self._path(account) if (left := node.left(unit)) is not None]
        return max(0, min(room)) if room else None

    # Reservations

    def reserve(self, account: str, amounts: Amounts, *, holder: str = "") -> Reservation | BudgetExceeded:
        """All of `amounts`, or none and the reason. The reason is returned: running out is no accident."""
        return self.draw(account, amounts, amounts, holder=holder)

    def draw(
        self, account: str, wanted: Amounts, at_least: Amounts, *, into: str | None = None, holder: str = ""
    ) -> Reservation | BudgetExceeded:
        """From `at_least` to `wanted` of each unit. `into` enlarges an open reservation of that account."""
        self._admit(at_least)
        self._admit(wanted)
        hold = None if into is None else self._hold(into)
        if hold is not None and hold.account != account:
            raise UsageError(f"reservation {into} belongs to {hold.account}, not to {account}")
        path = self._path(account)
        granted = self._grant(path, {**at_least, **wanted}, at_least)
        if isinstance(granted, BudgetExceeded):
            return granted
        if hold is None or into is None:
            into = self._open_hold(account, holder)
            hold = self._holds[into]
        for unit, amount in granted.items():
            # What it has spent above its grant was charged already: that part is not owed twice.
            before = hold.outstanding(unit)
            hold.granted[unit] = max(hold.granted.get(unit, 0), hold.spent.get(unit, 0)) + amount
            for _, node in path:
                node.reserved[unit] = node.reserved.get(unit, 0) + hold.outstanding(unit) - before
        return self._reservation(into, hold)

    def serve(self, draw: Draw) -> Drawn:
        """A purse's draw: what it has spent is charged, then its one reservation is opened or enlarged.

        The reservation stands even if nothing can be granted: what was spent needs a place to be counted.
        """
        mine = (id for id in self._by_holder.get(draw.holder, ()) if self._holds[id].account == draw.account)
        id = next(mine, None) or self._open_hold(draw.account, draw.holder)
        self.report(id, draw.spent)
        answer = self.draw(draw.account, draw.wanted, draw.at_least, into=id)
        units = dict.fromkeys((*draw.wanted, *draw.spent))
        left = {unit: least for unit in units if (least := self.available(draw.account, unit)) is not None}
        return Drawn(self.reservation(id), answer if isinstance(answer, BudgetExceeded) else None, left)

    def report(self, reservation: Reservation | str, spent: Amounts) -> Settlement:
        """`spent` in total so far; it stays open. A total lower than known is late and changes nothing."""
        _, hold = self._known(reservation)
        return self._charge(hold, spent, closing=False)

    def settle(self, reservation: Reservation | str, spent: Amounts) -> Settlement:
        """`spent` in total; the rest goes back. More than was reserved is charged in full, overrun or not."""
        id, hold = self._known(reservation)
        settlement = self._charge(hold, spent, closing=True)
        self._drop_hold(id, hold)
        return settlement

    def release(self, reservation: Reservation | str) -> Settlement:
        """Nothing more was spent than has been reported."""
        return self.settle(reservation, {})

    def lost(self, holder: str) -> list[Settlement]:
        """The holder is gone and cannot say what it spent: all that it held counts as spent."""
        ids = list(self._by_holder.get(holder, ()))
        return [self.settle(id, self._holds[id].granted) for id in ids]

    def reservation(self, id: str) -> Reservation:
        return self._reservation(id, self._hold(id))

    def reservations(self, holder: str | None = None) -> list[Reservation]:
        ids: Iterable[str] = self._holds if holder is None else self._by_holder.get(holder, ())
        return [self._reservation(id, self._holds[id]) for id in ids]

    # State

    def to_state(self) -> dict[str, Any]:
        """Plain data, from which `from_state` makes a ledger that behaves the same. Sums are not in it."""
        return {
            "version": STATE_VERSION,
            "number": self._number,
            "accounts": [
                [name, dict(node.limits), positive(node.own), positive(node.overrun)]
                for name, node in self._accounts.items()
            ],
            "reservations": [
                [id, hold.account, hold.holder, dict(hold.granted), dict(hold.spent)]
                for id, hold in self._holds.items()
            ],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Ledger:
        """The ledger again, its sums made anew and its invariants checked. `Corrupt` if they do not hold."""
        if state.get("version") != STATE_VERSION:
            raise Corrupt(f"a ledger of version {state.get('version')!r}, not {STATE_VERSION}")
        ledger = cls()
        try:
            for name, limits, own, overrun in state["accounts"]:
                ledger.open(name, limits)
                ledger._admit(own)
                ledger._admit(overrun)
                ledger._accounts[name].overrun = dict(overrun)
                ledger._accounts[name].own = dict(own)
                for _, node in ledger._path(name):
                    add(node.spent, own)
            for id, account, holder, granted, spent in state["reservations"]:
                ledger._admit(granted)
                ledger._admit(spent)
                hold = _Hold(account, holder, dict(granted), dict(spent))
                ledger._add_hold(id, hold)
                for _, node in ledger._path(account):
                    add(node.reserved, {unit: hold.outstanding(unit) for unit in granted})
            ledger._number = int(state["number"])
        except (AttributeError, KeyError, TypeError, ValueError, NotFound, UsageError) as error:
            raise Corrupt(f"a ledger that cannot be read: {error}") from error
        ledger.check()
        return ledger

    def check(self) -> None:
        """Every invariant of this module, or `Corrupt`."""
        spent = {name: dict(node.own) for name, node in self._accounts.items()}
        reserved: dict[str, dict[str, int]] = {name: {} for name in self._accounts}
        for hold in self._holds.values():
            add(reserved[hold.account], {unit: hold.outstanding(unit) for unit in hold.granted})
        for name in reversed(self._accounts):  # Children were opened after their parents.
            if parent := parent_of(name):
                add(spent[parent], spent[name])
                add(reserved[parent], reserved[name])
        for name, node in self._accounts.items():
            if positive(node.spent) != positive(spent[name]):
                raise Corrupt(f"{name} has spent {node.spent}, but what lies below it sums to {spent[name]}")
            if positive(node.reserved) != positive(reserved[name]):
                raise Corrupt(
                    f"{name} holds {node.reserved}, but what lies below it sums to {reserved[name]}"
                )
            for unit, limit in node.limits.items():
                used = node.spent.get(unit, 0) + node.reserved.get(unit, 0)
                if used > limit + node.overrun.get(unit, 0):
                    raise Corrupt(f"{name} has used {used} {unit} of {limit} and no overrun explains it")

    # Inside

    def _grant(self, path: Path, wanted: Amounts, at_least: Amounts) -> dict[str, int] | BudgetExceeded:
        """What each unit gets, the whole path agreeing, and nothing changed yet."""
        for name, node in path:
            for unit in node.limits:
                if (node.left(unit) or 0) < 0:
                    return _exceeded(name, node, unit, at_least.get(unit, 0))
        granted = {}
        for unit, most in wanted.items():
            least = at_least.get(unit, 0)
            rooms = [(left, name, node) for name, node in path if (left := node.left(unit)) is not None]
            room, name, node = min(rooms, key=lambda entry: entry[0]) if rooms else (most, *path[0])
            if least > room:
                return _exceeded(name, node, unit, least)
            share = room // DRAW_SHARE if rooms else most
            granted[unit] = max(least, min(most, share))
        return granted

    def _charge(self, hold: _Hold, spent: Amounts, *, closing: bool) -> Settlement:
        self._admit(spent)
        path = self._path(hold.account)
        charged, returned, overruns = {}, {}, []
        for unit in dict.fromkeys((*hold.granted, *spent)):
            before = hold.outstanding(unit)
            new = max(0, spent.get(unit, 0) - hold.spent.get(unit, 0))
            hold.spent[unit] = hold.spent.get(unit, 0) + new
            after = hold.outstanding(unit)
            overruns += _charge_path(path, unit, new, before - (0 if closing else after))
            self._accounts[hold.account].own[unit] = self._accounts[hold.account].own.get(unit, 0) + new
            charged[unit] = new
            if closing:
                returned[unit] = after
        return Settlement(hold.account, positive(charged), positive(returned), tuple(overruns))

    def _account(self, account: str) -> _Account:
        node = self._accounts.get(account)
        if node is None:
            raise NotFound(f"no open account {account!r}")
        return node

    def _path(self, account: str) -> Path:
        """From the account to its root."""
        path = [(account, self._account(account))]
        while account := parent_of(account):
            path.append((account, self._accounts[account]))
        return path

    def _hold(self, id: str) -> _Hold:
        hold = self._holds.get(id)
        if hold is None:
            raise NotFound(f"no open reservation {id!r}", hint="it was settled, released or lost before")
        return hold

    def _known(self, reservation: Reservation | str) -> tuple[str, _Hold]:
        id = reservation if isinstance(reservation, str) else reservation.id
        return id, self._hold(id)

    def _open_hold(self, account: str, holder: str) -> str:
        if len(self._holds) >= RESERVATIONS_MAX:
            raise UsageError(f"{RESERVATIONS_MAX} reservations are open", hint="settle or release some")
        self._number += 1
        self._add_hold(str(self._number), _Hold(account, holder, {}))
        return str(self._number)

    def _add_hold(self, id: str, hold: _Hold) -> None:
        self._account(hold.account).holds += 1
        self._holds[id] = hold
        self._by_holder.setdefault(hold.holder, {})[id] = None

    def _drop_hold(self, id: str, hold: _Hold) -> None:
        self._accounts[hold.account].holds -= 1
        del self._holds[id]
        mine = self._by_holder[hold.holder]
        del mine[id]
        if not mine:
            del self._by_holder[hold.holder]

    def _reservation(self, id: str, hold: _Hold) -> Reservation:
        return Reservation(id, hold.account, hold.holder, dict(hold.granted), dict(hold.spent))

    def _admit(self, amounts: Amounts) -> None:
        """Amounts that this ledger can hold: whole, bounded, and of no more units than it has room for."""
        check_amounts(amounts)
        if not self._units.issuperset(amounts):
            units = self._units.union(amounts)
            if len(units) > UNITS_MAX:
                raise UsageError(f"a ledger counts {UNITS_MAX} units, not {', '.join(sorted(units))}")
            self._units = units


def _check_path(account: str) -> None:
    names = account.split("/")
    if not all(names) or len(names) > DEPTH_MAX:
        raise UsageError(
            f"not an account: {account!r}", hint=f"an account is 1 to {DEPTH_MAX} names between slashes"
        )


def check_amounts(amounts: Amounts) -> None:
    for unit, amount in amounts.items():
        if not isinstance(amount, int) or isinstance(amount, bool) or not 0 <= amount <= AMOUNT_MAX:
            raise UsageError(
                f"{unit}: {amount!r} is not an amount", hint="amounts are whole and not negative"
            )


def add(total: dict[str, int], amounts: Amounts) -> None:
    for unit, amount in amounts.items():
        total[unit] = total.get(unit, 0) + amount


def positive(amounts: Amounts) -> dict[str, int]:
    return {unit: amount for unit, amount in amounts.items() if amount}


def _charge_path(path: Path, unit: str, spent: int, freed: int) -> list[Overrun]:
    """Turn reserved into spent on the whole path, and record what thereby goes above a limit."""
    overruns = []
    for name, node in path:
        above_before = max(0, -(node.left(unit) or 0))
        node.spent[unit] = node.spent.get(unit, 0) + spent
        node.reserved[unit] = node.reserved.get(unit, 0) - freed
        above = max(0, -(node.left(unit) or 0)) - above_before
        if above > 0:
            node.overrun[unit] = node.overrun.get(unit, 0) + above
            overruns.append(Overrun(name, unit, above))
    return overruns


def _exceeded(account: str, node: _Account, unit: str, wanted: int) -> BudgetExceeded:
    spent, reserved, limit = node.spent.get(unit, 0), node.reserved.get(unit, 0), node.limits.get(unit, 0)
    return BudgetExceeded(
        f"{account} has {max(0, limit - spent - reserved)} of {limit} {unit} left, and {wanted} are needed",
        account=account,
        unit=unit,
        limit=limit,
        spent=spent,
        reserved=reserved,
        wanted=wanted,
    )
