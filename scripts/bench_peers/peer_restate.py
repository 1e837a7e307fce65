# mypy: ignore-errors
# Runs in an environment of its own, where what it imports is; ours does not have it.
"""Restate: its server (from npm) on one node, one service process: a handler of a thousand durable steps, and a fan of calls.

The service runs in a process of its own (`worker PORT`), since the server calls it over HTTP/2; this one starts both and asks.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import hypercorn.asyncio
import hypercorn.config
import restate
from measurement import ROUNDS, STEPS, say, timed

PACKAGE = "restate_sdk"
BINARY = Path(sys.prefix) / "node_modules/@restatedev/restate-server-linux-x64/bin/restate-server"
STARTS_WITHIN_S = 60
ASKED_WITHIN_S = 120
NOTE = "one server with RocksDB, a service process of its own"


def worker(port: int) -> None:
    steps = restate.Service("steps")
    agent = restate.VirtualObject("agent")

    @steps.handler()
    async def chain(ctx: restate.Context, count: int) -> int:
        for number in range(count):
            await ctx.run_typed(f"s{number}", lambda number=number: number)
        return count

    @agent.handler()
    async def work(ctx: restate.ObjectContext, number: int) -> int:
        return number

    @steps.handler()
    async def fan(ctx: restate.Context, count: int) -> int:
        await ctx.object_call(work, key="first", arg=0)
        middle = [ctx.object_call(work, key=str(number), arg=number) for number in range(count - 2)]
        for one in middle:
            await one
        return await ctx.object_call(work, key="last", arg=count)

    config = hypercorn.config.Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.h2_max_concurrent_streams = 2 * STEPS
    asyncio.run(hypercorn.asyncio.serve(restate.app([steps, agent]), config))


def free_ports(count: int) -> list[int]:
    """Asked for together, so that no two are the same."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def post(port: int, path: str, body: object) -> bytes:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=ASKED_WITHIN_S) as answer:
        return answer.read()


def insist(port: int, path: str, body: object, process: subprocess.Popen) -> None:
    """Until it is answered: the server takes some seconds to start, and to know a new service."""
    until = time.monotonic() + STARTS_WITHIN_S
    while True:
        try:
            post(port, path, body)
        except (OSError, urllib.error.URLError) as error:
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"the server does not answer {path}: {error}") from None
            time.sleep(0.2)
        else:
            return


def settings(folder: str, ingress: int, admin: int, node: int) -> dict[str, str]:
    return {
        **os.environ,
        "RESTATE_BASE_DIR": folder,
        "RESTATE_BIND_IP": "127.0.0.1",
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
        "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
        "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{node}",
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RUST_LOG": "error",
    }


def main() -> None:
    ingress, admin, node, service = free_ports(4)
    with tempfile.TemporaryDirectory(prefix="aip-bench-", ignore_cleanup_errors=True) as folder:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
        server = subprocess.Popen([str(BINARY)], env=settings(folder, ingress, admin, node), **quiet)
        script = str(Path(__file__).absolute())
        serving = subprocess.Popen([sys.executable, script, "worker", str(service)], **quiet)
        try:
            insist(admin, "/deployments", {"uri": f"http://127.0.0.1:{service}"}, server)
            insist(ingress, "/steps/chain", 3, server)
            for shape in ("chain", "fan"):
                values = [
                    timed(lambda shape=shape: post(ingress, f"/steps/{shape}", STEPS)) for _ in range(ROUNDS)
                ]
                say(f"durable {shape}", values, "s", PACKAGE, NOTE)
        finally:
            serving.kill()  # It would wait for open streams.
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


if sys.argv[1:2] == ["worker"]:
    worker(int(sys.argv[2]))
else:
    main()
