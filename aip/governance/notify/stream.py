"""Kill orders as an event stream (WHATWG HTML, 9.2 "Server-sent events"), for whoever listens: an ASGI application.

    GET /events                            what is raised and lowered from now on
    GET /events?after=EPOCH                and before that, from behind this epoch
    Last-Event-ID: FENCE-EPOCH             from behind that event: what a listener sends by itself when it comes back

Each message is one CloudEvent under the id that mail and webhooks have for it. Nothing is lost between two connections and
nothing comes twice in one: the stream is read from the fence's own history, so it needs no actor alive either. An id of another
fence begins at the beginning, for its epochs say nothing here. A comment line keeps the connection open through proxies.

Every request bears the token. What is not promised: that somebody listens; `notify.yaml` has receivers that are told until they
answer.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from ...errors import UsageError
from ..kill.fence import Fence
from .event import event_of, server_sent

LOOK_EVERY_S = 0.1  # A look is one word of shared memory.
QUIET_S = 15.0  # Proxies close what says nothing for longer; many do so after 30 or 60 s.
BACK_AFTER_MS = 1_000  # What a listener is told to wait before it comes back.
EVENTS_MAX = 1_000  # Of one look at the history.
LISTENERS_MAX = 256
TOKEN_CHARS_MIN = 16

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Watch:
    """The events of one fence, in the order of its history."""

    def __init__(self, fence: Fence) -> None:
        self._fence = fence
        self.identity = fence.identity()

    async def newest(self) -> int:
        return await asyncio.to_thread(lambda: sum(1 for _ in self._fence.history()))

    async def after(self, epoch: int) -> list[dict[str, Any]]:
        """Those behind this epoch that are there."""
        history = await asyncio.to_thread(lambda: list(self._fence.history()))
        return [event_of(order, self.identity) for order in history[epoch : epoch + EVENTS_MAX]]

    async def follow(self, epoch: int, quiet_s: float = QUIET_S) -> AsyncIterator[dict[str, Any] | None]:
        """For ever: each event behind this epoch, as it comes; None where there was none for `quiet_s`."""
        clock, seen = asyncio.get_running_loop().time, -1
        told_s = clock()
        while True:
            if (revision := self._fence.revision()) != seen:
                while events := await self.after(epoch):
                    for event in events:
                        yield event
                    epoch, told_s = epoch + len(events), clock()
                seen = revision
            elif clock() - told_s >= quiet_s:
                yield None
                told_s = clock()
            await asyncio.sleep(LOOK_EVERY_S)

    def place_of(self, event_id: str) -> int | None:
        """The epoch in an event's id; 0 where it is another fence's, None where it is none."""
        fence, _, epoch = event_id.rpartition("-")
        if not fence or not epoch.isascii() or not epoch.isdigit():
            return None
        return int(epoch) if fence == self.identity else 0


class EventStream:
    """The application. At most `LISTENERS_MAX` listen at the same time."""

    def __init__(self, watch: Watch, token: str, quiet_s: float = QUIET_S) -> None:
        if len(token) < TOKEN_CHARS_MIN:
            raise UsageError(
                f"the event stream is served with a token of at least {TOKEN_CHARS_MIN} characters only",
                hint="whoever reaches it reads who was stopped, by whom and why",
            )
        self._watch = watch
        self._token = token.encode()
        self._quiet_s = quiet_s
        self._listeners = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if not self._admitted(headers):
            await _refuse(send, 401, "a bearer token, please", [(b"www-authenticate", b"Bearer")])
        elif scope["path"] != "/events":
            await _refuse(send, 404, "there is /events")
        elif scope["method"] != "GET":
            await _refuse(send, 405, "only GET", [(b"allow", b"GET")])
        elif self._listeners >= LISTENERS_MAX:
            await _refuse(send, 503, f"{LISTENERS_MAX} listen already", [(b"retry-after", b"10")])
        elif (epoch := await self._begin(scope, headers)) is None:
            await _refuse(send, 400, "after=EPOCH, a whole number; Last-Event-ID as it was in the stream")
        else:
            await self._listen(epoch, receive, send)

    def _admitted(self, headers: Mapping[str, str]) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token)

    async def _begin(self, scope: Scope, headers: Mapping[str, str]) -> int | None:
        if (last := headers.get("last-event-id")) is not None:
            return self._watch.place_of(last)
        after = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("after")
        if after is None:
            return await self._watch.newest()
        return int(after[0]) if after[0].isascii() and after[0].isdigit() else None

    async def _listen(self, epoch: int, receive: Receive, send: Send) -> None:
        self._listeners += 1
        gone = asyncio.ensure_future(_gone(receive))
        telling = asyncio.ensure_future(self._tell(epoch, send))
        try:
            await asyncio.wait({gone, telling}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._listeners -= 1
            for task in (gone, telling):
                task.cancel()
            ended = await asyncio.gather(gone, telling, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception) and not isinstance(error, OSError):
                raise error  # What the history has to say (`Corrupt`) is the server's log's; a line that broke is nobody's.

    async def _tell(self, epoch: int, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _part(send, f"retry: {BACK_AFTER_MS}\n\n".encode())
        async for event in self._watch.follow(epoch, self._quiet_s):
            await _part(send, b":\n\n" if event is None else server_sent(event))


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def _part(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _refuse(send: Send, status: int, why: str, more: list[tuple[bytes, bytes]] | None = None) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *(more or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": why.encode() + b"\n"})
