"""Effects through the gateway beside the same connector in a bare loop: what stamp, policy, ledger, audit and fence cost.

Two ledgers: in memory (the order itself, in CPU time) and durable (intents, outcomes and audit entries each behind a
group-committed fsync on this disk, as on the platform). There the connector appends a line to a file, which it syncs, so that the
bare loop pays a disk too.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from aip.governance.effects.connector import Connector, ConnectorConfig
from aip.governance.effects.file import FileConfig, FileConnector
from aip.governance.effects.gateway import Gateway, Proposal, Ruling
from aip.governance.effects.stamp import Stamp, Stamps, cell_key, sealed
from aip.governance.effects.vault import Vault
from aip.governance.kill import Fence, KillCheck
from aip.runtime.checkpoint import CheckpointTable, MemoryCheckpoints, Record, encode_record
from aip.runtime.disk import DiskStorage
from aip.runtime.envelope import Envelope
from aip.runtime.group_commit import GroupCommit
from aip.runtime.journal import Journal
from aip.runtime.ports import EffectGrant

from .row import Row, measured

BENCH = "effects"
ROUNDS = 3
IN_MEMORY = 3_000
DURABLE = 1_500
AT_ONCE = 128
OFFERED_GOAL = 5_000.0  # Governed effects a second that the kill switch's proof offers.
AGENT = "writer@0123456789ab/1"
KEY = bytes(range(32))
LINE = {"path": "log", "text": "x" * 100 + "\n", "mode": "append"}


class Nothing:
    """An outside that costs nothing, so that what is left is the order."""

    kind: ClassVar[str] = "nothing"
    config = ConnectorConfig(rate_per_s=100_000.0, burst=100_000, concurrency=1_000)

    def check(self, request: Any) -> Any:
        return request

    def describe(self, wish: Any) -> str:
        return "nothing"

    async def prepare(self, wish: Any, key: str, now: float) -> Nothing:
        return self

    def commit(self) -> None:
        pass

    async def result(self) -> Any:
        return None

    async def discard(self) -> None:
        pass


class Allowed:
    async def rule(self, proposal: Proposal) -> Ruling:
        return Ruling(True)


class Granted:
    async def check(self, stamp: Stamp) -> None:
        pass


class Silent:
    """An audit log that is always there and keeps nothing."""

    def note(self, kind: str, subject: str, detail: Mapping[str, Any]) -> None:
        pass

    async def record(self, kind: str, subject: str, detail: Mapping[str, Any]) -> None:
        pass


class Durable:
    """Ledger and audit as the platform has them: two journals, an fsync for everybody who waits."""

    def __init__(self, folder: Path, executor: ThreadPoolExecutor) -> None:
        self._table = CheckpointTable()
        _, activated = self._table.decide_activate(AGENT, "cell-1", 0, False)
        assert activated is not None
        self._table.apply(activated)
        self._journals = [Journal(DiskStorage(folder / name, "bench")) for name in ("ledger", "audit")]
        self._commits = [GroupCommit(journal, executor) for journal in self._journals]

    async def begin_effect(
        self, agent: str, incarnation: int, key: str, idempotent: bool, cell: str
    ) -> EffectGrant:
        grant, record = self._table.decide_begin(agent, incarnation, key, idempotent, cell)
        await self._keep(record)
        return grant

    async def end_effect(self, agent: str, incarnation: int, key: str, result: bytes | None) -> None:
        await self._keep(self._table.decide_end(agent, key, result))

    async def _keep(self, record: Record | None) -> None:
        if record is not None:
            self._table.apply(record)
            await self._commits[0].durable(self._journals[0].append(1, encode_record(record)))

    def note(self, kind: str, subject: str, detail: Mapping[str, Any]) -> None:
        self._journals[1].append(1, msgspec.json.encode((kind, subject, detail)))

    async def record(self, kind: str, subject: str, detail: Mapping[str, Any]) -> None:
        self.note(kind, subject, detail)
        await self._commits[1].durable()

    def close(self) -> None:
        for journal in self._journals:
            journal.close()


class OneFence:
    def __init__(self, folder: Path) -> None:
        self._page = Fence(folder)
        self._check = KillCheck(self._page.revision, self._page.orders)

    def revision(self) -> int:
        return self._page.revision()

    def against(self, envelope: Envelope, now: float) -> Any:
        return self._check.effect(envelope, now)


def rows() -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="aip-bench-") as folder:
        yield _order_row(Path(folder)).plain()
        yield _durable_row(Path(folder)).plain()


def _order_row(place: Path) -> Row:
    governed, bare = [], []
    for number in range(ROUNDS):
        folder = place / f"order-{number}"
        governed.append(asyncio.run(_order_us(folder)))
        bare.append(asyncio.run(_bare_us()))
    return measured(
        BENCH, "the order alone, CPU of one effect", governed, "us", reference="the connector in a bare loop",
        reference_value=sorted(bare)[len(bare) // 2], goal=1e6 / OFFERED_GOAL,
        note="stamp, policy that allows, fence page, ledger in memory",
    )  # fmt: skip


def _durable_row(place: Path) -> Row:
    governed, bare = [], []
    for number in range(ROUNDS):
        governed.append(asyncio.run(_durable_per_s(place / f"durable-{number}")))
        bare.append(asyncio.run(_bare_per_s(place / f"bare-{number}")))
    return measured(
        BENCH, f"governed file appends, durable, {AT_ONCE} at once", governed, "effects/s",
        reference="the connector in a bare loop", reference_value=sorted(bare)[len(bare) // 2], more_is_better=True,
        note="three fsyncs of ours and two of the connector for each, group-committed",
    )  # fmt: skip


async def _order_us(folder: Path) -> float:
    checkpoints = MemoryCheckpoints()
    await checkpoints.activate(AGENT, "cell-1", 0, False)
    gateway = _gateway(folder, Nothing(), checkpoints, Silent())
    effects = _stamped(IN_MEMORY, {})
    began = time.process_time()
    for stamp, request in effects:
        await gateway.perform(stamp, request)
    return (time.process_time() - began) / IN_MEMORY * 1e6


async def _bare_us() -> float:
    door = Nothing()
    began = time.process_time()
    for _ in range(IN_MEMORY):
        await _once(door, {})
    return (time.process_time() - began) / IN_MEMORY * 1e6


async def _durable_per_s(folder: Path) -> float:
    with ThreadPoolExecutor(1) as executor:
        ports = Durable(folder, executor)
        gateway = _gateway(folder, _appender(folder), ports, ports)
        effects = iter(_stamped(DURABLE, LINE))
        per_s = await _many(lambda: gateway.perform(*next(effects)))
        ports.close()
    return per_s


async def _bare_per_s(folder: Path) -> float:
    door = _appender(folder)
    return await _many(lambda: _once(door, LINE))


async def _many(one: Callable[[], Awaitable[Any]]) -> float:
    left = DURABLE

    async def worker() -> None:
        nonlocal left
        while left:
            left -= 1
            await one()

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return DURABLE / (time.perf_counter() - began)


async def _once(door: Connector, request: Any) -> Any:
    prepared = await door.prepare(door.check(request), "key", 0.0)
    prepared.commit()
    result = await prepared.result()
    await prepared.discard()
    return result


def _appender(folder: Path) -> FileConnector:
    folder.mkdir(parents=True, exist_ok=True)
    config = FileConfig(root=folder, rate_per_s=100_000.0, burst=100_000, concurrency=AT_ONCE)
    return FileConnector(config, Vault(str, time.time))


def _gateway(folder: Path, door: Connector, ledger: Any, audit: Any) -> Gateway:
    fence = OneFence(folder / "kill")
    return Gateway(
        {"door": door}, stamps=Stamps(KEY, fence.revision), grants=Granted(), policy=Allowed(), fence=fence,
        ledger=ledger, audit=audit, vault=Vault(str, time.time), clock=time.time,
    )  # fmt: skip


def _stamped(count: int, request: Any) -> list[tuple[Stamp, bytes]]:
    """Made beforehand: making one is the cell's cost, some 3 us."""
    data, key, now = msgspec.msgpack.encode(request), cell_key(KEY, "cell-1", 1), time.time()
    return [
        (
            sealed(
                Stamp("cell-1", 1, AGENT, 1, "m", 0, now, str(number), "door", str(number), now + 600),
                key,
                data,
            ),
            data,
        )
        for number in range(count)
    ]
