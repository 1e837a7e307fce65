"""The agents on the road: configured as a plan does, paid for from a budget, stopped in the middle."""

from __future__ import annotations

import asyncio
import platform
from types import ModuleType
from typing import Any

import pytest
from secure_kit import EXAMPLE, Marked

import aip.testing
from aip.errors import AIPError, BudgetExceeded, InvalidPayload

linux = pytest.mark.skipif(platform.system() != "Linux", reason="the cage is built of Linux")


async def result(test: aip.testing.TestPlatform, code: str, **more: Any) -> dict[str, Any]:
    try:
        return await test.call("runner/any", "code.run", code=code, **more)
    except AIPError as error:
        if error.code == "sandbox.unenforceable":
            pytest.skip(error.message)
        raise


async def test_three_reviewers_of_one_class_look_at_different_things(agents: ModuleType) -> None:
    names = ("imports", "calls", "size")
    reviewers = [aip.testing.configured(agents.Reviewer, name, evidence=name) for name in names]
    code = (EXAMPLE / "snippets" / "bomb.py").read_text()
    async with aip.testing.platform(*reviewers) as test:
        votes = [(await test.call(f"{name}/any", "code.review", code=code))["vote"] for name in names]
    assert votes == ["refuse", "run", "run"]


@linux
async def test_a_run_costs_one_tool_call_and_the_second_does_not_start(agents: ModuleType) -> None:
    async with aip.testing.platform(agents.Runner, budget={"tool_calls": 1}) as test:
        assert (await result(test, "print(6 * 7)"))["stdout"] == "42\n"
        snippet = Marked("import time; time.sleep(600)")
        with pytest.raises(BudgetExceeded):
            await test.call("runner/any", "code.run", code=snippet.code)
        assert snippet.processes() == []


@linux
async def test_a_cancelled_turn_takes_its_snippet_with_it(agents: ModuleType) -> None:
    snippet = Marked("import time; time.sleep(600)")
    runner = aip.testing.configured(agents.Runner, wall_s=300.0)
    async with aip.testing.platform(runner) as test:
        call = asyncio.create_task(result(test, snippet.code, timeout_s=200))
        while not snippet.processes():
            assert not call.done(), call.result()
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises((asyncio.CancelledError, AIPError)):
            await call
        while (
            snippet.processes()
        ):  # The answer does not wait for the agent's last breath; the test does, within its own time.
            await asyncio.sleep(0.01)
        assert (await result(test, "print('next')"))["stdout"] == "next\n"


async def test_a_bound_that_is_no_bound_is_refused(agents: ModuleType) -> None:
    runner = aip.testing.configured(agents.Runner, wall_s=1e9)
    async with aip.testing.platform(runner) as test:
        with pytest.raises(InvalidPayload, match="wall_s"):
            await test.call("runner/any", "code.run", code="print()")
