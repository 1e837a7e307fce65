"""Agents with connectors tested without Ray: `aip.testing.platform(..., effects={...})` goes the way of the real gateway."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import aip
import aip.testing
from aip.errors import EffectInDoubt, InvalidPayload, Killed, NotFound
from aip.governance.effects.failure import EffectFailed


class Clerk(aip.Agent):
    @aip.capability
    async def open(self, title: str, ctx: aip.Context, key: str = "") -> Any:
        return await ctx.effect("tickets", {"title": title}, key=key or title)


class Tickets:
    """The outside: what it was asked, and what it does about it."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.trouble: Exception | None = None

    def __call__(self, request: Any) -> Any:
        if self.trouble is not None:
            raise self.trouble
        self.asked.append(request)
        return {"number": len(self.asked)}


def kinds(p: aip.testing.TestPlatform) -> list[str]:
    return [kind for kind, _, _ in p.audit.entries if kind.startswith("effect.")]


async def test_the_outside_is_a_callable_and_a_key_is_done_once() -> None:
    tickets = Tickets()
    async with aip.testing.platform(Clerk, effects={"tickets": tickets}) as p:
        assert await p.call("clerk/1", "open", title="broken") == {"number": 1}
        assert await p.call("clerk/1", "open", title="broken") == {"number": 1}
        assert await p.call("clerk/1", "open", title="late") == {"number": 2}
        with pytest.raises(InvalidPayload, match="another request"):
            await p.call("clerk/1", "open", title="else", key="late")
        assert kinds(p) == [*["effect.begun", "effect.done"] * 2, "effect.refused"]
    assert tickets.asked == [{"title": "broken"}, {"title": "late"}]


async def test_an_asynchronous_outside_is_waited_for() -> None:
    async def tickets(request: Any) -> str:
        await asyncio.sleep(0)
        return str(request["title"])

    async with aip.testing.platform(Clerk, effects={"tickets": tickets}, cells=2) as p:
        titles = [f"t{number}" for number in range(20)]
        calls = (p.call(f"clerk/{title}", "open", title=title) for title in titles)
        assert await asyncio.gather(*calls) == titles


async def test_a_kill_order_stops_effects_until_it_is_lifted() -> None:
    tickets = Tickets()
    async with aip.testing.platform(Clerk, effects={"tickets": tickets}) as p:
        p.kill("clerk/1", aip.testing.Level.QUARANTINE)
        with pytest.raises(aip.AIPError):
            await p.call("clerk/1", "open", title="broken", timeout_s=0.2)
        p.kill("clerk/1")
        with pytest.raises(Killed):
            await p.call("clerk/1", "open", title="broken")
        assert tickets.asked == []
        assert await p.call("clerk/2", "open", title="other") == {"number": 1}
        p.lift("clerk/1")
        assert await p.call("clerk/1", "open", title="broken") == {"number": 2}


async def test_an_order_that_is_raised_while_the_effect_is_prepared_is_seen_at_the_commit() -> None:
    tickets = Tickets()
    async with aip.testing.platform(Clerk, effects={"tickets": tickets}) as p:
        record = p.audit.record

        async def then_killed(*arguments: Any) -> None:
            await record(*arguments)
            p.kill("clerk")

        p.audit.record = then_killed  # type: ignore[method-assign]
        with pytest.raises(Killed):
            await p.call("clerk/1", "open", title="broken")
        assert tickets.asked == []
        assert kinds(p) == ["effect.begun", "effect.refused"]


async def test_where_the_outside_is_certain_that_nothing_happened_the_key_may_be_tried_again() -> None:
    tickets = Tickets()
    tickets.trouble = EffectFailed("not now")
    async with aip.testing.platform(Clerk, effects={"tickets": tickets}) as p:
        with pytest.raises(EffectFailed, match="not now"):
            await p.call("clerk/1", "open", title="broken")
        tickets.trouble = None
        assert await p.call("clerk/1", "open", title="broken") == {"number": 1}


async def test_any_other_error_of_the_outside_leaves_the_effect_in_doubt() -> None:
    tickets = Tickets()
    tickets.trouble = ConnectionResetError("gone")
    async with aip.testing.platform(Clerk, effects={"tickets": tickets}) as p:
        for _ in range(2):
            with pytest.raises(EffectInDoubt):
                await p.call("clerk/1", "open", title="broken")
            tickets.trouble = None
        assert tickets.asked == []
        assert kinds(p) == ["effect.begun", "effect.unknown", "effect.refused"]


async def test_a_connector_that_the_test_does_not_give_is_not_there() -> None:
    async with aip.testing.platform(Clerk) as p:
        with pytest.raises(NotFound, match="tickets"):
            await p.call("clerk/1", "open", title="broken")
