"""Where a command that serves others listens: one address, taken before anything is said of it."""

from __future__ import annotations

import ipaddress
import socket

from ..errors import UsageError

LOOPBACK = "127.0.0.1"
BACKLOG = 128
KEEP_ALIVE_S = 5


def listening(host: str, port: int) -> socket.socket:
    """A socket on this address. A name is none: what it is looked up as is not for a server to be surprised by."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        raise UsageError(f"{host} is no address to listen on", hint="127.0.0.1, ::1, 0.0.0.0") from None
    place = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind((host, port))
        place.listen(BACKLOG)
    except OSError as error:
        place.close()
        raise UsageError(
            f"cannot listen on {host} port {port}: {error.strerror}", hint="--port 0 takes any free port"
        ) from error
    return place
