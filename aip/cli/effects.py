"""`aip effects`: what agents may do outside, what one effect would do, and which effects nobody knows the outcome of.

What is in force is asked of the effect gateway; where none answers, the file is read that it would begin with, and that is said.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import click

from ..errors import AIPError, PlatformUnavailable, UsageError
from . import measure, text
from .command import Noun
from .contract import Json, Platform
from .output import Column, show_rows, show_value
from .session import Session, session

GATEWAY, ROOT = "effects", "orchestrator"
REQUEST_BYTES_MAX = 8 * 2**20  # As much as the gateway takes.
PATH = click.Path(path_type=Path, dir_okay=False)
CONNECTOR_COLUMNS = (
    Column("CONNECTOR", lambda row: row["name"]),
    Column("KIND", lambda row: row["connector"]),
    Column("REACHES", lambda row: ", ".join(row["reaches"])),
    Column("RATE", lambda row: f"{row['rate_per_s']:g}/s", right=True),
    Column("AT ONCE", lambda row: row["concurrency"], right=True),
)
DOUBT_COLUMNS = (
    Column("SINCE", lambda row: measure.moment(row["at"])),
    Column("AGENT", lambda row: row["agent"]),
    Column("CONNECTOR", lambda row: row["effect"]),
    Column("KEY", lambda row: row["key"]),
    Column("RUN", lambda row: row["run"]),
)


class InForce(NamedTuple):
    connectors: dict[str, Json]
    gateway: Platform | None  # None: these are the file's.


@click.group(
    "effects",
    cls=Noun,
    examples="""
    aip effects list
    aip effects check effects.yaml
    aip effects describe tickets '{"method": "POST", "url": "https://api.example.com/v1/tickets"}'
    aip effects reload
    aip effects in-doubt
    """,
)
def effects() -> None:
    """How agents touch the outside: connectors of effects.yaml, and what became of effects."""


@effects.command(
    "list",
    examples="""
    aip effects list
    aip effects list -o json
    """,
)
def list_connectors() -> None:
    """The connectors in force, and where each may reach. Secrets are shown by name only."""
    one = session()
    with in_force(one) as found:
        rows = [
            {"name": name, **config, "reaches": reaches(config)} for name, config in found.connectors.items()
        ]
        show_rows(one, rows, CONNECTOR_COLUMNS, nothing="no connector is configured")
        if found.gateway is None and not one.machine:
            one.say(text.line(f"as they stand in {file_of(one)}: no effect gateway runs"))


@effects.command(
    "describe",
    examples="""
    aip effects describe tickets '{"method": "POST", "url": "https://api.example.com/v1/tickets", "json": {}}'
    aip effects describe reports -
    """,
)
@click.argument("connector")
@click.argument("request", metavar="REQUEST|-")
def describe(connector: str, request: str) -> None:
    """Say what an effect would do, without doing it. Ends with 4 where the connector refuses it.

    The connector's own limits are asked, nothing else: not policy, not the plan's grants, not the kill switch.
    """
    one = session()
    wish = asked_for(request)
    with in_force(one) as found:
        if found.gateway is not None:
            says = found.gateway.ask(GATEWAY, "describe", connector=connector, request=wish)
        else:
            says = described(found.connectors, connector, wish)
    told = {"connector": connector, "says": says}
    show_value(one, told, lambda: one.write(text.line(str(says))))


@effects.command("reload", examples="aip effects reload")
def reload() -> None:
    """Bring effects.yaml into force as it is now, whole or not at all. Effects under way end as they began."""
    one = session()
    with one.platform() as platform:
        check_file(file_of(one))  # Here first: a file that nobody can take needs no gateway to say so.
        platform.ask(ROOT, "want_effects")
        names = platform.ask(GATEWAY, "reload")
    told = {"connectors": names}
    show_value(one, told, lambda: one.say(text.line(f"in force: {', '.join(names) or 'no connector'}")))


@effects.command(
    "check",
    examples="""
    aip effects check
    aip effects check effects.yaml
    """,
)
@click.argument("path", metavar="[FILE]", type=PATH, required=False)
def check(path: Path | None) -> None:
    """Check a file of connectors; without one, that of the home. Ends with 3 where it is invalid.

    What is missing on this machine (a secret, a folder, a program) is told as a warning, and ends with 0.
    """
    from .effects_file import missing

    one = session()
    place = path or file_of(one)
    config = check_file(place)
    warnings = missing(config, one.folder)
    told = {
        "file": str(place),
        "connectors": sorted(config.connectors),
        "warnings": [asdict(w) for w in warnings],
    }
    if not one.machine:
        for warning in warnings:
            one.say(text.line(f"warning: {warning.where}: {warning.message} ({warning.hint})"))
    words = f"{place}: {measure.count(len(config.connectors), 'connector')}, no problem found"
    words += f", {measure.count(len(warnings), 'warning')}" if warnings else ""
    show_value(one, told, lambda: one.write(text.line(words)))


@effects.command(
    "in-doubt",
    examples="""
    aip effects in-doubt
    aip effects in-doubt -o json
    """,
)
def doubtful() -> None:
    """Effects that were begun and of which nobody knows the outcome: look at the outside.

    Read from the audit log; no platform is needed. One that is under way just now is listed, too.
    """
    from ..governance.kill.in_doubt import in_doubt
    from ..governance.segments import log_path, read

    one = session()
    path = log_path(one.folder.audit)
    show_rows(
        one,
        in_doubt(read(path)) if path.exists() else [],
        DOUBT_COLUMNS,
        nothing="the outcome of every effect is known",
    )


# What the commands share --------------------------------------------------------------------------------------------------


def file_of(one: Session) -> Path:
    from ..governance.effects.configuration import FILE_NAME

    return one.folder.root / FILE_NAME


def check_file(path: Path) -> Any:
    """The configuration in a file. Raises `EffectsInvalid`, or `UsageError` where it cannot be read."""
    from ..governance.effects.configuration import FILE_BYTES_MAX, read

    try:
        with path.open("rb") as file:
            return read(file.read(FILE_BYTES_MAX + 1))
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}", hint="docs/effects.md has an example"
        ) from None


def connectors_here(one: Session) -> Collection[str]:
    """The names in this home's effects.yaml; none where it cannot be read, which `aip effects check` is for."""
    try:
        return tuple(check_file(file_of(one)).connectors)
    except AIPError:
        return ()


