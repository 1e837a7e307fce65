"""A stranger's agent: it tries what its sandbox is to hold."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
from typing import Any

import aip

# Whoever imports this outside a sandbox is told by a file; inside, /tmp is a place of the sandbox's own.
pathlib.Path("/tmp/aip-test-container-was-imported").write_text(str(os.getpid()))


def tried(action: Any) -> str:
    """The name of the error, or "done"."""
    try:
        action()
    except Exception as error:
        return type(error).__name__
    return "done"


class Stranger(aip.Agent):
    async def on_start(self, ctx: aip.Context) -> None:
        self.count = ctx.restored or 0

    @aip.capability
    def attempts(self, home: str, address: str, pid: int) -> dict[str, Any]:
        host, _, port = address.rpartition(":")
        return {
            "home": tried(lambda: os.listdir(home)),
            "network": tried(lambda: socket.create_connection(("127.0.0.1", 9))),
            "ray": tried(lambda: socket.create_connection((host, int(port)))),
            "process": tried(lambda: os.kill(pid, signal.SIGTERM)),
            "program": tried(lambda: os.execv("/bin/sh", ["sh"])),
            "variables": sorted(name for name in os.environ if name.startswith(("AIP", "RAY"))),
        }

    @aip.capability
    async def relay(self, text: str, ctx: aip.Context) -> str:
        answer: str = await ctx.call("helper", "shout", {"text": text})
        return answer

    @aip.capability
    async def add(self, ctx: aip.Context) -> int:
        self.count += 1
        await ctx.checkpoint(self.count)
        return self.count

    @aip.capability
    async def die_once(self, ctx: aip.Context) -> int:
        """Its process ends in the first attempt; its checkpoint says so to the second."""
        self.count += 1
        await ctx.checkpoint(self.count)
        if self.count == 1:
            os._exit(7)
        return self.count

    @aip.capability
    async def spin(self, ctx: aip.Context) -> None:
        await ctx.progress(0.0, "spinning")
        while True:
            continue

    @aip.capability
    async def numbers(self, number: int):
        for index in range(number):
            yield index


class Untrusted(aip.Agent):
    """By its name the policy that ships demands a container for it."""

    @aip.capability
    async def answer(self) -> str:
        return "inside"
