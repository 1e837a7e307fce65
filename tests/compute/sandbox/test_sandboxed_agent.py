"""An agent in a sandbox is an agent: what it asks for is done on the road, in its own turn, and survives its process."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from sandbox_kit import ENTRY, HOSTILE, here, manifest, needs_container, stranger

import aip.testing
from actors import sandboxed
from actors.sandboxed import LOSSES_MAX, Losses, SandboxDown, Sandboxed
from aip.compute.sandbox import Demand, Mean, MeansMissing, Sandbox, SandboxLimits, SandboxLost
from aip.compute.sandbox.limits import ASKS_MAX
from aip.errors import AgentFailed, BudgetExceeded, EffectInDoubt, InvalidPayload


class Echo(aip.Agent):
    reentrant = True

    @aip.capability
    async def echo(self, text: str) -> str:
        return text + "!"

    @aip.capability
    async def numbers(self, number: int):
        for index in range(number):
            yield index


async def test_it_answers_and_asks_others():
    async with aip.testing.platform(stranger(), Echo) as p:
        assert await p.call("stranger/a", "echo", text="ada") == "ada"
        assert await p.call("stranger/a", "relay", to="echo/b", text="ada") == "ada!"
        assert await p.call("stranger/a", "in_thread")


async def test_more_questions_than_the_parent_works_on_wait_their_turn():
    async with aip.testing.platform(stranger(), Echo) as p:
        number = 3 * ASKS_MAX
        answers = await p.call("stranger/a", "relay_many", to="echo/b", number=number)
        assert answers == [f"{n}!" for n in range(number)]


async def test_it_reads_a_stream_of_another_agent():
    async with aip.testing.platform(stranger(), Echo) as p:
        assert await p.call("stranger/a", "read_numbers", to="echo/b", number=30) == list(range(30))


async def test_a_streaming_capability_called_as_a_whole_tells_how_many_parts_there_were():
    async with aip.testing.platform(stranger()) as p:
        assert await p.call("stranger/a", "numbers", number=30) == 30


async def test_its_parts_reach_who_reads_it_through_the_cell():
    class Reader(aip.Agent):
        @aip.capability
        async def read(self, number: int, ctx: aip.Context) -> list[int]:
            return [part async for part in ctx.stream("stranger/a", "numbers", {"number": number})]

    async with aip.testing.platform(stranger(), Reader) as p:
        assert await p.call("reader/a", "read", number=100) == list(range(100))


async def test_who_leaves_its_stream_early_ends_it_and_nothing_else():
    async with aip.testing.platform(stranger()) as p:
        async for part in p.stream("stranger/a", "numbers", number=10_000):
            if part == 3:
                break
        assert await p.call("stranger/a", "echo", text="still here") == "still here"


async def test_an_answer_that_has_no_parts_is_the_only_one_for_its_reader_in_a_sandbox_as_in_a_cell():
    async with aip.testing.platform(stranger(), Echo) as p:
        assert [part async for part in p.stream("echo/a", "echo", text="x")] == ["x!"]
        assert [part async for part in p.stream("stranger/a", "echo", text="x")] == ["x"]
        assert [part async for part in p.stream("stranger/a", "in_thread")] == [True]
        assert [part async for part in p.stream("stranger/a", "aip.describe")] == [manifest()]


async def test_its_parts_come_one_by_one_and_no_faster_than_they_are_read():
    class Reader(aip.Agent):
        """Has the sandbox by the hand: what a cell does for a stream."""

        @aip.capability
        async def read(self, number: int, ctx: aip.Context) -> list[int]:
            sandbox = await Sandbox.open(here(), Demand(), SandboxLimits(), str(HOSTILE), random.Random(1))
            await sandbox.load(ENTRY, {})
            parts = [part async for part in sandbox.stream(ctx, "numbers", {"number": number})]
            await sandbox.close()
            return parts

    needs_container()
    async with aip.testing.platform(Reader) as p:
        assert await p.call("reader/a", "read", number=100) == list(range(100))


async def test_its_progress_reaches_who_waits():
    heard = []
    async with aip.testing.platform(stranger()) as p:
        await p.watch("stranger/a", "tell_progress", lambda fraction, text: heard.append((fraction, text)))
    assert heard == [(0.5, "half way")]


async def test_it_goes_on_from_its_last_checkpoint_when_its_process_has_died():
    async with aip.testing.platform(stranger()) as p:
        assert [await p.call("stranger/a", "count") for _ in range(3)] == [1, 2, 3]
        with pytest.raises(SandboxLost):
            await p.call("stranger/a", "exit", code=1)
        assert await p.call("stranger/a", "count") == 4


async def test_it_spends_the_budget_of_its_turn_and_not_more():
    async with aip.testing.platform(stranger(), budget={"tokens": 1_000}) as p:
        await p.call("stranger/a", "spend", tokens=300)
        await p.call("stranger/a", "reserve", held=500, used=100)
        assert p.spent["tokens"] == 400
        with pytest.raises(BudgetExceeded):
            await p.call("stranger/a", "spend", tokens=601)


async def test_what_it_held_and_never_settled_is_spent():
    async with aip.testing.platform(stranger(), budget={"tokens": 1_000}) as p:
        await p.call("stranger/a", "hold_and_leave", held=250)
        assert p.spent["tokens"] == 250


async def test_a_part_of_its_budget_holds_it_to_that_part():
    fields = {"labels": {"task": "t"}}
    async with aip.testing.platform(stranger(), budget={"tokens": 1_000}) as p:
        await p.call("stranger/a", "split_and_spend", part=100, tokens=100, fields=fields)
        with pytest.raises(BudgetExceeded):
            await p.call("stranger/b", "split_and_spend", part=100, tokens=101, fields=fields)


async def test_its_effect_is_recorded_and_not_done_again():
    async with aip.testing.platform(stranger()) as p:
        assert await p.call("stranger/a", "once") == 1
        assert await p.call("stranger/a", "once") == 1
        assert len(p.audit.of("effect.begun")) == 1


async def test_an_effect_that_its_process_died_in_is_in_doubt():
    async with aip.testing.platform(stranger()) as p:
        with pytest.raises((EffectInDoubt, SandboxLost)):
            await p.call("stranger/a", "die_in_effect")
        with pytest.raises(EffectInDoubt):
            await p.call("stranger/a", "die_in_effect")


async def test_its_failures_are_typed_and_name_its_own_lines():
    async with aip.testing.platform(stranger()) as p:
        with pytest.raises(AgentFailed) as told:
            await p.call("stranger/a", "fails")
        assert told.value.details["type"] == "builtins.ValueError"
        assert told.value.details["location"].startswith("hostile_agents.py:")
        with pytest.raises(InvalidPayload):
            await p.call("stranger/a", "echo", text=1)
        with pytest.raises(AgentFailed, match="promised"):
            await p.call("stranger/a", "wrong_type")


async def test_its_cell_charges_what_its_manifest_says():
    priced = {**manifest(), "capabilities": {"echo": {"kind": "async", "cost": {"tokens": 7}}}}
    async with aip.testing.platform(stranger(manifest=priced), budget={"tokens": 10}) as p:
        await p.call("stranger/a", "echo", text="x")
        with pytest.raises(BudgetExceeded):
            await p.call("stranger/a", "echo", text="x")


async def test_it_is_described_by_what_was_found_out_at_its_deployment():
    async with aip.testing.platform(stranger()) as p:
        assert await p.call("stranger/a", "aip.describe") == manifest()


async def test_who_dies_without_end_is_not_started_without_end():
    async with aip.testing.platform(stranger()) as p:
        for _ in range(LOSSES_MAX + 1):
            with pytest.raises(SandboxLost):
                await p.call("stranger/a", "exit", code=1)
        with pytest.raises(SandboxDown):
            await p.call("stranger/a", "echo", text="x")


def test_losses_are_forgotten_with_their_window():
    losses = Losses()
    for second in range(LOSSES_MAX + 1):
        losses.note(float(second))
    assert losses.too_many(10.0)
    assert not losses.too_many(61.0)


@pytest.mark.parametrize("mean", [Mean.SECCOMP, Mean.NETWORK, Mean.MOUNTS])
async def test_where_a_demanded_mean_is_not_there_nothing_is_started(monkeypatch, mean):
    needs_container()
    short = replace(here(), has=here().has - {mean}, why={mean: "taken away by this test"})
    monkeypatch.setattr(sandboxed, "means_here", lambda: short)
    monkeypatch.setattr("aip.compute.sandbox.process._spawn", None)  # Whoever calls it fails otherwise.
    async with aip.testing.platform(stranger()) as p:
        with pytest.raises(MeansMissing) as told:
            await p.call("stranger/a", "echo", text="x")
    assert told.value.details["missing"] == {mean.value: "taken away by this test"}


async def test_a_mean_that_fails_only_now_is_told_by_its_step():
    """What was probed says that there is a uid which there is not: nobody starts as somebody else instead."""
    needs_container()
    boasting = replace(here(), uids=(2**32 - 1, 2**32 - 1), user="transient uid")
    with pytest.raises(MeansMissing) as told:
        await Sandbox.open(boasting, Demand(), SandboxLimits(), "", random.Random(1))
    assert told.value.details["step"] in {"enter", "root", "identity"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"entry": "os; import x"},
        {"limits": {"memory_bytes": 1}},
        {"limits": {"memroy": 1}},
        {"manifest": {"capabilities": "x"}},
    ],
)
async def test_a_wrong_configuration_starts_nothing(wrong):
    async with aip.testing.platform(stranger(**wrong)) as p:
        with pytest.raises((InvalidPayload, AgentFailed)):
            await p.call("stranger/a", "echo", text="x")


def test_a_sandboxed_agent_takes_what_it_has_not_declared():
    assert Sandboxed.open_ended
    assert not Sandboxed.capabilities
