"""The order of an effect: what has happened when it ends at each step, and that nothing is committed after a kill."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest
from effects_kit import AGENT, NOW, World, unavailable
from hypothesis import given, settings
from hypothesis import strategies as st

from aip.errors import (
    AIPError,
    DeadlineExceeded,
    Denied,
    EffectInDoubt,
    Fenced,
    InvalidPayload,
    Killed,
    NotFound,
    PlatformUnavailable,
)
from aip.governance.effects.connector import ConnectorConfig
from aip.governance.effects.failure import EffectFailed
from aip.governance.effects.gateway import BEFORE_RECORD, RESULT_BYTES_MAX, Ruling, Step
from aip.governance.effects.quota import ConnectorBusy

ORDER = [
    "fence",
    "grant",
    "policy",
    "intent",
    "audit",
    "prepare",
    "step",
    "revision",
    "fence",
    "revision",
    "commit",
    "revision",
]


@pytest.fixture
async def world() -> World:
    made = World()
    await made.activated()
    return made


async def test_an_effect_takes_every_step_once_and_in_order(world: World) -> None:
    assert await world.effect() == {"rung": "hello"}
    assert world.steps == [*ORDER, "outcome", "record"]
    assert world.kinds() == ["effect.begun", "effect.done"]
    assert world.bell.discarded == 1
    begun = world.notes[0][1]
    assert begun["says"] == "ring for hello"
    assert (begun["policy"], begun["decision"], begun["cell"]) == ("p1", "d1", "cell-1#1")
    assert world.notes[1][1]["raced"] is False


BEFORE_COMMIT = ["grant", "policy", "intent", "audit", "prepare", "step", "revision", "fence"]


@pytest.mark.parametrize("step", BEFORE_COMMIT)
@pytest.mark.parametrize("target", [AGENT, "run/r-1"])
async def test_an_order_raised_at_any_step_before_the_commit_stops_it(
    world: World, step: str, target: str
) -> None:
    world.at[step] = lambda: world.kill(target)
    with pytest.raises(Killed):
        await world.effect()
    assert world.bell.rung == []
    assert world.bell.discarded == world.steps.count("prepare")
    assert world.kinds()[-1] == "effect.refused"


async def test_an_order_raised_at_the_very_last_read_is_still_seen(world: World) -> None:
    """The second read of the word is the last thing before the connector's call: an order that it shows sends us back."""
    seen = 0

    def at_the_second() -> None:
        nonlocal seen
        seen += 1
        if seen == 2:
            world.kill()

    world.at["revision"] = at_the_second
    with pytest.raises(Killed):
        await world.effect()
    assert world.bell.rung == []


async def test_an_order_raised_while_it_is_committed_is_recorded_with_the_effect(world: World) -> None:
    world.at["commit"] = world.kill
    assert await world.effect() == {"rung": "hello"}
    assert world.notes[-1] == (
        "effect.done",
        {"effect": "bell", "key": "bell:k", "run": "r-1", "fence": "0", "step": "record", "raced": True},
    )


@given(at=st.integers(0, len(ORDER) - 1))
@settings(max_examples=40, deadline=None)
async def test_whichever_call_an_order_comes_in_no_commit_follows_it(at: int) -> None:
    world = World()
    await world.activated()
    calls = 0
    raised_at: list[int] = []

    def count() -> None:
        nonlocal calls
        if calls == at:
            raised_at.append(len(world.bell.rung))
            world.kill()
        calls += 1

    for step in set(ORDER):
        world.at[step] = count
    try:
        await world.effect()
    except Killed:
        assert world.bell.rung == []
    else:
        assert raised_at == [1], "it was committed, so the order came after the commit"


async def test_orders_that_come_faster_than_they_are_read_let_nothing_through(world: World) -> None:
    world.at["fence"] = lambda: world.kill("somebody/else")
    with pytest.raises(PlatformUnavailable):
        await world.effect()
    assert world.bell.rung == []


async def test_a_killed_effect_may_be_done_once_the_order_is_lifted(world: World) -> None:
    world.at["prepare"] = world.kill
    with pytest.raises(Killed):
        await world.effect()
    world.at.clear()
    world.fence.standing.clear()
    world.fence.word += 1
    assert await world.effect() == {"rung": "hello"}
    assert len(world.bell.rung) == 1


