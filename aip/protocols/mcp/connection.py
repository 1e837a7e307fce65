"""One life of one tool server: opened once, used by many calls, ended once.

The SDK's session lives in task groups, which must be left by the task that entered them, while an agent is started, used and
stopped by three different ones. So a connection has a task of its own that enters everything, waits, and leaves everything:

    opening      transport, protocol version (2026-07-28, or the handshake of the older ones), the tools, all pages
    open         calls; when the server says that its tools changed they are listed again, at most once in `REFRESH_S`
    ended        closed by us, or lost: the calls in flight fail with `ToolServerLost`, the child and its group are gone

A connection does not come back; who wants to go on opens another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import mcp_types as types
from mcp import Client, MCPError
from mcp.client.subscriptions import SubscriptionLost
from mcp.shared.dispatcher import ProgressFnT
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import TypeAdapter, ValidationError

from ...errors import AIPError, DeadlineExceeded, InvalidPayload
from ...settings import VERSION
from .catalogue import Catalogue, Tool, catalogue
from .child import Child
from .config import ServerConfig, disclosed
from .errors import ToolFailed, ToolServerLost, ToolServerUnusable
from .limits import ERROR_CHARS_MAX, LISTEN_AGAIN_S, PAGES_MAX, TOOLS_MAX
from .stranger import Redaction, clean
from .web import Web
from .wire import OVERSIZED

REFRESH_S = 1.0  # A server that announces changes without end has its tools listed once a second, not more.
REASON_S = 0.5  # A caller whose call was lost waits this long for the reason.
PROBE_SHARE = 0.3  # Of the time to start: what a server that ignores the newest protocol's question may cost.

_log = logging.getLogger("aip.tools")
_ANSWER: TypeAdapter[types.CallToolResult | types.InputRequiredResult] = TypeAdapter(
    types.CallToolResult | types.InputRequiredResult
)

Resolve = Callable[[str], str]


class Connection:
    def __init__(self, config: ServerConfig, resolve: Resolve) -> None:
        """Raises the errors of `resolve` where a secret is not to be had."""
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._transport, self.redaction = _transport(config, resolve)
        self._client: Client | None = None
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._closing = asyncio.Event()
        self._changed = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None
        self.catalogue: Catalogue = catalogue(config.name, (), ("*",))

    @property
    def alive(self) -> bool:
        return self._owner is not None and not self._owner.done() and not self._transport.ended.is_set()

    @property
    def protocol(self) -> str:
        return self._client.protocol_version if self._client is not None and self.alive else ""

    @property
    def pid(self) -> int | None:
        """The server's process, where it is one of ours."""
        return self._transport.pid if isinstance(self._transport, Child) else None

    # Opening and ending ---------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Raises `ToolServerUnusable`, or `ToolServerLost` where trying again can help."""
        self._owner = asyncio.create_task(self._live(), name=f"tools.{self._config.name}")
        try:
            async with asyncio.timeout(self._config.start_timeout_s):
                await asyncio.shield(self._opened)
        except TimeoutError:
            await self.close()
            raise self._lost(f"was not ready within {self._config.start_timeout_s:g} s") from None
        except asyncio.CancelledError:
            self._closing.set()
            self._owner.cancel()
            raise

    async def close(self) -> None:
        """Returns when the server has ended."""
        self._closing.set()
        if self._owner is None:
            return
        if not self._opened.done() or self._opened.exception() is not None:
            self._owner.cancel()  # It waits for the server, not for us.
        await asyncio.wait([self._owner])

    def abandon(self) -> None:
        """Close without waiting, from any thread: nobody holds this connection any more."""
        with contextlib.suppress(
            RuntimeError
        ):  # The loop is closed: the process ends, and the leash with it.
            self._loop.call_soon_threadsafe(self._closing.set)

    async def _live(self) -> None:
        """The task that owns the session."""
        config = self._config
        reason: BaseException | None = None
        try:
            async with Client(
                self._transport,
                mode=config.mode,
                read_timeout_seconds=config.start_timeout_s * PROBE_SHARE,
                message_handler=self._heard,
                client_info=types.Implementation(name="aip", version=VERSION),
                cache=None,
            ) as client:
                self._client = client
                self.catalogue = await self._listed(client)
                self.catalogue.require("allow", config.allow)
                self.catalogue.require("effects", config.effects)
                self._opened.set_result(None)
                await self._serve(client)
        except Exception as error:  # noqa: BLE001 - whatever ends a session is the answer to whoever waits for it
            reason = _first(error)
        finally:
            if not self._opened.done():
                self._opened.set_exception(self._unopened(reason))
                self._opened.exception()  # Seen: nobody may be waiting any more.
            elif reason is not None:
                self._transport.lose(self._said(reason))

    async def _serve(self, client: Client) -> None:
        """Until we close it or it ends: follow its changes."""
        async with anyio.create_task_group() as group:
            tools = client.server_capabilities.tools
            if client.protocol_version in MODERN_PROTOCOL_VERSIONS and tools and tools.list_changed:
                group.start_soon(self._follow, client)
            group.start_soon(self._refresh, client)
            await _first_of(self._closing, self._transport.ended)
            group.cancel_scope.cancel()

    # Tools ----------------------------------------------------------------------------------------------------------

    async def _listed(self, client: Client) -> Catalogue:
        records: list[types.Tool] = []
        cursor: str | None = None
        for _ in range(PAGES_MAX):
            page = await client.session.list_tools(params=types.PaginatedRequestParams(cursor=cursor))
            records += page.tools
            cursor = page.next_cursor
            if cursor is None or len(records) > TOOLS_MAX:
                break
        whole = cursor is None and len(records) <= TOOLS_MAX
        config = self._config
        return catalogue(config.name, records[:TOOLS_MAX], config.allow, whole=whole)

    async def _heard(self, message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self._changed.set()

    async def _follow(self, client: Client) -> None:
        """Since 2026-07-28 a server tells of changes only who listens."""
        while True:
            try:
                async with client.listen(tools_list_changed=True) as changes:
                    async for _ in changes:
                        self._changed.set()
            except (MCPError, SubscriptionLost, TimeoutError) as error:
                _log.info("%s: no news of its tools: %s", self._config.name, self._said(error))
            await asyncio.sleep(LISTEN_AGAIN_S)
            self._changed.set()  # What changed meanwhile was told to nobody.

    async def _refresh(self, client: Client) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                self.catalogue = await self._listed(client)
            except (MCPError, ValidationError) as error:
                _log.warning("%s: its tools cannot be listed again: %s", self._config.name, self._said(error))
            await asyncio.sleep(REFRESH_S)

    # Calls ----------------------------------------------------------------------------------------------------------

    async def call(
        self, tool: Tool, arguments: Mapping[str, Any], timeout_s: float, progress: ProgressFnT
    ) -> types.CallToolResult:
        """The server's answer, an error of the tool included.

        A caller that is cancelled, or a timeout, cancels the tool (`notifications/cancelled`). Raises `ToolServerLost`,
        `DeadlineExceeded`, `InvalidPayload`, `ToolFailed`.
        """
        try:
            answer = await self._ask(tool, arguments, timeout_s, progress)
        except ValidationError as error:
            raise self._failed(tool, f"answered what is not MCP: {error.error_count()} problems") from None
        except MCPError as error:
            raise await self._error(tool, error, timeout_s) from None
        if isinstance(answer, types.InputRequiredResult):
            raise self._failed(
                tool, "asks for input in the middle of its work, and nobody is there to give it"
            )
        return answer

    async def _ask(
        self, tool: Tool, arguments: Mapping[str, Any], timeout_s: float, progress: ProgressFnT
    ) -> types.CallToolResult | types.InputRequiredResult:
        if self._client is None or not self.alive:
            raise self._lost()
        session = self._client.session
        request = types.CallToolRequest(
            params=types.CallToolRequestParams(name=tool.name, arguments=dict(arguments))
        )
        for again in (True, False):
            try:
                # Not the SDK's `call_tool`: it would run the server's output schema, patterns and all, over the server's answer.
                return await session.send_request(
                    request, _ANSWER, request_read_timeout_seconds=timeout_s, progress_callback=progress
                )
            except MCPError as error:
                if error.code != types.HEADER_MISMATCH or not again:
                    raise
                self.catalogue = await self._listed(
                    self._client
                )  # Its schema says which headers; it has changed.
        raise AssertionError("unreachable")

    async def _error(self, tool: Tool, error: MCPError, timeout_s: float) -> AIPError:
        """What an error of the protocol means to the caller."""
        said = self._said(error)
        match error.code:
            case types.CONNECTION_CLOSED:
                if self._owner is not None:
                    await asyncio.wait(
                        [self._owner], timeout=REASON_S
                    )  # Its end says why, where it is the session's end.
                return self._lost("" if self._transport.ended.is_set() else f"is gone: {said}")
            case types.REQUEST_TIMEOUT:
                return DeadlineExceeded(
                    f"{self._config.name}.{tool.name} did not answer within {timeout_s:.3g} s"
                )
            case types.INVALID_PARAMS:
                return InvalidPayload(
                    f"{self._config.name}.{tool.name} does not take these arguments: {said}"
                )
            case c if c == OVERSIZED:
                return InvalidPayload(f"{self._config.name}.{tool.name}: {said}", hint="ask it for less")
            case types.INVALID_REQUEST if self._config.url is not None:
                self._transport.lose(said)  # A server that was restarted no longer knows our session.
                return self._lost()
        return self._failed(tool, said)

    # Errors ---------------------------------------------------------------------------------------------------------

    def _said(self, error: BaseException) -> str:
        return self.redaction(clean(error, ERROR_CHARS_MAX)) or type(error).__name__

    def _failed(self, tool: Tool, what: str) -> ToolFailed:
        server = self._config.name
        return ToolFailed(f"{server}.{tool.name}: {what}", type="protocol", tool=tool.name, server=server)

    def _lost(self, what: str = "") -> ToolServerLost:
        stderr = self.redaction(clean(self._transport.said, 8 * ERROR_CHARS_MAX))[-ERROR_CHARS_MAX:]
        what = what or f"is gone: {self._transport.fault or 'it ended'}"
        last = stderr.splitlines()[-1] if stderr else ""
        return ToolServerLost(
            f"tool server {self._config.name} {what}" + (f"; it last said: {last}" if last else ""),
            server=self._config.name,
            stderr=stderr,
        )

    def _unopened(self, reason: BaseException | None) -> AIPError:
        match reason:
            case AIPError():
                return reason
            case MCPError() if reason.code == types.UNSUPPORTED_PROTOCOL_VERSION:
                return ToolServerUnusable(f"tool server {self._config.name}: {self._said(reason)}")
            case None:
                return self._lost("was stopped while it started")
        return self._lost(f"could not be started: {self._said(reason)}")


def _transport(config: ServerConfig, resolve: Resolve) -> tuple[Child | Web, Redaction]:
    if config.url is not None:
        headers, secrets = disclosed(config.headers, resolve)
        return Web(config.url, headers, config.timeout_s), Redaction(secrets)
    env, secrets = disclosed(config.env, resolve)
    return Child(config.argv, env, config.cwd), Redaction(secrets)


def _first(error: BaseException) -> BaseException:
    """The error itself, out of the groups that task groups put around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _first_of(*events: asyncio.Event) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
