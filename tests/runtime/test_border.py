"""The border of a cell: what it believes of whom (semantics B3, B4). Real cells in one process, each frame with its speaker."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

import aip
import aip.testing
from aip.errors import Denied, ErrorRecord
from aip.runtime import post
from aip.runtime.border import Border
from aip.runtime.envelope import (
    Cancel,
    Claim,
    Credit,
    Envelope,
    Frame,
    HandOver,
    Item,
    Kind,
    Part,
    Probe,
    Progress,
    Reply,
    Taken,
    decode_ack,
    decode_frame,
    encode,
)
from aip.runtime.guard import Guard, OpenFence
from aip.runtime.placement import CellRecord, Membership, Placement
from aip.runtime.speaker import SPEAKER, VISITOR, Speaker

A1, A2, B = "alpha@000000000000/1", "alpha@000000000000/2", "beta@000000000000/1"
GENERATION = {"cell-a-0": 1, "cell-a-1": 1, "cell-b-0": 5, "cell-a-p": 1}


def record(name: str, pool: str) -> CellRecord:
    return CellRecord(name, pool, "here", GENERATION[name])


PINNED = "alpha@000000000000/pinned"
PLACEMENT = Placement(
    Membership(
        epoch=1,
        pools={
            "a": (record("cell-a-0", "a"), record("cell-a-1", "a"), record("cell-a-p", "a")),
            "b": (record("cell-b-0", "b"),),
        },
        types={"alpha@000000000000": "a", "beta@000000000000": "b"},
        pins={PINNED: "cell-a-p"},
    )
)


def message(source: str, generation: int, **changes: Any) -> Envelope:
    fields = {
        "id": f"{source}.{generation}.salt.1",
        "kind": 0,
        "sender": A1,
        "recipient": B,
        "capability": "c",
        "payload": b"",
    }
    return Envelope(**fields | {"origin": source} | changes)  # type: ignore[arg-type]


def barred(source: str, item: Item) -> bool:
    frame = Frame(source, GENERATION.get(source, 1), 1, [item])
    return bool(Border(PLACEMENT).bars(frame))


SAID = [
    # who, what of an envelope, may it?
    ("cell-a-0", {}, True),
    ("cell-a-p", {"sender": PINNED}, True),
    ("cell-a-p", {"sender": A1}, True),
    ("cell-a-gone", {"sender": A1}, True),  # It has left; its last words are still its own.
    ("cell-b-0", {}, False),
    ("cell-unknown", {}, False),
    ("cell-a-0", {"sender": B}, False),
    ("cell-a-0", {"sender": "run/r-1", "run": "r-1"}, False),
    ("cell-a-0", {"sender": "client/client-1"}, False),
    ("cell-a-0", {"sender": "nobody"}, False),
    ("cell-a-0", {"id": "cell-a-0.0.salt.1"}, False),
    ("cell-a-0", {"id": "cell-a-1.1.salt.1"}, False),
    ("cell-a-0", {"run": "r-1", "budget": "r-1/task"}, True),
    ("cell-a-0", {"run": "r-1", "budget": "r-1/task/part.0"}, True),
    ("cell-a-0", {"run": "r-1", "budget": "r-2/task"}, False),
    ("cell-a-0", {"budget": "r-2/task"}, False),
    # Passed on: by the receiver's own pool only.
    ("cell-a-1", {"origin": "cell-b-0", "sender": B, "recipient": A1}, True),
    ("cell-b-0", {"origin": "cell-a-0", "sender": A1, "recipient": A2}, False),
    ("run-r-1", {"origin": "cell-a-0", "sender": A1, "recipient": A2}, False),
    ("run-r-1", {"sender": "run/r-1", "run": "r-1"}, True),
    ("run-r-1", {"sender": "run/r-1", "run": "r-1", "budget": "r-1/task"}, True),
    ("run-r-1", {"sender": "run/r-1", "run": "r-2"}, False),
    ("run-r-1", {"sender": "run/r-2", "run": "r-2"}, False),
    ("run-r-1", {"sender": A1}, False),
    ("client-1", {"sender": "client/client-1"}, True),
    ("client-1", {"sender": "client/client-2"}, False),
    ("client-1", {"sender": "client/client-1", "run": "r-1"}, False),
    ("client-1", {"sender": "client/client-1", "budget": "r-1/task"}, False),
]


@pytest.mark.parametrize(("source", "changes", "fair"), SAID)
def test_whose_messages_a_process_may_send(source: str, changes: dict[str, Any], fair: bool) -> None:
    assert barred(source, message(source, GENERATION.get(source, 1), **changes)) is not fair


@pytest.mark.parametrize(
    ("source", "item", "fair"),
    [
        ("cell-a-1", HandOver(A1, 1, (), {}), True),
        ("cell-b-0", HandOver(A1, 1, (), {}), False),
        ("run-r-1", HandOver(A1, 1, (), {}), False),
        ("cell-a-1", Claim(A1, "cell-a-1", 1), True),
        ("cell-a-1", Claim(A1, "cell-a-0", 1), False),
        ("cell-b-0", Claim(A1, "cell-b-0", 1), False),
        ("cell-b-0", Cancel("cell-b-0.5.salt.1", A1), True),
        ("cell-a-1", Cancel("cell-b-0.5.salt.1", A1), True),
        ("cell-b-0", Cancel("cell-a-0.1.salt.1", A1), False),
        ("cell-b-0", Credit("cell-b-0.5.salt.1", 3), True),
        ("cell-b-0", Credit("cell-b00.5.salt.1", 3), False),
        ("cell-b-0", Probe("i", "cell-b-0", (B, A1), A1), True),
        ("cell-b-0", Probe("i", "cell-b-0", (A2, A1), A1), False),
        ("cell-b-0", Probe("i", "cell-b-0", (A1,), A1), False),
    ],
)
def test_what_else_a_process_may_say(source: str, item: Item, fair: bool) -> None:
    assert barred(source, item) is not fair


@pytest.mark.parametrize(
    ("speaker", "source", "generation", "fair"),
    [
        (Speaker("cell-b-0", 5), "cell-b-0", 5, True),
        (Speaker("cell-b-0", 6), "cell-b-0", 6, True),  # Newer than this membership, which is behind.
        (Speaker("cell-b-0", 4), "cell-b-0", 4, False),
        (Speaker("cell-b-0", 5), "cell-b-0", 6, False),
        (Speaker("cell-b-0", 5), "cell-a-0", 5, False),
        (Speaker("run-r-1", 1), "run-r-1", 1, True),
        (VISITOR, "client-1", 1, True),
        (VISITOR, "cell-b-0", 5, False),
        (VISITOR, "run-r-1", 1, False),
    ],
)
def test_a_frame_is_its_speakers(speaker: Speaker, source: str, generation: int, fair: bool) -> None:
    assert bool(Border(PLACEMENT).frame(speaker, Frame(source, generation, 1, []))) is not fair


# On the road -----------------------------------------------------------------------------------------------------------


class Echo(aip.Agent):
    calls = 0

    @aip.capability
    async def say(self, text: str) -> str:
        Echo.calls += 1
        return text

    @aip.capability
    async def ask(self, other: str, ctx: aip.Context) -> Any:
        return await ctx.call(other, "say", {"text": "x"})

    @aip.capability
    async def sleep(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "slept"


@pytest.fixture(autouse=True)
def no_membership_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a source may not say is looked at again under the next one."""
    monkeypatch.setattr(post, "CATCH_UP_S", 0.01)