async def test_without_an_audit_record_nothing_happens(world: World) -> None:
    world.at["audit"] = unavailable
    with pytest.raises(PlatformUnavailable):
        await world.effect()
    assert "prepare" not in world.steps
    assert world.bell.rung == []
    world.at.clear()
    assert await world.effect() == {"rung": "hello"}


async def test_without_the_ledger_nothing_happens(world: World) -> None:
    world.at["intent"] = unavailable
    with pytest.raises(PlatformUnavailable):
        await world.effect()
    assert world.bell.rung == []
    assert world.kinds() == ["effect.refused"]


@pytest.mark.parametrize(
    "ruling",
    [
        Ruling(False, ("no external write after secrets",), "p2", "d9"),
        Ruling(False),
        Ruling(True, obligations=({"kind": "approval"},)),
    ],
)
async def test_what_policy_does_not_plainly_allow_is_refused(world: World, ruling: Ruling) -> None:
    world.ruling = ruling
    with pytest.raises(Denied):
        await world.effect()
    assert "intent" not in world.steps
    assert world.kinds() == ["effect.refused"]


async def test_a_policy_engine_that_breaks_has_not_allowed_anything(world: World) -> None:
    def breaks() -> None:
        raise ZeroDivisionError

    world.at["policy"] = breaks
    with pytest.raises(Denied, match="could not decide"):
        await world.effect()
    assert world.bell.rung == []


async def test_policy_is_told_what_a_person_would_be_told(world: World) -> None:
    await world.effect({"say": "tea"})
    (proposal,) = world.proposals
    assert (proposal.connector, proposal.kind, proposal.request) == ("bell", "bell", {"say": "tea"})
    assert proposal.description == await world.gateway.describe("bell", {"say": "tea"}) == "ring for tea"


async def test_a_known_outcome_is_answered_again_and_done_once(world: World) -> None:
    first = await world.effect()
    world.restarted()
    assert await world.effect() == first
    assert len(world.bell.rung) == 1


async def test_a_key_belongs_to_one_request(world: World) -> None:
    await world.effect({"say": "tea"})
    with pytest.raises(InvalidPayload, match="another request"):
        await world.effect({"say": "coffee"})
    assert len(world.bell.rung) == 1


async def test_what_the_outside_sees_as_a_key_is_the_same_for_every_attempt_and_no_other(
    world: World,
) -> None:
    world.bell.fails["commit"] = EffectFailed("not now")
    with pytest.raises(EffectFailed):
        await world.effect()
    world.bell.fails.clear()
    await world.effect()
    await world.effect(key="other")
    (_, one), (_, other) = world.bell.rung
    assert one != other
    assert AGENT not in one


@pytest.mark.parametrize("step", ["commit", "outcome"])
async def test_a_failure_after_the_commit_began_is_in_doubt_and_not_repeated(world: World, step: str) -> None:
    world.bell.fails[step] = ConnectionResetError("gone")
    with pytest.raises(EffectInDoubt, match="gone"):
        await world.effect()
    assert world.kinds() == ["effect.begun", "effect.unknown"]
    world.bell.fails.clear()
    with pytest.raises(EffectInDoubt):
        await world.effect()
    assert len(world.bell.rung) == (step == "outcome")


async def test_an_effect_in_doubt_is_repeated_where_the_outside_tells_repeats_apart() -> None:
    world = World(repeat_in_doubt=True)
    await world.activated()
    world.bell.fails["outcome"] = ConnectionResetError("gone")
    with pytest.raises(EffectInDoubt):
        await world.effect()
    world.bell.fails.clear()
    assert await world.effect() == {"rung": "hello"}
    assert world.bell.rung[0] == world.bell.rung[1]


@pytest.mark.parametrize("step", ["commit", "outcome"])
async def test_where_the_connector_is_certain_that_nothing_happened_it_may_be_tried_again(
    world: World, step: str
) -> None:
    world.bell.fails[step] = EffectFailed("the name is taken")
    with pytest.raises(EffectFailed, match="taken"):
        await world.effect()
    world.bell.fails.clear()
    assert await world.effect() == {"rung": "hello"}


