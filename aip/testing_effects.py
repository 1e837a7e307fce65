"""Connectors of a test: the outside is a callable, and the way to it is the effect gateway's own.

    def tickets(request): ...; return {"status": 201}

    async with aip.testing.platform(Clerk, effects={"tickets": tickets}) as p:

`aip.governance.effects.gateway` performs each effect in its order: stamp, kill fence, room, intent, audit, fence again and
commit, outcome. So a key is done once, an order that is raised stops it, and what ends in between ends as on the platform:

    the callable raises `EffectFailed`       nothing happened; the same key may be tried again
    it raises anything else                  nobody knows: `EffectInDoubt`
    it answers                               that is the outcome, as a copy

A synchronous callable is the irreversible call itself; of an asynchronous one the call is, and its end is the outcome. Not here:
the plan's grants and policy (a test has neither), and the connectors' allow-lists, which are the operator's.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar

from .errors import AIPError
from .governance.effects.connector import CONCURRENCY_MAX, RATE_PER_S_MAX, ConnectorConfig
from .governance.effects.failure import EffectFailed
from .governance.effects.gateway import Audit, Gateway, Proposal, Ruling
from .governance.effects.stamp import KEY_BYTES, Stamp, Stamps, cell_key, sealed, stamp_of
from .governance.effects.vault import Vault
from .governance.kill import KillCheck
from .runtime import codec
from .runtime.checkpoint import MemoryCheckpoints
from .runtime.envelope import Envelope
from .runtime.ports import EffectGrant

Outside = Callable[[Any], Any | Awaitable[Any]]

_KEY = bytes(KEY_BYTES)  # Nobody forges anything in a test's own process.


class Callables:
    """What the connectors of a test share: no rate that a test would meet by accident."""

    kind: ClassVar[str] = "test"
    config = ConnectorConfig(rate_per_s=RATE_PER_S_MAX, burst=100_000, concurrency=CONCURRENCY_MAX)

    def __init__(self, name: str, outside: Outside) -> None:
        self._name = name
        self._outside = outside

    def check(self, request: Any) -> Any:
        return request

    def describe(self, wish: Any) -> str:
        return f"{self._name}: {wish}"

    async def prepare(self, wish: Any, key: str, now: float) -> Called:
        return Called(lambda: self._outside(wish))


class Called:
    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._answer: Any = None

    def commit(self) -> None:
        self._answer = self._call()

    async def result(self) -> Any:
        answer = await self._answer if inspect.isawaitable(self._answer) else self._answer
        return codec.decode(codec.encode(answer))

    async def discard(self) -> None:
        pass


class Ledger:
    """Intents and outcomes in the test's own checkpoints."""

    def __init__(self, checkpoints: MemoryCheckpoints) -> None:
        self._checkpoints = checkpoints

    async def begin_effect(
        self, agent: str, incarnation: int, key: str, idempotent: bool, cell: str
    ) -> EffectGrant:
        table = self._checkpoints.table
        grant, record = table.decide_begin(agent, incarnation, key, idempotent, cell)
        if record is not None:
            table.apply(record)
        return grant

    async def end_effect(self, agent: str, incarnation: int, key: str, result: bytes | None) -> None:
        await self._checkpoints.end_effect(agent, incarnation, key, result)


class Open:
    """A test has no plan that grants, and no policy."""

    async def check(self, stamp: Stamp) -> None:
        pass

    async def rule(self, proposal: Proposal) -> Ruling:
        return Ruling(True)


class OneFence:
    def __init__(self, check: KillCheck, revision: Callable[[], int]) -> None:
        self._check = check
        self.revision = revision

    def against(self, envelope: Envelope, now: float) -> AIPError | None:
        return self._check.effect(envelope, now)


def gateway(
    effects: Mapping[str, Outside],
    checkpoints: MemoryCheckpoints,
    audit: Audit,
    kill: KillCheck,
    revision: Callable[[], int],
    clock: Callable[[], float],
) -> Gateway:
    return Gateway(
        {name: Callables(name, outside) for name, outside in effects.items()},
        stamps=Stamps(_KEY, revision),
        grants=Open(),
        policy=Open(),
        fence=OneFence(kill, revision),
        ledger=Ledger(checkpoints),
        audit=audit,
        vault=Vault(str, clock),
        clock=clock,
    )


class LocalEffects:
    """`Effects` of one cell: stamped as on the platform, and handed to the gateway by a function call."""

    def __init__(
        self,
        gateway: Gateway,
        cell: str,
        generation: int,
        revision: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._gateway = gateway
        self._cell = cell
        self._generation = generation
        self._revision = revision
        self._clock = clock
        self._count = 0

    async def perform(
        self,
        cause: Envelope,
        agent: str,
        incarnation: int,
        connector: str,
        request: Any,
        key: str,
        until: float,
    ) -> Any:
        body = codec.encode(request)
        self._count += 1
        stamp = stamp_of(
            cause,
            cell=self._cell,
            generation=self._generation,
            agent=agent,
            incarnation=incarnation,
            epoch=self._revision(),
            at=self._clock(),
            nonce=f"{self._cell}-{self._count}",
            connector=connector,
            key=key,
            deadline=until,
        )
        key_of_cell = cell_key(_KEY, self._cell, self._generation)
        return await self._gateway.perform(sealed(stamp, key_of_cell, body), body)


__all__ = ["EffectFailed", "LocalEffects", "Outside", "gateway"]
