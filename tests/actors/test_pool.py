"""A pool decides which cells are wanted and whose they are: no Ray, no clock, nothing started."""

from __future__ import annotations

from actors.pool import IDLE_S, Pool, membership, run_of
from actors.pool_spec import PoolSpec
from aip.runtime.placement import CellRecord, Placement

CELLS_MAX = 4
ADA, BOB = "writer.1/r1.ada", "writer.1/r1.bob"


def pool(isolation: str = "cell", density: int = 10) -> Pool:
    return Pool(PoolSpec("p", {"writer.1": "agents:Writer"}, "/code", density, isolation), now=0.0)


def everybody(run: str) -> bool:
    return True


def nobody(run: str) -> bool:
    return False


def test_a_pool_that_is_declared_has_one_cell_warm() -> None:
    one = pool()
    one.want((), (), 1.0)
    one.want((), (), 2.0)
    assert one.wanted == {"cell-p-0"}


def test_of_agents_in_processes_of_their_own_the_warm_ones_live_and_the_others_wait_for_mail() -> None:
    one = pool("process")
    one.want((ADA, BOB), (ADA,), 1.0)
    assert one.wanted == {one.pins[ADA]}
    assert one.wake(BOB, 2.0)
    assert one.wanted == {one.pins[ADA], one.pins[BOB]}
    assert not one.wake(BOB, 3.0), "it is on its way already"


def test_the_cell_of_one_agent_has_the_same_name_under_the_next_root_and_takes_nobody_else() -> None:
    one, next_one = pool("process"), pool("process")
    for each in (one, next_one):
        each.want((ADA, BOB), (), 1.0)
    assert one.pins == next_one.pins
    assert one.pins[ADA] != one.pins[BOB]
    assert one.slots(one.pins[ADA]) == 1
    assert one.slots("cell-p-0") == one.spec.density


def test_cells_are_added_as_agents_come_and_never_above_the_machine() -> None:
    one = pool(density=10)
    one.want((), (), 0.0)
    for agents, cells in ((10, 1), (11, 2), (25, 3), (5, 3), (1_000, CELLS_MAX)):
        one.load["cell-p-0"] = agents
        assert one.resize(1.0, CELLS_MAX) is (cells != 1 and agents != 5)
        assert one.wanted == {f"cell-p-{number}" for number in range(cells)}, agents


def test_a_pool_that_nobody_uses_keeps_its_cells_for_a_while_and_then_none() -> None:
    one = pool()
    one.want((), (), 0.0)
    one.runs.add("r1")
    assert not one.resize(IDLE_S + 1, CELLS_MAX), "a run holds it"
    assert not one.release("r1", IDLE_S + 1, nobody)
    assert not one.resize(2 * IDLE_S + 1, CELLS_MAX)
    assert one.resize(2 * IDLE_S + 2, CELLS_MAX)
    assert one.wanted == set()


def test_agents_that_live_keep_a_pool_without_a_run() -> None:
    one = pool()
    one.want((), (), 0.0)
    one.load["cell-p-0"] = 1
    assert not one.resize(IDLE_S * 5, CELLS_MAX)


def test_a_run_that_is_over_gives_up_the_cells_of_its_agents_and_no_others() -> None:
    one = pool("process")
    other = "writer.1/r2.ada"
    one.want((ADA, BOB, other), (ADA, other), 1.0)
    own = one.pins[ADA]
    one.joined(own, "node-0", 1)
    assert one.release("r1", 2.0, nobody)
    assert one.wanted == {one.pins[other]}
    assert one.pins.keys() == {ADA, other}, "of a cell that lives its end tells; Bob's was never needed"
    one.left(own, nobody)
    assert one.pins.keys() == {other}


def test_the_pin_of_a_cell_that_ended_stays_while_its_agents_run_goes_on() -> None:
    one = pool("process")
    one.want((ADA,), (ADA,), 1.0)
    cell = one.pins[ADA]
    one.joined(cell, "node-0", 1)
    one.left(cell, everybody)
    assert (one.members, one.pins) == ({}, {ADA: cell})
    one.wanted.clear()
    one.left(cell, everybody)
    assert one.pins == {ADA: cell}
    one.left(cell, nobody)
    assert one.pins == {}


def test_in_the_membership_a_pinned_agent_finds_its_cell_and_all_others_the_shared_ones() -> None:
    one = pool("process")
    one.want((ADA,), (ADA,), 1.0)
    one.joined(one.pins[ADA], "node-0", 3)
    one.joined("cell-p-0", "node-0", 4)
    made = membership(7, {"p": one})
    assert made.epoch == 7
    assert made.pools["p"] == (CellRecord("cell-p-0", "p", "node-0", 4, slots=10),)
    placed = Placement(made)
    assert placed.locate(ADA) == one.pins[ADA]
    assert {placed.locate(f"writer.1/r1.x{n}") for n in range(20)} == {"cell-p-0"}


def test_the_run_of_an_agent_is_in_its_address_where_it_has_one() -> None:
    assert run_of(ADA) == "r1"
    assert run_of("writer.1/r1") == ""
