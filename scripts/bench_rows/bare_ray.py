"""The floor of what goes between processes: two plain async Ray actors on the same Ray, nothing of ours in between.

A program of its own (`python bare_ray.py ADDRESS ROUNDS COUNT`), because a driver must have the platform's token in its
environment before it imports Ray. Prints one JSON array of rounds.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from actors import platform_record

TIMEOUT_S = 120.0
WARM_UP = 100
FRAMES = 200
FRAME_ITEMS = 500


def rounds(record: platform_record.Platform, count: int, repeats: int) -> list[dict[str, float]]:
    environment = {
        **os.environ,
        **platform_record.connect_environment(record),
        "PYTHONPATH": os.pathsep.join([path for path in sys.path if path]),
    }
    command = [sys.executable, str(Path(__file__)), record.address, str(repeats), str(count)]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"bare Ray: {done.stderr.decode(errors='replace')[-2000:]}")
    found: list[dict[str, float]] = json.loads(done.stdout.decode().splitlines()[-1])
    return found


class Echo:
    async def echo(self, n: int) -> int:
        return n

    async def echo_all(self, numbers: list[int]) -> list[int]:
        return numbers


class Asker:
    async def measure(self, echo: Any, count: int) -> dict[str, float]:
        for n in range(WARM_UP):
            await echo.echo.remote(n)
        times = []
        for n in range(count):
            began = time.perf_counter()
            await echo.echo.remote(n)
            times.append(time.perf_counter() - began)
        times.sort()
        began = time.perf_counter()
        await asyncio.gather(*(echo.echo.remote(n) for n in range(count)))
        many_s = time.perf_counter() - began
        frame = list(range(FRAME_ITEMS))
        began = time.perf_counter()
        await asyncio.gather(*(echo.echo_all.remote(frame) for _ in range(FRAMES)))
        return {
            "p50_us": times[count // 2] * 1e6,
            "p99_us": times[count * 99 // 100] * 1e6,
            "per_s": count / many_s,
            "batched_per_s": FRAMES * FRAME_ITEMS / (time.perf_counter() - began),
        }


def main(address: str, repeats: int, count: int) -> None:
    import ray

    ray.init(address=address, namespace="aip-bench", log_to_driver=False, logging_level="ERROR")
    try:
        asker, echo = (ray.remote(kind).options(num_cpus=0).remote() for kind in (Asker, Echo))
        print(json.dumps([ray.get(asker.measure.remote(echo, count)) for _ in range(repeats)]))
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
