"""Canonical JSON is RFC 8785's: its published vectors, and what it has to refuse."""

from __future__ import annotations

import base64
import json
import math
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.governance.canonical import (
    DEPTH_MAX,
    INTEGER_MAX,
    NotCanonical,
    canonical,
    from_base64,
    number,
    speakable,
)

VECTORS = (
    Path(__file__).parent / "vectors" / "jcs"
)  # cyberphone/json-canonicalization, Apache-2.0; see its README

# RFC 8785, appendix B: the bits of a double, and how it is written.
NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


@pytest.mark.parametrize("name", sorted(path.name.split(".")[0] for path in VECTORS.glob("*.input.json")))
def test_a_published_document_becomes_its_published_canonical_form(name):
    given_ = json.loads((VECTORS / f"{name}.input.json").read_bytes())
    assert canonical(given_) == (VECTORS / f"{name}.output.json").read_bytes()


@pytest.mark.parametrize(("bits", "written"), NUMBERS.items())
def test_a_double_is_written_as_the_rfc_says(bits, written):
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert number(value) == written


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_written_double_reads_back_as_itself(value):
    assert float(number(value)) == value


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-INTEGER_MAX, INTEGER_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_value_reads_back_and_has_one_spelling(value):
    spelt = canonical(value)
    assert json.loads(spelt, parse_int=float) == value  # As RFC 8785 reads: every number is a double.
    assert canonical(json.loads(spelt)) == spelt


DEEP: list[object] = []
for _ in range(DEPTH_MAX + 1):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        2**53 + 1,
        -(2**53) - 1,
        10**400,
        "\ud800",
        {1: "one"},
        {"a": object()},
        b"bytes",
        DEEP,
    ],
    ids=repr,
)
def test_what_has_no_canonical_form_is_refused_and_can_still_be_said(value):
    with pytest.raises(NotCanonical):
        canonical({"detail": value})
    assert json.loads(canonical(speakable({"detail": value})))


@given(data=st.binary(max_size=80))
def test_bytes_have_one_text_in_base64(data):
    assert from_base64(base64.b64encode(data).decode()) == data


@pytest.mark.parametrize(
    "text", ["QQ", "QR==", "QUJ=", "QQ==\n", " QQ==", "QQ==QQ==", "QQ=", "Q-==", "=", "ä"]
)
def test_another_spelling_of_the_same_bytes_is_refused(text):
    with pytest.raises(ValueError):
        from_base64(text)
