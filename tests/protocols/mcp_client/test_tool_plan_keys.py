"""Each key of `tools:`, from the text of a plan to a running server that is held to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from mcp.server import MCPServer
from served import HOSTILE, Served, served
from test_tool_server_web import SEEN, heard, listening
from test_tool_server_web import server as friendly

from aip.errors import EffectInDoubt, InvalidPayload, NotFound
from aip.orchestration.parse import parse
from aip.orchestration.parse import vocabulary as v
from aip.orchestration.plan import Plan
from aip.protocols.mcp import child
from aip.protocols.mcp.config import ServerConfig
from aip.protocols.mcp.errors import ToolServerLost
from aip.secret import keep_in_file
from aip.settings import Home

HEAD = "apiVersion: aip/v1\nkind: Plan\nmetadata: {name: keys}\n"
TASK = "tasks:\n  t: {agent: tools.x, capability: c}\n"


def plan_of(entry: str) -> Plan:
    return parse((f"{HEAD}tools:\n  x: {{{entry}}}\n{TASK}").encode(), "plan.yaml")


@asynccontextmanager
async def planned(entry: str) -> AsyncIterator[Served]:
    async with served(**plan_of(entry).agents["tools.x"].config) as x:
        yield x


def hostile(vice: str) -> str:
    return f"command: [python, {HOSTILE}, {vice}], allow: ['*']"


class Counting:
    """A server that knows how often it was asked, and how many at once."""

    def __init__(self) -> None:
        self.asked = self.at_once = self.at_once_most = 0
        self.app = MCPServer("counting", version="1")
        self.app.add_tool(self.order)
        self.app.add_tool(self.look)

    async def order(self) -> int:
        """Changes the world."""
        self.asked += 1
        return self.asked

    async def look(self) -> int:
        """Takes until two of them have met, or all have had time to."""
        self.at_once += 1
        self.at_once_most = max(self.at_once_most, self.at_once)
        for _ in range(20):
            await asyncio.sleep(0.005)
        self.at_once -= 1
        return self.at_once_most


@asynccontextmanager
async def counting(more: str) -> AsyncIterator[tuple[Counting, Served]]:
    server = Counting()
    async with (
        listening(server.app.streamable_http_app()) as url,
        planned(f"url: '{url}', allow: ['*'], {more}") as x,
    ):
        yield server, x


@pytest.mark.parametrize("effects", ["[order]", "['*']"])
async def test_effects_are_done_once_for_one_piece_of_work(effects: str) -> None:
    async with counting(f"effects: {effects}") as (server, x):
        for key in ("order-7", "order-7", "order-8"):
            await x.platform.call("tools.x/any", "order", fields={"idempotency_key": key})
        assert server.asked == 2
        assert [detail["effect"] for _, detail in x.platform.audit.of("effect.done")] == ["x.order"] * 2


async def test_a_tool_that_is_no_effect_is_asked_each_time() -> None:
    async with counting("effects: [look]") as (server, x):
        for _ in range(2):
            await x.platform.call("tools.x/any", "order", fields={"idempotency_key": "order-7"})
        assert server.asked == 2


async def test_an_effect_whose_server_dies_is_in_doubt_and_not_repeated() -> None:
    async with planned(f"{hostile('none')}, effects: [die]") as x:
        for _ in range(2):
            with pytest.raises(EffectInDoubt):
                await x.platform.call("tools.x/any", "die", fields={"idempotency_key": "order-8"})


@pytest.mark.parametrize(("key", "most"), [("concurrency: 2", 2), ("concurrency: 1", 1)])
async def test_concurrency_bounds_what_the_server_works_on_at_once(key: str, most: int) -> None:
    async with counting(key) as (server, x):
        await asyncio.gather(*(x.call("look") for _ in range(6)))
        assert server.at_once_most == most


@pytest.mark.parametrize("protocol", ["2025-11-25", "2026-07-28"])
async def test_a_pinned_protocol_is_the_one_that_is_spoken(protocol: str) -> None:
    async with planned(f"command: [python, -m, mcp_server_time], allow: ['*'], protocol: {protocol}") as x:
        assert (await x.describe())["protocol"] == protocol


async def test_a_pinned_protocol_that_the_server_does_not_speak_is_an_error_not_a_downgrade() -> None:
    async with planned(f"{hostile('none')}, protocol: 2026-07-28, start_timeout: 3s") as x:
        with pytest.raises(ToolServerLost):
            await x.call("greet", name="Ada")


async def test_a_server_has_its_start_timeout_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "STOP_WAIT_S", 0.3)  # It does not listen to its end either.
    async with planned(f"{hostile('mute')}, start_timeout: 250ms") as x:
        with pytest.raises(ToolServerLost, match=r"was not ready within 0\.25 s"):
            await x.call("greet", name="Ada")


async def test_an_answer_above_result_bytes_max_is_an_error_and_never_cut() -> None:
    async with planned(f"{hostile('huge')}, result_bytes_max: 1Ki, protocol: 2025-11-25") as x:
        with pytest.raises(InvalidPayload, match="2000 bytes, the limit is 1024"):
            await x.call("greet", name="Ada")


async def test_a_bearer_secret_is_resolved_where_the_server_is_asked_and_stands_nowhere_else(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIP_HOME", str(tmp_path))
    keep_in_file("WEB_TOKEN", "t-24680", Home.find())
    SEEN.clear()
    async with listening(heard(friendly().streamable_http_app())) as url:
        entry = f"url: '{url}', allow: [add], headers: {{Authorization: Bearer secret:WEB_TOKEN}}"
        assert "t-24680" not in repr(plan_of(entry))
        async with planned(entry) as x:
            await x.call("add", a=1, b=1)
            assert "t-24680" not in str(await x.describe())
    assert {request["authorization"] for request in SEEN} == {"Bearer t-24680"}


async def test_a_bearer_secret_that_nobody_has_is_named_and_nothing_is_sent() -> None:
    SEEN.clear()
    async with (
        listening(heard(friendly().streamable_http_app())) as url,
        planned(f"url: '{url}', allow: [add], headers: {{X: Bearer secret:AIP_NONE}}") as x,
    ):
        with pytest.raises(NotFound, match="no secret AIP_NONE"):
            await x.call("add", a=1, b=1)
    assert SEEN == []


async def test_the_short_form_under_agents_is_a_running_server_too() -> None:
    agents = f'agents:\n  x: {{use: "mcp://stdio/python {HOSTILE} none", config: {{allow: [greet]}}}}\n'
    plan = parse((HEAD + agents + TASK.replace("tools.x", "x")).encode(), "plan.yaml")
    async with served(**plan.agents["x"].config) as x:
        assert (await x.call("greet", name="Ada")).startswith("hello, Ada")


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "timeout": st.sampled_from(["1ms", "1h"]),
            "start_timeout": st.sampled_from(["1ms", f"{v.TOOL_START_S_MAX:g}s"]),
            "result_bytes_max": st.sampled_from([1, v.TOOL_RESULT_BYTES_MAX, "8Mi"]),
            "concurrency": st.sampled_from([1, v.TOOL_CALLS_MAX]),
            "protocol": st.sampled_from(v.PROTOCOLS),
            "effects": st.sampled_from([["a"], ["*"], ["a", "b"]]),
            "env": st.sampled_from([{"A": "secret:B"}, {"A": "Any secret:B", "C": "secret: d"}]),
        },
    )
)
def test_what_a_plan_may_say_its_server_takes(said: dict[str, object]) -> None:
    entry = yaml.safe_dump(
        {"command": ["x"], "allow": ["a", "b"], **said}, default_flow_style=True, width=10**6
    )
    ServerConfig.model_validate(
        plan_of(entry.strip().removeprefix("{").removesuffix("}")).agents["tools.x"].config
    )
