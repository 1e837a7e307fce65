"""The agents that the benchmarks run on the real platform; this file is copied beside their plans as `agents.py`.

What is timed is timed inside the cell, by the agent that asks, through its public `Context`: no client and no process boundary is
in the numbers that do not name one. Each round takes the platform and its floor in turns, so that whatever else the machine does
is done to both.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import aip

WARM_UP = 300
ASKERS_AT_ONCE = 256  # Below the bound of a mailbox: what is measured is the road, not its back-pressure.
FLOOR_FACTOR = 4  # The floor is that much quicker; more of it makes its figure as steady.

Ask = Callable[[int], Awaitable[Any]]


class Echo(aip.Agent):
    """Answers what it is asked."""

    @aip.capability
    async def echo(self, n: int) -> int:
        return n

    @aip.capability
    async def process(self) -> int:
        """Where this agent lives: its address says who it is, not where."""
        return os.getpid()


class Sleeper(aip.Agent):
    """Lets its mailbox fill up."""

    @aip.capability
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Asker(aip.Agent):
    """Asks others and takes the time."""

    @aip.capability(timeout_s=300.0)
    async def measure(
        self, targets: list[str], here: bool, rounds: int, count: int, ctx: aip.Context
    ) -> dict[str, Any]:
        """Rounds of asking agents in this process (`here`) or in another: one by one, and many at once."""
        own = os.getpid()
        pids = {target: await ctx.call(target, "process") for target in targets}
        chosen = [target for target, pid in pids.items() if (pid == own) is here]
        if not chosen:
            raise aip.UserError(f"no agent {'in this' if here else 'in another'} process; all: {pids}")

        async def ask(n: int) -> None:
            await ctx.call(chosen[0], "echo", {"n": n})

        async def ask_any(n: int) -> None:
            await ctx.call(chosen[n % len(chosen)], "echo", {"n": n})

        async def tell_any(n: int) -> None:
            await ctx.tell(chosen[n % len(chosen)], "echo", {"n": n})

        floor = QueueActor()
        await one_by_one(ask, WARM_UP)
        found: dict[str, Any] = {"targets": len(chosen), "rounds": []}
        for _ in range(rounds):
            gc.collect()
            one_floor = await one_by_one(floor.ask, count * FLOOR_FACTOR)
            one = await one_by_one(ask, count)
            many_floor = await at_once(floor.ask, count * FLOOR_FACTOR)
            many = await at_once(ask_any, count * 2)
            told = await at_once(tell_any, count * 2)
            await ask_any(0)
            found["rounds"].append(
                {"one": one, "one_floor": one_floor, "many": many, "many_floor": many_floor, "told": told}
            )
        floor.close()
        return found

    @aip.capability(timeout_s=300.0)
    async def wake(self, prefix: str, count: int, ctx: aip.Context) -> dict[str, Any]:
        """Bring `count` agents to life with a first message each, ask each once more, and weigh their processes."""
        pids: set[int] = {await ctx.call(f"{prefix}-warm.{n}", "process") for n in range(64)}
        gc.collect()
        before = weigh(pids)

        async def process(n: int) -> None:
            pids.add(await ctx.call(f"{prefix}.{n}", "process"))

        woken = await at_once(process, count)
        again = await at_once(process, count)
        gc.collect()
        # A process that was not there for the first weighing counts whole: that errs against us.
        bytes_each = (sum(weigh(pids).values()) - sum(before.values())) / count
        return {"woken": woken, "again": again, "bytes_each": bytes_each, "processes": len(pids)}

    @aip.capability(timeout_s=60.0)
    async def fill(self, target: str, count: int, seconds: float, ctx: aip.Context) -> int:
        """A message that keeps `target` busy, and `count` more behind it."""
        await ctx.tell(target, "sleep", {"seconds": seconds})
        for _ in range(count):
            await ctx.tell(target, "sleep", {"seconds": 0.0})
        return count


class Hitter(aip.Agent):
    """Has effects at an outside HTTP sink, through the effect gateway."""

    @aip.capability
    async def process(self) -> int:
        return os.getpid()

    @aip.capability
    async def prefix(self, ctx: aip.Context) -> str:
        """What the addresses of the live agents begin with: this type, in this version of its code."""
        return f"{ctx.agent.partition('/')[0]}/live"

    @aip.capability
    async def hit(self, url: str, key: str, folder: str, ctx: aip.Context) -> None:
        tally = Tally.at(folder)
        try:
            await ctx.effect("sink", {"method": "POST", "url": url, "body": key}, key=key)
        except aip.AIPError as error:
            tally.count(error.code)
        else:
            tally.count("done")


class Offerer(aip.Agent):
    """Lets live agents have effects, so many a second, whatever becomes of them."""

    TICK_S = 0.01

    @aip.capability(timeout_s=900.0)
    async def offer(
        self, prefix: str, agents: int, url: str, per_s: int, folder: str, ctx: aip.Context
    ) -> int:
        """Until the file `stop` is in the folder. Answers how many were offered."""
        stop, tally = Path(folder) / "stop", Tally.at(folder)
        offered, began = 0, time.monotonic()
        while not stop.exists():
            # What could not be offered in its time is not made up for: a rate is offered, not a backlog.
            due = int((time.monotonic() - began) * per_s)
            for number in range(max(offered, due - per_s // 10), due):
                tally.count("offered")
                request = {"url": url, "key": f"{os.getpid()}-{number}", "folder": folder}
                try:
                    await ctx.tell(f"{prefix}.{number * 7_919 % agents}", "hit", request)
                except aip.AIPError as error:
                    tally.count(error.code)
            offered = due
            await asyncio.sleep(self.TICK_S)
        return offered


class Tally:
    """What a process counted, as one line of JSON in a file of its own, written over every so often."""

    EVERY_S = 0.2
    _known: ClassVar[dict[str, Tally]] = {}

    def __init__(self, folder: str) -> None:
        self._path = Path(folder) / f"tally-{os.getpid()}.json"
        self._counts: dict[str, int] = {}
        self._due = 0.0

    @classmethod
    def at(cls, folder: str) -> Tally:
        return cls._known.setdefault(folder, cls(folder))

    def count(self, what: str) -> None:
        self._counts[what] = self._counts.get(what, 0) + 1
        now = time.monotonic()
        if now >= self._due:
            self._due = now + self.EVERY_S
            fresh = self._path.with_suffix(".new")
            fresh.write_text(json.dumps(self._counts))
            fresh.replace(self._path)


class Worker(aip.Agent):
    """A step of a plan that does nothing."""

    @aip.capability
    async def step(self, n: int = 0) -> int:
        return n


class QueueActor:
    """The floor: a queue, a task that serves it, a future for each answer. No Python actor can do with less."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[int, asyncio.Future[int]]] = asyncio.Queue()
        self._task = asyncio.ensure_future(self._serve())

    async def _serve(self) -> None:
        while True:
            n, answer = await self._queue.get()
            answer.set_result(n)

    async def ask(self, n: int) -> int:
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((n, answer))
        return await answer

    def close(self) -> None:
        self._task.cancel()


