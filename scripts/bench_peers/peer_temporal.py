# mypy: ignore-errors
# Runs in an environment of its own, where what it imports is; ours does not have it.
"""Temporal: its development server on SQLite, one worker, a workflow of a thousand activities that do nothing."""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from measurement import STEPS, say, timed_async
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

PACKAGE = "temporalio"
QUEUE = "steps"
TIMEOUT = timedelta(seconds=120)
SERVER_STARTS_WITHIN_S = 60
CHAIN_OF_ACTIVITIES = 200  # Measured on fewer and scaled: a thousand take over a minute.


@activity.defn
async def step(n: int) -> int:
    return n


@workflow.defn
class Chain:
    @workflow.run
    async def run(self, steps: int) -> int:
        for n in range(steps):
            await workflow.execute_activity(step, n, start_to_close_timeout=TIMEOUT)
        return steps


@workflow.defn
class LocalChain:
    @workflow.run
    async def run(self, steps: int) -> int:
        for n in range(steps):
            await workflow.execute_local_activity(step, n, start_to_close_timeout=TIMEOUT)
        return steps


@workflow.defn
class Fan:
    @workflow.run
    async def run(self, steps: int) -> int:
        await workflow.execute_activity(step, 0, start_to_close_timeout=TIMEOUT)
        middle = [
            workflow.execute_activity(step, n, start_to_close_timeout=TIMEOUT) for n in range(steps - 2)
        ]
        await asyncio.gather(*middle)
        return await workflow.execute_activity(step, steps, start_to_close_timeout=TIMEOUT)


@workflow.defn
class LocalFan:
    @workflow.run
    async def run(self, steps: int) -> int:
        await workflow.execute_local_activity(step, 0, start_to_close_timeout=TIMEOUT)
        middle = [
            workflow.execute_local_activity(step, n, start_to_close_timeout=TIMEOUT) for n in range(steps - 2)
        ]
        await asyncio.gather(*middle)
        return await workflow.execute_local_activity(step, steps, start_to_close_timeout=TIMEOUT)


@asynccontextmanager
async def server(folder: str) -> AsyncIterator[Client]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [str(Path(sys.executable).with_name("temporal")), "server", "start-dev", "--ip", "127.0.0.1"]
    options = ["--port", str(port), "--headless", "--log-level", "error", "--db-filename", f"{folder}/t.db"]
    process = await asyncio.create_subprocess_exec(*program, *options, stdout=DEVNULL, stderr=DEVNULL)
    try:
        yield await connect(f"127.0.0.1:{port}")
    finally:
        process.terminate()
        await process.wait()


async def connect(address: str) -> Client:
    for _ in range(SERVER_STARTS_WITHIN_S * 2):
        try:
            return await Client.connect(address)
        except (RuntimeError, RPCError):
            await asyncio.sleep(0.5)
    raise RuntimeError("the server does not answer")


async def main() -> None:
    measures = (
        ("local activities chain", LocalChain, STEPS, 3),
        ("local activities fan", LocalFan, STEPS, 3),
        ("activities fan", Fan, STEPS, 1),
        ("activities chain", Chain, CHAIN_OF_ACTIVITIES, 1),
    )
    with tempfile.TemporaryDirectory(prefix="aip-bench-") as folder:
        async with (
            server(folder) as client,
            Worker(
                client,
                task_queue=QUEUE,
                workflows=[kind for _, kind, _, _ in measures],
                activities=[step],
                workflow_runner=UnsandboxedWorkflowRunner(),
                max_concurrent_activities=200,
            ),
        ):
            await client.execute_workflow(Chain.run, 2, id="warm", task_queue=QUEUE)
            for name, kind, steps, rounds in measures:
                values = []
                for number in range(rounds):

                    async def run(kind: type = kind, steps: int = steps, number: int = number) -> None:
                        await client.execute_workflow(
                            kind.run, steps, id=f"{kind.__name__}-{number}", task_queue=QUEUE
                        )

                    values.append(await timed_async(run) * STEPS / steps)
                note = "development server on SQLite" + (f"; {steps} steps, scaled" if steps != STEPS else "")
                say(name, values, "s", PACKAGE, note)


asyncio.run(main())
