"""Agents that try what a sandbox is to hold. Only ever run inside one."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import aip
from aip.errors import Killed


def tried(action: Any) -> str:
    """The name of the error, or "done"."""
    try:
        action()
    except Exception as error:
        return type(error).__name__
    return "done"


class Hostile(aip.Agent):
    started = 0

    async def on_start(self, ctx: aip.Context) -> None:
        self.state = ctx.restored or {"count": 0}
        self.kept: list[Any] = []

    # Well-behaved, so that a sandbox that lets nothing through does not pass for a good one.

    @aip.capability
    async def echo(self, text: str) -> str:
        return text

    @aip.capability
    async def count(self, ctx: aip.Context) -> int:
        self.state["count"] += 1
        await ctx.checkpoint(self.state)
        return self.state["count"]

    @aip.capability
    async def relay(self, to: str, text: str, ctx: aip.Context) -> Any:
        return await ctx.call(to, "echo", {"text": text})

    @aip.capability
    async def relay_many(self, to: str, number: int, ctx: aip.Context) -> list[str]:
        return list(await asyncio.gather(*(ctx.call(to, "echo", {"text": str(n)}) for n in range(number))))

    @aip.capability
    async def numbers(self, number: int) -> AsyncIterator[int]:
        for index in range(number):
            yield index

    @aip.capability
    async def read_numbers(self, to: str, number: int, ctx: aip.Context) -> list[int]:
        return [part async for part in ctx.stream(to, "numbers", {"number": number})]

    @aip.capability
    async def tell_progress(self, ctx: aip.Context) -> None:
        await ctx.progress(0.5, "half way")

    @aip.capability
    def in_thread(self) -> bool:
        return threading.current_thread() is not threading.main_thread()

    @aip.capability
    async def spend(self, tokens: int, ctx: aip.Context) -> None:
        await ctx.spend(tokens=tokens)

    @aip.capability
    async def reserve(self, held: int, used: int, ctx: aip.Context) -> None:
        async with ctx.reserve(tokens=held) as reservation:
            reservation.settle(tokens=used)

    @aip.capability
    async def hold_and_leave(self, held: int, ctx: aip.Context) -> None:
        await ctx.reserve(tokens=held).__aenter__()

    @aip.capability
    async def split_and_spend(self, part: int, tokens: int, ctx: aip.Context) -> None:
        inner = await ctx.split("draft", tokens=part)
        await inner.spend(tokens=tokens)

    @aip.capability
    async def once(self, ctx: aip.Context) -> int:
        async def action() -> int:
            Hostile.started += 1
            return Hostile.started

        return await ctx.effect("count", action, key="the-one")

    @aip.capability
    async def die_in_effect(self, ctx: aip.Context) -> None:
        await ctx.effect("gone", lambda: os._exit(3), key="gone")

    @aip.capability
    async def wrong_type(self) -> int:
        return "no number"  # type: ignore[return-value]

    @aip.capability
    async def fails(self) -> None:
        raise ValueError("as it does")

    # Files ----------------------------------------------------------------------------------------------------------

    @aip.capability
    def read(self, path: str) -> str:
        return tried(lambda: open(path, "rb").read(1))

    @aip.capability
    def list(self, path: str) -> Any:
        return sorted(os.listdir(path))

    @aip.capability
    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    @aip.capability
    def write(self, path: str) -> str:
        return tried(lambda: open(path, "wb").write(b"x"))

    @aip.capability
    def fill(self, megabytes: int) -> str:
        def fill() -> None:
            for index in range(megabytes):
                with open(f"/tmp/{index}", "wb") as file:
                    file.write(bytes(2**20))

        return tried(fill)

    @aip.capability
    def descriptors(self) -> Any:
        found = []
        for number in range(1024):
            try:
                os.fstat(number)
            except OSError:
                continue
            found.append(number)
        return found

    @aip.capability
    def leak(self) -> str:
        def leak() -> None:
            while len(self.kept) < 10_000:
                self.kept.append(os.open("/dev/null", os.O_RDONLY))

        said = tried(leak)
        number = len(self.kept)
        for descriptor in self.kept:
            os.close(descriptor)
        self.kept.clear()
        return f"{said} below {128 if number < 128 else number}"

    @aip.capability
    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    # Processes ------------------------------------------------------------------------------------------------------

    @aip.capability
    def who(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "parent": os.getppid(),
            "uid": os.getuid(),
            "groups": os.getgroups(),
            "host": socket.gethostname(),
        }

    @aip.capability
    def fork(self) -> str:
        return tried(os.fork)

    @aip.capability
    def run(self) -> str:
        import subprocess

        return tried(lambda: subprocess.run([sys.executable, "-c", ""], check=True))

    @aip.capability
    def execute(self) -> str:
        return tried(lambda: os.execv(sys.executable, ["python"]))

    @aip.capability
    def threads(self, number: int) -> str:
        done = threading.Event()

        def start() -> None:
            for _ in range(number):
                threading.Thread(target=done.wait, daemon=True).start()

        said = tried(start)
        done.set()
        return said

    @aip.capability
    def kill(self, pid: int) -> str:
        return tried(lambda: os.kill(pid, signal.SIGKILL))

    @aip.capability
    def system_call(self, number: int, first: int = 0) -> int:
        libc = ctypes.CDLL(None, use_errno=True)
        result = libc.syscall(ctypes.c_long(number), ctypes.c_long(first), 0, 0, 0, 0)
        return ctypes.get_errno() if result < 0 else 0

    # Network --------------------------------------------------------------------------------------------------------

    @aip.capability
    def connect(self, family: int, kind: int, address: Any) -> str:
        def go() -> None:
            with socket.socket(family, kind) as door:
                door.connect(tuple(address) if isinstance(address, list) else address)

        return tried(go)

    @aip.capability
    def resolve(self, name: str) -> str:
        return tried(lambda: socket.getaddrinfo(name, 80))

    # Bombs ----------------------------------------------------------------------------------------------------------

    @aip.capability
    def memory(self) -> int:
        while True:
            self.kept.append(bytearray(16 * 2**20))

    @aip.capability
    def forget(self) -> None:
        self.kept.clear()

    @aip.capability
    async def hang(self) -> None:
        while True:
            pass

    @aip.capability
    async def stubborn(self) -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue

    @aip.capability
    async def exit(self, code: int) -> None:
        print("these are my last words", file=sys.stderr, flush=True)
        os._exit(code)

    @aip.capability
    async def crash(self) -> None:
        ctypes.string_at(0)

    @aip.capability
    def print_without_end(self) -> None:
        while True:
            os.write(1, b"x" * 65_536)

    # The pipe -------------------------------------------------------------------------------------------------------

    @aip.capability
    async def raw(self, data: bytes) -> None:
        os.set_blocking(3, True)
        os.write(3, data)
        await asyncio.sleep(3600)

    @aip.capability
    async def huge(self) -> None:
        os.set_blocking(3, True)
        os.write(3, struct.pack(">I", 2**31))
        await asyncio.sleep(3600)

    @aip.capability
    async def talk(self, number: int, ctx: aip.Context) -> str:
        for index in range(number):
            ctx.progress(None, str(index))
        return "said"

    @aip.capability
    async def forge(self) -> None:
        raise Killed("everything is stopped, believe me")

    @aip.capability
    async def deep(self) -> Any:
        value: Any = 1
        for _ in range(5_000):
            value = [value]
        return value
