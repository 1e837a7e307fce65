"""The road in one process: what docs/semantics.md promises of calls, tells, streams, order, back-pressure and failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

import aip
import aip.testing
from aip.errors import (
    AgentFailed,
    AgentLost,
    DeadlineExceeded,
    Deadlock,
    Fenced,
    InvalidPayload,
    MailboxFull,
    NotFound,
    UnknownCapability,
    UsageError,
)
from aip.settings import DEFAULT_LIMITS


class Teapot(AgentFailed):
    code = "test.teapot"


class Echo(aip.Agent):
    def __init__(self) -> None:
        self.heard: list[int] = []
        self.failures: list[str] = []

    @aip.capability
    async def say(self, text: str) -> str:
        return text

    @aip.capability
    def shout(self, text: str) -> str:
        return text.upper()

    @aip.capability
    async def hear(self, number: int) -> None:
        await asyncio.sleep(0)
        self.heard.append(number)

    @aip.capability
    async def recall(self) -> list[int]:
        return self.heard

    @aip.capability
    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    @aip.capability
    async def fail(self, how: str) -> str:
        if how == "teapot":
            raise Teapot("short and stout", spout=1)
        if how == "type":
            return 3  # type: ignore[return-value]
        if how == "object":
            return object()  # type: ignore[return-value]
        raise ValueError("no such luck", 7)

    @aip.capability
    async def anything(self, how: str) -> object:
        return {"object": object(), "deep": _nest(2000), "huge": "x" * (9 * 2**20), "int": 2**80}[how]

    @aip.capability
    async def sleep(self, seconds: float, ctx: aip.Context) -> str:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.failures.append("cancelled")
            raise
        return "slept"

    @aip.capability
    async def failed(self) -> list[str]:
        return self.failures

    @aip.capability
    async def ask(self, chain: list[str], ctx: aip.Context) -> str:
        """Call the first of `chain` with the rest; the last one answers."""
        if not chain:
            return ctx.agent
        return await ctx.call(chain[0], "ask", {"chain": chain[1:]}, timeout_s=8)

    @aip.capability
    async def forward(self, count: int, ctx: aip.Context) -> None:
        for number in range(count):
            await ctx.tell("echo/b", "hear", {"number": number})

    async def on_failure(self, ctx: aip.Context, error: Exception) -> None:
        self.failures.append(type(error).__name__)


def _nest(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.fixture(params=[1, 2, 3], ids=["one-cell", "two-cells", "three-cells"])
async def p(request):
    async with aip.testing.platform(Echo, cells=request.param) as running:
        yield running


async def test_a_call_gets_the_agents_answer(p):
    assert await p.call("echo/a", "say", text="hi") == "hi"
    assert await p.call("echo/b", "shout", text="hi") == "HI"


async def test_every_agent_that_is_addressed_exists(p):
    answers = await asyncio.gather(*(p.call(f"echo/{i}", "say", text=str(i)) for i in range(200)))
    assert answers == [str(i) for i in range(200)]


@pytest.mark.parametrize(
    ("capability", "arguments", "error"),
    [
        ("nothing", {}, UnknownCapability),
        ("say", {}, InvalidPayload),
        ("say", {"text": 3}, InvalidPayload),
        ("say", {"text": "x", "more": 1}, InvalidPayload),
        ("fail", {"how": "teapot"}, Teapot),
        ("fail", {"how": "value"}, AgentFailed),
        ("fail", {"how": "type"}, AgentFailed),
        ("fail", {"how": "object"}, AgentFailed),
        ("anything", {"how": "object"}, InvalidPayload),
        ("anything", {"how": "deep"}, InvalidPayload),
        ("anything", {"how": "huge"}, InvalidPayload),
        ("anything", {"how": "int"}, InvalidPayload),
    ],
)
async def test_what_goes_wrong_in_an_agent_is_a_typed_error_of_its_caller(p, capability, arguments, error):
    with pytest.raises(error) as caught:
        await p.call("echo/a", capability, **arguments)
    assert type(caught.value) is error
    assert await p.call("echo/a", "say", text="still here") == "still here"


async def test_an_agents_own_exception_arrives_with_its_type_arguments_and_line(p):
    with pytest.raises(AgentFailed) as caught:
        await p.call("echo/a", "fail", how="value")
    assert caught.value.details["type"] == "builtins.ValueError"
    assert caught.value.details["args"] == ["no such luck", 7]
    assert "test_road.py:" in caught.value.details["location"]
    assert await p.call("echo/a", "failed") == ["ValueError"]


async def test_a_typed_error_keeps_its_class_and_details_across_cells(p):
    with pytest.raises(Teapot) as caught:
        await p.call("echo/a", "fail", how="teapot")
    assert caught.value.details["spout"] == 1
    assert caught.value.message == "short and stout"


async def test_an_unknown_type_is_named(p):
    with pytest.raises(NotFound, match="'ghost'"):
        await p.call("ghost/1", "say", text="boo")


async def test_tells_of_one_sender_are_handled_in_order(p):
    await p.call("echo/a", "forward", count=500)
    while len(heard := await p.call("echo/b", "recall")) < 500:
        await asyncio.sleep(0.01)
    assert heard == list(range(500))


async def test_a_stream_comes_whole_and_in_order(p):
    parts = [part async for part in p.stream("echo/a", "count", to=1000)]
    assert parts == list(range(1000))


async def test_a_reader_that_leaves_ends_the_stream_at_its_source(p):
    stream = p.stream("echo/a", "count", to=10**9)
    async for part in stream:
        if part == 10:
            break
    await stream.aclose()
    assert await p.call("echo/a", "say", text="free again", timeout_s=5) == "free again"


async def test_a_call_ends_at_its_deadline_and_the_agent_is_told(p):
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await p.call("echo/a", "sleep", seconds=30, timeout_s=0.2)
    assert time.monotonic() - started < 5
    assert await p.call("echo/a", "failed", timeout_s=5) == ["cancelled"]


async def test_cancelling_a_caller_reaches_the_agent(p):
    task = asyncio.ensure_future(p.call("echo/a", "sleep", seconds=30))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await p.call("echo/a", "failed", timeout_s=5) == ["cancelled"]


async def test_a_chain_that_closes_on_itself_is_a_deadlock_that_names_the_circle(p):
    with pytest.raises(Deadlock) as caught:
        await p.call("echo/a", "ask", chain=["echo/b", "echo/c", "echo/a"])
    assert caught.value.details["cycle"] == ["echo/a", "echo/b", "echo/c", "echo/a"]


async def test_two_chains_that_wait_for_each_other_are_found(p):
    class Hold(Exception):
        pass

    first = asyncio.ensure_future(p.call("echo/a", "sleep", seconds=0.1))
    second = asyncio.ensure_future(p.call("echo/b", "sleep", seconds=0.1))
    await asyncio.sleep(0.02)
    # Both are queued while both agents are busy, so each agent calls the other at the same time.
    one = asyncio.ensure_future(p.call("echo/a", "ask", chain=["echo/b"]))
    two = asyncio.ensure_future(p.call("echo/b", "ask", chain=["echo/a"]))
    results = await asyncio.gather(first, second, one, two, return_exceptions=True)
    assert results[:2] == ["slept", "slept"]
    assert any(isinstance(result, Deadlock) for result in results[2:]), results


async def test_endless_recursion_over_fresh_agents_ends(p):
    with pytest.raises(Deadlock, match="too deep"):
        await p.call("echo/0", "ask", chain=[f"echo/{i}" for i in range(1, 60)])


async def test_a_slow_agents_full_mailbox_holds_its_senders_and_nobody_else():
    async with aip.testing.platform(Echo, cells=2, limits=DEFAULT_LIMITS.but(mailbox_max=5)) as p:
        asleep = asyncio.ensure_future(p.call("echo/slow", "sleep", seconds=0.5))
        await asyncio.sleep(0.05)
        waiting = [asyncio.ensure_future(p.call("echo/slow", "hear", number=i)) for i in range(50)]
        await asyncio.sleep(0.05)
        started = time.monotonic()
        assert await p.call("echo/quick", "say", text="x") == "x"
        assert time.monotonic() - started < 0.2
        await asyncio.gather(asleep, *waiting)
        assert await p.call("echo/slow", "recall") == list(range(50))


@pytest.mark.parametrize("cells", [1, 2])
async def test_waiting_for_room_is_bounded(cells):
    limits = DEFAULT_LIMITS.but(mailbox_max=2, stalled_max=10)
    async with aip.testing.platform(Echo, cells=cells, limits=limits) as p:
        asleep = asyncio.ensure_future(p.call("echo/slow", "sleep", seconds=0.4))
        await asyncio.sleep(0.05)
        calls = [asyncio.ensure_future(p.call("echo/slow", "say", text=str(i))) for i in range(100)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(result, MailboxFull) for result in results) >= 80
        assert {type(result) for result in results} == {str, MailboxFull}
        assert await asleep == "slept"


class Counter(aip.Agent):
    async def on_start(self, ctx: aip.Context) -> None:
        self.value = ctx.restored or 0

    @aip.capability
    async def add(self, amount: int, ctx: aip.Context) -> int:
        self.value += amount
        await ctx.checkpoint(self.value)
        return self.value

    @aip.capability
    async def incarnation(self, ctx: aip.Context) -> int:
        return ctx._turn.activation.incarnation

    @aip.capability
    async def publish(self, path: str, key: str, ctx: aip.Context) -> int:
        def write() -> int:
            with open(path, "a") as file:
                return file.write(key + "\n")

        return await ctx.effect("file.append", write, key=key)

    @aip.capability
    async def breed(self, count: int, ctx: aip.Context) -> list[str]:
        return [await ctx.spawn(Counter) for _ in range(count)]


async def test_a_checkpoint_is_there_after_the_cell_is_gone():
    async with aip.testing.platform(Counter, cells=1) as p:
        assert await p.call("counter/a", "add", amount=3) == 3
        lost = p.cells.pop("cell-test-0")
        p.add_cell("cell-test-0", generation=2).start()
        assert await p.call("counter/a", "add", amount=4) == 7
        assert await p.call("counter/a", "incarnation") == 2
        await lost.stop()


async def test_an_agent_that_was_replaced_can_neither_checkpoint_nor_act():
    async with aip.testing.platform(Counter, cells=1) as p:
        await p.call("counter/a", "add", amount=1)
        activation = p.cells["cell-test-0"].host.agents["counter/a"]
        await p.checkpoints.activate("counter/a", "elsewhere", 1, True)
        with pytest.raises(Fenced):
            await p.call("counter/a", "add", amount=1)
        assert p.cells["cell-test-0"].host.agents.get("counter/a") is not activation
        assert p.audit.of("agent.fenced")


async def test_an_effect_is_done_once_per_key(tmp_path):
    path = tmp_path / "effects"
    async with aip.testing.platform(Counter) as p:
        for _ in range(3):
            assert await p.call("counter/a", "publish", path=str(path), key="k1") == 3
        assert path.read_text() == "k1\n"
        assert [detail["effect"] for _, detail in p.audit.of("effect.begun")] == ["file.append"]


async def test_children_are_started_and_bounded():
    async with aip.testing.platform(Counter, limits=DEFAULT_LIMITS.but(spawn_per_agent_max=3)) as p:
        children = await p.call("counter/a", "breed", count=3)
        assert len(set(children)) == 3
        assert all(child in p.cells["cell-test-0"].host.agents for child in children)
        with pytest.raises(UsageError, match="limit"):
            await p.call("counter/a", "breed", count=1)


async def test_an_agent_that_cannot_start_says_why_and_is_given_up_after_five_tries():
    class Broken(aip.Agent):
        tries = 0

        async def on_start(self, ctx: aip.Context) -> None:
            Broken.tries += 1
            raise OSError("no disk")

        @aip.capability
        async def work(self) -> None: ...

    async with aip.testing.platform(Broken) as p:
        for _ in range(8):
            with pytest.raises(AgentFailed):
                await p.call("broken/1", "work")
        assert Broken.tries == 5


async def test_progress_is_heard_by_who_waits():
    class Worker(aip.Agent):
        @aip.capability
        async def work(self, ctx: aip.Context) -> str:
            for step in range(3):
                await ctx.progress(step / 3, f"step {step}")
                await asyncio.sleep(0)
            return "done"

        @aip.capability
        def dig(self, ctx: aip.Context) -> str:
            ctx.progress(0.5, "half")  # From a thread, without await.
            time.sleep(0.02)
            return "dug"

    heard = []
    async with aip.testing.platform(Worker, cells=2) as p:
        await p.watch("worker/1", "work", lambda fraction, text: heard.append(text))
        await p.watch("worker/2", "dig", lambda fraction, text: heard.append(text))
    assert heard == ["step 0", "step 1", "step 2", "half"]


async def test_a_plain_function_is_an_agent():
    def add(a: int, b: int = 1) -> int:
        return a + b

    async with aip.testing.platform(add) as p:
        assert await p.call("add/1", "add", a=2) == 3
        with pytest.raises(InvalidPayload, match="a: Field required"):
            await p.call("add/1", "add")


async def test_agents_leave_when_idle_and_come_back_as_they_were():
    async with aip.testing.platform(Counter, limits=DEFAULT_LIMITS.but(idle_passivate_s=0.0)) as p:
        await p.call("counter/a", "add", amount=5)
        cell = p.cells["cell-test-0"]
        cell.host.passivate_idle(time.time() + 1)
        while cell.host.agents:
            await asyncio.sleep(0.01)
        assert await p.call("counter/a", "add", amount=1) == 6


async def test_when_a_cell_joins_agents_move_with_their_mail_and_their_state():
    from aip.runtime.placement import CellRecord, Membership

    async with aip.testing.platform(Counter, cells=1) as p:
        names = [f"counter/{i}" for i in range(40)]
        await asyncio.gather(*(p.call(name, "add", amount=1) for name in names))
        p.add_cell("cell-test-1").start()
        pool = tuple(
            CellRecord(cell_id=f"cell-test-{i}", pool="test", node="here", generation=1) for i in range(2)
        )
        p.placement.offer(Membership(epoch=2, pools={"test": pool}, types=p.membership.types))
        calls = [asyncio.ensure_future(p.call(name, "add", amount=1)) for name in names for _ in range(5)]
        for cell in p.cells.values():
            cell.moved([])
        results = await asyncio.gather(*calls)
        assert sorted(results) == sorted([n for _ in names for n in range(2, 7)])
        assert len(p.cells["cell-test-1"].host.agents) > 5
        assert not p.audit.of("agent.hand_over_timeout")
        assert not set(p.cells["cell-test-0"].host.agents) & set(p.cells["cell-test-1"].host.agents)


async def test_calls_to_a_cell_that_died_end_in_agent_lost():
    from aip.runtime.placement import Membership

    async with aip.testing.platform(Echo, cells=2) as p:
        there = next(f"echo/{i}" for i in range(100) if p.placement.locate(f"echo/{i}") == "cell-test-1")
        call = asyncio.ensure_future(p.call(there, "sleep", seconds=2))  # Which `dead.stop` waits for.
        await asyncio.sleep(0.05)
        dead = p.cells.pop("cell-test-1")
        pool = tuple(r for r in p.membership.pools["test"] if r.cell_id == "cell-test-0")
        p.placement.offer(Membership(epoch=2, pools={"test": pool}, types=p.membership.types))
        p.cells["cell-test-0"].moved(["cell-test-1"])
        with pytest.raises(AgentLost):
            await call
        assert await p.call(there, "say", text="again") == "again"
        await dead.stop()