async def test_a_preparation_that_breaks_has_done_nothing(world: World) -> None:
    world.bell.fails["prepare"] = OSError("no route")
    with pytest.raises(EffectFailed, match="no route"):
        await world.effect()
    assert world.kinds() == ["effect.begun", "effect.failed"]
    world.bell.fails.clear()
    assert await world.effect() == {"rung": "hello"}


async def test_an_outcome_that_cannot_be_recorded_is_in_doubt_though_it_was_done(world: World) -> None:
    world.at["record"] = unavailable
    with pytest.raises(EffectInDoubt, match="could not be recorded"):
        await world.effect()
    world.at.clear()
    with pytest.raises(EffectInDoubt):
        await world.effect()
    assert len(world.bell.rung) == 1


async def test_an_answer_that_is_too_large_to_keep_is_in_doubt(world: World) -> None:
    world.bell.answer = "x" * (RESULT_BYTES_MAX + 1)
    with pytest.raises(EffectInDoubt, match="exceeds"):
        await world.effect()


async def test_a_fenced_incarnation_does_nothing(world: World) -> None:
    await world.checkpoints.activate(AGENT, "cell-1", 1, True)
    with pytest.raises(Fenced):
        await world.effect(incarnation=1)
    assert world.bell.rung == []
    assert await world.effect(incarnation=2) == {"rung": "hello"}


async def test_a_connector_that_does_not_exist_is_named_with_those_that_do(world: World) -> None:
    with pytest.raises(NotFound) as caught:
        await world.effect(connector="gong")
    assert "bell" in caught.value.hint
    assert world.kinds() == ["effect.refused"]


@pytest.mark.parametrize("request_", [{"say": 1}, {"shout": "x"}, "text", []])
async def test_a_request_that_does_not_fit_names_the_field(world: World, request_: object) -> None:
    with pytest.raises(InvalidPayload, match="Wish"):
        await world.effect(request_)
    assert "policy" not in world.steps


async def test_bytes_that_are_no_message_are_refused(world: World) -> None:
    data = b"\xc1"
    with pytest.raises(InvalidPayload, match="MessagePack"):
        await world.gateway.perform(world.stamp(data), data)


async def test_time_that_ends_before_the_commit_means_nothing_was_done(world: World) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    world.bell.moved = lambda step: forever()  # type: ignore[assignment]
    with pytest.raises(DeadlineExceeded, match="prepare"):
        await world.effect(deadline=NOW + 0.01)
    assert world.bell.rung == []
    assert world.kinds() == ["effect.begun", "effect.failed"]


async def test_time_that_ends_after_the_commit_leaves_it_in_doubt(world: World) -> None:
    hold = asyncio.Event()
    moved = world.bell.moved

    async def stuck(step: str) -> None:
        await moved(step)
        if step == "outcome":
            await hold.wait()

    world.bell.moved = stuck  # type: ignore[method-assign]
    with pytest.raises(EffectInDoubt):
        await world.effect(deadline=NOW + 0.05)
    assert world.kinds() == ["effect.begun", "effect.unknown"]
    assert world.bell.discarded == 1


async def test_the_record_of_an_effect_that_kept_its_time_may_take_longer(world: World) -> None:
    kept = world.checkpoints.end_effect

    async def slowly(*arguments: object) -> None:
        await asyncio.sleep(0.3)
        await kept(*arguments)  # type: ignore[arg-type]

    world.checkpoints.end_effect = slowly  # type: ignore[method-assign]
    assert await world.effect(deadline=NOW + 0.2) == {"rung": "hello"}
    assert world.kinds() == ["effect.begun", "effect.done"]


async def test_an_effect_whose_time_is_over_does_not_begin(world: World) -> None:
    with pytest.raises(DeadlineExceeded):
        await world.effect(deadline=NOW - 1)
    assert world.bell.rung == []


