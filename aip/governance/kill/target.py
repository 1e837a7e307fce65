"""What an order can name, and under which names a message is covered.

    platform             all of it (the level "cluster")
    node:NAME            what lives on one node
    pool:NAME            the agents of one pool of cells
    tenant:NAME          what is done for one tenant
    capability:NAME      messages that ask for this capability, or for one of the domain NAME
    run/ID               one run of a plan, with what it started
    TYPE, TYPE@DIGEST    all agents of a type, or of one version of it
    TYPE/KEY             one agent; without a digest in whichever version it lives

`names` is the other side: every name that a message answers to. A check looks each of them up, so what it costs follows from the
length of the message's chain and not from how many orders stand.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from ...errors import UsageError
from ...ids import CAPABILITY, KEY, TYPE, base_type, check_address, type_of
from ...runtime.envelope import Envelope

PLATFORM = "platform"
DRILL = "aip-drill"  # No agent type of anybody's: what a drill may raise orders against, and lift alone.
PLACES = ("node", "pool")
KINDS = (*PLACES, "tenant", "capability")
_SAME = {
    "agent": "",
    "type": "",
    "run": "run/",
    "plan": "run/",
}  # Other ways to write a target, for the sake of a reader.
_KNOWN_ADDRESSES = (
    8_192  # The names of an address are some splits of a string; a cell asks for the same ones all day.
)
HINT = "platform, node:NAME, pool:NAME, tenant:NAME, capability:NAME, run/ID, an agent's address, or an agent type"


def check_target(target: str) -> str:
    """The target as orders name it, or `UsageError` that says what one looks like."""
    kind, colon, name = target.partition(":")
    if colon and kind in _SAME:
        return check_target(_SAME[kind] + name)
    if colon and kind in KINDS and (CAPABILITY if kind == "capability" else KEY).match(name):
        return target
    if target == PLATFORM or TYPE.match(target):
        return target
    kind, slash, key = target.partition("/")
    if slash and kind == "run" and KEY.match(key):
        return target
    if slash:
        return check_address(target)
    raise UsageError(f"not a kill target: {target!r}", hint=HINT)


@lru_cache(_KNOWN_ADDRESSES)
def names_of(address: str) -> tuple[str, ...]:
    """An address, its type, and both without the digest of the code; a run has one name."""
    kind, base = type_of(address), base_type(address)
    if base == kind:
        return (address,) if kind == "run" else (address, kind)
    return address, kind, base, base + address[len(kind) :]


def names(envelope: Envelope) -> Iterator[str]:
    """Every name that this message is covered by, but for those of the place where it is looked at."""
    yield PLATFORM
    if envelope.run:
        yield f"run/{envelope.run}"
    yield from names_of(envelope.recipient)
    yield from names_of(envelope.sender)
    for address in envelope.chain:
        yield from names_of(address)
    if envelope.tenant:
        yield f"tenant:{envelope.tenant}"
    domain = envelope.capability
    while domain:
        yield f"capability:{domain}"
        domain = domain.rpartition(".")[0]
