"""`ToolServer`: an outside MCP server as an agent, its tools as capabilities.

    tools:
      git: {command: [python, -m, mcp_server_git], allow: [git_log, git_status]}

makes the agent `tools.git`. Whatever it is asked has come the one road - guard, policy, budget - like any other call, and it
lives in a process of its own, so that no code of a user shares memory with a secret that a server is given.

Order of a call: the server is there, or is started again → the tool exists and is allowed → the arguments fit its schema →
`tool_calls: 1` is charged → one of `concurrency` slots → the server is asked, for `timeout_s` or what the turn has left → the
answer is bounded and made plain (`result`). What fails before the charge costs nothing.

    the server                        this agent
    dies, or breaks the protocol      calls in flight: `ToolServerLost`; the next call starts it again (`revival`)
    dies more than 5 times a minute   `ToolServerDown` until the minute has passed
    changes its tools                 the next call knows; a tool that is gone is `UnknownCapability`
    is not needed for a while         passivation stops it, the next message starts it

Tools under `effects` are called through `ctx.effect`: their intent is durable first, a recorded answer is given again, and one
that was lost on the way is `EffectInDoubt`, not a second commit.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable
from typing import Any, ClassVar

from mcp.shared.dispatcher import ProgressFnT

from ...agent import Agent, Context
from ...errors import DeadlineExceeded, EffectInDoubt, InvalidPayload
from ...secret import resolve
from .catalogue import Tool
from .config import ServerConfig
from .connection import Connection
from .errors import ToolServerDown, ToolServerLost
from .limits import PROGRESS_CHARS_MAX, RESTART_WINDOW_S
from .result import value_of
from .revival import Revival
from .stranger import clean

TIMEOUT_S_MIN = 0.001  # A turn at its deadline: the SDK takes 0 for "no time limit".


class ToolServer(Agent):
    """The tools of one outside MCP server."""

    Config = ServerConfig
    config: ServerConfig
    reentrant: ClassVar[bool] = True
    open_ended: ClassVar[bool] = True

    async def on_start(self, ctx: Context) -> None:
        self._revival = Revival()
        self._starting = asyncio.Lock()
        self._slots = asyncio.Semaphore(self.config.concurrency)
        self._connection = await self._connect()

    async def on_stop(self, ctx: Context) -> None:
        await self._connection.close()

    def describe(self) -> dict[str, Any]:
        """The answer to `aip.describe`."""
        return {"protocol": self._connection.protocol, **self._connection.catalogue.described()}

    async def handle(self, capability: str, arguments: dict[str, Any], ctx: Context) -> Any:
        connection = await self._connected()
        tool = connection.catalogue.find(capability)
        if problems := tool.takes.problems(arguments):
            raise InvalidPayload(
                f"{self.config.name}.{tool.name} takes {'; '.join(problems)}", problems=problems
            )
        if self.config.has_effects(tool.name):
            return await self._effect(connection, tool, arguments, ctx)
        return await self._call(connection, tool, arguments, ctx)

    async def _call(self, connection: Connection, tool: Tool, arguments: dict[str, Any], ctx: Context) -> Any:
        await ctx.spend(tool_calls=1)
        async with self._slots:
            timeout_s = max(TIMEOUT_S_MIN, min(self.config.timeout_s, ctx.remaining_s))
            result = await connection.call(tool, arguments, timeout_s, _teller(ctx))
        return value_of(tool, self.config.name, result, self.config.result_bytes_max, connection.redaction)

    def _effect(
        self, connection: Connection, tool: Tool, arguments: dict[str, Any], ctx: Context
    ) -> Awaitable[Any]:
        async def once() -> Any:
            try:
                return await self._call(connection, tool, arguments, ctx)
            except (ToolServerLost, DeadlineExceeded) as error:
                # It was asked, and did not say what it did: raised as it is, it would count as "nothing happened" (E4).
                raise EffectInDoubt(f"{error.message}; whether it did its work is not known") from error

        return ctx.effect(f"{self.config.name}.{tool.name}", once)

    async def _connected(self) -> Connection:
        """The living connection; a new one where the server has died. One caller starts it, the others wait for that."""
        async with self._starting:
            if self._connection.alive:
                return self._connection
            clock = asyncio.get_running_loop().time
            self._revival.failed(clock())
            if self._revival.given_up(clock()):
                raise ToolServerDown(
                    f"tool server {self.config.name} died {self._revival.recent(clock())} times in {RESTART_WINDOW_S:g} s "
                    "and is given up",
                    hint="see why in the details of the earlier errors; it is tried again when the minute has passed",
                    server=self.config.name,
                )
            await asyncio.sleep(self._revival.due_s(clock()) - clock())
            await self._connection.close()
            self._last_will.detach()
            self._connection = await self._connect()
            return self._connection

    async def _connect(self) -> Connection:
        connection = Connection(self.config, resolve)
        await connection.open()
        # An activation that is fenced is dropped without `on_stop`; its server must not outlive it.
        self._last_will = weakref.finalize(self, connection.abandon)
        return connection


def _teller(ctx: Context) -> ProgressFnT:
    """The server's progress as the turn's."""

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        fraction = min(max(progress / total, 0.0), 1.0) if total else None
        await ctx.progress(fraction, clean(message or "", PROGRESS_CHARS_MAX))

    return tell
