"""What the commands of `aip audit` have in common: which entries, since when, and whose key is trusted."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import NotFound, UsageError
from .run_address import LAST, resolve
from .session import Session, session

if TYPE_CHECKING:
    from ..governance.export.selection import Selection
    from ..governance.note import Verifier

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)
KEY_FILE_BYTES_MAX = 64 * 2**10  # Some hundred public keys, a line each.
UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
AGO = re.compile(r"(\d{1,9})([smhdw])")


class MomentType(click.ParamType):  # type: ignore[type-arg]  # Generic in newer click only.
    """A point in time: `2027-01-31`, `2027-01-31T12:00`, with or without a zone, or `36h` for that long ago."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        now = ctx.ensure_object(Session).clock() if ctx is not None else time.time()
        if ago := AGO.fullmatch(str(value)):
            return float(now - int(ago[1]) * UNITS_S[ago[2]])
        try:
            return datetime.fromisoformat(
                str(value)
            ).timestamp()  # Without a zone: this machine's, as `tail` prints.
        except (ValueError, OverflowError, OSError):
            return self.fail(
                f"{value!r} is no time; write 2027-01-31, 2027-01-31T12:00Z or 36h (ago)", param, ctx
            )


def filters(command: F) -> F:
    """Options that choose entries; the command takes them as `asked`, in `selection_of`."""
    for option in reversed(
        (
            click.option("--kind", "kinds", multiple=True, help="Only kinds that begin so; repeatable."),
            click.option("--subject", default="", help="Only entries whose subject has this in it."),
            click.option(
                "--run",
                default="",
                help="Only entries of this run; the beginning of its id will do, or `last`.",
            ),
            click.option("--agent", default="", help="Only entries that name this agent (type/key) or type."),
            click.option("--tenant", default="", help="Only entries of this tenant."),
            click.option("--refused", is_flag=True, help="Only refusals."),
        )
    ):
        command = option(command)
    return times(command)


def times(command: F) -> F:
    since = click.option(
        "--since", type=MomentType(), help="From then on: 2027-01-31, 2027-01-31T12:00Z, or 36h ago as 36h."
    )
    until = click.option("--until", type=MomentType(), help="Before then.")
    return since(until(command))


def selection_of(asked: dict[str, Any]) -> Selection:
    from ..governance.export.selection import Selection

    since, until = asked["since"], asked["until"]
    if since is not None and until is not None and since >= until:
        stated = datetime.fromtimestamp(since, UTC).isoformat()
        raise UsageError(f"--until is not after --since ({stated})", hint="the time between them is empty")
    if asked.get("run") == LAST:
        one = session()
        asked = {**asked, "run": resolve(LAST, one.library.stored_runs(one.folder))}
    return Selection(**{**asked, "kinds": tuple(asked.get("kinds", ()))})


def trust(command: F) -> F:
    """`--trust KEY`, repeatable."""
    return click.option(
        "--trust",
        "keys",
        multiple=True,
        metavar="KEY",
        help="A public key, or a file with some, a line each: the log's and its witnesses'. See `aip audit key`.",
    )(command)


def verifiers_of(keys: tuple[str, ...]) -> list[Verifier]:
    """The keys as typed: C2SP's text form, or files that hold it."""
    from ..governance.note import Verifier

    found = []
    for key in keys:
        text = key if "+" in key and not Path(key).is_file() else _key_file(Path(key))
        found += [Verifier.parse(line) for line in text.splitlines() if line.strip()]
    return found


def _key_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(KEY_FILE_BYTES_MAX).decode("utf-8", "replace")
    except OSError:
        raise NotFound(
            f"--trust: there is no key file {path}",
            hint="give the key itself, name+id+key, or the file that holds it",
        ) from None