async def one_by_one(ask: Ask, count: int) -> dict[str, float]:
    """Each asked when the one before has answered."""
    times: list[float] = []
    cpu_s = time.process_time()
    for n in range(count):
        began = time.perf_counter()
        await ask(n)
        times.append(time.perf_counter() - began)
    cpu_s = time.process_time() - cpu_s
    times.sort()
    return {
        "p50_us": times[count // 2] * 1e6,
        "p99_us": times[count * 99 // 100] * 1e6,
        "cpu_us": cpu_s / count * 1e6,
    }


async def at_once(ask: Ask, count: int) -> dict[str, float]:
    """Asked by many at the same time, each of whom waits for its answer before it asks again."""
    numbers = iter(range(count))

    async def asker() -> None:
        for n in numbers:
            await ask(n)

    cpu_s, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(asker() for _ in range(ASKERS_AT_ONCE)))
    took_s = time.perf_counter() - began
    return {
        "per_s": count / took_s,
        "cpu_us": (time.process_time() - cpu_s) / count * 1e6,
        "took_s": took_s,
    }


def weigh(pids: set[int]) -> dict[int, int]:
    """Proportional set size by process, in bytes: a page that several share is counted once."""
    found = {}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                found[pid] = int(line.split()[1]) * 1024
    return found
