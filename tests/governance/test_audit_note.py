"""Signed notes and checkpoints are C2SP's: its published examples, and everything that must not pass for one."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.errors import UsageError
from aip.governance import note
from aip.governance.note import COSIGNATURE, Checkpoint, Signer, Unverified, Verifier
from aip.governance.tree import EMPTY_ROOT

# The example of C2SP's signed-note.md, at 5ba5ee830903e91240fc6f9f3a7a9293d49e69c9 (CC BY 4.0).
VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SIGNATURE = "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
TEXT = "This is an example message.\n"
# The example of C2SP's tlog-cosignature.md at the same commit: it names no keys, its form is what counts here.
COSIGNED = """example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
"""

LOG = Signer("log.example/a", bytes(range(32)))
WITNESSES = [Signer(f"witness.example/{n}", bytes([n]) * 32, COSIGNATURE) for n in (1, 2)]
POINT = Checkpoint(LOG.name, 5, b"r" * 32)


def signed(*witnesses):
    text = note.sign(POINT, LOG)
    for at, witness in enumerate(witnesses, 100):
        text = note.cosign(text, witness, at)
    return text


def keys(*signers):
    return [signer.verifier for signer in signers]


def test_the_published_key_verifies_the_published_note():
    key = Verifier.parse(VKEY)
    assert str(key) == VKEY
    signature = base64.b64decode(SIGNATURE.split()[-1])
    assert signature[:4] == key.key_id
    key.check(TEXT, signature[4:])
    with pytest.raises(Unverified):
        key.check(TEXT + "\n", signature[4:])


def test_the_published_checkpoint_is_read_and_written_the_same():
    found = note.parse(COSIGNED)
    assert (found.origin, found.size) == ("example.com/behind-the-sofa", 20852163)
    assert COSIGNED.startswith(found.text + "\n— ")


def test_a_cosignature_signs_the_header_the_time_and_the_text():
    line = WITNESSES[0].line(POINT.text, 1679315147)
    packed = base64.b64decode(line.split()[-1])
    assert packed[4:12] == (1679315147).to_bytes(8, "big")
    # The same bytes under a plain Ed25519 key: the signed message is what the specification spells out.
    plain = Verifier("any", WITNESSES[0].verifier.public)
    plain.check(f"cosignature/v1\ntime 1679315147\n{POINT.text}", packed[12:])


def test_what_was_signed_verifies_and_counts_its_witnesses():
    text = signed(*WITNESSES)
    assert note.verify(text, keys(LOG, *WITNESSES), witnesses_min=2) == POINT
    assert note.opened(text, keys(LOG, *WITNESSES)).witnessed == {
        WITNESSES[0].name: 100,
        WITNESSES[1].name: 101,
    }
    assert note.verify(text, keys(LOG)) == POINT  # Signatures of unknown keys are passed over.
    with pytest.raises(Unverified, match="1 of the 2"):
        note.verify(signed(WITNESSES[0]), keys(LOG, *WITNESSES), witnesses_min=2)


def test_a_witness_that_signs_twice_counts_once():
    text = note.cosign(signed(WITNESSES[0]), WITNESSES[0], 200)
    with pytest.raises(Unverified):
        note.verify(text, keys(LOG, WITNESSES[0]), witnesses_min=2)


def test_witnesses_alone_do_not_make_it_the_logs_word():
    with pytest.raises(Unverified, match="has not signed"):
        note.verify(signed(*WITNESSES), keys(*WITNESSES))


def test_no_key_no_trust_and_another_key_of_the_same_name_neither():
    with pytest.raises(Unverified):
        note.verify(signed(), [])
    with pytest.raises(Unverified):
        note.verify(signed(), keys(Signer(LOG.name, b"x" * 32)))


def test_a_log_signs_for_itself_only():
    with pytest.raises(UsageError):
        note.sign(Checkpoint("another", 5, b"r" * 32), LOG)


@given(st.data())
def test_no_flipped_bit_of_what_is_signed_verifies(data):
    text = signed(WITNESSES[0]).encode()
    end = text.rindex(b"\n\n") + 1
    at, bit = data.draw(st.integers(0, end - 1)), data.draw(st.integers(0, 7))
    flipped = text[:at] + bytes([text[at] ^ 1 << bit]) + text[at + 1 :]
    with pytest.raises(Unverified):
        note.verify(flipped.decode("utf-8", "surrogateescape"), keys(LOG, WITNESSES[0]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n5\n\n",
        TEXT,
        "a\n05\ncnJycnJycnJycnJycnJycnJycnJycnJycnJycnJycnI=\n\n" + SIGNATURE,
        "a\n-1\ncnJycnJycnJycnJycnJycnJycnJycnJycnJycnJycnI=\n\n" + SIGNATURE,
        "a\n5\nc2hvcnQ=\n\n" + SIGNATURE,
        "\n5\ncnJycnJycnJycnJycnJycnJycnJycnJycnJycnJycnI=\n\n" + SIGNATURE,
        "a\n5\ncnJycnJycnJycnJycnJycnJycnJycnJycnJycnJycnI=\n\n" + SIGNATURE.replace("— ", "- "),
        "a\n5\ncnJycnJycnJycnJycnJycnJycnJycnJycnJycnJycnI=\n\n— name !!!\n",
        "a\r\n5\ncnJycnJycnJycnJycnJycnJycnJycnJycnJycnJycnI=\n\n" + SIGNATURE,
        "a\n5\ncnJycnJycnJycnJycnJycnJycnJycnJycnJycnJycnI=\n\n" + SIGNATURE * 40,
        "x" * 70_000,
    ],
    ids=range(12),
)
def test_what_is_no_checkpoint_is_unverified_and_nothing_else(text):
    with pytest.raises(Unverified):
        note.parse(text)


@pytest.mark.parametrize(
    "vkey",
    ["", "a+b", VKEY[:-4], VKEY.replace("530d903a", "530d903b"), VKEY.replace("+Ae", "+Ce"), "a b+" + VKEY],
)
def test_a_key_that_was_copied_badly_is_refused(vkey):
    with pytest.raises(UsageError):
        Verifier.parse(vkey)


def test_a_signing_key_goes_through_its_text_form_and_never_shows_itself():
    for signer in (LOG, WITNESSES[0]):
        assert Signer.parse(signer.private_text) == signer
        secret = signer.private_text.rsplit("+", 1)[1]
        assert secret not in str(signer)
        assert secret not in repr(signer)
    with pytest.raises(UsageError):
        Signer.parse(str(LOG.verifier))


def test_an_empty_log_has_the_empty_root():
    assert note.parse(note.sign(Checkpoint(LOG.name, 0, EMPTY_ROOT), LOG)).size == 0
    with pytest.raises(UsageError):
        Checkpoint(LOG.name, 0, b"r" * 32)


LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def respelt(text):
    """The same bytes for a lenient decoder: the letter before the padding, with a bit set that says nothing."""
    at = text.rindex("=") - 1
    respelling = text[:at] + LETTERS[LETTERS.index(text[at]) + 1] + text[at + 1 :]
    assert base64.b64decode(respelling.split()[-1]) == base64.b64decode(text.split()[-1])
    return respelling


def test_one_signature_has_one_text():
    whole = signed()
    assert note.verify(whole, keys(LOG)) == POINT
    with pytest.raises(Unverified, match="signature line"):
        note.verify(respelt(whole), keys(LOG))


def test_one_root_has_one_text_also_under_a_signature_that_holds():
    text = respelt(POINT.text)
    with pytest.raises(Unverified, match="not a checkpoint"):
        note.verify(f"{text}\n{LOG.line(text)}", keys(LOG))
