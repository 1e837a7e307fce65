"""What the tests of the effect gateway share: its ports in memory, each of which can do something at its step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import msgspec

from aip.errors import AIPError, Killed, PlatformUnavailable
from aip.governance.effects.connector import ConnectorConfig, Request
from aip.governance.effects.gateway import Gateway, Proposal, Ruling
from aip.governance.effects.grant import NotGranted
from aip.governance.effects.stamp import Stamp, Stamps, cell_key, sealed
from aip.governance.effects.vault import Vault
from aip.runtime.checkpoint import MemoryCheckpoints
from aip.runtime.envelope import Envelope
from aip.runtime.ports import EffectGrant

PLATFORM_KEY = bytes(range(32))
AGENT = "writer@0123456789ab/1"
NOW = 1_000.0
At = Callable[[str], None]


class Wish(Request):
    say: str = "hello"


class Bell:
    """A connector whose outside is a list, with a hook at each of its movements."""

    kind: ClassVar[str] = "bell"

    def __init__(self, config: ConnectorConfig, at: At) -> None:
        self.config = config
        self.at = at
        self.rung: list[tuple[str, str]] = []
        self.discarded = 0
        self.fails: dict[str, BaseException] = {}
        self.answer: Any = None

    def check(self, request: Any) -> Wish:
        wish: Wish = Wish.of(request)
        return wish

    def describe(self, wish: Wish) -> str:
        return f"ring for {wish.say}"

    async def prepare(self, wish: Wish, key: str, now: float) -> Ring:
        await self.moved("prepare")
        return Ring(self, wish, key)

    async def moved(self, step: str) -> None:
        self.at(step)
        await asyncio.sleep(0)
        if step in self.fails:
            raise self.fails[step]


class Ring:
    def __init__(self, bell: Bell, wish: Wish, key: str) -> None:
        self._bell, self._wish, self._key = bell, wish, key

    def commit(self) -> None:
        if "commit" in self._bell.fails:
            raise self._bell.fails["commit"]
        self._bell.rung.append((self._wish.say, self._key))
        self._bell.at("commit")

    async def result(self) -> Any:
        await self._bell.moved("outcome")
        return {"rung": self._wish.say} if self._bell.answer is None else self._bell.answer

    async def discard(self) -> None:
        self._bell.discarded += 1


class World:
    """A gateway over memory. `at[step]` is called when that step is reached; it may raise an order, or fail."""

    def __init__(self, **config: Any) -> None:
        self.now = NOW
        self.at: dict[str, Callable[[], None]] = {}
        self.steps: list[str] = []
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self.fence = MemoryFence(self.reached)
        self.checkpoints = MemoryCheckpoints()
        self.secrets: dict[str, str] = {}
        self.vault = Vault(lambda reference: self.secrets[reference], lambda: self.now)
        self.ruling = Ruling(True, revision="p1", id="d1")
        self.proposals: list[Proposal] = []
        self.bell = Bell(ConnectorConfig(**config), self.reached)
        self.granted = True
        self.counter = 0
        self.gateway = self.restarted()

    def restarted(self) -> Gateway:
        """A gateway as after a crash of its process: the ports keep what they have, it knows nothing."""
        self.gateway = Gateway(
            {"bell": self.bell},
            stamps=Stamps(PLATFORM_KEY, lambda: self.fence.word),
            grants=self,
            policy=self,
            fence=self.fence,
            ledger=self,
            audit=self,
            vault=self.vault,
            clock=lambda: self.now,
            step=self.step,
        )
        return self.gateway

    def reached(self, step: str) -> None:
        self.steps.append(step)
        if (act := self.at.get(step)) is not None:
            act()

    def kill(self, target: str = AGENT) -> None:
        self.fence.standing.append(target)
        self.fence.word += 1

    async def activated(self) -> None:
        await self.checkpoints.activate(AGENT, "cell-1", 0, False)

    def stamp(self, request: bytes, **changes: Any) -> Stamp:
        self.counter += 1
        fields: dict[str, Any] = {
            "cell": "cell-1", "generation": 1, "agent": AGENT, "incarnation": 1, "envelope": "m-1",
            "epoch": self.fence.word, "at": self.now, "nonce": str(self.counter), "connector": "bell",
            "key": "k", "deadline": self.now + 30, "sender": "run/r-1", "chain": ("run/r-1",), "run": "r-1",
        }  # fmt: skip
        stamp = Stamp(**{**fields, **changes})
        return sealed(stamp, cell_key(PLATFORM_KEY, stamp.cell, stamp.generation), request)

    async def effect(self, request: Any = None, **changes: Any) -> Any:
        data = msgspec.msgpack.encode({"say": "hello"} if request is None else request)
        return await self.gateway.perform(self.stamp(data, **changes), data)

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.notes]

    # The ports ------------------------------------------------------------------------------------------------------

    @contextmanager
    def step(self) -> Iterator[None]:
        self.reached("step")
        yield

    async def check(self, stamp: Stamp) -> None:
        self.reached("grant")
        if not self.granted:
            raise NotGranted("the plan grants no connector 'bell'")

    async def rule(self, proposal: Proposal) -> Ruling:
        self.proposals.append(proposal)
        self.reached("policy")
        await asyncio.sleep(0)
        return self.ruling

    async def begin_effect(
        self, agent: str, incarnation: int, key: str, idempotent: bool, cell: str
    ) -> EffectGrant:
        self.reached("intent")
        await asyncio.sleep(0)
        return await self.checkpoints.begin_effect(agent, incarnation, key, "", idempotent)

    async def end_effect(self, agent: str, incarnation: int, key: str, result: bytes | None) -> None:
        self.reached("record")
        await asyncio.sleep(0)
        await self.checkpoints.end_effect(agent, incarnation, key, result)

    def note(self, kind: str, subject: str, detail: Mapping[str, Any]) -> None:
        self.notes.append((kind, dict(detail)))

    async def record(self, kind: str, subject: str, detail: Mapping[str, Any]) -> None:
        self.reached("audit")
        await asyncio.sleep(0)
        self.note(kind, subject, detail)


class MemoryFence:
    def __init__(self, at: At) -> None:
        self.word = 0
        self.standing: list[str] = []
        self._at = at

    def revision(self) -> int:
        self._at("revision")
        return self.word

    def against(self, envelope: Envelope, now: float) -> AIPError | None:
        self._at("fence")
        covered = {envelope.sender, envelope.recipient, f"run/{envelope.run}", *envelope.chain}
        found = next((target for target in self.standing if target in covered), None)
        return None if found is None else Killed(f"{found} was killed", target=found)


def unavailable() -> None:
    raise PlatformUnavailable("nobody answers")
