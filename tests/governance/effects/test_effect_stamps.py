"""Who asks: a stamp that is forged, altered, stale or used before gets nothing done."""

from __future__ import annotations

import msgspec
import pytest
from effects_kit import AGENT, NOW, PLATFORM_KEY, World
from hypothesis import given
from hypothesis import strategies as st

from aip.errors import PlatformUnavailable
from aip.governance.effects import stamp as stamps
from aip.governance.effects.stamp import AGE_S_MAX, AHEAD_S_MAX, Stamp, StampInvalid, Stamps, cell_key, sealed

REQUEST = b"\x80"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def verifier() -> Stamps:
    return Stamps(PLATFORM_KEY, lambda: 7)


def test_a_good_stamp_is_good_once(world: World, verifier: Stamps) -> None:
    stamp = world.stamp(REQUEST)
    verifier.verify(stamp, REQUEST, NOW)
    with pytest.raises(StampInvalid) as caught:
        verifier.verify(stamp, REQUEST, NOW + 1)
    assert caught.value.details["reason"] == "replayed"
    verifier.verify(world.stamp(REQUEST), REQUEST, NOW)


@pytest.mark.parametrize("field", [name for name in Stamp.__struct_fields__ if name != "mac"])
def test_no_field_can_be_altered(world: World, verifier: Stamps, field: str) -> None:
    stamp = world.stamp(REQUEST)
    value = getattr(stamp, field)
    other = {str: "x", int: 9, float: NOW + 1, tuple: (("x", "y"),) if field == "labels" else ("x",)}[
        type(value)
    ]
    with pytest.raises(StampInvalid) as caught:
        verifier.verify(msgspec.structs.replace(stamp, **{field: other}), REQUEST, NOW)
    assert caught.value.details["reason"] == "forged"


@given(request=st.binary(max_size=50))
def test_a_stamp_is_for_one_request(request: bytes) -> None:
    stamp = World().stamp(REQUEST)
    if request != REQUEST:
        with pytest.raises(StampInvalid):
            Stamps(PLATFORM_KEY, lambda: 7).verify(stamp, request, NOW)


@pytest.mark.parametrize("mac", [b"", b"\0" * 32, b"short"])
def test_a_mac_that_was_made_up_does_not_verify(world: World, verifier: Stamps, mac: bytes) -> None:
    with pytest.raises(StampInvalid):
        verifier.verify(msgspec.structs.replace(world.stamp(REQUEST), mac=mac), REQUEST, NOW)


def test_a_cell_cannot_stamp_as_another_nor_an_old_generation_as_the_new_one(
    world: World, verifier: Stamps
) -> None:
    stamp = world.stamp(REQUEST)
    for cell, generation in (("cell-2", 1), ("cell-1", 2), ("cell-", 11)):
        forged = sealed(stamp, cell_key(PLATFORM_KEY, cell, generation), REQUEST)
        with pytest.raises(StampInvalid):
            verifier.verify(forged, REQUEST, NOW)


@pytest.mark.parametrize(
    ("age_s", "good"),
    [
        (0, True),
        (AGE_S_MAX, True),
        (AGE_S_MAX + 0.1, False),
        (-AHEAD_S_MAX, True),
        (-AHEAD_S_MAX - 0.1, False),
    ],
)
def test_a_stamp_is_good_for_a_while(world: World, verifier: Stamps, age_s: float, good: bool) -> None:
    stamp = world.stamp(REQUEST, at=NOW - age_s)
    if good:
        verifier.verify(stamp, REQUEST, NOW)
    else:
        with pytest.raises(StampInvalid) as caught:
            verifier.verify(stamp, REQUEST, NOW)
        assert caught.value.details["reason"] == "stale"


def test_a_replaced_generation_of_a_cell_is_stale(world: World, verifier: Stamps) -> None:
    verifier.verify(world.stamp(REQUEST, generation=2), REQUEST, NOW)
    with pytest.raises(StampInvalid, match="replaced by generation 2"):
        verifier.verify(world.stamp(REQUEST, generation=1), REQUEST, NOW)
    verifier.verify(world.stamp(REQUEST, cell="cell-9", generation=1), REQUEST, NOW)


def test_a_forged_stamp_cannot_make_a_living_cell_stale(world: World, verifier: Stamps) -> None:
    forged = msgspec.structs.replace(world.stamp(REQUEST), generation=99)
    with pytest.raises(StampInvalid):
        verifier.verify(forged, REQUEST, NOW)
    verifier.verify(world.stamp(REQUEST), REQUEST, NOW)


def test_a_sender_that_knows_a_later_order_is_asked_to_wait(world: World, verifier: Stamps) -> None:
    verifier.verify(world.stamp(REQUEST, epoch=7), REQUEST, NOW)
    with pytest.raises(PlatformUnavailable):
        verifier.verify(world.stamp(REQUEST, epoch=8), REQUEST, NOW)


def test_the_memory_of_used_stamps_is_bounded_and_forgets_only_what_is_stale(
    world: World, verifier: Stamps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamps, "SEEN_MAX", 3)
    first = world.stamp(REQUEST)
    for stamp in (first, world.stamp(REQUEST), world.stamp(REQUEST)):
        verifier.verify(stamp, REQUEST, NOW)
    with pytest.raises(PlatformUnavailable):
        verifier.verify(world.stamp(REQUEST), REQUEST, NOW)
    later = NOW + AGE_S_MAX + AHEAD_S_MAX + 1
    verifier.verify(world.stamp(REQUEST, at=later), REQUEST, later)
    with pytest.raises(StampInvalid):
        verifier.verify(first, REQUEST, later)


def test_a_short_key_is_no_key() -> None:
    with pytest.raises(ValueError, match="at least"):
        Stamps(b"short", lambda: 0)


async def test_a_forged_stamp_reaches_nothing_and_is_recorded() -> None:
    world = World()
    await world.activated()
    data = msgspec.msgpack.encode({"say": "hello"})
    forged = sealed(world.stamp(data), cell_key(bytes(32), "cell-1", 1), data)
    with pytest.raises(StampInvalid):
        await world.gateway.perform(forged, data)
    assert world.steps == []
    (note,) = world.notes
    assert note[0] == "effect.refused"
    assert (note[1]["code"], note[1]["step"]) == ("refused.stamp", "stamp")
    assert world.bell.rung == []


async def test_a_replayed_stamp_does_not_even_repeat_an_answer() -> None:
    world = World()
    await world.activated()
    data = msgspec.msgpack.encode({"say": "hello"})
    stamp = world.stamp(data, agent=AGENT)
    await world.gateway.perform(stamp, data)
    with pytest.raises(StampInvalid):
        await world.gateway.perform(stamp, data)
    assert len(world.bell.rung) == 1
