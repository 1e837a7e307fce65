"""Which connectors an agent may use: what the plan of its run grants to agents of its type, and none else."""

from __future__ import annotations

import pytest
from effects_kit import World

from aip.governance.effects.grant import NotGranted, check_granted, granted
from aip.governance.effects.stamp import Stamp

POOL = "0123456789ab"
CLERK, READER = f"clerk@{POOL}", f"reader@{POOL}"
TYPES = {"clerk": CLERK, "reader": READER}
GRANTS = granted(TYPES, {"clerk": ["tickets", "mail"], "reader": []})


def asks(
    agent: str = f"{CLERK}/r-1.clerk.0", connector: str = "tickets", cell: str = f"cell-{POOL}-0"
) -> Stamp:
    return Stamp(cell, 1, agent, 1, "m-1", 0, 0.0, "n", connector, "k", 30.0, run="r-1")


@pytest.mark.parametrize("connector", ["tickets", "mail"])
@pytest.mark.parametrize("key", ["r-1.clerk.0", "r-1.clerk.0.1-1", "ada"])
def test_an_agent_may_use_what_the_plan_grants_its_type(connector: str, key: str) -> None:
    check_granted(asks(f"{CLERK}/{key}", connector), GRANTS)


@pytest.mark.parametrize(
    ("stamp", "says"),
    [
        (asks(connector="deploy"), "no connector 'deploy'; they have: mail, tickets"),
        (asks(f"{READER}/r-1.reader.0"), "they have: none"),
        (asks(f"stranger@{POOL}/1"), "stranger"),
        (
            asks("clerk@ba9876543210/r-1.clerk.0", cell="cell-ba9876543210-0"),
            "clerk",
        ),  # Other code of that name.
        (asks(cell="cell-ba9876543210-0"), "does not host"),
        (asks(cell="client-7-1"), "does not host"),
        (asks("clerk/r-1.clerk.0", cell="cell-"), "does not host"),
        (asks("clerk/r-1.clerk.0", cell="cell--0"), "clerk"),
    ],
)
def test_and_nothing_else_whoever_asks(stamp: Stamp, says: str) -> None:
    with pytest.raises(NotGranted, match=says):
        check_granted(stamp, GRANTS)


def test_who_works_for_no_run_was_granted_nothing() -> None:
    with pytest.raises(NotGranted, match="works for no run"):
        check_granted(asks(), None)


def test_names_of_one_type_have_what_all_of_them_were_granted() -> None:
    both = granted({"one": CLERK, "two": CLERK}, {"one": ["tickets", "mail"], "two": ["mail"]})
    check_granted(asks(connector="mail"), both)
    with pytest.raises(NotGranted):
        check_granted(asks(connector="tickets"), both)


async def test_what_is_not_granted_is_refused_before_policy_and_ledger_are_asked() -> None:
    world = World()
    await world.activated()
    world.granted = False
    with pytest.raises(NotGranted):
        await world.effect()
    assert world.steps == ["fence", "grant"]
    assert world.kinds() == ["effect.refused"]
    assert world.notes[0][1]["step"] == "grant"
    assert world.bell.rung == []