async def test_a_cancelled_effect_is_in_doubt_after_its_commit_and_nothing_before(world: World) -> None:
    reached = asyncio.Event()

    def stop_there() -> None:
        reached.set()

    for step, rung in (("prepare", 0), ("outcome", 1)):
        reached.clear()
        world.at = {step: stop_there}
        task = asyncio.ensure_future(world.effect(key=step))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(world.bell.rung) == rung
    assert world.kinds() == ["effect.begun", "effect.failed", "effect.begun", "effect.unknown"]


async def test_a_rate_that_is_used_up_refuses_before_anything_is_recorded() -> None:
    world = World(rate_per_s=1.0, burst=2)
    await world.activated()
    for number in range(2):
        await world.effect(key=str(number))
    with pytest.raises(ConnectorBusy) as caught:
        await world.effect(key="2")
    assert 0 < caught.value.details["retry_after_s"] <= 1.0
    world.now += 1.0
    await world.effect(key="2")


async def test_no_more_effects_of_a_connector_are_at_work_than_it_allows() -> None:
    world = World(concurrency=3)
    await world.activated()
    at_work = most = 0
    moved = world.bell.moved

    async def counted(step: str) -> None:
        nonlocal at_work, most
        if step == "prepare":
            at_work += 1
            most = max(most, at_work)
        await moved(step)
        if step == "outcome":
            at_work -= 1

    world.bell.moved = counted  # type: ignore[method-assign]
    await asyncio.gather(*(world.effect(key=str(number)) for number in range(20)))
    assert most == 3


async def test_other_connectors_take_over_while_effects_end_with_those_they_began_with(world: World) -> None:
    first = world.bell
    world.at["prepare"] = lambda: world.gateway.replace({})
    assert await world.effect() == {"rung": "hello"}
    assert len(first.rung) == 1
    with pytest.raises(NotFound):
        await world.effect(key="2")


async def test_a_secret_is_in_no_result_no_error_and_no_record(world: World) -> None:
    world.secrets["secret:KEY"] = "hunter2-hunter2"
    world.vault.open("secret:KEY")
    world.bell.answer = {"echo": "key=hunter2-hunter2", "list": ["hunter2-hunter2"]}
    assert await world.effect() == {"echo": "key=[secret]", "list": ["[secret]"]}
    world.bell.fails["outcome"] = ConnectionError("server says hunter2-hunter2")
    with pytest.raises(EffectInDoubt) as caught:
        await world.effect(key="2")
    assert "hunter2" not in repr(world.notes) + caught.value.message
    assert b"hunter2" not in world.checkpoints.table.snapshot()


def test_the_steps_before_the_record_are_those_that_leave_no_trace() -> None:
    assert list(Step)[: len(BEFORE_RECORD)] == [step for step in Step if step in BEFORE_RECORD]


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
async def test_under_failures_crashes_and_kills_a_key_is_committed_at_most_once(seed: int) -> None:
    """Many attempts at few keys, every port failing at random, the gateway's memory lost at random."""
    rng = random.Random(seed)
    world = World()
    await world.activated()
    world.bell.config = ConnectorConfig(rate_per_s=100_000, burst=10_000)
    world.restarted()

    def sometimes() -> None:
        if rng.random() < 0.15:
            unavailable()

    for step in ("policy", "intent", "audit", "record"):
        world.at[step] = sometimes

    async def attempt(key: str) -> None:
        world.bell.fails = {"outcome": ConnectionError("lost")} if rng.random() < 0.2 else {}
        task = asyncio.ensure_future(world.effect({"say": key}, key=key))
        if rng.random() < 0.2:
            await asyncio.sleep(0)
            task.cancel()
        if rng.random() < 0.1:
            world.restarted()
        try:
            await task
        except (AIPError, asyncio.CancelledError):
            return

    for _ in range(6):
        await asyncio.gather(*(attempt(str(rng.randrange(4))) for _ in range(4)))
    said = [say for say, _ in world.bell.rung]
    assert len(said) == len(set(said)), f"committed twice: {said}"


def test_a_stamp_says_on_whose_behalf() -> None:
    world = World()
    envelope = world.stamp(b"").told()
    assert (envelope.recipient, envelope.sender, envelope.run) == (AGENT, "run/r-1", "r-1")
    assert msgspec.msgpack.encode(envelope)
