"""A policy comes into force in a folder, whole, and with what was found out about it."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aip.governance.policy import bundle as bundles
from aip.governance.policy import rollout, store
from aip.governance.policy.engine import BundleRejected
from aip.governance.policy.signature import sign
from aip.settings import Home

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    """The shipped policy, signed. Its certificate is for the same rules."""
    folder = tmp_path / "signed"
    for name, body in sign(bundles.read(rollout.shipped()).files, KEY, "ops").items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    (folder / rollout.CERTIFICATE).write_bytes((rollout.shipped() / rollout.CERTIFICATE).read_bytes())
    return folder


def trust(home: Home) -> None:
    public = KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    place = rollout.folder(home) / "trust"
    place.mkdir(parents=True)
    (place / "ops.pub.pem").write_bytes(public)


def test_rules_that_are_in_force_unsigned_are_signed_by_bringing_them_again(
    tmp_path: Path, signed: Path
) -> None:
    """Else a platform that has come to trust a key could not read its own policy any more."""
    home = Home(tmp_path / "home")
    rollout.make_sure(home)
    before = store.load(rollout.folder(home))
    trust(home)
    with pytest.raises(BundleRejected, match="not signed"):
        rollout.activate(home, rollout.shipped())
    rollout.activate(home, signed)
    found = rollout.in_force(home)
    assert found is not None
    assert found.signed_by == "ops"
    assert store.load(rollout.folder(home)) == before
