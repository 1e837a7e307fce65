"""Budgets are never overspent, and nothing that was spent is forgotten."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aip.errors import BudgetExceeded, Corrupt, NotFound, UsageError
from aip.orchestration.budget import (
    ACCOUNTS_MAX,
    DEPTH_MAX,
    UNITS_MAX,
    Ledger,
    Overrun,
    Reservation,
    account_of,
)


def ledger(**limits: int) -> Ledger:
    """A plan with two tasks of two agents each; the limits are the plan's."""
    made = Ledger()
    made.open("plan", limits)
    for task in ("plan/read", "plan/write"):
        made.open(task)
        for agent in ("ada", "bob"):
            made.open(f"{task}/{agent}")
    return made


def granted(answer: Reservation | BudgetExceeded) -> Reservation:
    assert isinstance(answer, Reservation), answer
    return answer


def refused(answer: Reservation | BudgetExceeded) -> BudgetExceeded:
    assert isinstance(answer, BudgetExceeded), answer
    return answer


def test_what_an_agent_reserves_is_reserved_on_its_whole_path_and_nowhere_else() -> None:
    book = ledger(tokens=100)
    granted(book.reserve("plan/read/ada", {"tokens": 60}))
    reserved = {name: dict(book.statement(name).reserved) for name in book.accounts()}
    here = {"tokens": 60}
    assert reserved == {
        "plan": here,
        "plan/read": here,
        "plan/read/ada": here,
        "plan/read/bob": {},
        "plan/write": {},
        "plan/write/ada": {},
        "plan/write/bob": {},
    }


def test_siblings_share_their_parents_limit() -> None:
    book = ledger(tokens=100)
    granted(book.reserve("plan/read/ada", {"tokens": 60}))
    error = refused(book.reserve("plan/write/bob", {"tokens": 41}))
    assert error.details == {
        "account": "plan",
        "unit": "tokens",
        "limit": 100,
        "spent": 0,
        "reserved": 60,
        "wanted": 41,
    }
    granted(book.reserve("plan/write/bob", {"tokens": 40}))
    refused(book.reserve("plan/read/bob", {"tokens": 1}))


def test_a_reservation_that_fits_in_one_unit_but_not_in_another_takes_neither() -> None:
    book = ledger(tokens=100, usd_micro=10)
    refused(book.reserve("plan/read/ada", {"tokens": 50, "usd_micro": 11}))
    assert book.available("plan", "tokens") == 100
    book.limit("plan/read/ada", "tokens", 30)
    refused(book.reserve("plan/read/ada", {"usd_micro": 5, "tokens": 31}))
    assert book.available("plan", "usd_micro") == 10


def test_what_was_not_spent_goes_back_and_what_was_spent_stays() -> None:
    book = ledger(tokens=100)
    done = book.settle(granted(book.reserve("plan/read/ada", {"tokens": 60})), {"tokens": 45})
    assert (done.charged, done.returned, done.overruns) == ({"tokens": 45}, {"tokens": 15}, ())
    book.release(granted(book.reserve("plan/read/bob", {"tokens": 55})))
    statement = book.statement("plan")
    assert (statement.spent, statement.reserved, statement.left("tokens")) == ({"tokens": 45}, {}, 55)


def test_more_than_was_reserved_is_charged_in_full_and_is_no_overrun_while_it_fits() -> None:
    book = ledger(tokens=100)
    done = book.settle(granted(book.reserve("plan/read/ada", {"tokens": 10})), {"tokens": 70})
    assert done.overruns == ()
    assert book.available("plan/read/ada", "tokens") == 30


def test_an_overrun_is_charged_recorded_and_ends_all_spending_below_it_until_the_limit_is_raised() -> None:
    book = ledger(tokens=100, messages=50)
    book.limit("plan/read", "tokens", 50)
    done = book.settle(granted(book.reserve("plan/read/ada", {"tokens": 10})), {"tokens": 70})
    assert done.charged == {"tokens": 70}
    assert done.overruns == (Overrun("plan/read", "tokens", 20),)
    assert book.statement("plan/read").overrun == {"tokens": 20}
    refused(book.reserve("plan/read/bob", {"tokens": 1}))
    refused(
        book.reserve("plan/read/bob", {"messages": 1})
    )  # In no unit: it is over its budget, whatever it asks.
    granted(book.reserve("plan/write/bob", {"tokens": 30}))  # Its sibling is not.
    book.limit("plan/read", "tokens", 60)
    refused(book.reserve("plan/read/bob", {"messages": 1}))
    book.limit("plan/read", "tokens", 70)
    granted(book.reserve("plan/read/bob", {"messages": 1}))
    refused(book.reserve("plan/read/bob", {"tokens": 1}))
    book.check()


