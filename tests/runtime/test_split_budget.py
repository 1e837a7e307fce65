"""An agent that plans hands its children parts of its budget: each is held to its part, all together to the whole."""

from __future__ import annotations

import asyncio

import pytest

import aip
import aip.testing
from aip.errors import BudgetExceeded, UsageError
from aip.orchestration.budget import Ledger


class Worker(aip.Agent):
    @aip.capability
    async def work(self, tokens: int, ctx: aip.Context) -> str:
        await ctx.spend(tokens=tokens)
        return "done"

    @aip.capability
    async def delegate(self, tokens: int, ctx: aip.Context) -> str:
        """Hands the work on: what its helper spends is its caller's part all the same."""
        return str(await ctx.call("worker/helper", "work", {"tokens": tokens}))


class Planner(aip.Agent):
    @aip.capability
    async def share(self, parts: dict[str, list[int]], limit: int, ctx: aip.Context) -> dict[str, list[str]]:
        """What became of each call, by the part that paid for it."""
        ends: dict[str, list[str]] = {}
        for name, amounts in parts.items():
            part = await ctx.split(name, tokens=limit)
            ends[name] = [await outcome(part, name, tokens) for tokens in amounts]
        return ends

    @aip.capability
    async def nest(self, outer: int, inner: int, tokens: int, ctx: aip.Context) -> str:
        part = await (await ctx.split("outer", tokens=outer)).split("inner", tokens=inner)
        return await outcome(part, "a", tokens)

    @aip.capability
    async def spend_it_here(self, limit: int, tokens: int, ctx: aip.Context) -> None:
        await (await ctx.split("own", tokens=limit)).spend(tokens=tokens)

    @aip.capability
    async def split_wrongly(self, name: str, amounts: dict[str, int], ctx: aip.Context) -> None:
        await ctx.split(name, **amounts)

    @aip.capability
    async def split_again(self, first: int, second: int, ctx: aip.Context) -> None:
        await ctx.split("draft", tokens=first)
        await ctx.split("draft", tokens=second)


async def outcome(part: aip.Context, key: str, tokens: int) -> str:
    try:
        return str(await part.call(f"worker/{key}", "delegate", {"tokens": tokens}))
    except BudgetExceeded:
        return "refused"


async def test_each_part_is_held_to_its_limit_and_what_it_causes_too():
    async with aip.testing.platform(Planner, Worker, cells=2, budget={"tokens": 1_000}) as p:
        ends = await p.call("planner/a", "share", parts={"a": [60, 60, 30], "b": [90, 20]}, limit=100)
        assert ends == {"a": ["done", "refused", "done"], "b": ["done", "refused"]}
        assert p.spent["tokens"] == 180


async def test_parts_may_promise_more_than_there_is_and_the_whole_is_never_overspent():
    async with aip.testing.platform(Planner, Worker, budget={"tokens": 100}) as p:
        ends = await p.call("planner/a", "share", parts={"a": [80], "b": [80], "c": [20]}, limit=80)
        assert ends == {"a": ["done"], "b": ["refused"], "c": ["done"]}
        assert p.spent["tokens"] == 100


@pytest.mark.parametrize(("outer", "inner", "tokens", "end"), [
    (50, 100, 60, "refused"),
    (100, 50, 60, "refused"),
    (100, 60, 60, "done"),
])  # fmt: skip
async def test_a_part_of_a_part_is_held_to_both(outer: int, inner: int, tokens: int, end: str):
    async with aip.testing.platform(Planner, Worker, budget={"tokens": 1_000}) as p:
        assert await p.call("planner/a", "nest", outer=outer, inner=inner, tokens=tokens) == end


async def test_the_next_attempt_of_a_piece_of_work_has_what_the_first_left():
    async with aip.testing.platform(Planner, Worker, budget={"tokens": 1_000}) as p:
        ask = {"parts": {"a": [70]}, "limit": 100}
        same = {"idempotency_key": "r-1/plan/0"}
        assert await p.call("planner/a", "share", fields=same, **ask) == {"a": ["done"]}
        assert await p.call("planner/a", "share", fields=same, **ask) == {"a": ["refused"]}
        other = {"idempotency_key": "r-1/plan/1"}
        assert await p.call("planner/a", "share", fields=other, **ask) == {"a": ["done"]}


async def test_many_pieces_of_work_split_at_once_and_never_overspend():
    async with aip.testing.platform(Planner, Worker, cells=2, budget={"tokens": 500}) as p:
        calls = [
            p.call(f"planner/{n}", "share", parts={f"w{n}": [30, 30]}, limit=40, fields={"idempotency_key": f"k{n}"})
            for n in range(30)
        ]  # fmt: skip
        ends = [end for one in await asyncio.gather(*calls) for part in one.values() for end in part]
        assert ends.count("done") == 500 // 30
        assert p.spent["tokens"] == 30 * (500 // 30)


async def test_what_is_spent_from_a_part_in_the_turn_itself_is_spent():
    async with aip.testing.platform(Planner, budget={"tokens": 100}) as p:
        await p.call("planner/a", "spend_it_here", limit=40, tokens=40)
        assert p.spent["tokens"] == 40
        with pytest.raises(BudgetExceeded):
            await p.call("planner/b", "spend_it_here", limit=40, tokens=41)
        assert p.spent["tokens"] == 40


@pytest.mark.parametrize(("name", "amounts", "says"), [
    ("Big Part", {"tokens": 1}, "short name"),
    ("draft", {}, "how much"),
    ("draft", {"tokens": -1}, "0 or more"),
])  # fmt: skip
async def test_a_split_that_cannot_be_meant_says_why(name: str, amounts: dict[str, int], says: str):
    async with aip.testing.platform(Planner, budget={"tokens": 10}) as p:
        with pytest.raises(UsageError, match=says):
            await p.call("planner/a", "split_wrongly", name=name, amounts=amounts)


async def test_a_part_cannot_be_made_larger_by_splitting_again():
    async with aip.testing.platform(Planner, budget={"tokens": 100}) as p:
        with pytest.raises(UsageError, match="split off with"):
            await p.call("planner/a", "split_again", first=10, second=20)


async def test_work_without_an_account_has_nothing_to_split():
    async with aip.testing.platform(Planner) as p:
        with pytest.raises(UsageError, match="no budget to split"):
            await p.call("planner/a", "split_wrongly", name="draft", amounts={"tokens": 1})


def test_a_part_belongs_to_its_account():
    ledger = Ledger()
    ledger.open("r-1", {"tokens": 10})
    with pytest.raises(UsageError, match="not a part"):
        ledger.part("r-1", "r-2/draft", {"tokens": 1})
