"""Placement: every cell computes the same owner, and an epoch moves no agent that it need not move."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import timeit
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.errors import NotFound, UsageError
from aip.runtime import placement
from aip.runtime.placement import CellRecord, Membership, Move, NoCell, Placement, _minus_log, moved

ADDRESSES = [f"greeter/{number}" for number in range(300)]


def cell(name: str, slots: int = 500, generation: int = 1) -> CellRecord:
    return CellRecord(name, "pool", "node-1", generation, "", slots)


def membership(*cells: CellRecord, epoch: int = 1, pins: dict[str, str] | None = None) -> Membership:
    return Membership(epoch, {"pool": cells}, {"greeter": "pool"}, pins or {})


def cells_of(count: int) -> list[CellRecord]:
    return [cell(f"cell-{number}") for number in range(count)]


slot_counts = st.lists(st.integers(1, 1_000), min_size=1, max_size=12)


# The same answer everywhere


def test_owners_are_the_same_in_every_process_and_version() -> None:
    """Golden values: a change of these moves every agent of every running platform."""
    place = Placement(membership(cell("a"), cell("b"), cell("c"), cell("d", slots=1_500)))
    owners = "".join(place.locate(f"greeter/{number}") or "-" for number in range(40))
    assert owners == "daddcabddddcdaabdcaddadbddabdabddddabdda"


def test_owners_do_not_depend_on_the_hash_seed() -> None:
    script = """
from aip.runtime.placement import CellRecord, Membership, Placement
cells = tuple(CellRecord(f"cell-{n}", "pool", "node-1", 1, "", 500) for n in range(9))
place = Placement(Membership(1, {"pool": cells}, {"greeter": "pool"}))
print([place.locate(f"greeter/{n}") for n in range(300)])
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    place = Placement(membership(*cells_of(9)))
    assert outputs == {f"{[place.locate(address) for address in ADDRESSES]}\n"}


@given(order=st.permutations(cells_of(6)))
def test_owners_do_not_depend_on_the_order_of_the_cells(order: list[CellRecord]) -> None:
    assert not moved(membership(*cells_of(6)), membership(*order), ADDRESSES[:50])


def test_a_membership_travels_as_it_is() -> None:
    original = membership(*cells_of(3), pins={"greeter/ada": "cell-1"})
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(original), type=Membership) == original


@given(draw=st.integers(0, 2**64 - 1))
def test_the_portable_logarithm_is_one(draw: int) -> None:
    expected = 64 * math.log(2) - math.log(draw + 0.5)
    assert _minus_log(draw) == pytest.approx(expected, rel=1e-10, abs=1e-11)


# Who moves


@given(slots=slot_counts, leaver=st.integers(0, 11))
def test_when_a_cell_leaves_only_its_own_agents_move(slots: list[int], leaver: int) -> None:
    cells = [cell(f"cell-{number}", count) for number, count in enumerate(slots)]
    gone = cells[leaver % len(cells)]
    before = membership(*cells)
    after = membership(*(each for each in cells if each is not gone), epoch=2)
    place = Placement(before)
    moves = moved(before, after, ADDRESSES)
    assert all(move.old == gone.cell_id for move in moves)
    assert len(moves) == sum(place.locate(address) == gone.cell_id for address in ADDRESSES)


@given(slots=slot_counts, share=st.integers(1, 1_000))
def test_when_a_cell_joins_agents_move_to_it_only(slots: list[int], share: int) -> None:
    cells = [cell(f"cell-{number}", count) for number, count in enumerate(slots)]
    moves = moved(membership(*cells), membership(*cells, cell("new", share), epoch=2), ADDRESSES)
    assert all(move.new == "new" for move in moves)


@given(slots=slot_counts, grown=st.integers(0, 11), factor=st.integers(2, 5))
def test_when_a_cell_grows_it_gains_agents_and_loses_none(slots: list[int], grown: int, factor: int) -> None:
    cells = [cell(f"cell-{number}", count) for number, count in enumerate(slots)]
    which = grown % len(cells)
    larger = [*cells]
    larger[which] = cell(f"cell-{which}", slots[which] * factor)
    moves = moved(membership(*cells), membership(*larger, epoch=2), ADDRESSES)
    assert all(move.new == f"cell-{which}" for move in moves)


def test_a_cell_that_restarts_keeps_its_agents_under_a_new_generation() -> None:
    before = membership(cell("a"), cell("b"))
    after = membership(cell("a"), cell("b", generation=2), epoch=2)
    assert moved(before, after, ADDRESSES) == []
    assert Placement(after).generation("b") == 2


def test_a_type_that_is_gone_moves_its_agents_to_nobody() -> None:
    after = Membership(2, {"pool": (cell("a"),)})
    assert moved(membership(cell("a")), after, ["greeter/ada"]) == [Move("greeter/ada", "a", None)]


# Balance


@pytest.mark.parametrize("prefix", ["greeter/", "greeter/user-2026-11-", "greeter/x."])
def test_ten_thousand_agents_on_twenty_cells_are_balanced(prefix: str) -> None:
    place = Placement(membership(*cells_of(20)))
    load = Counter(place.locate(f"{prefix}{number}") for number in range(10_000))
    # 500 expected, with a standard deviation of 22: five of them either way.
    assert len(load) == 20
    assert 390 <= min(load.values()) <= max(load.values()) <= 610


