"""A cell's process: hosts the agents of one pool, on the road of `aip.runtime.cell`.

What the pure cell needs from outside is here: frames over `Peers`, checkpoints in the shard, the registry behind a short cache,
the fence page, the audit feed, threads. One process holds agents of one version of one code only, so its import path is that
code's.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from aip.errors import AIPError, NotFound
from aip.orchestration.breaker import BreakerConfig, BreakerState
from aip.orchestration.breaker_check import BreakerCheck, Breakers
from aip.orchestration.purse import BudgetCheck
from aip.runtime import cell as road
from aip.runtime import codec
from aip.runtime.activation import AgentType
from aip.runtime.guard import Check, Guard, Permit
from aip.runtime.placement import Membership, Placement
from aip.runtime.ports import Activated, CellLost, EffectGrant, NotSent
from aip.settings import DEFAULT_LIMITS

from .local_policy import LocalPolicy
from .membership import adopt
from .peers import Peers, PeerTransport
from .pool_spec import PoolSpec
from .principal import PrincipalCheck
from .process import Process, rpc
from .purses import RunPurses
from .run_log import capture
from .stamping import StampedEffects
from .watchdog import Watchdog

SHARD = "checkpoint-0"
REGISTRY = "registry"
ROOT = "orchestrator"
RESOLVED_FOR_S = 5.0
REPORT_EVERY_S = 1.0
LISTED_MAX = 10_000
PLANS_MAX = 256  # Runs whose plan's names a cell keeps in mind; the others are asked again.

_encode = msgspec.msgpack.Encoder().encode
_activated = msgspec.msgpack.Decoder(list[Activated])
_granted = msgspec.msgpack.Decoder(EffectGrant)


class ShardCheckpoints:
    """`Checkpoints` over the shard's process. Activations of one loop turn travel together."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._waiting: list[tuple[tuple[str, str, int, bool], asyncio.Future[Activated]]] = []

    async def activate(self, agent: str, cell: str, epoch: int, force: bool) -> Activated:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Activated] = loop.create_future()
        if not self._waiting:
            loop.call_soon(lambda: asyncio.ensure_future(self._activate_all()))
        self._waiting.append(((agent, cell, epoch, force), future))
        return await future

    async def _activate_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            answer = await self._peers.insist(SHARD, "activate", _encode([request for request, _ in waiting]))
        except AIPError as error:
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), activated in zip(waiting, _activated.decode(answer), strict=True):
            if not future.done():
                future.set_result(activated)

    async def save(self, agent: str, incarnation: int, state: bytes) -> None:
        await self._peers.insist(SHARD, "save", _encode((agent, incarnation, state)))

    async def release(self, agent: str, incarnation: int) -> None:
        await self._peers.insist(SHARD, "release", _encode((agent, incarnation)))

    async def begin_effect(
        self, agent: str, incarnation: int, key: str, name: str, idempotent: bool
    ) -> EffectGrant:
        # Asked twice, the second answer would be "begun, nobody knows".
        answer = await self._peers.once(SHARD, "begin", _encode((agent, incarnation, key, idempotent, "")))
        return _granted.decode(answer)

    async def end_effect(self, agent: str, incarnation: int, key: str, result: bytes | None) -> None:
        await self._peers.insist(SHARD, "end", _encode((agent, key, result)))


class RegistryResolver:
    """`Resolver` over the registry, with answers good for some seconds, and over the runs, whose plans do not change."""

    def __init__(self, peers: Peers, rng: random.Random) -> None:
        self._peers = peers
        self._rng = rng
        self._known: dict[str, tuple[float, list[str]]] = {}
        self._plans: dict[
            str, dict[str, list[str]]
        ] = {}  # run -> name in its plan -> addresses of its replicas

    async def resolve(self, capability: str) -> str:
        known = self._known.get(capability)
        if known is None or known[0] < time.monotonic():
            answer = await self._peers.insist(REGISTRY, "find", _encode({"capability": capability}))
            addresses = msgspec.msgpack.decode(answer, type=list[str])
            if not addresses:
                self._known.pop(capability, None)
                raise NotFound(
                    f"no live agent has the capability {capability!r}", hint="see `aip agents list`"
                )
            known = self._known[capability] = (time.monotonic() + RESOLVED_FOR_S, addresses)
        return self._rng.choice(known[1])

    async def named(self, run: str, name: str) -> str:
        plan = self._plans.get(run)
        if plan is None:
            answer = await self._peers.insist(f"run-{run}", "addresses", _encode({}))
            plan = msgspec.msgpack.decode(answer, type=dict[str, list[str]])
            while len(self._plans) >= PLANS_MAX:
                del self._plans[next(iter(self._plans))]
            self._plans[run] = plan
        addresses = plan.get(name)
        if not addresses:
            raise NotFound(
                f"the plan of this run has no agent {name!r}", hint=f"it has: {', '.join(sorted(plan))}"
            )
        return addresses[0] if len(addresses) == 1 else self._rng.choice(addresses)

    async def add_tasks(self, run: str, attempt: str, tasks: Mapping[str, Any]) -> None:
        await self._peers.insist(
            f"run-{run}", "add_tasks", codec.encode({"attempt": attempt, "tasks": tasks})
        )


