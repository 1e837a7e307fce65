"""`aip kill reset`: lower an order with the signatures that takes. A reset is a file that operators hand each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from . import measure, text
from .command import Noun
from .contract import Json
from .output import Column, show_rows, show_value
from .session import Session, person, session

if TYPE_CHECKING:
    from ..governance.kill.reset import SignedReset

FILE = click.Path(path_type=Path, dir_okay=False)
REMAINS = ("throttle", "pause", "quarantine", "drain", "terminate", "revoke")
OPERATOR_COLUMNS = (
    Column("OPERATOR", lambda row: row["operator"]),
    Column("PUBLIC KEY", lambda row: row["public_key"]),
)


def operator() -> str:
    """The name under which the person who types signs."""
    return person().removeprefix("user:")


@click.group(
    "reset",
    cls=Noun,
    examples="""
    aip kill reset key ada
    aip kill reset make --all --reason "the cause is mended" --out reset.json
    aip kill reset sign reset.json --as eve --key eve.key
    aip kill reset submit reset.json
    """,
)
def reset() -> None:
    """Lower an order: made by one, signed by as many as `kill.yaml` asks for, submitted once."""


@reset.command(
    "key",
    examples="""
    aip kill reset key ada
    aip kill reset key eve --key eve.key
    """,
)
@click.argument("name")
@click.option(
    "--key", "key_path", type=FILE, help="Where the private key goes (default: beside the public one)."
)
def make_key(name: str, key_path: Path | None) -> None:
    """Register an operator: a fresh key pair, whose public half counts from now on."""
    from ..governance.kill import operators

    one = session()
    private = operators.create(one.folder, name, key_path)
    told = {"operator": name, "private_key": str(private), "register": str(operators.folder(one.folder))}
    show_value(one, told, lambda: one.say(text.line(f"{name} may sign with {private}")))


@reset.command(
    "operators",
    examples="""
    aip kill reset operators
    """,
)
def list_operators() -> None:
    """Whose signatures count."""
    import base64

    from ..governance.kill import operators

    one = session()
    keys = operators.public_keys(one.folder)
    rows = [{"operator": name, "public_key": base64.b64encode(key).decode()} for name, key in keys.items()]
    show_rows(one, rows, OPERATOR_COLUMNS, nothing="no operator is registered")


@reset.command(
    "make",
    examples="""
    aip kill reset make run/last --reason "restarted too soon" --out reset.json
    aip kill reset make --all --to pause --out reset.json
    """,
)
@click.argument("target", metavar="[TARGET]", required=False)
@click.option("--all", "everything", is_flag=True, help="The whole platform.")
@click.option("--to", "level", type=click.Choice(REMAINS), help="What is left standing (default: nothing).")
@click.option(
    "--rate", type=click.IntRange(1), default=None, help="Of a throttle that is left: turns a second."
)
@click.option("--reason", default="", metavar="TEXT", help="Why; it is signed and recorded.")
@click.option(
    "--for",
    "life_s",
    type=click.IntRange(1, 86_400),
    default=3_600,
    metavar="SECONDS",
    help="How long it may be used (default: an hour).",
)
@click.option("--out", type=FILE, required=True, help="Where the file goes.")
@click.option("--unsigned", is_flag=True, help="Without the signature of the one who makes it.")
@click.option("--as", "name", default=None, metavar="NAME", help="Who signs (default: your account's name).")
@click.option(
    "--key", "key_path", type=FILE, help="The private key (default: the one in AIP_HOME/operators)."
)
def make(
    target: str | None,
    everything: bool,
    level: str | None,
    rate: int | None,
    reason: str,
    life_s: int,
    out: Path,
    unsigned: bool,
    name: str | None,
    key_path: Path | None,
) -> None:
    """Write a reset of what stands against a target, signed by you."""
    from ..governance.kill import Level, desk, operators
    from ..governance.kill.reset import SignedReset
    from .kill import named

    one = session()
    if everything == (target is not None):
        raise UsageError("name a target, or --all", hint="see `aip kill --list`")
    meant = "platform" if target is None else named(one, target)
    remains = Level(level) if level else None
    made = desk.reset_of(one.folder, meant, reason, one.clock(), life_s, remains, rate or 0)
    signed = SignedReset(made)
    if not unsigned:
        who = name or operator()
        signed = signed.signed(who, operators.private_key(one.folder, who, key_path))
    if out.exists():
        raise UsageError(f"{out} exists already", hint="another --out, or remove it")
    out.write_bytes(signed.encode())
    _show(one, signed, out)


@reset.command(
    "sign",
    examples="""
    aip kill reset sign reset.json
    aip kill reset sign reset.json --as eve --key eve.key
    """,
)
@click.argument("file", type=FILE)
@click.option("--as", "name", default=None, metavar="NAME", help="Who signs (default: your account's name).")
@click.option(
    "--key", "key_path", type=FILE, help="The private key (default: the one in AIP_HOME/operators)."
)
def sign(file: Path, name: str | None, key_path: Path | None) -> None:
    """Add your signature. What you sign is shown; look at it with `show` first."""
    from ..governance.kill import operators

    one = session()
    who = name or operator()
    signed = _read(file).signed(who, operators.private_key(one.folder, who, key_path))
    file.write_bytes(signed.encode())
    _show(one, signed, file)


@reset.command(
    "show",
    examples="""
    aip kill reset show reset.json
    """,
)
@click.argument("file", type=FILE)
def show(file: Path) -> None:
    """What a reset says, and who signed it."""
    _show(session(), _read(file), file)


@reset.command(
    "submit",
    examples="""
    aip kill reset submit reset.json
    """,
)
@click.argument("file", type=FILE)
def submit(file: Path) -> None:
    """Perform it. Refused if anything is missing, stale, or changed; used once."""
    import msgspec

    from ..governance.kill import desk

    one = session()
    order = desk.submit(one.folder, _read(file), person(), one.clock())
    left = f"{order.remains} is left standing" if order.remains else "the order is lifted"
    words = f"{order.target}: {left}, signed by {', '.join(order.signers)}"
    show_value(one, msgspec.to_builtins(order), lambda: one.say(text.line(words)))


def _read(file: Path) -> SignedReset:
    from ..governance.kill.reset import DOCUMENT_BYTES_MAX, decode

    try:
        with file.open("rb") as opened:
            return decode(opened.read(DOCUMENT_BYTES_MAX + 1))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None


def _show(one: Session, signed: SignedReset, file: Path) -> None:
    made = signed.reset
    told: Json = {
        "file": str(file),
        "scope": made.scope,
        "epoch": made.epoch,
        "remains": str(made.level) if made.level else None,
        "reason": made.reason,
        "expires_at": made.expires_at,
        "signed_by": [signature.operator for signature in signed.signatures],
    }

    def render() -> None:
        one.write(
            text.line(f"lowers     {made.scope} (epoch {made.epoch}) to {told['remains'] or 'nothing'}")
        )
        one.write(text.line(f"because    {made.reason}"))
        one.write(f"valid      until {measure.moment(made.expires_at)}")
        one.write(text.line(f"signed by  {', '.join(told['signed_by']) or 'nobody yet'}"))
        one.say(text.line(f"next  aip kill reset sign {file}   or   aip kill reset submit {file}"))

    show_value(one, told, render)
