"""A cell with one sandbox that spins, for a test to kill: prints the launcher's pid, then waits."""

from __future__ import annotations

import asyncio
import random

from aip.compute.sandbox import Demand, Sandbox, SandboxLimits, probe


async def main() -> None:
    sandbox = await Sandbox.open(probe(), Demand(), SandboxLimits(), "", random.Random(1))
    print(sandbox._process._process.pid, flush=True)
    await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(main())
