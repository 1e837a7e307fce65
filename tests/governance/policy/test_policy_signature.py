"""Signed bundles: every file covered, by a trusted key, under that key's own algorithm."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from policies_for_tests import files

from aip.governance.policy.bundle import build, from_files, unpack
from aip.governance.policy.engine import BundleRejected
from aip.governance.policy.signature import SIGNATURES, PrivateKey, Trust, file_hash, sign

KEYS: dict[str, PrivateKey] = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "RS256": rsa.generate_private_key(65537, 2048),
}


def trust(key: PrivateKey, name: str = "ops", scope: str = "") -> Trust:
    pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return Trust.from_pem({name: pem}, scope)


@pytest.mark.parametrize("algorithm", KEYS)
def test_what_a_trusted_key_signed_is_served(algorithm: str) -> None:
    key = KEYS[algorithm]
    signed = from_files(sign(files(), key, "ops", "prod"), trust(key, scope="prod"))
    assert signed.signed_by == "ops"
    assert unpack(build(signed), trust(key, scope="prod")) == signed


def test_signing_does_not_make_it_another_bundle() -> None:
    assert from_files(sign(files(), KEYS["EdDSA"], "ops")).digest == from_files(files()).digest


def test_reformatted_json_keeps_its_signature_and_other_json_does_not() -> None:
    signed = sign(files(), KEYS["EdDSA"], "ops")
    name = "aip/roles/data.json"
    reordered = json.dumps(dict(reversed(json.loads(signed[name]).items())), indent=4).encode()
    assert from_files({**signed, name: reordered}, trust(KEYS["EdDSA"])).signed_by == "ops"
    with pytest.raises(BundleRejected, match=f"{name} is not the file"):
        from_files({**signed, name: b'{"guest": ["greet", "pay"]}'}, trust(KEYS["EdDSA"]))


def forged(signed: dict[str, bytes], header: dict[str, str]) -> dict[str, bytes]:
    (token,) = json.loads(signed[SIGNATURES])["signatures"]
    _, payload, signature = token.split(".")
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return {**signed, SIGNATURES: json.dumps({"signatures": [f"{head}.{payload}.{signature}"]}).encode()}


SIGNED = sign(files(), KEYS["EdDSA"], "ops")
REFUSED = {
    "no signature": (files(), "not signed"),
    "a changed rule": ({**SIGNED, "aip/rules.rego": b"package aip\nallow := true"}, "not the file"),
    "a file more": ({**SIGNED, "aip/more.rego": b"package aip"}, "not covered"),
    "a file less": ({k: v for k, v in SIGNED.items() if "test" not in k}, "not in the bundle"),
    "another key": (sign(files(), ed25519.Ed25519PrivateKey.generate(), "ops"), "does not verify"),
    "an unknown key": (sign(files(), KEYS["EdDSA"], "mallory"), "not trusted"),
    "another scope": (sign(files(), KEYS["EdDSA"], "ops", "dev"), "scope"),
    "no algorithm": (forged(SIGNED, {"alg": "none"}), "is for EdDSA"),
    "another algorithm": (forged(SIGNED, {"alg": "HS256"}), "is for EdDSA"),
    "a changed header": (forged(SIGNED, {"alg": "EdDSA", "kid": "x"}), "does not verify"),
    "two signatures": ({**SIGNED, SIGNATURES: b'{"signatures": ["a.b.c", "a.b.c"]}'}, "cannot be read"),
    "no token": ({**SIGNED, SIGNATURES: b'{"signatures": ["abc"]}'}, "cannot be read"),
}


@pytest.mark.parametrize(("signed", "words"), REFUSED.values(), ids=REFUSED)
def test_a_bundle_is_refused_for(signed: dict[str, bytes], words: str) -> None:
    with pytest.raises(BundleRejected, match=words):
        from_files(signed, trust(KEYS["EdDSA"]))


def test_json_is_hashed_parsed_ordered_and_without_html_escapes() -> None:
    """As OPA's `bundle/hash.go` walks a document: keys sorted, numbers as written, no white space."""
    spaced = '{ "b": [1.0, 1e3, null, true], "a": "<é\u2028&>" }'.encode()
    ordered = b'{"a":"<\xc3\xa9\\u2028&>","b":[1.0,1e3,null,true]}'
    assert file_hash("x/data.json", spaced, "SHA-256") == file_hash("as bytes", ordered, "SHA-256")
