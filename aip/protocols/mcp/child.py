"""A tool server as a child process: JSON-RPC lines on its stdin and stdout (MCP, "stdio" transport).

The SDK's own stdio transport reads lines of any length, hands down our environment and leaves a server's children alone when it
ends well; this one exists to bound those three.

  - The child has a process group of its own, the environment it was given and nothing else, and no shell.
  - It ends with us: in order (stdin closed, SIGTERM to the group, SIGKILL to the group, `STOP_WAIT_S` between), or by the kernel
    if we are killed (`leash`). What it started ends with its group; a grandchild that left the group is beyond reach.
  - A line on stdout that is no message is passed over, as a server's stray `print` should be; `NOISE_LINES_MAX` in a row are not.
  - An answer that is too long fails the call that it answers, and no other.

Source: MCP specification 2025-11-25 and 2026-07-28, "Transports: stdio" and "Lifecycle: shutdown".
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import anyio
import mcp_types as types
from mcp.shared.message import SessionMessage

from .errors import ToolServerUnusable
from .limits import LINE_BYTES_MAX, NOISE_LINES_MAX, STDERR_BYTES_MAX, STOP_WAIT_S
from .wire import Incoming, OpenRequests, Stream, refusal_of

INHERITED = ("PATH", "HOME", "LANG")  # What a program needs to start at all; the rest is named in `env`.
_LEASH = Path(__file__).with_name("leash.py")
_EDGE_BYTES = 256  # Of a line that is passed over: enough to find whose answer it was.
_POLL_S = 0.02


class Child:
    """The process, and the transport that the SDK speaks through."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path | None) -> None:
        self._argv = list(argv)
        self._env = {name: os.environ[name] for name in INHERITED if name in os.environ} | dict(env)
        self._cwd = cwd
        self._process: asyncio.subprocess.Process | None = None
        self._stderr = bytearray()
        self._listener: asyncio.Task[None] | None = None
        self.requests = OpenRequests()
        self.ended = asyncio.Event()
        self.fault = ""

    @property
    def said(self) -> str:
        return bytes(self._stderr).decode(errors="replace").strip()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def lose(self, fault: str) -> None:
        """No more messages will come; the first reason counts."""
        self.fault = self.fault or fault
        self.ended.set()

    async def __aenter__(self) -> tuple[FromChild, ToChild]:
        process = self._process = await self._spawn()
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._listener = asyncio.create_task(self._listen(process.stderr))
        return FromChild(self, process.stdout), ToChild(self, process.stdin)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Whoever cancels us must not leave the process behind; every wait inside is bounded.
        with anyio.CancelScope(shield=True):
            await self._stop()

    async def _spawn(self) -> asyncio.subprocess.Process:
        program = shutil.which(self._argv[0], path=self._env.get("PATH"))
        if program is None:
            raise ToolServerUnusable(
                f"there is no program {self._argv[0]!r}", hint="mend `command`, or install it on this machine"
            )
        if self._cwd is not None and not self._cwd.is_dir():
            raise ToolServerUnusable(f"there is no folder {str(self._cwd)!r}", hint="mend `cwd`")
        leash = [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid())]
        return await asyncio.create_subprocess_exec(
            *leash,
            program,
            *self._argv[1:],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._env,
            cwd=self._cwd,
            limit=LINE_BYTES_MAX,
            start_new_session=True,
        )

    async def _listen(self, stderr: asyncio.StreamReader) -> None:
        while chunk := await stderr.read(4_096):
            self._stderr += chunk
            del self._stderr[:-STDERR_BYTES_MAX]

    async def _stop(self) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert self._listener is not None
        process.stdin.close()
        for step in (None, signal.SIGTERM, signal.SIGKILL):
            if step is not None:
                _signal(process.pid, step)
            if await self._gone(process):
                break
        self.ended.set()
        # What it said last; a stray holder of the pipe may keep it open.
        await asyncio.wait([self._listener], timeout=_POLL_S)
        self._listener.cancel()
        await asyncio.wait([self._listener])
        process._transport.close()  # type: ignore[attr-defined] # The only way to let go of pipes that others hold.

    async def _gone(self, process: asyncio.subprocess.Process) -> bool:
        """Whether the whole group has ended, in `STOP_WAIT_S` at the latest. Polled: `wait()` also waits for its pipes."""
        deadline = asyncio.get_running_loop().time() + STOP_WAIT_S
        while process.returncode is None or _signal(process.pid, 0):
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(_POLL_S)
        return True


class FromChild(Stream):
    """The child's stdout as messages."""

    def __init__(self, child: Child, stdout: asyncio.StreamReader) -> None:
        self._child = child
        self._stdout = stdout
        self._noise = 0

    def __aiter__(self) -> FromChild:
        return self

    async def __anext__(self) -> Incoming:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def receive(self) -> Incoming:
        while not self._child.ended.is_set():
            message = await self._message()
            if message is None:
                continue
            self._noise = 0
            if self._child.requests.heard(message):
                return SessionMessage(message)
            self._child.lose("it sent requests faster than it read the answers")
        raise anyio.EndOfStream

    async def _message(self) -> types.JSONRPCMessage | None:
        try:
            line = await self._stdout.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            self._child.lose("it closed its stdout")
            return None
        except asyncio.LimitOverrunError as overrun:
            return await self._pass_over(overrun)
        try:
            return types.jsonrpc_message_adapter.validate_json(line, by_name=False)
        except ValueError:
            self._noise += bool(line.strip())
            if self._noise > NOISE_LINES_MAX:
                self._child.lose("what it writes to stdout is not MCP")
            return None

    async def _pass_over(self, overrun: asyncio.LimitOverrunError) -> types.JSONRPCMessage | None:
        """Read on to the end of a line that is too long, and answer for it."""
        head = tail = b""
        size = 0
        try:
            while True:
                part = await self._stdout.readexactly(overrun.consumed)
                size += len(part)
                head, tail = head or part[:_EDGE_BYTES], (tail + part[-_EDGE_BYTES:])[-_EDGE_BYTES:]
                try:
                    last = await self._stdout.readuntil(b"\n")
                except asyncio.LimitOverrunError as again:
                    overrun = again
                    continue
                break
        except asyncio.IncompleteReadError:
            self._child.lose("it closed its stdout")
            return None
        size += len(last)
        answer = refusal_of(head, tail + last, size)
        if answer is None:
            self._child.lose(f"it sent a message of {size} bytes")
        return answer


class ToChild(Stream):
    """The child's stdin."""

    def __init__(self, child: Child, stdin: asyncio.StreamWriter) -> None:
        self._child = child
        self._stdin = stdin

    async def send(self, item: SessionMessage, /) -> None:
        self._child.requests.answered(item.message)
        line = item.message.model_dump_json(by_alias=True, exclude_unset=True)
        if self._child.ended.is_set():
            raise anyio.BrokenResourceError
        try:
            self._stdin.write(line.encode() + b"\n")
            await self._stdin.drain()
        except OSError as error:
            self._child.lose("it closed its stdin")
            raise anyio.BrokenResourceError from error


def _signal(group: int, number: int) -> bool:
    """Send a signal to a process group; False where nobody is left of it."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False  # Only programs that took other rights are left: beyond reach, and not ours to wait for.
    return True
