"""Configured agents, agents that take what they have not declared, names of a plan, and money held before it is spent."""

from __future__ import annotations

import asyncio
from typing import Any

import pydantic
import pytest

import aip
from aip.errors import BudgetExceeded, DeadlineExceeded, InvalidPayload, UnknownCapability, UsageError
from aip.testing import configured, platform


class Writer(aip.Agent):
    class Config(pydantic.BaseModel):
        tone: str = "dry"
        lines: int = 1

    @aip.capability
    async def write(self) -> list[str]:
        return [self.config.tone] * self.config.lines


class Bare(aip.Agent):
    @aip.capability
    def given(self) -> dict[str, Any]:
        return dict(self.config)


class Open(aip.Agent):
    open_ended = True

    @aip.capability
    async def known(self) -> str:
        return "declared"

    async def handle(self, capability: str, arguments: dict[str, Any], ctx: aip.Context) -> Any:
        return [capability, arguments, ctx.agent]


class Asks(aip.Agent):
    @aip.capability
    async def ask(self, name: str, ctx: aip.Context) -> list[str]:
        return await ctx.agent_at(name).write()

    @aip.capability
    async def model(self, ctx: aip.Context) -> Any:
        return await ctx.model("big").chat(text="hi")


class Buyer(aip.Agent):
    @aip.capability
    async def buy(self, ctx: aip.Context, held: int, cost: int | None = None, fail: bool = False) -> None:
        async with ctx.reserve(tokens=held) as reservation:
            if cost is not None:
                reservation.settle(tokens=cost)
            if fail:
                raise ValueError("the shop is closed")

    @aip.capability("priced", cost={"tool_calls": 3})
    async def priced(self) -> str:
        return "sold"

    @aip.capability("slow", timeout_s=0.01)
    async def slow(self) -> None:
        await asyncio.sleep(60)


async def test_one_class_serves_as_several_agents() -> None:
    async with platform(configured(Writer, "critic", tone="harsh", lines=2), Writer) as p:
        assert await p.call("critic/any", "write") == ["harsh", "harsh"]
        assert await p.call("writer/any", "write") == ["dry"]


async def test_a_class_without_config_gets_the_mapping_as_it_is() -> None:
    async with platform(configured(Bare, colour="red"), cells=2) as p:
        assert await p.call("bare/a", "given") == {"colour": "red"}


async def test_a_configuration_that_does_not_fit_names_each_field() -> None:
    async with platform(configured(Writer, tone=7, lines="many")) as p:
        with pytest.raises(InvalidPayload, match=r"configuration of Writer: tone: .*lines: "):
            await p.call("writer/any", "write")


async def test_an_open_ended_agent_takes_what_it_has_not_declared() -> None:
    async with platform(Open) as p:
        assert await p.call("open/x", "known") == "declared"
        assert await p.call("open/x", "git.log", depth=3) == ["git.log", {"depth": 3}, "open/x"]


async def test_any_other_agent_refuses_it_and_says_what_it_has() -> None:
    async with platform(Bare) as p:
        with pytest.raises(UnknownCapability) as caught:
            await p.call("bare/x", "git.log")
        assert caught.value.hint == "it has: given"


async def test_every_agent_describes_itself() -> None:
    async with platform(Writer) as p:
        described = await p.call("writer/x", "aip.describe")
        assert described["capabilities"]["write"]["output"]["type"] == "array"
        assert described["config"]["properties"]["lines"]["default"] == 1


async def test_a_target_without_a_slash_is_a_name_of_the_plan() -> None:
    models = configured(Open, "models.big")
    async with platform(Asks, configured(Writer, "critic", tone="harsh"), models, cells=2) as p:
        assert await p.call("asks/x", "ask", name="critic") == ["harsh"]
        assert await p.call("asks/x", "model") == ["chat", {"text": "hi"}, "models.big/any"]


async def test_a_name_means_nothing_where_no_run_is_worked_for() -> None:
    async with platform(Asks) as p:
        with pytest.raises(UsageError, match="works for no run"):
            await p.call("asks/x", "ask", fields={"run": ""}, name="critic")


@pytest.mark.parametrize(
    ("cost", "fail", "spent"),
    [(30, False, 30), (None, False, 50), (80, False, 80), (30, True, 30), (None, True, 50), (0, False, 0)],
)
async def test_what_was_held_is_settled_and_what_is_not_settled_was_spent(
    cost: int | None, fail: bool, spent: int
) -> None:
    async with platform(Buyer, budget={"tokens": 100}) as p:
        if fail:
            with pytest.raises(aip.AgentFailed):
                await p.call("buyer/x", "buy", held=50, cost=cost, fail=True)
        else:
            await p.call("buyer/x", "buy", held=50, cost=cost)
        assert p.spent.get("tokens", 0) == spent


async def test_more_than_there_is_cannot_be_held_and_nothing_is_done() -> None:
    async with platform(Buyer, budget={"tokens": 100}) as p:
        with pytest.raises(BudgetExceeded):
            await p.call("buyer/x", "buy", held=101)
        assert p.spent.get("tokens", 0) == 0
        await p.call("buyer/x", "buy", held=100, cost=100)
        with pytest.raises(BudgetExceeded):
            await p.call("buyer/x", "buy", held=1)


async def test_what_is_held_at_the_same_time_never_exceeds_the_budget() -> None:
    async with platform(Buyer, budget={"tokens": 100}, cells=2) as p:
        calls = [p.call(f"buyer/{n}", "buy", held=40, cost=25) for n in range(12)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        bought = sum(outcome is None for outcome in outcomes)
        assert all(isinstance(outcome, BudgetExceeded) for outcome in outcomes if outcome is not None)
        assert p.spent["tokens"] == 25 * bought <= 100


async def test_the_cost_of_a_capability_is_charged_before_it_starts() -> None:
    async with platform(Buyer, budget={"tool_calls": 7}) as p:
        assert [await p.call("buyer/x", "priced"), await p.call("buyer/x", "priced")] == ["sold", "sold"]
        with pytest.raises(BudgetExceeded):
            await p.call("buyer/x", "priced")
        assert p.spent["tool_calls"] == 6


async def test_a_capability_ends_at_its_own_timeout() -> None:
    async with platform(Buyer) as p:
        with pytest.raises(DeadlineExceeded, match=r"still at slow after its 0\.01 s"):
            await p.call("buyer/x", "slow")
