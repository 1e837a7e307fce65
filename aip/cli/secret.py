"""`aip secret`: keep keys where plans find them by name. A value is never an argument: those are in the shell's history."""

from __future__ import annotations

import sys

import click

from .. import secret as secrets
from ..errors import UsageError
from . import text
from .command import Noun
from .output import Column, show_rows, show_value
from .session import session

COLUMNS = (
    Column("NAME", lambda row: row["name"]),
    Column("WRITE IT AS", lambda row: row["reference"]),
    Column("FILE", lambda row: row["file"]),
)


@click.group(
    "secret",
    cls=Noun,
    examples="""
    aip secret set EXAMPLE_KEY
    pass show example | aip secret set EXAMPLE_KEY
    aip secret list
    aip secret rm EXAMPLE_KEY
    """,
)
def secret() -> None:
    """Keys for models and tools, named in plans as secret:NAME."""


@secret.command(
    "set",
    examples="""
    aip secret set EXAMPLE_KEY
    aip secret set EXAMPLE_KEY --keyring
    """,
)
@click.argument("name")
@click.option("--keyring", is_flag=True, help="In the system's keyring instead of a file.")
def set_secret(name: str, keyring: bool) -> None:
    """Keep a value, which is read from stdin or asked for."""
    one = session()
    secrets.check_name(name)
    value = asked(name)
    if keyring:
        secrets.keep_in_keyring(name, value)
        where = "the keyring"
    else:
        where = str(secrets.keep_in_file(name, value, one.home))
    told = {"name": name, "reference": f"{secrets.PREFIX}{name}", "kept_in": where}
    show_value(one, told, lambda: one.say(text.line(f"{name} is kept in {where}")))
    if not one.machine:
        one.say(text.line(f"next  write {secrets.PREFIX}{name} in the plan"))


@secret.command(
    "list",
    examples="""
    aip secret list
    aip secret list -o json
    """,
)
def list_secrets() -> None:
    """The names that are kept in files. A keyring does not tell what it holds."""
    one = session()
    rows = [
        {
            "name": name,
            "reference": f"{secrets.PREFIX}{name}",
            "file": str(secrets.file_of(name, one.home)),
        }
        for name in secrets.names(one.home)
    ]
    show_rows(one, rows, COLUMNS, nothing="no secret is kept in a file")


@secret.command(
    "rm",
    examples="""
    aip secret rm EXAMPLE_KEY
    """,
)
@click.argument("name")
def remove_secret(name: str) -> None:
    """Forget a value, in the file and in the keyring."""
    one = session()
    places = secrets.forget(name, one.home)
    told = {"name": name, "removed_from": places}
    show_value(one, told, lambda: one.say(text.line(f"{name} is gone from {' and '.join(places)}")))


def asked(name: str) -> str:
    """The value: a line of a prompt that does not show it, or all of stdin."""
    if sys.stdin.isatty():
        value: str = click.prompt(name, hide_input=True, err=True)
        return value
    value = sys.stdin.read(secrets.SECRET_BYTES_MAX + 2).removesuffix("\n")
    if not value:
        raise UsageError(f"no value for {name} on stdin", hint=f"aip secret set {name} < key.txt")
    return value
