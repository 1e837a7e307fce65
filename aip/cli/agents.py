"""`aip agents list | show | call`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ..errors import UnknownCapability, UsageError
from . import text
from .command import Noun
from .contract import Platform
from .key_value import KEY_VALUE, collected, typed
from .output import Column, show_rows, show_value
from .platform import DurationType
from .records import Records
from .run_address import RUN, RunAddress
from .session import Session, session
from .submit import started

CALL_TIMEOUT_S = 60.0


@click.group(
    "agents",
    cls=Noun,
    examples="""
    aip agents list
    aip agents call agents:Greeter.greet -i name=Ada
    """,
)
def agents() -> None:
    """Look at agents and call them: list, show, call."""


AGENT_COLUMNS = (
    Column("AGENT", lambda row: row.get("address", "")),
    Column("STATE", lambda row: row.get("state", "")),
    Column("CELL", lambda row: row.get("cell", "")),
    Column("INCARNATION", lambda row: row.get("incarnation", ""), right=True),
    Column("MAILBOX", lambda row: row.get("mailbox", ""), right=True),
    Column("RUN", lambda row: row.get("run", "")),
)


@agents.command(
    "list",
    examples="""
    aip agents list
    aip agents list --run last -o ndjson
    """,
)
@click.option("--run", "address", metavar="RUN", type=RUN, help="Only agents that work for this run.")
def list_agents(address: RunAddress | None) -> None:
    """List the agents that are in memory."""
    one = session()
    with one.platform() as platform:
        run_id = Records(one, platform).id_of(address) if address else None
        found = platform.agents(run_id)
    show_rows(
        one, found, AGENT_COLUMNS, nothing="no agent is in memory; the first message to one brings it there"
    )


@agents.command("show", examples="aip agents show greeter/ada")
@click.argument("address", metavar="ADDRESS")
def show(address: str) -> None:
    """Show one agent: where it is and what it can do."""
    one = session()
    with one.platform() as platform:
        found = platform.agent(address)
        known = type_of(platform, str(found.get("address", address)))
    show_value(one, found, lambda: _show_agent(one, found, known))


def _show_agent(one: Session, agent: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for key, value in agent.items():
        if key != "capabilities":
            one.write(text.line(f"{key:<12} {value if isinstance(value, str) else text.compact_json(value)}"))
    told = known.get("capabilities")
    for name in agent.get("capabilities") or ():
        one.write("")
        one.write(text.line(signature(name, (told.get(name) or {}) if isinstance(told, Mapping) else {})))


def signature(name: str, capability: Mapping[str, Any]) -> str:
    """`greet(name: string) -> string`, as far as it is known."""
    if not capability:
        return name
    takes = (capability.get("input") or {}).get("properties") or {}
    gives = _type(capability.get("output") or {})
    doc = str(capability.get("doc") or "").partition("\n")[0]
    shown = f"{name}({', '.join(f'{key}: {_type(schema)}' for key, schema in takes.items())}) -> {gives}"
    return f"{shown}    {doc}" if doc else shown


def _type(schema: Mapping[str, Any]) -> str:
    return str(schema.get("type") or "any")


@agents.command(
    "call",
    examples="""
    aip agents call agents:Greeter.greet -i name=Ada
    aip agents call greeter/ada greet -i name=Ada --timeout 10s
    """,
)
@click.argument("target", metavar="TARGET[.CAPABILITY]")
@click.argument("capability", metavar="[CAPABILITY]", required=False)
@click.option("-i", "--input", "inputs", type=KEY_VALUE, multiple=True, help="An argument; repeatable.")
@click.option(
    "--timeout", type=DurationType(), default=CALL_TIMEOUT_S, help="Give up after this long (default: 60s)."
)
def call(target: str, capability: str | None, inputs: tuple[tuple[str, str], ...], timeout: float) -> None:
    """Call an agent and print its answer.

    TARGET is an address such as greeter/ada, or module:Class beside the current folder, whose code is then deployed first.
    """
    one = session()
    target, capability = divided(target, capability)
    given = collected(inputs)
    if ":" in target:
        entry = target.partition("/")[0]
        manifest = one.library.inspect_code(Path.cwd(), [entry])[entry]
        arguments = typed(given, input_schema(target, capability, manifest))
        with started(one, lambda: None) as platform:
            answer = platform.call(target, capability, arguments, timeout_s=timeout)
    else:
        with one.platform() as platform:
            arguments = typed(given, input_schema(target, capability, type_of(platform, target)))
            answer = platform.call(target, capability, arguments, timeout_s=timeout)
    show_value(
        one,
        answer,
        lambda: one.write(text.block(answer) if isinstance(answer, str) else text.pretty_json(answer)),
    )


def type_of(platform: Platform, address: str) -> Mapping[str, Any]:
    """What is known of an agent's type, awake or not: its newest version, or the one whose digest was typed."""
    kind = address.partition("/")[0]
    named = [
        known for known in platform.types() if kind in (known["type"], str(known["type"]).partition("@")[0])
    ]
    return named[-1] if named else {}


def divided(target: str, capability: str | None) -> tuple[str, str]:
    """`agents:Greeter.web.search` and `greeter/ada.greet` as target and capability.

    A module may have dots before its colon, and a capability may have them too: the first dot after `:` or `/`
    divides. A key with dots of its own needs the form of two words.
    """
    if capability:
        return target, capability
    sign = ":" if ":" in target.partition("/")[0] else "/"
    head, found, tail = target.partition(sign)
    name, dot, capability = tail.partition(".")
    if not found or not dot or not name or not capability:
        raise UsageError(
            f"which capability of {target!r}?",
            hint="write TARGET.CAPABILITY, such as agents:Greeter.greet or greeter/ada.greet",
        )
    return f"{head}{sign}{name}", capability


def input_schema(target: str, capability: str, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the capability takes. An agent that does not say (a list of names only) takes whatever JSON says."""
    capabilities = manifest.get("capabilities") or {}
    if capabilities and capability not in capabilities:
        raise UnknownCapability(
            f"{target} has no capability {capability!r}", hint=f"it has: {', '.join(sorted(capabilities))}"
        )
    found = capabilities.get(capability) if isinstance(capabilities, Mapping) else None
    return (found or {}).get("input") or {}
