"""`aip version` and `aip completion`: the command about itself."""

from __future__ import annotations

import sys

import click
from click.shell_completion import get_completion_class

from .command import Command
from .output import show_value
from .session import session

PARTS = ("ray", "pydantic", "msgspec", "click", "rich", "common-expression-language")


@click.command(
    "version",
    cls=Command,
    examples="""
    aip version
    aip version -o json
    """,
)
def version() -> None:
    """Print the versions of AIP and of what it stands on."""
    from importlib import metadata

    from .. import __version__

    python = ".".join(map(str, sys.version_info[:3]))
    found = {"aip": __version__, "python": python, **{part: metadata.version(part) for part in PARTS}}
    one = session()

    def tell() -> None:
        one.write(f"aip {found['aip']}")
        one.write("  ".join(f"{part} {number}" for part, number in list(found.items())[1:]))

    show_value(one, found, tell)


@click.command(
    "completion",
    cls=Command,
    examples="""
    aip completion bash > ~/.local/share/bash-completion/completions/aip
    aip completion zsh > ~/.zfunc/_aip
    aip completion fish > ~/.config/fish/completions/aip.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that completes commands, runs and tasks in your shell."""
    kind = get_completion_class(shell)
    assert kind is not None, f"click has no completion for {shell}"
    root = click.get_current_context().find_root().command
    session().write(kind(root, {}, "aip", "_AIP_COMPLETE").source())
