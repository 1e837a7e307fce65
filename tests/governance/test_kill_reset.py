"""Lowering takes what it says: distinct operators, one order, one platform, a while, once."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from kill_kit import folded, order

from aip.errors import Corrupt, InvalidPayload, NotFound, UsageError
from aip.governance.kill import Fence, Level, desk, operators
from aip.governance.kill.reset import LIFE_MAX_S, ResetRefused, SignedReset, decode, lift, make
from aip.settings import Home

NOW = 1_800_000_000.0
KEYS = {name: Ed25519PrivateKey.generate() for name in ("ada", "eve", "kim")}
REGISTER = {name: key.public_key().public_bytes_raw() for name, key in KEYS.items()}
STANDS = order("run/r-1", epoch=4)


def reset(stands=STANDS, *, life_s=60, level=None, rate=0, nonce="n1"):
    return make(stands, "fence-1", "mended", NOW, nonce, life_s, level, rate)


def signed(*names, of=None):
    document = SignedReset(of or reset())
    for name in names:
        document = document.signed(name, KEYS[name])
    return document


def submitted(document, orders=None, *, signers=2, now=NOW, fence="fence-1", register=REGISTER):
    orders = orders or folded(STANDS)
    return lift(document, orders, fence=fence, operators=register, signers=signers, now=now, by="user:ada")


def test_two_operators_lower_an_order():
    orders = folded(STANDS)
    lifted = submitted(signed("ada", "eve"), orders)
    assert lifted.signers == ("ada", "eve")
    orders.apply(lifted)
    assert not orders.standing


def test_what_is_left_standing_is_what_was_signed():
    orders = folded(STANDS)
    orders.apply(submitted(signed("ada", "eve", of=reset(level=Level.THROTTLE, rate=5)), orders))
    assert (orders.standing["run/r-1"].level, orders.standing["run/r-1"].rate) == (Level.THROTTLE, 5.0)


REFUSED = {
    "one signature": lambda: submitted(signed("ada")),
    "none": lambda: submitted(signed()),
    "a signature twice": lambda: submitted(
        SignedReset(reset(), signed("ada").signatures + signed("ada").signatures)
    ),
    "one key under two names": lambda: submitted(
        SignedReset(
            reset(),
            (
                *signed("ada").signatures,
                msgspec.structs.replace(signed("ada").signatures[0], operator="twin"),
            ),
        ),
        register={**REGISTER, "twin": REGISTER["ada"]},
    ),
    "a key that nobody registered": lambda: submitted(
        signed("ada", "eve"), register={"ada": REGISTER["ada"]}
    ),
    "another's name": lambda: submitted(
        SignedReset(
            reset(),
            (*signed("ada").signatures, msgspec.structs.replace(signed("eve").signatures[0], operator="kim")),
        )
    ),
    "another platform": lambda: submitted(signed("ada", "eve"), fence="fence-2"),
    "too late": lambda: submitted(signed("ada", "eve"), now=NOW + 60),
    "valid too long": lambda: submitted(signed("ada", "eve"), now=NOW - LIFE_MAX_S),
    "nothing stands": lambda: submitted(signed("ada", "eve"), folded(order("greeter"))),
    "raised again since": lambda: submitted(
        signed("ada", "eve"), folded(STANDS, order("run/r-1", Level.PAUSE))
    ),
    "no signature at all of what is said": lambda: submitted(
        SignedReset(
            msgspec.structs.replace(reset(), reason="something else"), signed("ada", "eve").signatures
        )
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_reset_is_refused_for_want_of(why):
    with pytest.raises(ResetRefused):
        REFUSED[why]()


def test_a_reset_is_used_once_even_if_the_same_order_stands_again():
    orders = folded(STANDS)
    document = signed("ada", "eve")
    orders.apply(submitted(document, orders))
    orders.apply(msgspec.structs.replace(STANDS, epoch=4))
    with pytest.raises(ResetRefused, match="used before"):
        submitted(document, orders)


@pytest.mark.parametrize("level", [Level.TERMINATE, Level.REVOKE, Level.LOCKDOWN])
def test_a_reset_cannot_raise(level):
    with pytest.raises(ResetRefused, match="not milder"):
        reset(level=level)
    forged = msgspec.structs.replace(reset(), level=level)
    with pytest.raises(ResetRefused, match="not milder"):
        submitted(signed("ada", "eve", of=forged))


def test_a_throttle_may_be_lowered_to_a_faster_one_only():
    slow = order("greeter", Level.THROTTLE, rate=2.0, epoch=4)
    assert reset(slow, level=Level.THROTTLE, rate=3).rate == 3
    with pytest.raises(ResetRefused):
        reset(slow, level=Level.THROTTLE, rate=2)


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_no_bit_of_a_signed_reset_can_be_changed(place, bit):
    document = bytearray(signed("ada", "eve").encode())
    document[place % len(document)] ^= 1 << bit
    try:
        changed = decode(bytes(document))
        if changed == signed("ada", "eve"):
            return  # White space, or a letter's case in a \u escape: it says the same.
        submitted(changed)
    except (InvalidPayload, ResetRefused):
        return
    raise AssertionError(f"accepted: {bytes(document)!r}")


def test_a_signature_has_one_text_only():
    """Two spare bits stand before the padding of 64 bytes in base64: lenient decoders drop them."""
    document = signed("ada", "eve")
    first, second = document.signatures
    assert first.signature.endswith("==")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = alphabet[alphabet.index(first.signature[-3]) ^ 1]
    altered = msgspec.structs.replace(first, signature=f"{first.signature[:-3]}{last}==")
    with pytest.raises(ResetRefused, match="does not hold"):
        submitted(msgspec.structs.replace(document, signatures=(altered, second)))


def test_the_signed_text_is_canonical_json_and_names_its_kind():
    assert reset().payload() == (
        b'{"epoch":4,"expires_at":1800000060,"fence":"fence-1","kind":"aip.kill.reset/1","level":null,'
        b'"nonce":"n1","rate":0,"reason":"mended","scope":"run/r-1"}'
    )


@pytest.mark.parametrize("document", [b"", b"{}", b"[]", b"\xff", b"x" * 70_000])
def test_what_is_no_reset_is_told_so(document):
    with pytest.raises(InvalidPayload):
        decode(document)


# With files


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def test_on_a_laptop_one_person_raises_and_lifts_and_the_key_is_made_on_the_way(home):
    desk.raise_order(home, "greeter", "", "user:ada", NOW)
    lifted = desk.lift_alone(home, "greeter", "", "ada", NOW)
    assert lifted.signers == ("ada",)
    assert not Fence(home.state / "kill").orders().standing
    assert operators.private_key(home, "ada")


def test_where_two_must_sign_one_alone_lowers_nothing(home):
    home.make()
    (home.root / "kill.yaml").write_text("reset_signers: 2\n")
    desk.raise_order(home, "greeter", "", "user:ada", NOW)
    with pytest.raises(ResetRefused, match="2 signatures"):
        desk.lift_alone(home, "greeter", "", "ada", NOW)
    for name in ("ada", "eve"):
        operators.create(home, name)
    document = SignedReset(desk.reset_of(home, "greeter", "mended", NOW))
    document = document.signed("ada", operators.private_key(home, "ada"))
    with pytest.raises(ResetRefused):
        desk.submit(home, document, "user:ada", NOW)
    assert "greeter" in Fence(home.state / "kill").orders().standing
    document = decode(document.signed("eve", operators.private_key(home, "eve")).encode())
    desk.submit(home, document, "user:eve", NOW)
    assert not Fence(home.state / "kill").orders().standing
    desk.raise_order(home, "greeter", "", "user:ada", NOW)
    with pytest.raises(ResetRefused, match="used before"):
        desk.submit(home, document, "user:eve", NOW)


def test_nothing_that_does_not_stand_can_be_reset(home):
    with pytest.raises(NotFound):
        desk.reset_of(home, "greeter", "", NOW)


def test_a_private_key_that_others_may_read_signs_nothing(home):
    operators.create(home, "ada").chmod(0o644)
    with pytest.raises(UsageError, match="others"):
        operators.private_key(home, "ada")


def test_an_operator_has_one_key_until_it_is_given_up(home):
    operators.create(home, "ada")
    with pytest.raises(UsageError, match="already"):
        operators.create(home, "ada")


@pytest.mark.parametrize(
    "text", ["", "ssh-ed25519 ada AAAA", "aip-operator eve AAAA", "aip-operator ada AAAA"]
)
def test_a_register_that_cannot_be_read_is_said_and_not_passed_over(home, text):
    operators.create(home, "ada")
    (operators.folder(home) / "ada.pub").write_text(text)
    with pytest.raises(Corrupt, match=r"ada\.pub"):
        operators.public_keys(home)


def test_a_drill_is_ended_without_a_signature_and_nothing_else_is(home):
    desk.raise_order(home, "aip-drill", "", "user:ada", NOW)
    desk.end_drill(home, "user:ada", NOW)
    with pytest.raises(UsageError):
        desk.end_drill(home, "user:ada", NOW)
