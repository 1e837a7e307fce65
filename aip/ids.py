"""Names of things: addresses of agents, ids of messages and runs.

An *address* is `type/key`. `type` names code (and, once it is placed, the digest of that code: `greeter@3f2a9c01d2e4`), `key`
names one agent of it. Whatever can send or receive has an address: agents, runs (`run/r-…`), clients (`client/…`).
A *capability* is `name` or `domain.name`: one vocabulary in code, YAML, cards and discovery.
Ids sort by time: 48 bits of milliseconds, then 40 random bits, in Crockford's base 32 (the alphabet of the ULID spec).
"""

from __future__ import annotations

import random
import re

from .errors import UsageError

TYPE = re.compile(r"[a-z][a-z0-9_.-]{0,62}(@[0-9a-f]{12})?\Z")
KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+=-]{0,127}\Z")
CAPABILITY = re.compile(r"[a-z][a-z0-9_]{0,62}(\.[a-z][a-z0-9_]{0,62}){0,3}\Z")
_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(prefix: str, now_s: float, rng: random.Random) -> str:
    """A fresh id such as `r-01jd…`: sortable by time, unguessable enough not to collide, readable aloud."""
    number = (int(now_s * 1000) << 40) | rng.getrandbits(40)
    digits = []
    for _ in range(18):
        number, digit = divmod(number, 32)
        digits.append(_BASE32[digit])
    return f"{prefix}-{''.join(reversed(digits))}"


def check_address(address: str) -> str:
    """The address itself, or `UsageError` that says what an address looks like."""
    kind, slash, key = address.partition("/")
    if not slash or not TYPE.match(kind) or not KEY.match(key):
        raise UsageError(
            f"not an agent address: {address!r}", hint="an address is type/key, such as greeter/ada"
        )
    return address


def type_of(address: str) -> str:
    """The type part of an address (with its code digest, where it has one)."""
    return address.partition("/")[0]


def base_type(address: str) -> str:
    """The type part without the code digest: what a person calls the agent."""
    return address.partition("/")[0].partition("@")[0]


def pool_of(cell: str) -> str:
    """The pool of a cell, which its name names: `cell-POOL-WHICH`; "" of what is no cell."""
    return cell.removeprefix("cell-").rpartition("-")[0] if cell.startswith("cell-") else ""


def check_capability(name: str) -> str:
    if not CAPABILITY.match(name):
        raise UsageError(f"not a capability name: {name!r}", hint="use name or domain.name in lower case")
    return name
