"""`aip init`: a small plan, its agent and a test of it, to start from."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import click

from ..errors import UsageError
from .command import Command
from .session import session

FILES = ("plan.yaml", "agents.py", "test_agents.py")


def template(name: str) -> str:
    return (files(__package__) / "templates" / f"{name}.tmpl").read_text(encoding="utf-8")


@click.command(
    "init",
    cls=Command,
    examples="""
    aip init hello
    aip init
    """,
)
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path, file_okay=False), default=".")
def init(folder: Path) -> None:
    """Write a small plan, its agent and a test.

    Three files that work as they stand: plan.yaml, agents.py, test_agents.py. A file that is already there is never
    touched: if one is, nothing is written.
    """
    standing = [name for name in FILES if (folder / name).exists() or (folder / name).is_symlink()]
    if standing:
        raise UsageError(
            f"{folder} has {', '.join(standing)} already; nothing was written",
            hint="name another folder: aip init hello",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            with (folder / name).open(
                "x", encoding="utf-8"
            ) as file:  # x: also against a file that came in between.
                file.write(template(name))
    except OSError as error:
        raise UsageError(f"cannot write there: {error}") from None
    one = session()
    for name in FILES:
        one.write(str(folder / name))
    one.say(f"next  aip submit {folder / 'plan.yaml'}")
