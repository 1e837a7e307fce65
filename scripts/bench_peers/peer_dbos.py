# mypy: ignore-errors
# Runs in an environment of its own, where what it imports is; ours does not have it.
"""DBOS on SQLite: a workflow of a thousand durable steps in a row, and one that starts the steps of a fan at once."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile

from dbos import DBOS
from measurement import STEPS, say, timed, timed_async

PACKAGE = "dbos"
NOTE = "SQLite, one process"


@DBOS.step()
def step(n: int) -> int:
    return n


@DBOS.step()
async def async_step(n: int) -> int:
    return n


@DBOS.workflow()
def chain(steps: int) -> int:
    for n in range(steps):
        step(n)
    return steps


@DBOS.workflow()
async def fan(steps: int) -> int:
    await async_step(0)
    await asyncio.gather(*(async_step(n) for n in range(steps - 2)))
    return await async_step(steps)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="aip-bench-") as folder:
        DBOS(
            config={
                "name": "bench",
                "system_database_url": f"sqlite:///{folder}/system.sqlite",
                "log_level": "ERROR",
                "run_admin_server": False,
            }
        )
        DBOS.launch()
        chain(5)
        say("SQLite chain", [timed(lambda: chain(STEPS))], "s", PACKAGE, NOTE)
        say("SQLite fan", [asyncio.run(timed_async(lambda: fan(STEPS)))], "s", PACKAGE, NOTE)
        DBOS.destroy()
    sys.stdout.flush()
    os._exit(0)  # Its threads would wait for a minute.


main()