class Deny:
    name = "policy"

    def peek(self, envelope: Envelope, now: float) -> Denied | None:
        return Denied("not from there") if envelope.capability == "say" else None


class Proven:
    """The transport of a test, with every frame's speaker told; `lies` may change the frame on its way."""

    def __init__(self, inner: Any, source: str) -> None:
        self._inner = inner
        self._source = source
        self.lies = lambda frame: frame

    async def deliver(self, cell: str, frame: bytes) -> bytes:
        token = SPEAKER.set(Speaker(self._source, 1))
        try:
            return await self._inner.deliver(cell, encode(self.lies(decode_frame(frame))))
        finally:
            SPEAKER.reset(token)


@asynccontextmanager
async def proven(**more: Any):
    async with aip.testing.platform(Echo, cells=2, **more) as p:
        for name, cell in p.cells.items():
            cell.post_office._transport = Proven(cell.post_office._transport, name)
        Echo.calls = 0
        yield p


def home(p: Any, cell: str) -> str:
    return next(f"echo/{n}" for n in range(100) if p.placement.locate(f"echo/{n}") == cell)


async def test_honest_cells_do_not_notice_the_border() -> None:
    async with proven() as p:
        here, there = home(p, "cell-test-0"), home(p, "cell-test-1")
        answers = await asyncio.gather(*(p.call(here, "ask", other=there) for _ in range(20)))
        assert answers == ["x"] * 20
        assert p.audit.of("border.refused") == []


async def test_a_lie_is_told_to_its_cell_and_noted_and_never_begins() -> None:
    async with proven() as p:
        here, there = home(p, "cell-test-0"), home(p, "cell-test-1")
        p.cells["cell-test-0"].post_office._transport.lies = lambda frame: msgspec.structs.replace(
            frame, items=[msgspec.structs.replace(i, sender="run/r-1") for i in frame.items]
        )
        with pytest.raises(Exception, match="may not speak for run/r-1") as caught:
            await p.call(here, "ask", other=there)
        assert caught.value.code == "refused.sender"
        assert Echo.calls == 0
        [(who, detail)] = p.audit.of("border.refused")
        assert (who, detail["at"]) == ("cell-test-0#1", "cell-test-1")


