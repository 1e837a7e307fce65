"""`aip kill watch`: each order as it is raised or lowered, on the terminal or as an event stream for others.

Read from the fence alone, so it needs no platform, and shows what is ordered while none runs.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

import click

from . import measure, text
from .command import Command
from .listener import KEEP_ALIVE_S, LOOPBACK, listening
from .session import Session, session

if TYPE_CHECKING:
    from ..governance.notify.stream import EventStream, Watch

LEAVE_S = 1  # Streams have no end to wait for.


@click.command(
    "watch",
    cls=Command,
    examples="""
    aip kill watch
    aip kill watch --after 0 -o ndjson
    aip kill watch --serve --port 9182 --token KILL_WATCH_TOKEN
    """,
)
@click.option("--after", type=click.IntRange(min=0), default=None, metavar="EPOCH", help="Begin behind it.")
@click.option("--serve", is_flag=True, help="As an event stream at /events, over HTTP.")
@click.option("--host", default=LOOPBACK, show_default=True, help="With --serve: the IP address.")
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="With --serve; 0: any free one.")
@click.option(
    "--token",
    "secret_name",
    metavar="NAME",
    default="KILL_WATCH_TOKEN",
    show_default=True,
    help="With --serve: the secret that every request bears.",
)
def watch(after: int | None, serve: bool, host: str, port: int, secret_name: str) -> None:
    """Follow the orders: who raised or lowered what, from now on or from an epoch on, until interrupted.

    With --serve others follow: a listener that comes back goes on behind the last event it had (Last-Event-ID). The token
    travels as it is: on another interface than the loopback put something that speaks TLS in front.
    """
    import asyncio

    from ..governance.kill import desk
    from ..governance.notify.stream import EventStream, Watch

    one = session()
    watching = Watch(desk.fence_of(one.folder))
    with contextlib.suppress(KeyboardInterrupt):
        if not serve:
            asyncio.run(_show(one, watching, after))
            return
        from .. import secret

        application = EventStream(watching, secret.resolve(secret.PREFIX + secret_name, one.folder))
        with listening(host, port) as place:
            address, taken = place.getsockname()[:2]
            shown = f"[{address}]" if ":" in address else address
            one.say(text.line(f"http://{shown}:{taken}/events, with the token {secret_name}"))
            asyncio.run(_serve(application, place))


async def _show(one: Session, watching: Watch, after: int | None) -> None:
    epoch = await watching.newest() if after is None else after
    async for event in watching.follow(epoch):
        if event is not None:
            one.write(text.compact_json(event) if one.machine else _line(event))


def _line(event: dict[str, Any]) -> str:
    from datetime import datetime

    from ..governance.notify.event import sentence

    data = event["data"]
    at = measure.moment(datetime.fromisoformat(event["time"]).timestamp())
    return text.line(f"{at}  {data['epoch']}  {sentence(event)}  {data['reason']}".rstrip())


async def _serve(application: EventStream, place: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(
        application,
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=LEAVE_S,
    )
    await uvicorn.Server(config).serve([place])
