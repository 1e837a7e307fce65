"""What a script may rely on in a benchmark's rows, and that the benchmarks measure what they say. No times are asserted."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from bench_rows import ask, durable, health, peers, wake
from bench_rows.agents_of_bench import QueueActor, at_once, one_by_one
from bench_rows.row import Row, measured, quantile

from aip.orchestration.parse import parse

NINE = ["bench", "row", "value", "unit", "reference", "reference_value", "ratio", "goal", "met"]


def test_a_row_begins_with_the_nine_promised_fields_and_is_json() -> None:
    row = measured("plans", "chain", [0.5, 0.4, 0.9], "s", reference="floor", reference_value=0.25, goal=1.0)
    plain = json.loads(json.dumps(row.plain()))
    assert list(plain)[:9] == NINE
    assert (plain["value"], plain["low"], plain["high"]) == (0.5, 0.4, 0.9)
    assert (plain["ratio"], plain["met"]) == (2.0, True)


@pytest.mark.parametrize(
    ("value", "goal", "more_is_better", "met"),
    [
        (40.0, 40.0, False, True),
        (40.1, 40.0, False, False),
        (20_000.0, 20_000.0, True, True),
        (19_999.0, 20_000.0, True, False),
        (0, 0, False, True),
        (1, 0, False, False),
        (5.0, None, False, None),
        (None, 5.0, False, False),
        (None, None, False, None),
    ],
)
def test_a_goal_is_met_in_the_direction_of_its_unit(
    value: float | None, goal: float | None, more_is_better: bool, met: bool | None
) -> None:
    assert Row("b", "r", value, "u", goal=goal, more_is_better=more_is_better).plain()["met"] is met


def test_a_row_without_a_reference_has_no_ratio() -> None:
    plain = Row("b", "r", 3.0, "us").plain()
    assert plain["reference"] is plain["reference_value"] is plain["ratio"] is None


def test_the_goal_is_judged_on_what_was_measured_and_not_on_its_four_digits() -> None:
    assert Row("b", "r", 40.0001, "us", goal=40.0).plain()["met"] is False


def test_a_quantile_is_one_of_the_values() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([float(n) for n in range(100)], 0.99) == 99.0
    assert quantile([7.0], 0.99) == 7.0


PLANS = {
    "ask": ask.PLAN.format(budget="", rounds=1, count=1),
    "ask, paid": ask.PLAN.format(budget=ask.BUDGET, rounds=1, count=1),
    "wake": wake.PLAN.format(density=10, timeout=wake.TASK_TIMEOUT),
    "health, full": health.PLAN.format(capability="fill", arguments=health.FILL),
    "health, busy": health.PLAN.format(capability="measure", arguments=health.ASK),
    "chain": durable.chain(10),
    "fan": durable.fan(10),
}


@pytest.mark.parametrize("name", PLANS)
def test_every_plan_of_the_benchmarks_can_be_read(name: str) -> None:
    plan = parse(PLANS[name].encode(), "plan.yaml")
    assert plan.tasks


def test_only_the_paid_plan_has_a_budget() -> None:
    budgets = {name: parse(PLANS[name].encode(), "plan.yaml").limits.budget for name in ("ask", "ask, paid")}
    assert not budgets["ask"]
    assert budgets["ask, paid"]["messages"] > 0


@pytest.mark.parametrize("steps", [3, 10])
def test_a_chain_is_a_chain_and_a_fan_opens_and_closes(steps: int) -> None:
    chain = [task.needs for task in parse(durable.chain(steps).encode(), "plan.yaml").tasks.values()]
    assert chain == [(), *((f"t{number}",) for number in range(steps - 1))]
    fan = [task.needs for task in parse(durable.fan(steps).encode(), "plan.yaml").tasks.values()]
    middle = tuple(f"t{number}" for number in range(1, steps - 1))
    assert fan == [(), *([("t0",)] * (steps - 2)), middle]


async def test_asking_is_counted_whole_one_by_one_and_at_once() -> None:
    asked: list[int] = []
    floor = QueueActor()

    async def ask_it(n: int) -> None:
        asked.append(await floor.ask(n))

    one = await one_by_one(ask_it, 200)
    many = await at_once(ask_it, 1_000)
    floor.close()
    assert asked[:200] == list(range(200))
    assert sorted(asked[200:]) == list(range(1_000))
    assert 0 < one["p50_us"] <= one["p99_us"]
    assert many["per_s"] > 0


async def test_many_at_once_are_really_at_once() -> None:
    at_work = most = 0

    async def ask_it(_: int) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0)
        at_work -= 1

    await at_once(ask_it, 2_000)
    assert most > 100


def test_the_floors_of_durable_plans_write_what_they_say(tmp_path: Path) -> None:
    assert durable.sync_floor_s(tmp_path / "floor", 20) > 0
    assert (tmp_path / "floor").stat().st_size == 20 * len(durable.RECORD)
    assert durable.sqlite_floor_s(tmp_path / "floor.db", 20) > 0


def test_passive_agents_all_have_an_owner() -> None:
    row = wake.passive_row(5_000).plain()
    assert row["value"] > 0
    assert "5,000" in row["row"]


def _theirs(measure: str, *values: float) -> dict[str, Any]:
    return {"measure": measure, "values": list(values), "unit": "s", "version": "1.0", "note": "n"}


def test_a_peer_stands_beside_our_row_of_the_same_name(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = peers.Peer("P", "p.py", (), {"x": peers.Beside("ours", 1.0), "y": peers.Beside("not ours")})
    monkeypatch.setattr(peers, "measure", lambda _: [_theirs("x", 4.0, 2.0, 3.0), _theirs("y", 1.0)])
    (row,) = peers.rows(peer, [Row("plans", "ours", 1.5, "s"), Row("plans", "another", 9.0, "s")])
    plain = row.plain()
    assert (plain["row"], plain["reference"], plain["reference_value"]) == ("ours", "P 1.0, x", 3.0)
    assert (plain["ratio"], plain["goal"], plain["met"]) == (0.5, 3.0, True)


def test_a_peer_that_cannot_run_is_a_row_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: peers.Peer) -> list[dict[str, Any]]:
        raise peers.PeerFailed("cannot be installed: no such package")

    monkeypatch.setattr(peers, "measure", fail)
    (row,) = peers.rows(peers.Peer("P", "p.py", (), {}), [Row("plans", "ours", 1.5, "s")])
    assert row.plain()["value"] is None
    assert "no such package" in row.row


def test_every_peer_has_its_script_and_pins_what_it_needs() -> None:
    for peer in (one for part in peers.PEERS.values() for one in part):
        assert (peers.SCRIPTS / peer.script).is_file()
        assert "==" in peer.requirements[0]


def test_every_peers_measure_names_a_row_that_the_benchmarks_make() -> None:
    run = durable.Run({"accepted_at_s": 1.0, "finished_at_s": 2.0}, 1.5, 0.1, 0.8)
    assert (run.starting_s, run.run_s) == (pytest.approx(0.2), 1.0)
    floors = {"a": 1.0, "b": 1.0}
    made = {row.row for shape in ("chain", "fan") for row in durable._rows(shape, 1_000, [run], floors)}
    one = {"p50_us": 1.0, "p99_us": 2.0, "cpu_us": 1.0}
    many = {"per_s": 1.0, "cpu_us": 1.0}
    asked = {"one": one, "one_floor": one, "many": many, "many_floor": many, "told": many}
    made |= {row.row for row in ask._within_rows([asked], "kill, audit; no budget set")}
    made |= {"wake 10,000 agents and ask each", "memory of a live agent, of 10,000"}
    for peer in (one for part in peers.PEERS.values() for one in part):
        assert {beside.row for beside in peer.beside.values()} <= made