def test_agents_spread_in_proportion_to_slots() -> None:
    place = Placement(membership(cell("small", 100), cell("middle", 300), cell("large", 600)))
    load = Counter(place.locate(f"greeter/{number}") for number in range(10_000))
    assert load["small"] == pytest.approx(1_000, abs=150)
    assert load["middle"] == pytest.approx(3_000, abs=230)
    assert load["large"] == pytest.approx(6_000, abs=245)


def test_a_drained_cell_owns_what_is_pinned_to_it_and_nothing_else() -> None:
    place = Placement(membership(cell("a", slots=0), cell("b"), pins={"greeter/ada": "a"}))
    assert {place.locate(address) for address in ADDRESSES} == {"b"}
    assert place.locate("greeter/ada") == "a"


# Pins, absence, epochs


def test_a_pin_overrides_the_hash_and_no_other_agent_notices() -> None:
    plain = Placement(membership(*cells_of(4)))
    home = plain.locate("greeter/7")
    away = next(each.cell_id for each in cells_of(4) if each.cell_id != home)
    pinned = membership(*cells_of(4), epoch=2, pins={"greeter/7": away})
    assert moved(plain.membership, pinned, ADDRESSES) == [Move("greeter/7", home, away)]


@pytest.mark.parametrize(
    ("place", "address", "error"),
    [
        (membership(cell("a")), "stranger/ada", NotFound),
        (membership(), "greeter/ada", NoCell),
        (membership(cell("a", slots=0)), "greeter/ada", NoCell),
        (membership(cell("a"), pins={"greeter/ada": "gone"}), "greeter/ada", NoCell),
    ],
    ids=["type not deployed", "empty pool", "all drained", "pinned to a cell that is gone"],
)
def test_an_agent_that_nobody_may_own_has_no_owner_and_the_sender_is_told_why(
    place: Membership, address: str, error: type[Exception]
) -> None:
    assert Placement(place).locate(address) is None
    assert type(Placement(place).absent(address)) is error


def test_a_deployed_type_without_a_cell_is_worth_another_try_and_an_unknown_type_is_not() -> None:
    place = Placement(membership())
    assert place.absent("greeter/ada").retryable
    assert not place.absent("stranger/ada").retryable


@given(epochs=st.lists(st.integers(1, 20), max_size=30))
def test_the_newest_epoch_offered_is_the_one_held(epochs: list[int]) -> None:
    place = Placement(membership(cell("cell-of-0"), epoch=0))
    for epoch in epochs:
        newer = epoch > place.epoch
        assert place.offer(membership(cell(f"cell-of-{epoch}"), epoch=epoch)) is newer
        assert place.locate("greeter/ada") == f"cell-of-{place.epoch}"
    assert place.epoch == max(epochs, default=0)
    assert place.generation(f"cell-of-{place.epoch}") == 1
    assert place.generation("stranger") is None


@pytest.mark.parametrize(
    "wrong",
    [
        Membership(1, {"pool": (cell("a"), cell("a"))}),
        Membership(1, {"other": (cell("a"),)}),
        Membership(1, {"pool": (cell("a", slots=-1),)}),
        Membership(1, {}, {"greeter": "nowhere"}),
        Membership(1, {}, {}, {"not an address": "a"}),
    ],
    ids=["twice", "in another pool", "negative slots", "type without pool", "pin of no address"],
)
def test_a_membership_that_cannot_be_meant_is_refused(wrong: Membership) -> None:
    with pytest.raises(UsageError):
        Placement(wrong)


def test_a_refused_membership_leaves_the_old_one_in_force() -> None:
    place = Placement(membership(cell("a")))
    with pytest.raises(UsageError):
        place.offer(Membership(2, {}, {"greeter": "nowhere"}))
    assert place.epoch == 1
    assert place.locate("greeter/ada") == "a"


# Cost


def test_what_a_cell_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "CACHE_MAX", 100)
    place = Placement(membership(*cells_of(3)))
    fresh = Placement(membership(*cells_of(3)))
    for address in ADDRESSES:
        place.locate(address)
        assert len(place._owners) <= 100
    monkeypatch.undo()
    assert [place.locate(address) for address in ADDRESSES] == [
        fresh.locate(address) for address in ADDRESSES
    ]


def test_a_remembered_owner_costs_no_more_than_a_microsecond() -> None:
    place = Placement(membership(*cells_of(20)))
    place.locate("greeter/ada")
    best_s = min(timeit.repeat(lambda: place.locate("greeter/ada"), number=20_000, repeat=5)) / 20_000
    assert best_s < 1e-6


def test_each_agent_is_told_to_be_kept_apart_as_its_pool_and_its_pin_do() -> None:
    types = {"greeter": "pool", "stranger": "sandboxes"}
    pools = {"pool": (cell("a"),), "sandboxes": (msgspec.structs.replace(cell("b"), pool="sandboxes"),)}
    pins = {"greeter/own": "a"}
    place = Placement(Membership(1, pools, types, pins, frozenset({"sandboxes"})))
    told = [
        place.isolation(address) for address in ("greeter/ada", "greeter/own", "stranger/ada", "unknown/ada")
    ]
    assert told == ["cell", "process", "container", "cell"]
