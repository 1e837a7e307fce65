"""Which connectors an agent may use: those that the plan of its run grants to agents of its type, and none else.

    agents:
      clerk: {use: "agents:Clerk", effects: [tickets]}       # may use `tickets`; every other agent of this plan nothing

The question is decided by what the gateway can hold against what it is told. An agent's address names its type, a type names its
pool (`clerk@0123456789ab`, one version of one code), and a cell's name names the pool that it hosts: a cell stamps for agents of
its own pool only. The run is looked up in what was submitted, not asked of anybody.

    no run, or a type that its plan does not have     nothing: nobody granted anything
    one type under several names of a plan            what all of them were granted: it cannot be seen which of them asks

Whether the connector exists, and what policy says, is asked elsewhere; a grant only takes away.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ...errors import Refused
from ...ids import base_type, pool_of, type_of
from .stamp import Stamp

Granted = Mapping[str, frozenset[str]]  # type@digest -> connectors


class NotGranted(Refused):
    """The plan does not let this agent use the connector."""

    code = "refused.grant"
    default_hint = "name the connector under agents.NAME.effects of the plan"


def granted(types: Mapping[str, str], effects: Mapping[str, Collection[str]]) -> dict[str, frozenset[str]]:
    """Connectors by type, of a plan's `types` (name -> type@digest) and what each name was granted."""
    found: dict[str, frozenset[str]] = {}
    for name, kind in types.items():
        own = frozenset(effects.get(name, ()))
        found[kind] = found[kind] & own if kind in found else own
    return found


def check_granted(stamp: Stamp, grants: Granted | None) -> None:
    """`grants` are those of the stamp's run; None where it names no run. Raises `NotGranted`."""
    kind = type_of(stamp.agent)
    pool = pool_of(stamp.cell)
    if not pool or pool != kind.partition("@")[2]:
        raise NotGranted(f"{stamp.cell} does not host agents of the type {kind}", hint="")
    if grants is None:
        raise NotGranted(
            f"{stamp.agent} works for no run, so no plan grants it the connector {stamp.connector!r}",
            hint="call it in a plan that names the connector under agents.NAME.effects",
        )
    if stamp.connector not in grants.get(kind, frozenset()):
        has = ", ".join(sorted(grants.get(kind, ()))) or "none"
        raise NotGranted(
            f"the plan grants agents of {base_type(stamp.agent)} no connector {stamp.connector!r}; they have: {has}"
        )
