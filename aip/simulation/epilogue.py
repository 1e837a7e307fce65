"""Fair weather: what every agent owes its callers once nothing fails any more (live, D3, O3, O4, O5)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .world import World

AT_ONCE_S = 0.5
PATIENCE_S = 6.0
CIRCLE_S = (
    5.0  # "Within seconds where several chains do": a probe goes out after one, twice if it met a hand-over.
)
BOTH_BUSY_S = 0.5  # By then each chain has reached its first agent, also where that one had to be activated.
PARTS = 21  # Several windows of `LIMITS.stream_window`.
FLOOD = 30
FLOOD_AGAIN = 8  # While the first ones wait: these stand behind them.


class Epilogue:
    def __init__(self, world: World) -> None:
        self._world = world
        self._witness = world.witness
        self._one, self._other = world.clients

    async def play(self) -> None:
        self._witness.event("epilogue")
        for agent in self._world.scripts.agents:
            code = await self._world.call(self._other, agent, [], PATIENCE_S)
            self._witness.hold("live", code == "ok", f"{agent} answers {code} after the weather has cleared")
        await self._stream()
        await self._cancel()
        await self._circle()
        await self._flood()

    async def _stream(self) -> None:
        for agent in ("subject/0", "open/0"):
            code = await self._world.stream(self._one, agent, PARTS, PARTS + 1, PATIENCE_S)
            self._witness.hold("D3", code == "ok", f"a stream of {agent} ended in {code}")

    async def _cancel(self) -> None:
        """A caller that walks away frees the agent for the next one."""
        call = asyncio.ensure_future(self._world.call(self._one, "subject/1", [["sleep", 5.0]], PATIENCE_S))
        await asyncio.sleep(0.1)
        call.cancel()
        await asyncio.wait([call])
        began = self._world.loop.time()
        code = await self._world.call(self._other, "subject/1", [], PATIENCE_S)
        took_s = self._world.loop.time() - began
        self._witness.hold(
            "O5", code == "ok" and took_s < AT_ONCE_S, f"after a cancellation: {code}, {took_s:.2f} s"
        )

    async def _circle(self) -> None:
        """Two chains that wait for each other, and one that closes on itself."""
        before = self._witness.outcomes["undelivered.deadlock"]
        began = self._world.loop.time()

        def towards(other: str) -> list[list[object]]:
            return [["sleep", BOTH_BUSY_S], ["call", other, [], 30.0]]

        await asyncio.gather(
            self._world.call(self._one, "subject/0", towards("subject/1"), 30.0),
            self._world.call(self._other, "subject/1", towards("subject/0"), 30.0),
        )
        took_s = self._world.loop.time() - began
        self._witness.hold("O4", took_s < CIRCLE_S, f"two chains in a circle took {took_s:.1f} s")
        found = self._witness.outcomes["undelivered.deadlock"] - before
        self._witness.hold("O4", found >= 1, "a circle of two chains ended, but nobody was told")
        await self._world.rest("leak", "is busy after a circle", self._world.at_rest)
        began = self._world.loop.time()
        inner: list[list[object]] = [["call", "subject/0", [], 30.0]]
        await self._world.call(self._one, "subject/0", [["call", "subject/1", inner, 30.0]], 30.0)
        found = self._witness.outcomes["undelivered.deadlock"] - before - found
        took_s = self._world.loop.time() - began
        self._witness.hold(
            "O4", found == 1 and took_s < AT_ONCE_S, f"one chain: {found} told after {took_s:.2f} s"
        )

    async def _flood(self) -> None:
        """A slow agent with far more mail than room: its senders wait, its neighbours do not, and nothing is lost."""
        world = self._world
        slow = [["sleep", 0.02]]
        calls = [asyncio.ensure_future(world.call(self._one, "subject/0", slow, 20.0)) for _ in range(FLOOD)]
        await asyncio.sleep(0.1)
        for agent in world.scripts.agents[1:]:
            began = world.loop.time()
            code = await world.call(self._one, agent, [], PATIENCE_S)
            took_s = world.loop.time() - began
            good = code == "ok" and took_s < AT_ONCE_S
            self._witness.hold("O3", good, f"{agent} beside a flooded neighbour: {code}, {took_s:.2f} s")
        calls += [
            asyncio.ensure_future(world.call(self._one, "subject/0", slow, 20.0)) for _ in range(FLOOD_AGAIN)
        ]
        codes = await asyncio.gather(*calls)
        wrong = [code for code in codes if code not in ("ok", "undelivered.mailbox_full")]
        self._witness.hold("O3", not wrong and "ok" in codes, f"senders to a full mailbox were told {wrong}")