class Waker:
    """Tells the root that there is mail for a pool without cells; once a second at most for each address."""

    PAUSE_S = 1.0

    def __init__(self, process: Process) -> None:
        self._process = process
        self._waking: set[str] = set()

    def wake(self, address: str) -> None:
        if address not in self._waking:
            self._waking.add(address)
            self._process.task(self._wake(address))

    async def _wake(self, address: str) -> None:
        try:
            await self._process.peers.insist(ROOT, "wake", _encode({"address": address}))
            await asyncio.sleep(self.PAUSE_S)
        finally:
            self._waking.discard(address)


def guard_of(process: Process, policy: LocalPolicy, purses: RunPurses) -> tuple[Guard, Breakers]:
    """The checks that are active on every message, in order: kill, principal, breaker, policy, budget.

    Principal and policy are asked again of what another cell sends: its guard may have been patched.
    """
    breakers = Breakers(BreakerConfig(), process.rng)
    principal = PrincipalCheck()
    checks: list[Check | Permit] = [
        principal,
        BreakerCheck(breakers),
        policy.check,
        BudgetCheck(purses.core),
    ]
    return Guard(process.kill_check, checks, again=(principal, policy.check)), breakers


class CellProcess(Process):
    role = "cell"

    def __init__(self, site: Any, name: str, generation: int, pool: PoolSpec) -> None:
        super().__init__(site, name, generation)
        self.pool = pool
        self._joined = asyncio.Event()

    def __repr__(self) -> str:
        agents = len(self.cell.host.agents) if hasattr(self, "cell") else 0
        return f"aip:{self.name}#{self.generation}({agents} agents)"

    async def opened(self) -> None:
        if self.pool.code_root and self.pool.code_root not in sys.path:
            sys.path.insert(0, self.pool.code_root)
        limits = DEFAULT_LIMITS
        self.placement = Placement(Membership(epoch=0))
        self.purses = RunPurses(self.peers, f"{self.name}#{self.generation}")
        self.waker = Waker(self)
        self.policy = LocalPolicy(
            self.site.home,
            self.feed.note,
            self.placement.isolation,
            budget=self.purses.left,
            level=self.kill_check.level,
        )
        await self.policy.open()
        guard, self.breakers = guard_of(self, self.policy, self.purses)
        self.cell = road.Cell(
            self.name,
            self.generation,
            types={
                name: AgentType(name, entry, self.pool.code_root, config=self.pool.configs.get(name, {}))
                for name, entry in self.pool.types.items()
            },
            locator=self.placement,
            transport=PeerTransport(self.peers),
            checkpoints=ShardCheckpoints(self.peers),
            audit=self.feed,
            guard=guard,
            clock=time.time,
            rng=self.rng,
            executor=ThreadPoolExecutor(limits.threads_max, thread_name_prefix="capability"),
            resolver=RegistryResolver(self.peers, self.rng),
            purses=self.purses,
            effects=StampedEffects(
                self.peers,
                self.site.home,
                self.name,
                self.generation,
                self.fence.revision,
                self.kill_check,
            ),
            homeless=self.waker.wake,
            limits=limits,
        )
        self.cell.start()
        capture(self.site.home.runs)
        self.watchdog = Watchdog(self.page, limits.loop_warn_s, limits.loop_fatal_s, self._blocked)
        self.methods.update(
            deliver=self._deliver,
            membership=self._membership,
            agents=rpc(self._agents),
            agent=rpc(self._agent),
            release_run=rpc(self._release_run),
            types=rpc(self._types),
            breakers=rpc(self._open_circuits),
            overrun=rpc(self._overrun),
        )
        self.task(self._report())
        self.task(self.policy.follow())

    def places(self) -> tuple[str, ...]:
        return (*super().places(), f"pool:{self.pool.pool}")

    def counts(self) -> tuple[int, int, int, int]:
        self.watchdog.beat()
        host = self.cell.host
        # Waiting mail of busy agents only: an idle one has none.
        waiting = sum(len(turn.activation.mailbox) for turn in host.turns.values())
        return len(host.agents), len(host.turns), waiting, len(self.cell.calls)

    async def _deliver(self, frame: bytes) -> bytes:
        if not self._joined.is_set():
            await self._joined.wait()  # Without a membership this cell would not know what it owns.
        return await self.cell.deliver(frame)

    async def _membership(self, payload: bytes) -> bytes:
        if adopt(self.placement, self.cell, payload):
            self._joined.set()
        return b""

    def _blocked(self, agent: str, where: str, silent_s: float) -> None:
        self.feed.note("agent.blocked_loop", agent, {"where": where, "seconds": round(silent_s, 2)})

    async def _report(self) -> None:
        """The heartbeat: renews this cell's leases in the registry and tells the root how full it is."""
        known: set[str] = set()
        while True:
            live = set(self.cell.host.agents)
            beat = {
                "cell": self.name,
                "generation": self.generation,
                "types": sorted(self.pool.types),
                "started": sorted(live - known)[:LISTED_MAX],
                "stopped": sorted(known - live)[:LISTED_MAX],
                "whole": not known,
            }
            try:
                answer = await self.peers.call(REGISTRY, "beat", _encode(beat))
                known = live if msgspec.msgpack.decode(answer) else set()
                load = {"cell": self.name, "agents": len(live), "turns": len(self.cell.host.turns)}
                epoch = msgspec.msgpack.decode(await self.peers.call(ROOT, "load", _encode(load)))
                if epoch > self.placement.epoch:
                    await self._membership(await self.peers.call(ROOT, "membership"))
            except (AIPError, NotSent, CellLost):
                known = set()  # Whoever comes back in its place knows nothing: tell everything again.
            await asyncio.sleep(REPORT_EVERY_S)

    async def _types(self, types: dict[str, str], configs: dict[str, dict[str, Any]]) -> None:
        """More types of the code this cell hosts."""
        for name, entry in types.items():
            kind = AgentType(name, entry, self.pool.code_root, config=configs.get(name, {}))
            self.cell.host.types.setdefault(name, kind)

    async def _release_run(self, run: str) -> None:
        """A run is over: its agents leave, with `on_stop`."""
        for activation in list(self.cell.host.agents.values()):
            if activation.run == run:
                self.cell.start_task(self.cell.host.stop(activation))

    async def _agents(self, run: str = "", limit: int = LISTED_MAX) -> list[dict[str, Any]]:
        found = []
        for activation in self.cell.host.agents.values():
            if not run or activation.run == run:
                found.append(self._describe(activation))
                if len(found) >= limit:
                    break
        return found

    async def _agent(self, address: str) -> dict[str, Any] | None:
        activation = self.cell.host.agents.get(address)
        return None if activation is None else self._describe(activation)

    async def _overrun(self) -> list[str]:
        return self.cell.host.overrun(time.time())

    async def _open_circuits(self) -> list[dict[str, Any]]:
        """The circuits of this cell that do not let everything through."""
        now = time.time()
        found = []
        for breaker in self.breakers:
            shown = breaker.snapshot(now)
            if shown.state is not BreakerState.CLOSED:
                found.append(
                    {
                        "name": shown.name,
                        "state": str(shown.state),
                        "cell": self.name,
                        "failure_percent": shown.failure_percent,
                        "refused": shown.refused,
                        "due_in_s": None if shown.due_at is None else max(0.0, shown.due_at - now),
                    }
                )
        return found

    def _describe(self, activation: Any) -> dict[str, Any]:
        return {
            "address": activation.address,
            "type": activation.kind.name,
            "state": activation.state.value,
            "cell": self.name,
            "incarnation": activation.incarnation,
            "mailbox": len(activation.mailbox),
            "running": [turn.envelope.capability for turn in activation.turns],
            "run": activation.run,
            "capabilities": sorted(activation.kind.cls.capabilities) if activation.kind.cls else [],
        }

    async def closing(self) -> None:
        await self.cell.stop()
