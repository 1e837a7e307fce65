"""The effect gateway's process: alone holds the connectors, their secrets and their sockets, and performs effects in order.

The order is `aip.governance.effects.gateway`'s. Here are its ports: the checkpoint shard as ledger, the fence page, the audit
feed, the operator's effects.yaml, the runs' plans with what they grant, and the key by which it knows the cells.

The stamp key is made at the first start and lies in the platform's folder, for its owner only. A cell's process reads it once
when it opens and keeps only the key derived for itself; what runs in a sandbox cannot read that folder, and so cannot stamp.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec

from aip import secret
from aip.errors import AIPError, NotFound
from aip.governance.effects.barrier import CommitPage
from aip.governance.effects.configuration import FILE_NAME, EffectsConfig, EffectsInvalid, connect, read
from aip.governance.effects.gateway import Gateway
from aip.governance.effects.grant import Granted, check_granted, granted
from aip.governance.effects.stamp import Stamp, Stamps
from aip.governance.effects.vault import Vault
from aip.governance.kill import KillCheck
from aip.ids import KEY
from aip.orchestration.parse import parse
from aip.runtime.envelope import Envelope
from aip.runtime.ports import EffectGrant
from aip.settings import Home

from .cell import SHARD, ShardCheckpoints
from .effect_key import platform_key
from .local_policy import LocalPolicy
from .peers import Peers
from .process import Process, rpc
from .run_spec import read_spec

NAME = "effects"
RUNS_KEPT_MAX = 256  # Runs whose grants are kept in mind; the others are read again.
LEAVE_S = 10.0  # Effects under way may end; what takes longer is in doubt, which its ledger says.

_stamped = msgspec.msgpack.Decoder(tuple[Stamp, bytes])
_granted = msgspec.msgpack.Decoder(EffectGrant)
_encode = msgspec.msgpack.Encoder().encode


class ShardLedger:
    """Intents and outcomes in the checkpoint shard, which knows what cell holds an agent."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._checkpoints = ShardCheckpoints(peers)

    async def begin_effect(
        self, agent: str, incarnation: int, key: str, idempotent: bool, cell: str
    ) -> EffectGrant:
        # Asked twice, the second answer would be "begun, nobody knows".
        answer = await self._peers.once(SHARD, "begin", _encode((agent, incarnation, key, idempotent, cell)))
        return _granted.decode(answer)

    async def end_effect(self, agent: str, incarnation: int, key: str, result: bytes | None) -> None:
        await self._checkpoints.end_effect(agent, incarnation, key, result)


class RunGrants:
    """What plans grant, as it stands in the runs' specifications: on disk before a run begins, and never changed."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._known: dict[str, asyncio.Future[Granted]] = {}

    async def check(self, stamp: Stamp) -> None:
        check_granted(stamp, await self._of(stamp.run) if stamp.run else None)

    async def _of(self, run: str) -> Granted:
        known = self._known.get(run)
        if known is None:
            while len(self._known) >= RUNS_KEPT_MAX:
                del self._known[next(iter(self._known))]
            # Many agents of a run that begins ask at once; its plan is read for all of them.
            known = self._known[run] = asyncio.ensure_future(asyncio.to_thread(self._read, run))
        try:
            return await asyncio.shield(known)
        except AIPError:
            self._known.pop(run, None)
            raise

    def _read(self, run: str) -> Granted:
        if not KEY.match(run):  # It names a folder, and so far only a cell has said it.
            raise NotFound("there is no such run")
        spec = read_spec(self._home, run)
        plan = parse(spec.plan_source, spec.plan_file)
        return granted(spec.types, {name: agent.effects for name, agent in plan.agents.items()})


class OneFence:
    """The fence page as the gateway looks at it."""

    def __init__(self, check: KillCheck, page: Any) -> None:
        self._check = check
        self._page = page

    def revision(self) -> int:
        return int(self._page.revision())

    def against(self, envelope: Envelope, now: float) -> AIPError | None:
        return self._check.effect(envelope, now)


class EffectGateway(Process):
    role = "effects"

    async def opened(self) -> None:
        home = self.site.home
        self.vault = Vault(lambda reference: secret.resolve(reference, home), time.time)
        self._file = home.root / FILE_NAME
        self._unreadable: AIPError | None = None
        self._config = await self._first_configuration()
        self.policy = LocalPolicy(home, self.feed.note, lambda _: "process", level=self.kill_check.level)
        await self.policy.open()
        self.task(self.policy.follow())
        self.gateway = Gateway(
            connect(self._config, self.vault),
            stamps=Stamps(platform_key(home), self.fence.revision, self.kill_check.credential),
            grants=RunGrants(home),
            policy=self.policy,
            fence=OneFence(self.kill_check, self.fence),
            ledger=ShardLedger(self.peers),
            audit=self.feed,
            vault=self.vault,
            clock=time.time,
            step=CommitPage(self.site.fence, self.name).step,
        )
        self.methods.update(
            effect=self._effect,
            describe=rpc(self._describe),
            connectors=rpc(self._connectors),
            reload=rpc(self._reload),
        )

    def counts(self) -> tuple[int, int, int, int]:
        return 0, self.gateway.under_way, 0, 0

    async def _first_configuration(self) -> EffectsConfig:
        """A file that cannot be taken must not keep this process from starting: its supervisor would begin again and give up."""
        try:
            return await asyncio.to_thread(_configuration, self._file)
        except (EffectsInvalid, OSError) as error:
            self.feed.note("effect.connectors_refused", self.name, {"error": str(error)[:2_000]})
            self._unreadable = (
                error if isinstance(error, AIPError) else EffectsInvalid(f"{FILE_NAME}: {error}")
            )
            return EffectsConfig()

    async def _effect(self, payload: bytes) -> bytes:
        if self._unreadable is not None:
            raise self._unreadable
        stamp, request = _stamped.decode(payload)
        return _encode(await self.gateway.perform(stamp, request))

    async def _describe(self, connector: str, request: Any) -> str:
        if self._unreadable is not None:
            raise self._unreadable
        return await self.gateway.describe(connector, request)

    async def _connectors(self) -> dict[str, Any]:
        """What is configured, as it stands in the file: secrets by name."""
        return self._config.model_dump(mode="json")["connectors"]  # type: ignore[no-any-return]

    async def _reload(self) -> list[str]:
        """Take effects.yaml as it is now, whole or not at all. Secrets are looked up anew within a minute."""
        self._config = await asyncio.to_thread(_configuration, self._file)
        self._unreadable = None
        self.gateway.replace(connect(self._config, self.vault))
        names = sorted(self._config.connectors)
        self.feed.note("effect.connectors", self.name, {"connectors": names})
        return names

    async def closing(self) -> None:
        deadline = time.monotonic() + LEAVE_S
        while self.gateway.under_way and time.monotonic() < deadline:  # noqa: ASYNC110 - at an end only
            await asyncio.sleep(0.02)


def _configuration(path: Path) -> EffectsConfig:
    try:
        return read(path.read_bytes())
    except FileNotFoundError:
        return (
            EffectsConfig()
        )  # A platform without connectors: every effect through the gateway is `NotFound`.
