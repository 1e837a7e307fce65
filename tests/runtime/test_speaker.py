"""Who speaks: what a proof and a seal hold against (semantics B1, B2)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.runtime import speaker as module
from aip.runtime.speaker import AHEAD_S_MAX, SEAL_AGE_S_MAX, Door, Seal, Speaker, Unproven, Voice, speaker_key

LINK_KEY = b"k" * 32
CELL = Speaker("cell-a", 7)
NOW = 1_000.0
names = st.text("abcxyz0123456789-.", min_size=1, max_size=12)
speakers = st.builds(Speaker, names, st.integers(0, 2**40))


def voice(speaker: Speaker = CELL, link_key: bytes = LINK_KEY) -> Voice:
    return Voice(lambda: speaker, lambda named: speaker_key(link_key, named))


def door() -> Door:
    return Door("cell-b", LINK_KEY)


@given(speakers)
def test_a_proof_tells_who_speaks(speaker: Speaker) -> None:
    assert door().enter(b"challenge", voice(speaker).prove("cell-b", b"challenge")) == speaker


@pytest.mark.parametrize(
    ("proof", "reason"),
    [
        (b"", "unproven"),
        (b"\x93garbage", "unproven"),
        (voice(link_key=bytes(32)).prove("cell-b", b"c"), "forged"),
        (voice().prove("cell-c", b"c"), "forged"),
        (voice().prove("cell-b", b"another"), "forged"),
        (Voice(lambda: CELL, lambda _: speaker_key(LINK_KEY, Speaker("cell-c", 7))).prove("cell-b", b"c"), "forged"),
        (Voice(lambda: CELL, lambda _: speaker_key(LINK_KEY, Speaker("cell-a", 8))).prove("cell-b", b"c"), "forged"),
    ],
    ids=["none", "no message", "another platform", "another hearer", "an old challenge", "another's key", "another life"],
)  # fmt: skip
def test_what_is_no_proof_opens_no_door(proof: bytes, reason: str) -> None:
    with pytest.raises(Unproven) as caught:
        door().enter(b"c", proof)
    assert caught.value.details["reason"] == reason


def test_who_was_replaced_is_heard_no_more_and_its_open_line_neither() -> None:
    one = door()
    old = one.enter(b"c", voice().prove("cell-b", b"c"))
    assert one.hears(old)
    one.enter(b"c", voice(Speaker("cell-a", 8)).prove("cell-b", b"c"))
    assert not one.hears(old)
    with pytest.raises(Unproven, match="replaced by generation 8"):
        one.enter(b"c", voice().prove("cell-b", b"c"))
    assert one.enter(b"c", voice(Speaker("cell-c", 1)).prove("cell-b", b"c")).name == "cell-c"


def test_a_proof_that_fails_makes_nobody_old() -> None:
    one = door()
    with pytest.raises(Unproven):
        one.enter(b"c", voice(Speaker("cell-a", 99), bytes(32)).prove("cell-b", b"c"))
    assert one.enter(b"c", voice().prove("cell-b", b"c")) == CELL


@given(st.binary(max_size=40), names, names)
def test_a_seal_is_for_one_hearer_one_method_and_one_payload(
    payload: bytes, method: str, hearer: str
) -> None:
    seal = voice().seal(hearer, method, payload, NOW, b"n")
    assert Door(hearer, LINK_KEY).open(seal, method, payload, NOW) == CELL
    for changed in (
        (f"{hearer}!", method, payload),
        (hearer, f"{method}!", payload),
        (hearer, method, payload + b"!"),
    ):
        with pytest.raises(Unproven, match="does not verify"):
            Door(changed[0], LINK_KEY).open(seal, *changed[1:], NOW)


@pytest.mark.parametrize(
    ("age_s", "heard"),
    [(0.0, True), (SEAL_AGE_S_MAX, True), (SEAL_AGE_S_MAX + 0.1, False), (-AHEAD_S_MAX, True), (-AHEAD_S_MAX - 0.1, False)],
)  # fmt: skip
def test_a_seal_is_good_for_a_while(age_s: float, heard: bool) -> None:
    seal = voice().seal("cell-b", "deliver", b"x", NOW - age_s, b"n")
    if heard:
        door().open(seal, "deliver", b"x", NOW)
    else:
        with pytest.raises(Unproven, match=r"s old"):
            door().open(seal, "deliver", b"x", NOW)


def test_a_seal_is_good_once_for_as_long_as_it_is_good() -> None:
    one, seal = door(), voice().seal("cell-b", "deliver", b"x", NOW, b"n")
    one.open(seal, "deliver", b"x", NOW)
    for later_s in (0.0, SEAL_AGE_S_MAX):
        with pytest.raises(Unproven, match="used before"):
            one.open(seal, "deliver", b"x", NOW + later_s)
    one.open(voice().seal("cell-b", "deliver", b"x", NOW, b"m"), "deliver", b"x", NOW)


def test_no_seal_and_one_of_a_former_generation_are_refused() -> None:
    one = door()
    for nothing in (b"", b"\x90"):
        with pytest.raises(Unproven, match="without a seal"):
            one.open(nothing, "deliver", b"x", NOW)
    one.enter(b"c", voice(Speaker("cell-a", 8)).prove("cell-b", b"c"))
    with pytest.raises(Unproven, match="replaced"):
        one.open(voice().seal("cell-b", "deliver", b"x", NOW, b"n"), "deliver", b"x", NOW)


@given(st.sampled_from(["speaker", "at", "nonce", "mac"]), st.data())
def test_no_part_of_a_seal_can_be_changed(field: str, data: Any) -> None:
    seal = msgspec.msgpack.decode(voice().seal("cell-b", "deliver", b"x", NOW, b"n"), type=Seal)
    other = {"speaker": speakers, "at": st.floats(NOW - 10, NOW), "nonce": st.binary(), "mac": st.binary()}[
        field
    ]
    value = data.draw(other.filter(lambda drawn: drawn != getattr(seal, field)))
    changed = msgspec.msgpack.encode(msgspec.structs.replace(seal, **{field: value}))
    with pytest.raises(Unproven, match="does not verify"):
        door().open(changed, "deliver", b"x", NOW)


def test_what_a_door_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NAMES_MAX", 3)
    monkeypatch.setattr(module, "SEALS_MAX", 3)
    one = door()
    for number in range(5):
        one.enter(b"c", voice(Speaker(f"run-{number}", 1)).prove("cell-b", b"c"))
    assert len(one._newest) == 3
    for number in range(3):
        one.open(voice().seal("cell-b", "m", b"", NOW, bytes([number])), "m", b"", NOW)
    with pytest.raises(Exception, match="more than 3"):
        one.open(voice().seal("cell-b", "m", b"", NOW, b"9"), "m", b"", NOW)
    later = NOW + SEAL_AGE_S_MAX + AHEAD_S_MAX + 1
    one.open(voice().seal("cell-b", "m", b"", later, b"9"), "m", b"", later)