def test_an_overrun_is_recorded_on_every_account_it_exceeds() -> None:
    book = ledger(usd_micro=100)
    book.limit("plan/read/ada", "usd_micro", 80)
    done = book.settle(granted(book.reserve("plan/read/ada", {"usd_micro": 80})), {"usd_micro": 130})
    assert done.overruns == (Overrun("plan/read/ada", "usd_micro", 50), Overrun("plan", "usd_micro", 30))


def test_each_overrun_records_only_what_it_added() -> None:
    book = ledger(tokens=100)
    first = granted(book.reserve("plan/read/ada", {"tokens": 50}))
    second = granted(book.reserve("plan/write/bob", {"tokens": 50}))
    assert book.settle(first, {"tokens": 60}).overruns == (Overrun("plan", "tokens", 10),)
    assert book.report(second, {"tokens": 50}).overruns == ()
    assert book.settle(second, {"tokens": 57}).overruns == (Overrun("plan", "tokens", 7),)
    assert book.statement("plan").overrun == {"tokens": 17}


@pytest.mark.parametrize("wrong", [{"tokens": -1}, {"tokens": 1.5}])
def test_both_sides_of_a_draw_are_looked_at(wrong: dict[str, int]) -> None:
    for wanted, at_least in ((wrong, {"tokens": 0}), ({"tokens": 0}, wrong)):
        with pytest.raises(UsageError, match="not an amount"):
            ledger(tokens=100).draw("plan", wanted, at_least)


def test_a_unit_that_nothing_limits_is_counted_all_the_same() -> None:
    book = ledger()
    book.settle(granted(book.reserve("plan/read/ada", {"tokens": 10**12})), {"tokens": 7})
    assert book.available("plan/read/ada", "tokens") is None
    assert book.statement("plan").spent == {"tokens": 7}


def test_a_limit_can_be_raised_and_lowered_but_not_below_what_is_used() -> None:
    book = ledger(tokens=10)
    refused(book.reserve("plan", {"tokens": 11}))
    book.limit("plan", "tokens", 11)
    granted(book.reserve("plan", {"tokens": 9}))
    book.limit("plan", "tokens", 9)
    for account in ("plan", "plan/read"):
        if account == "plan":
            with pytest.raises(UsageError, match="has used 9 tokens"):
                book.limit(account, "tokens", 8)
        else:
            book.limit(account, "tokens", 0)  # A new limit on an account that has used nothing.
    refused(book.reserve("plan/read/ada", {"tokens": 1}))


def test_reports_name_totals_so_that_a_repeated_or_late_one_changes_nothing() -> None:
    book = ledger(tokens=100)
    held = granted(book.reserve("plan/read/ada", {"tokens": 50}))
    for total, charged in ((20, 20), (20, 0), (10, 0), (30, 10)):
        assert book.report(held, {"tokens": total}).charged.get("tokens", 0) == charged
    statement = book.statement("plan")
    assert (statement.spent, statement.reserved) == ({"tokens": 30}, {"tokens": 20})
    assert book.settle(held, {"tokens": 30}).returned == {"tokens": 20}
    with pytest.raises(NotFound, match="no open reservation"):
        book.settle(held, {"tokens": 30})


def test_a_draw_gets_what_it_needs_and_of_what_it_would_like_a_quarter_of_the_rest_at_most() -> None:
    book = ledger(tokens=100)
    first = granted(book.draw("plan/read/ada", {"tokens": 90}, {"tokens": 0}))
    assert first.amounts == {"tokens": 25}
    second = granted(book.draw("plan/read/bob", {"tokens": 90}, {"tokens": 40}))
    assert second.amounts == {"tokens": 40}
    refused(book.draw("plan/read/bob", {"tokens": 90}, {"tokens": 36}))
    more = granted(book.draw("plan/read/ada", {"tokens": 35}, {"tokens": 35}, into=first.id))
    assert more.amounts == {"tokens": 60}
    assert granted(book.draw("plan/read/ada", {"tokens": 5}, {})).amounts == {"tokens": 0}


def test_all_that_a_lost_drawer_held_counts_as_spent() -> None:
    book = ledger(tokens=100)
    held = granted(book.reserve("plan/read/ada", {"tokens": 30}, holder="cell/1"))
    book.report(held, {"tokens": 10})
    granted(book.reserve("plan/read/bob", {"tokens": 20}, holder="cell/1"))
    granted(book.reserve("plan/read/bob", {"tokens": 5}, holder="cell/2"))
    assert [dict(done.charged) for done in book.lost("cell/1")] == [{"tokens": 20}, {"tokens": 20}]
    statement = book.statement("plan")
    assert (statement.spent, statement.reserved) == ({"tokens": 50}, {"tokens": 5})
    assert book.lost("cell/1") == []