@contextmanager
def in_force(one: Session) -> Iterator[InForce]:
    """From the gateway if one answers at once, else from the file; no file is a platform without connectors."""
    with one.platform_if_any() as platform:
        if platform is not None:
            try:
                found = platform.ask(GATEWAY, "connectors", 0.0)
            except PlatformUnavailable:
                pass  # It starts with the first effect; until then the file says what it will begin with.
            else:
                yield InForce(found, platform)
                return
        path = file_of(one)
        config = check_file(path).model_dump(mode="json")["connectors"] if path.exists() else {}
        yield InForce(config, None)


def described(connectors: dict[str, Json], name: str, wish: Any) -> str:
    """As the gateway's `describe`, by the same connectors; no secret is looked up for it."""
    from ..errors import NotFound
    from ..governance.effects.configuration import configured, connect
    from ..governance.effects.connector import line
    from ..governance.effects.vault import Vault

    if name not in connectors:
        known = ", ".join(sorted(connectors)) or "none"
        raise NotFound(f"there is no connector {name!r}", hint=f"effects.yaml has: {known}")
    door = connect(configured({"connectors": {name: connectors[name]}}), Vault(str, lambda: 0.0))[name]
    return line(door.describe(door.check(wish)))


def asked_for(request: str) -> Any:
    words = sys.stdin.read(REQUEST_BYTES_MAX + 1) if request == "-" else request
    try:
        return json.loads(words)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"the request is not JSON: {error}", hint="docs/effects.md shows each connector's"
        ) from None


def reaches(config: Json) -> list[str]:
    """Where a connector may go, in its own words."""
    match config["connector"]:
        case "http":
            return [f"{'/'.join(rule['methods'])} {rule['url']}" for rule in config["allow"]]
        case "webhook":
            return [config["url"]]
        case "file":
            return [f"{'/'.join(config['modes'])} {config['root']}"]
        case "process":
            return sorted(config["commands"])
        case "smtp":
            return list(config["recipients"])
    return []