async def test_of_a_frame_only_the_lies_are_left_out_and_the_rest_keeps_its_places() -> None:
    async with proven() as p:
        there = home(p, "cell-test-1")
        target = p.cells["cell-test-1"]
        sender = home(p, "cell-test-0")
        items = [
            Envelope(
                f"cell-test-0.1.salt.{n}", Kind.CALL, name, there, "say", b"\x81\xa4text\xa1x", n, time.time() + 5, "cell-test-0"
            )
            for n, name in enumerate([sender, "run/r-1", sender, "client/x"], 1)
        ]  # fmt: skip
        SPEAKER.set(Speaker("cell-test-0", 1))
        ack = decode_ack(await target.deliver(encode(Frame("cell-test-0", 1, 10, items))))
        assert (ack.accepted, ack.full, Echo.calls) == (True, [], 2)
        assert {item.id for item in ack.items if isinstance(item, Reply)} == {
            "cell-test-0.1.salt.1",
            "cell-test-0.1.salt.3",
        }


async def test_a_frame_under_another_name_moves_nobodys_count() -> None:
    """A number that was never that cell's would have made it a ghost."""
    async with proven() as p:
        SPEAKER.set(Speaker("cell-other-9", 1))
        frame = encode(Frame("cell-test-0", 1, 10**9, []))
        assert not decode_ack(await p.cells["cell-test-1"].deliver(frame)).accepted
        assert await p.call(home(p, "cell-test-0"), "ask", other=home(p, "cell-test-1")) == "x"


async def test_what_a_patched_guard_lets_through_the_receivers_refuses() -> None:
    async with proven() as p:
        p.cells["cell-test-1"].guard = Guard(OpenFence(), [Deny()], again=[Deny()])
        with pytest.raises(Denied, match="not from there"):
            await p.call(home(p, "cell-test-0"), "ask", other=home(p, "cell-test-1"))
        assert Echo.calls == 0
        [(_, detail)] = p.audit.of("message.refused")
        assert (detail["code"], detail["cell"]) == ("refused.denied", "cell-test-0")
        # The check is what stops it.
        p.cells["cell-test-1"].guard = Guard(OpenFence(), [Deny()])
        assert await p.call(home(p, "cell-test-0"), "ask", other=home(p, "cell-test-1")) == "x"


@pytest.mark.parametrize(
    "forged",
    [
        lambda id: Reply(id, b"\xa3yes"),
        lambda id: Reply(id, None, ErrorRecord("x", "no")),
        lambda id: Part(id, 0, b"\xa3yes"),
        Taken,
        lambda id: Progress(id, 0.5, "half"),
    ],
    ids=["reply", "error", "part", "taken", "progress"],
)
async def test_nobody_answers_a_call_that_went_elsewhere(forged: Any) -> None:
    async with aip.testing.platform(Echo, cells=2) as p:
        there = home(p, "cell-test-1")
        waiting = asyncio.ensure_future(p.call(there, "sleep", seconds=0.1))
        while not (calls := [call for call in p.cells["cell-test-0"].calls if call.cell]):
            await asyncio.sleep(0)
        p.cells["cell-test-0"].receive("cell-other-9", forged(calls[0].envelope.id))
        assert await waiting == "slept"
        assert [who for who, _ in p.audit.of("border.refused")] == ["cell-other-9"]


async def test_a_cell_that_is_not_heard_tells_its_callers_and_goes_on() -> None:
    class Deaf:
        deaf = True

        def __init__(self, inner: Any) -> None:
            self._inner = inner

        async def deliver(self, cell: str, frame: bytes) -> bytes:
            if self.deaf:
                raise Denied("who are you?")
            return await self._inner.deliver(cell, frame)  # type: ignore[no-any-return]

    async with aip.testing.platform(Echo, cells=2) as p:
        cell = p.cells["cell-test-0"]
        transport = cell.post_office._transport = Deaf(cell.post_office._transport)
        there = home(p, "cell-test-1")
        with pytest.raises(Denied, match="who are you"):
            await p.call(there, "say", text="x")
        await p.tell(there, "say", text="x")
        while not p.audit.of("tell.failed"):
            await asyncio.sleep(0)
        transport.deaf = False
        assert await p.call(there, "say", text="x") == "x"


async def test_code_that_is_not_known_yet_is_believed_once_its_membership_has_come() -> None:
    async with proven() as p:
        target, sender = p.cells["cell-test-1"], home(p, "cell-test-0")
        whole = target.locator.membership
        behind = msgspec.structs.replace(whole, epoch=0, types={})
        target.locator = target.border._locator = Placement(behind)
        post.CATCH_UP_S = 5.0
        said = {
            "sender": sender,
            "id": "cell-test-0.1.salt.1",
            "origin": "cell-test-0",
            "recipient": home(p, "cell-test-1"),
        }
        envelope = Envelope(
            **said, kind=Kind.TELL, capability="say", payload=b"\x81\xa4text\xa1x", sequence=1
        )  # type: ignore[arg-type]
        SPEAKER.set(Speaker("cell-test-0", 1))
        taken = asyncio.ensure_future(target.deliver(encode(Frame("cell-test-0", 1, 10, [envelope], 0))))
        await asyncio.sleep(0)
        assert not taken.done()
        target.locator.offer(whole)
        target.moved([])
        assert decode_ack(await taken).accepted
        assert p.audit.of("border.refused") == []