def test_an_account_that_closes_leaves_its_spending_to_its_parent() -> None:
    book = ledger(tokens=100)
    held = granted(book.reserve("plan/read/ada", {"tokens": 30}))
    for busy in ("plan/read", "plan/read/ada"):
        with pytest.raises(UsageError, match="open"):
            book.close(busy)
    book.settle(held, {"tokens": 12})
    assert book.close("plan/read/ada").spent == {"tokens": 12}
    book.close("plan/read/bob")
    assert book.close("plan/read").spent == {"tokens": 12}
    assert book.statement("plan").spent == {"tokens": 12}
    book.check()
    book.open("plan/read")
    assert book.statement("plan/read").spent == {}


@pytest.mark.parametrize(
    "amounts",
    [
        {"tokens": -1},
        {"tokens": 1.5},
        {"tokens": True},
        {"tokens": 2**53},
        {f"u{n}": 1 for n in range(UNITS_MAX + 1)},
    ],
)
def test_amounts_are_whole_bounded_and_of_few_units(amounts: dict[str, int]) -> None:
    book = ledger(tokens=100)
    before = book.to_state()
    with pytest.raises(UsageError):
        book.reserve("plan", amounts)
    held = granted(book.reserve("plan", {"tokens": 1}))
    with pytest.raises(UsageError):
        book.settle(held, amounts)
    book.release(held)
    assert {**book.to_state(), "number": 0} == before


@pytest.mark.parametrize("account", ["", "/", "plan/", "/plan", "plan//x", "/".join("a" * (DEPTH_MAX + 1))])
def test_a_path_that_is_none_is_refused(account: str) -> None:
    with pytest.raises(UsageError, match="not an account"):
        Ledger().open(account)


def test_an_account_needs_an_open_parent_and_is_opened_once() -> None:
    book = ledger()
    with pytest.raises(NotFound, match="'plan/nothing'"):
        book.open("plan/nothing/ada")
    with pytest.raises(UsageError, match="open already"):
        book.open("plan/read")
    with pytest.raises(NotFound):
        book.reserve("plan/nothing", {"tokens": 1})
    assert len(list(book.accounts())) == 7 < ACCOUNTS_MAX


def test_an_address_can_name_an_account() -> None:
    assert account_of("r-1", "audit", "greeter/ada") == "r-1/audit/greeter:ada"


def test_a_ledger_read_from_its_state_goes_on_as_the_one_that_wrote_it() -> None:
    book = ledger(tokens=100, usd_micro=50)
    held = granted(book.reserve("plan/read/ada", {"tokens": 30}, holder="cell/1"))
    book.report(held, {"tokens": 5, "usd_micro": 60})
    again = Ledger.from_state(json.loads(json.dumps(book.to_state())))
    assert again.to_state() == book.to_state()
    assert [again.statement(name) for name in again.accounts()] == [
        book.statement(name) for name in book.accounts()
    ]
    for one in (book, again):
        one.limit("plan", "usd_micro", 500)
        one.lost("cell/1")
        granted(one.reserve("plan/write/bob", {"tokens": 70}))
    assert again.to_state() == book.to_state()


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.update(version=99),
        lambda state: state.pop("accounts"),
        lambda state: state["accounts"][0][1].update(tokens=3),
        lambda state: state["accounts"].pop(0),
        lambda state: state["reservations"][0].__setitem__(1, "plan/gone"),
        lambda state: state["accounts"][0][2].update(tokens=-4),
        lambda state: state["reservations"][0][3].update(tokens=1000),
        lambda state: state["accounts"][0].__setitem__(0, 7),
        lambda state: state["reservations"].append(state["reservations"][0]),
    ],
)
def test_a_damaged_state_is_never_taken_for_a_ledger(damage) -> None:  # type: ignore[no-untyped-def]
    book = ledger(tokens=100)
    granted(book.reserve("plan/read/ada", {"tokens": 30}))
    state = json.loads(json.dumps(book.to_state()))
    damage(state)
    with pytest.raises(Corrupt):
        Ledger.from_state(state)


# Any history

UNITS = ("tokens", "usd_micro")
AMOUNTS = st.dictionaries(st.sampled_from(UNITS), st.integers(0, 40), max_size=2)
NAMES = [
    "plan",
    *(f"plan/{task}" for task in "ab"),
    *(f"plan/{task}/{agent}" for task in "ab" for agent in "xy"),
]


