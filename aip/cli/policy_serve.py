"""`aip policy serve`: the policy in force behind OPA's REST API, for whatever asks an OPA server.

In the foreground, on the loopback interface, until it is interrupted. Needs no platform: it reads AIP_HOME.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import click

from . import text
from .command import Command
from .listener import KEEP_ALIVE_S, LOOPBACK, listening
from .session import session

if TYPE_CHECKING:
    import socket

    from starlette.applications import Starlette

    from ..protocols.opa.in_force import InForce

PORT = 8181  # OPA's own.
CONNECTIONS_MAX = 512  # Twice what may wait for the engine: the rest would be answered 503 anyway.
LEAVE_S = 10  # As long as one request may take.


@click.command(
    "serve",
    cls=Command,
    examples="""
    aip policy serve
    aip policy serve --port 9181 --token OPA_CI_TOKEN
    aip policy serve --log-decisions > decisions.ndjson
    """,
)
@click.option("--host", default=LOOPBACK, show_default=True, help="The IP address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=PORT, show_default=True, help="0: any free one."
)
@click.option(
    "--token",
    "secret_name",
    metavar="NAME",
    default="OPA_TOKEN",
    show_default=True,
    help="The secret that every request bears: an environment variable, or kept with `aip secret set`.",
)
@click.option("--log-decisions", is_flag=True, help="Print each decision with its input, one JSON a line.")
def serve(host: str, port: int, secret_name: str, log_decisions: bool) -> None:
    """Answer OPA's REST API with the policy in force.

    A policy that comes into force meanwhile is served from then on. The token travels as it is: on another interface than
    the loopback put something that speaks TLS in front.
    """
    import asyncio

    from .. import secret
    from ..protocols.opa import app
    from ..protocols.opa.in_force import InForce

    one = session()
    token = secret.resolve(secret.PREFIX + secret_name, one.folder)
    found = InForce(one.folder, {"id": "aip"})

    async def decided(event: dict[str, Any]) -> None:
        if log_decisions:
            one.write(json.dumps(event))

    application = app(found.server, token=token, decided=decided)
    with listening(host, port) as place, contextlib.suppress(KeyboardInterrupt):
        address, taken = place.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        one.say(text.line(f"{found.bundle.revision} at http://{shown}:{taken}, with the token {secret_name}"))
        asyncio.run(run(application, found, place))


async def run(application: Starlette, found: InForce, place: socket.socket) -> None:
    """Serve until a signal ends it, or until the policy in force cannot be served."""
    import asyncio

    import uvicorn

    config = uvicorn.Config(
        application,
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=LEAVE_S,
    )
    server = uvicorn.Server(config)
    following = asyncio.ensure_future(found.follow(application.state.desk))
    following.add_done_callback(lambda _: setattr(server, "should_exit", True))
    try:
        await server.serve([place])
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
