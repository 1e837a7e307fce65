"""`aip policy key | sign`: who vouches for a policy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import NotFound, UsageError
from . import text
from .command import Command
from .output import show_value
from .session import session

if TYPE_CHECKING:
    from ..governance.policy.signature import PrivateKey

PATH = click.Path(path_type=Path)
PUBLIC = ".pub.pem"


@click.command("key", cls=Command, examples="aip policy key ops.pem")
@click.argument("path", metavar="FILE", type=PATH)
def key(path: Path) -> None:
    """Make a key that signs policies (Ed25519): FILE, and its public half beside it.

    The public half belongs into policy/trust/ of the platform's home: from then on no other policy is taken.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from ..governance.policy.rollout import key_id

    one = session()
    public = path.with_name(path.name.removesuffix(".pem") + PUBLIC)
    fresh = Ed25519PrivateKey.generate()
    private_pem = fresh.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public_pem = fresh.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    write_new(path, private_pem, 0o600)
    write_new(public, public_pem, 0o644)
    told = {"key": str(path), "public": str(public), "id": key_id(path)}
    show_value(
        one, told, lambda: one.say(text.line(f"{path} signs, {public} verifies; key id {key_id(path)}"))
    )


@click.command(
    "sign",
    cls=Command,
    examples="""
    aip policy sign policies --key ops.pem --out policy.tar.gz
    aip policy sign strict.tar.gz --key ops.pem --key-id operations --out signed.tar.gz
    """,
)
@click.argument("path", metavar="DIR", type=PATH)
@click.option(
    "--key", "signer", type=PATH, required=True, help="The private key, PEM: Ed25519, P-256 or RSA."
)
@click.option(
    "--key-id", "name", default="", help="The key's id (default: the file's name, without its endings)."
)
@click.option("--out", type=PATH, required=True, help="Where to write the signed archive.")
def sign(path: Path, signer: Path, name: str, out: Path) -> None:
    """Sign a policy: an archive whose every file the signature covers."""
    from ..governance.policy import bundle as bundles
    from ..governance.policy.rollout import key_id
    from ..governance.policy.signature import sign as signed

    one = session()
    found = bundles.read(path)
    name = name or key_id(signer)
    made = bundles.from_files(signed(found.files, private_key(signer), name))
    out.write_bytes(bundles.build(made))
    told = {"out": str(out), "digest": made.digest, "revision": made.revision, "signed_by": name}
    show_value(one, told, lambda: one.say(text.line(f"{out}: {made.revision}, signed by {name}")))


def private_key(path: Path) -> PrivateKey:
    from cryptography.hazmat.primitives import serialization

    from ..governance.policy.signature import algorithm_of

    try:
        found = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise NotFound(
            f"cannot read {path}: {error.strerror}", hint="`aip policy key FILE` makes one"
        ) from error
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"{path} is no private key that can be used: {error}", hint="PEM, without a passphrase"
        ) from error
    algorithm_of(found)  # type: ignore[arg-type]  # It refuses whatever is no such key.
    return found  # type: ignore[return-value]


def write_new(path: Path, body: bytes, mode: int) -> None:
    """Never over a key that is there."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError as error:
        raise UsageError(f"{path} is there already", hint="name another file, or remove it first") from error
    with os.fdopen(file, "wb") as out:
        out.write(body)