class LedgerHistory(RuleBasedStateMachine):
    """Any sequence of operations, against the plain sums of what was granted and charged."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Ledger()
        self.open: dict[str, Reservation] = {}
        self.charged: dict[str, int] = dict.fromkeys(UNITS, 0)
        self.overran = False

    @initialize(limits=st.fixed_dictionaries({unit: st.integers(0, 100) for unit in UNITS}))
    def begin(self, limits: dict[str, int]) -> None:
        self.book.open("plan", limits)
        for name in NAMES[1:]:
            self.book.open(name)

    def names(self) -> list[str]:
        return list(self.book.accounts())

    @rule(
        data=st.data(),
        wanted=AMOUNTS,
        at_least=AMOUNTS,
        holder=st.sampled_from(["p", "q"]),
        top_up=st.booleans(),
    )
    def draw(self, data: st.DataObject, wanted: dict, at_least: dict, holder: str, top_up: bool) -> None:  # type: ignore[type-arg]
        into = data.draw(st.sampled_from(sorted(self.open))) if top_up and self.open else None
        account = self.open[into].account if into else data.draw(st.sampled_from(self.names()))
        before = {name: self.book.statement(name) for name in self.names()}
        answer = self.book.draw(account, wanted, at_least, into=into, holder=holder)
        if isinstance(answer, BudgetExceeded):
            assert {name: self.book.statement(name) for name in self.names()} == before
            over = before[answer.details["account"]]
            unit = answer.details["unit"]
            in_debt = over.spent.get(unit, 0) + over.reserved.get(unit, 0) > over.limits[unit]
            assert in_debt or (over.left(unit) or 0) < at_least[unit]
            return
        self.open[answer.id] = answer
        for name in self.names():
            statement = self.book.statement(name)
            for (
                unit,
                limit,
            ) in statement.limits.items():  # Whatever was granted fits below every limit above it.
                if name == account or account.startswith(name + "/"):
                    assert statement.spent.get(unit, 0) + statement.reserved.get(unit, 0) <= limit

    @precondition(lambda self: self.open)
    @rule(data=st.data(), spent=AMOUNTS, closing=st.booleans())
    def report(self, data: st.DataObject, spent: dict, closing: bool) -> None:  # type: ignore[type-arg]
        id = data.draw(st.sampled_from(sorted(self.open)))
        done = (self.book.settle if closing else self.book.report)(id, spent)
        self.note(done.charged)
        self.overran |= bool(done.overruns)
        if closing:
            del self.open[id]

    @rule(holder=st.sampled_from(["p", "q"]))
    def lose(self, holder: str) -> None:
        for done in self.book.lost(holder):
            self.note(done.charged)
            assert (
                not done.overruns or self.overran
            )  # Counting what was granted as spent goes above no limit.
        self.open = {reservation.id: reservation for reservation in self.book.reservations()}

    @rule(name=st.sampled_from(NAMES), unit=st.sampled_from(UNITS), amount=st.integers(0, 200))
    def limit(self, name: str, unit: str, amount: int) -> None:
        try:
            self.book.limit(name, unit, amount)
        except (UsageError, NotFound):
            return

    @rule(name=st.sampled_from(NAMES[1:]))
    def close_or_open(self, name: str) -> None:
        try:
            if name in self.names():
                self.book.close(name)
            else:
                self.book.open(name)
        except (UsageError, NotFound):
            return

    @rule()
    def survive(self) -> None:
        self.book = Ledger.from_state(json.loads(json.dumps(self.book.to_state())))

    def note(self, charged: dict) -> None:  # type: ignore[type-arg]
        for unit, amount in charged.items():
            self.charged[unit] += amount

    @invariant()
    def holds(self) -> None:
        self.book.check()
        if "plan" in self.names():
            spent = self.book.statement("plan").spent
            assert {unit: spent.get(unit, 0) for unit in UNITS} == self.charged
            if not self.overran:
                assert all(not self.book.statement(name).overrun for name in self.names())


TestLedgerHistory = LedgerHistory.TestCase
TestLedgerHistory.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)


def test_two_hundred_agents_that_reserve_and_settle_in_any_order_never_overspend() -> None:
    rng = random.Random(7)
    book = Ledger()
    book.open("plan", {"usd_micro": 1_000_000})
    agents = [f"plan/a{number}" for number in range(200)]
    for agent in agents:
        book.open(agent)
    held: list[tuple[Reservation, int]] = []
    spent = refusals = 0
    for _ in range(6_000):
        if held and rng.random() < 0.45:
            reservation, amount = held.pop(rng.randrange(len(held)))
            spent += book.settle(reservation, {"usd_micro": amount}).charged.get("usd_micro", 0)
        else:
            amount = rng.randrange(1, 2_000)
            answer = book.reserve(rng.choice(agents), {"usd_micro": amount})
            if isinstance(answer, Reservation):
                held.append((answer, rng.randrange(amount + 1)))
            else:
                refusals += 1
        plan = book.statement("plan")
        assert plan.spent.get("usd_micro", 0) + plan.reserved.get("usd_micro", 0) <= 1_000_000
    assert refusals > 0
    assert book.statement("plan").spent["usd_micro"] == spent
    book.check()
