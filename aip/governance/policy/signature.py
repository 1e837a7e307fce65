"""Who vouches for a bundle: `.signatures.json`, a JWT over the hashes of its files, as OPA signs and verifies them.

    {"signatures": ["<header>.<payload>.<signature>"]}
    header   {"alg": "EdDSA" | "ES256" | "RS256", "kid": …}
    payload  {"files": [{"name": "aip/authz.rego", "hash": hex, "algorithm": "SHA-256"}, …], "keyid": …, "scope": …}

Guaranteed by `verify`: the signature is by a key of `Trust` *under the algorithm that the key is for* (the token does not choose:
no `none`, no key used for another algorithm); the scope is the one asked for; every file of the bundle is listed, once, with its
hash; nothing is listed that is not there. JSON files are hashed as OPA does it: parsed, keys sorted, no white space, so that
reformatting does not break a signature.

Not guaranteed: freshness. A signed old bundle is still signed; which revision is in force is the store's to say (`store.py`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from .engine import BundleRejected

SIGNATURES = ".signatures.json"
SIGNATURES_BYTES_MAX = 4 * 2**20  # 2,000 files at 200 bytes each, tenfold.
RSA_BITS_MIN = 2_048
HASHES = {"SHA-256": hashlib.sha256, "SHA-384": hashlib.sha384, "SHA-512": hashlib.sha512}

PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Trust:
    """Keys by id, any one of which may vouch for a bundle."""

    keys: Mapping[str, PublicKey] = field(default_factory=dict)
    scope: str = ""

    @classmethod
    def from_pem(cls, keys: Mapping[str, bytes], scope: str = "") -> Trust:
        return cls({name: _public(name, pem) for name, pem in keys.items()}, scope)


def _public(name: str, pem: bytes) -> PublicKey:
    try:
        key = serialization.load_pem_public_key(pem)
    except ValueError as error:
        raise BundleRejected(f"trusted key {name!r} is not a public key in PEM: {error}") from error
    if not isinstance(key, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise BundleRejected(f"trusted key {name!r}: use an Ed25519, P-256 or RSA key")
    algorithm_of(key)
    return key


def algorithm_of(key: PublicKey | PrivateKey) -> str:
    """The one JWS algorithm that this key is for."""
    if isinstance(key, ed25519.Ed25519PublicKey | ed25519.Ed25519PrivateKey):
        return "EdDSA"
    if isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey) and isinstance(
        key.curve, ec.SECP256R1
    ):
        return "ES256"
    if isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey) and key.key_size >= RSA_BITS_MIN:
        return "RS256"
    raise BundleRejected(f"a policy signing key is Ed25519, P-256 or RSA of {RSA_BITS_MIN} bits or more")


def sign(files: Mapping[str, bytes], key: PrivateKey, key_id: str, scope: str = "") -> dict[str, bytes]:
    """The files with a `.signatures.json` that covers them all."""
    entries = [
        {"name": name, "hash": file_hash(name, body, "SHA-256"), "algorithm": "SHA-256"}
        for name, body in sorted(files.items())
        if name != SIGNATURES
    ]
    payload: dict[str, Any] = {"files": entries, "keyid": key_id} | ({"scope": scope} if scope else {})
    header = {"alg": algorithm_of(key), "kid": key_id, "typ": "JWT"}
    signed = f"{_encode(header)}.{_encode(payload)}"
    token = f"{signed}.{_base64(_sign(key, signed.encode()))}"
    return {**files, SIGNATURES: json.dumps({"signatures": [token]}, indent=2).encode()}


def verify(files: Mapping[str, bytes], trust: Trust) -> str:
    """The id of the trusted key that signed all of these files. Raises `BundleRejected` where there is none."""
    if SIGNATURES not in files:
        raise BundleRejected(
            "the bundle is not signed", hint=f"trusted keys: {', '.join(sorted(trust.keys)) or 'none'}"
        )
    key_id, payload = _token(files[SIGNATURES], trust)
    if payload.get("scope", "") != trust.scope:
        raise BundleRejected(f"the signature's scope is {payload.get('scope', '')!r}, not {trust.scope!r}")
    listed = _listed(payload)
    present = set(files) - {SIGNATURES}
    if missing := sorted(present - set(listed)):
        raise BundleRejected(f"not covered by the signature: {', '.join(missing[:5])}")
    if absent := sorted(set(listed) - present):
        raise BundleRejected(f"signed, but not in the bundle: {', '.join(absent[:5])}")
    for name, (algorithm, expected) in listed.items():
        if file_hash(name, files[name], algorithm) != expected:
            raise BundleRejected(f"{name} is not the file that was signed")
    return key_id


def file_hash(name: str, body: bytes, algorithm: str) -> str:
    """The hash that OPA takes of a file: of JSON, over its parsed and ordered form; of anything else, over its bytes."""
    if name.rpartition("/")[2] == ".manifest" or name.endswith(".json"):
        try:
            # Numbers as they were written: OPA keeps them as text.
            value = json.loads(body, parse_int=_Number, parse_float=_Number)
        except (ValueError, RecursionError) as error:
            raise BundleRejected(f"{name} is not JSON: {error}") from error
        body = "".join(_ordered(value)).encode()
    return HASHES[algorithm](body).hexdigest()


class _Number(str):
    """A number of a JSON text, as written."""

    __slots__ = ()


def _ordered(value: Any) -> list[str]:
    if isinstance(value, dict):
        inner = [[_primitive(key), ":", *_ordered(value[key])] for key in sorted(value, key=str.encode)]
        return ["{", ",".join("".join(item) for item in inner), "}"]
    if isinstance(value, list):
        return ["[", ",".join("".join(_ordered(item)) for item in value), "]"]
    return [_primitive(value)]


def _primitive(value: Any) -> str:
    """As Go's `encoding/json` writes it without HTML escapes."""
    if isinstance(value, _Number):
        return str(value)
    return json.dumps(value, ensure_ascii=False).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _token(body: bytes, trust: Trust) -> tuple[str, dict[str, Any]]:
    """The key id and the payload of the bundle's one token, its signature verified."""
    try:
        if len(body) > SIGNATURES_BYTES_MAX:
            raise ValueError(f"larger than {SIGNATURES_BYTES_MAX} bytes")
        (token,) = json.loads(body)["signatures"]  # OPA, too, takes exactly one.
        signed, _, signature = token.rpartition(".")
        head, _, tail = signed.partition(".")
        header, payload = json.loads(_decode(head)), json.loads(_decode(tail))
        key_id = str(payload.get("keyid") or header.get("kid") or "")
        algorithm, raw = str(header["alg"]), _decode(signature)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BundleRejected(f"{SIGNATURES} cannot be read: {error}") from error
    key = trust.keys.get(key_id)
    if key is None:
        raise BundleRejected(f"signed by key {key_id!r}, which is not trusted here")
    if algorithm != algorithm_of(key):
        raise BundleRejected(f"key {key_id!r} is for {algorithm_of(key)}, not {algorithm}")
    if not _verified(key, raw, signed.encode()):
        raise BundleRejected(f"the signature by key {key_id!r} does not verify")
    return key_id, payload


def _listed(payload: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    listed: dict[str, tuple[str, str]] = {}
    try:
        for entry in payload["files"]:
            name, algorithm = str(entry["name"]).lstrip("/"), str(entry.get("algorithm") or "SHA-256")
            if algorithm not in HASHES:
                raise BundleRejected(
                    f"{name} is hashed with {algorithm}", hint=f"use one of {', '.join(HASHES)}"
                )
            if name in listed:
                raise BundleRejected(f"{name} is signed twice")
            listed[name] = (algorithm, str(entry["hash"]).lower())
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleRejected(f"{SIGNATURES} lists its files in a wrong form: {error}") from error
    return listed


def _sign(key: PrivateKey, signed: bytes) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(signed)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")  # JWS has the two numbers bare (RFC 7518, 3.4).
    return key.sign(signed, padding.PKCS1v15(), hashes.SHA256())


def _verified(key: PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, signed)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            if len(signature) != 64:
                return False
            numbers = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            key.verify(encode_dss_signature(*numbers), signed, ec.ECDSA(hashes.SHA256()))
        else:
            key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def _encode(value: Mapping[str, Any]) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64url: {text[:20]!r}") from error
