# mypy: ignore-errors
# Runs in an environment of its own, where what it imports is; ours does not have it.
"""AutoGen Core, its single-threaded runtime, tracing off: one agent asks another, and ten thousand are woken."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from autogen_core import AgentId, MessageContext, RoutedAgent, SingleThreadedAgentRuntime, message_handler
from measurement import ROUNDS, say
from opentelemetry.trace import NoOpTracerProvider

PACKAGE = "autogen-core"
ASK_ROUNDS = 5
COUNT = 2_000
AT_ONCE = 256
AGENTS = 10_000
UNGOVERNED = "no checks, no mailbox bound, nothing kept"


@dataclass
class Question:
    n: int


@dataclass
class Measure:
    count: int


@dataclass
class Times:
    p50_us: float
    p99_us: float
    per_s: float


class Answerer(RoutedAgent):
    def __init__(self) -> None:
        super().__init__("answers what it is asked")

    @message_handler
    async def answer(self, message: Question, ctx: MessageContext) -> Question:
        return message


class Asker(RoutedAgent):
    """Takes the time inside an agent, as ours does."""

    def __init__(self) -> None:
        super().__init__("asks and takes the time")

    @message_handler
    async def measure(self, message: Measure, ctx: MessageContext) -> Times:
        target = AgentId("answerer", "one")
        times = []
        for n in range(message.count):
            began = time.perf_counter()
            await self.send_message(Question(n), target)
            times.append(time.perf_counter() - began)
        times.sort()
        numbers = iter(range(message.count * 2))

        async def ask() -> None:
            for n in numbers:
                await self.send_message(Question(n), target)

        began = time.perf_counter()
        await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
        many_s = time.perf_counter() - began
        return Times(
            times[len(times) // 2] * 1e6, times[len(times) * 99 // 100] * 1e6, message.count * 2 / many_s
        )


def pss_bytes() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not say what this process weighs")


async def main() -> None:
    logging.disable(logging.CRITICAL)
    runtime = SingleThreadedAgentRuntime(tracer_provider=NoOpTracerProvider())
    await Answerer.register(runtime, "answerer", Answerer)
    await Asker.register(runtime, "asker", Asker)
    runtime.start()
    asker = AgentId("asker", "one")
    await runtime.send_message(Measure(300), asker)
    found = []
    for _ in range(ASK_ROUNDS):
        gc.collect()
        found.append(await runtime.send_message(Measure(COUNT), asker))
    say("ask p50", [one.p50_us for one in found], "us", PACKAGE, UNGOVERNED)
    say("ask p99", [one.p99_us for one in found], "us", PACKAGE, UNGOVERNED)
    say("asks at once", [one.per_s for one in found], "asks/s", PACKAGE, UNGOVERNED)

    took_s, kib = [], []
    for number in range(ROUNDS):
        gc.collect()
        before, began = pss_bytes(), time.perf_counter()
        await asyncio.gather(
            *(runtime.send_message(Question(n), AgentId("answerer", f"{number}-{n}")) for n in range(AGENTS))
        )
        took_s.append(time.perf_counter() - began)
        gc.collect()
        kib.append((pss_bytes() - before) / AGENTS / 1024)
    say("wake", took_s, "s", PACKAGE, UNGOVERNED)
    say("memory", kib[:1], "KiB", PACKAGE, "an object without a mailbox or an incarnation; first waking")
    await runtime.stop_when_idle()


asyncio.run(main())
