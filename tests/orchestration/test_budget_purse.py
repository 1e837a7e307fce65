"""Cells spend from purses without asking, and the budget they share is still never overspent."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aip.errors import BudgetExceeded, BudgetNotDrawn, NotFound, UsageError, from_record, to_record
from aip.orchestration.budget import Draw, GiveBack, Ledger
from aip.orchestration.purse import BudgetCheck, Purse, Purses
from aip.runtime.envelope import Envelope, Kind
from aip.runtime.guard import Guard, OpenFence

CHUNKS = {"tokens": 20}
ONE = {"tokens": 1}


def ledger(tokens: int = 1_000) -> Ledger:
    made = Ledger()
    made.open("plan", {"tokens": tokens})
    return made


def fill(purse: Purse, book: Ledger, need: dict[str, int]) -> BudgetExceeded | None:
    draw = purse.want(need)
    assert draw is not None
    return purse.served(book.serve(draw))


def close(purse: Purse, book: Ledger) -> None:
    back = purse.give_back()
    assert back is not None
    book.settle(back.reservation, back.spent)
    purse.gave_back()


def test_a_purse_draws_a_chunk_and_spends_from_it_without_asking() -> None:
    book, purse = ledger(), Purse("plan", "cell/1", CHUNKS)
    assert isinstance(purse.spend({"tokens": 5}), BudgetNotDrawn)
    assert fill(purse, book, {"tokens": 5}) is None
    assert purse.left("tokens") == 25
    for _ in range(25):
        assert purse.spend(ONE) is None
    assert isinstance(purse.spend(ONE), BudgetNotDrawn)
    assert book.statement("plan").reserved == {"tokens": 25}


def test_a_purse_wants_more_before_it_is_empty_and_one_draw_at_a_time() -> None:
    book, purse = ledger(), Purse("plan", "cell/1", CHUNKS)
    fill(purse, book, ONE)
    assert purse.want() is None
    purse.spend({"tokens": 17})
    draw = purse.want()
    assert draw == Draw("plan", "cell/1", {"tokens": 17}, {"tokens": 20}, {"tokens": 0})
    assert purse.want({"tokens": 500}) is None
    purse.served(book.serve(draw))
    assert purse.left("tokens") == 24
    assert book.statement("plan").spent == {"tokens": 17}


def test_a_purse_that_closes_gives_back_what_it_did_not_spend() -> None:
    book, purse = ledger(), Purse("plan", "cell/1", CHUNKS)
    fill(purse, book, ONE)
    purse.spend({"tokens": 8})
    close(purse, book)
    assert purse.idle
    statement = book.statement("plan")
    assert (statement.spent, statement.reserved) == ({"tokens": 8}, {})


def test_a_closing_purse_spends_nothing_and_repeats_itself_word_for_word() -> None:
    book, purse = ledger(), Purse("plan", "cell/1", CHUNKS)
    fill(purse, book, ONE)
    purse.spend({"tokens": 8})
    first = purse.give_back()
    assert isinstance(purse.spend(ONE), BudgetNotDrawn)
    purse.charge({"tokens": 3})  # What was under way still costs.
    assert purse.give_back() == first == GiveBack("1", {"tokens": 8})
    assert purse.want() is None
    book.settle("1", {"tokens": 8})
    with pytest.raises(NotFound):  # The repeated one: settled before, and so it is done.
        book.settle("1", {"tokens": 8})
    purse.gave_back()
    assert not purse.idle
    assert fill(purse, book, {}) is None
    close(purse, book)
    assert book.statement("plan").spent == {"tokens": 11}


def test_a_lost_answer_to_a_draw_is_made_good_by_the_next() -> None:
    book, purse = ledger(), Purse("plan", "cell/1", CHUNKS)
    draw = purse.want(ONE)
    assert draw is not None
    book.serve(draw)
    purse.not_served()
    assert fill(purse, book, ONE) is None
    assert len(book.reservations("cell/1")) == 1
    assert purse.left("tokens") == book.statement("plan").reserved["tokens"] == 42
    close(purse, book)
    assert book.available("plan", "tokens") == 1_000


def test_the_same_answer_twice_fills_a_purse_once() -> None:
    book, purse = ledger(), Purse("plan", "cell/1", CHUNKS)
    draw = purse.want(ONE)
    assert draw is not None
    answer = book.serve(draw)
    purse.served(answer)
    purse.served(answer)
    assert purse.left("tokens") == 21


def test_a_price_known_only_afterwards_is_charged_in_full_and_stops_the_next_spending() -> None:
    book, purse = ledger(tokens=30), Purse("plan", "cell/1", CHUNKS)
    fill(purse, book, {"tokens": 10})
    purse.charge({"tokens": 50})
    refusal = fill(purse, book, ONE)
    assert isinstance(refusal, BudgetExceeded)
    assert refusal.details["spent"] == 50
    assert book.statement("plan").overrun == {"tokens": 20}
    assert isinstance(purse.spend(ONE), BudgetNotDrawn)
    book.limit("plan", "tokens", 60)
    assert fill(purse, book, ONE) is None
    assert purse.spend(ONE) is None


def test_a_charge_without_any_draw_reaches_the_ledger() -> None:
    book, purse = ledger(tokens=30), Purse("plan", "cell/1", {})
    purse.charge({"tokens": 7})
    assert purse.give_back() is None
    assert not purse.idle
    fill(purse, book, {})
    close(purse, book)
    assert book.statement("plan").spent == {"tokens": 7}


def test_a_purse_does_not_pester_a_ledger_that_has_nothing_to_spare() -> None:
    book, purse = ledger(tokens=3), Purse("plan", "cell/1", CHUNKS)
    assert fill(purse, book, ONE) is None
    assert purse.left("tokens") == 1
    fill(purse, book, {"tokens": 2})
    assert purse.want() is not None
    purse.served(book.serve(Draw("plan", "cell/1", {}, {"tokens": 20}, {})))
    assert purse.want() is None  # It wanted a chunk and got nothing; it will ask when it needs.
    assert purse.want({"tokens": 3}) is not None


def test_a_purse_with_a_used_name_never_spends_again_what_its_namesake_reported() -> None:
    book, before = ledger(), Purse("plan", "cell/1", CHUNKS)
    fill(before, book, {"tokens": 100})
    before.spend({"tokens": 100})
    fill(before, book, {"tokens": 30})
    again = Purse("plan", "cell/1", CHUNKS)
    fill(again, book, ONE)
    assert again.left("tokens") == book.statement("plan").reserved["tokens"]


def test_what_was_reported_cannot_be_unspent() -> None:
    book, purse = ledger(), Purse("plan", "cell/1", CHUNKS)
    fill(purse, book, ONE)
    purse.spend({"tokens": 18})
    purse.unspend(ONE)
    assert purse.want() is not None
    with pytest.raises(UsageError, match="since the last report"):
        purse.unspend(ONE)
    assert purse.left("tokens") == 4


# The guard


def message(kind: Kind = Kind.CALL, budget: str = "plan") -> Envelope:
    return Envelope("m-1", kind, "client/me", "shop/one", "buy", b"", budget=budget)


def test_every_message_with_an_account_costs_one_and_a_message_without_costs_nothing() -> None:
    book = Ledger()
    book.open("plan", {"messages": 3})
    check = BudgetCheck(Purses("cell/1", {"messages": 1}))
    guard = Guard(OpenFence(), [check])
    asked = refused = 0
    for kind in (Kind.CALL, Kind.TELL, Kind.STREAM, Kind.CALL):
        assert guard.admit(message(kind, budget=""), 1.0) is None
        if isinstance(guard.admit(message(kind), 1.0), BudgetNotDrawn):
            asked += 1
            if fill(check.purses.of("plan"), book, check.cost) is not None:
                refused += 1
            else:
                assert guard.admit(message(kind), 1.0) is None
                guard.settle(message(kind), 2.0, 1.0, None)
    assert (asked, refused) == (4, 1)
    assert book.statement("plan").spent == {"messages": 3}


def test_a_message_that_a_later_check_refuses_is_not_paid() -> None:
    book = Ledger()
    book.open("plan", {"messages": 100})
    check = BudgetCheck(Purses("cell/1"))
    purse = check.purses.of("plan")
    fill(purse, book, check.cost)
    before = purse.left("messages")
    assert check.take(message(), 1.0) is None
    assert purse.left("messages") == before - 1
    check.give_back(message(), 1.0)
    assert purse.left("messages") == before


def test_a_guard_never_makes_a_purse_for_an_account_it_was_told_of() -> None:
    check = BudgetCheck(Purses("cell/1"))
    refusal = check.peek(message(budget="made/up"), 1.0)
    assert isinstance(refusal, BudgetNotDrawn)
    assert refusal.details == {"account": "made/up", "needed": {"messages": 1}}
    assert isinstance(check.take(message(budget="made/up"), 1.0), BudgetNotDrawn)
    assert len(check.purses) == 0


def test_not_drawn_crosses_cells_as_itself() -> None:
    error = BudgetCheck(Purses("cell/1")).peek(message(), 1.0)
    assert error is not None
    again = from_record(to_record(error))
    assert isinstance(again, BudgetNotDrawn)
    assert again.retryable


def test_idle_purses_are_forgotten_and_busy_ones_are_not() -> None:
    book, purses = ledger(), Purses("cell/1", CHUNKS)
    purses.of("plan/idle")
    fill(purses.of("plan"), book, ONE)
    purses.forget_idle()
    assert [purse.account for purse in purses] == ["plan"]


# Two hundred agents


class Road:
    """200 purses and one ledger, their messages delayed, reordered and lost; cells die and come back."""

    def __init__(self, seed: int, tokens: int, exact: bool) -> None:
        self.rng = random.Random(seed)
        self.book = Ledger()
        self.book.open("plan", {"tokens": tokens})
        self.exact = exact
        self.under_way: list[tuple[Purse, object]] = []
        self.life = Counter[int]()
        self.purses: dict[int, Purse] = {}
        self.really_spent = 0
        self.lost: set[str] = set()
        for number in range(200):
            self.book.open(f"plan/a{number}")
            self.be_born(number)

    def be_born(self, number: int) -> None:
        self.life[number] += 1
        self.purses[number] = Purse(f"plan/a{number}", f"cell/{number}.{self.life[number]}", CHUNKS)

    def act(self) -> None:
        number = self.rng.randrange(200)
        purse = self.purses[number]
        amounts = {"tokens": self.rng.randrange(1, 12)}
        roll = self.rng.random()
        if roll < 0.02:  # The cell is gone; its holdings count as spent, whatever it really spent of them.
            self.book.lost(purse.holder)
            self.lost.add(purse.holder)
            self.be_born(number)
        elif roll < 0.10:
            if back := purse.give_back():
                self.under_way.append((purse, back))
        elif not self.exact and roll < 0.12:
            purse.charge(amounts)
            self.really_spent += amounts["tokens"]
        elif purse.spend(amounts) is None:
            self.really_spent += amounts["tokens"]
        elif draw := purse.want(amounts):
            self.under_way.append((purse, draw))

    def deliver(self) -> None:
        """One message, any; its way there or its way back may fail."""
        purse, sent = self.under_way.pop(self.rng.randrange(len(self.under_way)))
        if purse.holder in self.lost:
            return  # A message of a dead cell is fenced off.
        fate = self.rng.random()
        if isinstance(sent, Draw):
            drawn = self.book.serve(sent) if fate > 0.1 else None
            if drawn is None or fate < 0.2:
                purse.not_served()
            else:
                purse.served(drawn)
        elif isinstance(sent, GiveBack) and fate > 0.1:
            with suppress(NotFound):  # Settled before, its acknowledgement lost: as good as settled now.
                self.book.settle(sent.reservation, sent.spent)
            if fate > 0.2 and purse.give_back() == sent:
                purse.gave_back()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            if self.under_way and self.rng.random() < 0.5:
                self.deliver()
            else:
                self.act()
            plan = self.book.statement("plan")
            used = plan.spent.get("tokens", 0) + plan.reserved.get("tokens", 0)
            assert used <= plan.limits["tokens"] + plan.overrun.get("tokens", 0)

    def end(self) -> None:
        """Every message arrives at last and every purse closes."""
        self.under_way.clear()
        for purse in self.purses.values():
            purse.not_served()
            if purse.give_back() is None and (draw := purse.want()):
                purse.served(self.book.serve(draw))
            if back := purse.give_back():
                with suppress(NotFound):
                    self.book.settle(back.reservation, back.spent)
                purse.gave_back()
            if late := purse.want():
                purse.served(self.book.serve(late))
                close(purse, self.book)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32), tokens=st.sampled_from([500, 5_000, 50_000]))
def test_two_hundred_agents_never_overspend_the_budget_they_share(seed: int, tokens: int) -> None:
    road = Road(seed, tokens, exact=True)
    road.run(1_500)
    road.end()
    road.book.check()
    plan = road.book.statement("plan")
    assert not plan.overrun
    assert not plan.reserved
    assert road.really_spent <= plan.spent.get("tokens", 0) <= tokens
    if not road.lost:
        assert road.really_spent == plan.spent.get("tokens", 0)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_with_prices_known_only_afterwards_an_overspent_token_is_a_recorded_one(seed: int) -> None:
    road = Road(seed, 2_000, exact=False)
    road.run(1_500)
    road.end()
    road.book.check()
    plan = road.book.statement("plan")
    assert not plan.reserved
    assert plan.spent["tokens"] <= 2_000 + plan.overrun.get("tokens", 0)


def test_what_is_held_is_not_lent_to_others_while_its_price_is_unknown() -> None:
    book, purse, other = ledger(30), Purse("plan", "a", CHUNKS), Purse("plan", "b", CHUNKS)
    fill(purse, book, {"tokens": 25})
    assert purse.hold({"tokens": 25}) is None
    assert purse.give_back() is None, "a close now would free what is held"
    assert isinstance(fill(other, book, {"tokens": 10}), BudgetExceeded)
    purse.unhold({"tokens": 25})
    purse.charge({"tokens": 7})
    close(purse, book)
    assert book.statement("plan").spent == {"tokens": 7}
    assert purse.idle
    assert fill(other, book, {"tokens": 20}) is None


def test_a_charge_while_closing_is_heard_with_the_next_reservation() -> None:
    book, purse = ledger(), Purse("plan", "a", CHUNKS)
    fill(purse, book, ONE)
    back = purse.give_back()
    assert back is not None
    purse.charge({"tokens": 3})
    book.settle(back.reservation, back.spent)
    purse.gave_back()
    assert purse.unheard
    fill(purse, book, {})
    close(purse, book)
    assert book.statement("plan").spent == {"tokens": 3}


def test_more_than_is_held_cannot_be_freed() -> None:
    purse = Purse("plan", "a", CHUNKS)
    with pytest.raises(UsageError, match="were not held"):
        purse.unhold({"tokens": 1})
