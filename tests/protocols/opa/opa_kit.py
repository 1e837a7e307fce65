"""A served application on a free port, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from aip.governance.policy.bundle import read
from aip.protocols.opa import Server

ROOT = Path(__file__).parents[3]
TOKEN = "a token of the tests, long enough"


def server(bundled: bool = True) -> Server:
    return Server(read(ROOT / "policies") if bundled else None, {"id": "test"})


@contextmanager
def served(application: Any) -> Iterator[int]:
    """The port on which the application answers."""
    config = uvicorn.Config(application, host="localhost", port=0, log_level="error", lifespan="on")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    started = threading.Event()
    startup = running.startup

    async def told(*args: Any, **rest: Any) -> None:
        await startup(*args, **rest)
        started.set()

    running.startup = told  # type: ignore[method-assign]
    thread.start()
    try:
        assert started.wait(30), "the server did not start"
        yield running.servers[0].sockets[0].getsockname()[1]
    finally:
        running.should_exit = True
        thread.join(30)
