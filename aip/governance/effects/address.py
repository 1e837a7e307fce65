"""Which network addresses a connector may connect to: public ones, and the private ranges that its configuration names.

Names prove nothing (a stranger's DNS may answer with 127.0.0.1, and with another address a second later), so the address itself
is looked at, the connection is made to that address and not to the name, and IPv6 forms that carry an IPv4 address are looked
at as what they carry. "Public" is the IANA special-purpose registries' view, as the standard library has it (RFC 6890), without
multicast.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence

from .failure import NotAllowed

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

ADDRESSES_MAX = 16  # Of one name: more is an answer made to keep somebody busy.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052; the standard library takes it for public.
_UNICAST = ipaddress.ip_network("2000::/3")  # All that IANA has given out as global unicast.
_COMPATIBLE = ipaddress.ip_network("::/96")  # RFC 4291's old form, which some systems still follow.


async def resolve(host: str, port: int) -> list[str]:
    """The system's resolver, in a thread of the loop."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def carried(address: Address) -> Address:
    """The IPv4 address inside an IPv6 form of it (mapped, 6to4, NAT64, compatible), or the address."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and (address in _NAT64 or (address in _COMPATIBLE and int(address) > 1)):
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return inner or address


def is_allowed(address: Address, private: Sequence[Network]) -> bool:
    """Whether to connect there: public, or in a range that is named. Teredo hides where it leads, so it has to be named."""
    address = carried(address)
    if any(address in network for network in private if network.version == address.version):
        return True
    if isinstance(address, ipaddress.IPv6Address) and (address.teredo or address.scope_id):
        return False
    if isinstance(address, ipaddress.IPv6Address) and address not in _UNICAST:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def vetted(host: str, answers: Iterable[str], private: Sequence[Network]) -> list[str]:
    """The addresses of `host` that may be connected to. Raises `NotAllowed` where there is none."""
    found = list(answers)[:ADDRESSES_MAX]
    allowed = [text for text in found if is_allowed(ipaddress.ip_address(text), private)]
    if not allowed:
        # The address is not told: what a name means inside this network is not the agent's to learn.
        raise NotAllowed(
            f"{host} leads to no public address",
            hint="name the range under `private` of this connector if it is meant to be reached",
        )
    return allowed


def literal(host: str) -> Address | None:
    """The address that a host is written as, or None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
