"""The kill switch: sees that each order is told and is in the audit log, whoever wrote it, and raises orders by itself.

The order itself is the fence's (`aip.governance.kill`): on disk and in shared memory before anybody is asked. `aip kill` writes
it directly, so killing needs no actor alive; this one follows the fence, and catches up on what was written while it was down.

    follow     the fence → the outbox of notifications, at once; → the audit log, as soon as that takes it
    courier    the outbox → webhooks and mail (`AIP_HOME/notify.yaml`), each receiver for itself
    watch      what happens → the detectors (`AIP_HOME/kill.yaml`) → orders
    lease      other nodes: what was raised there → the fence; what stands, and a term of at most 2 s → there

None of them waits for another: a slow receiver delays no order, and a log that is down delays no notification. Its journal
keeps how far the log and the notifications have come, and what is still to be told. Both files are read at the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from aip import secret
from aip.errors import AIPError, UsageError
from aip.governance.kill import KillOrder, Level, reset, trigger
from aip.governance.kill import lease as leases
from aip.governance.kill import operators as register
from aip.governance.kill import settings as kill_settings
from aip.governance.kill.authority import check_raise, checked
from aip.governance.kill.nodes import NodeBook
from aip.governance.notify import settings as notify_settings
from aip.governance.notify.courier import Courier
from aip.governance.notify.event import encode, event_of
from aip.governance.notify.outbox import Outbox, Parcel, Record, decode_record, encode_record
from aip.governance.notify.ways import ways
from aip.runtime.disk import DiskStorage
from aip.runtime.journal import Journal
from aip.runtime.ports import CellLost, NotSent

from .following import decode_renewal
from .health import read_all
from .process import AUDIT_LOG, Process, rpc

LOOK_EVERY_S = (
    0.1  # A look is one word of shared memory; so much later than an order its first notification goes out.
)
WATCH_EVERY_S = 5.0
NOTICES_MAX = 1_000  # Of one answer; who asks again gets the next ones.
WAIT_MAX_S = 60.0
SNAPSHOT_EVERY = 10_000
_AUDITED, _PARCEL, _NOTICED = 1, 2, 3


class _State(msgspec.Struct, array_like=True):
    audited: int
    noticed: int
    parcels: list[Parcel]


class KillSwitch(Process):
    role = "kill"

    async def opened(self) -> None:
        self._journal = Journal(
            DiskStorage(self.site.home.state / self.name, holder=f"{self.name}#{self.generation}")
        )
        self._restore()
        self._identity = self.fence.identity()
        self._settings = self._read_kill_settings()
        self._receivers = self._read_receivers()
        self._detectors = trigger.Detectors(self._settings.triggers)
        self._open_circuits: set[str] = set()
        self._moved = asyncio.Condition()
        self._granter, self._granting = leases.Granter(self.fence), asyncio.Lock()
        self._nodes = NodeBook(self.site.fence)
        self._courier = Courier(
            self._outbox,
            ways(self._receivers, lambda name: secret.resolve(name, self.site.home), time.time),
            keep=self._keep_parcels,
            note=self.feed.note,
            clock=time.time,
            rng=self.rng,
        )
        self.methods.update(
            kill=rpc(self._kill),
            lower=rpc(self._lower),
            orders=rpc(self._orders),
            observe=rpc(self._observe),
            notices=rpc(self._notices),
            lease=self._lease,
        )

    def begin(self) -> None:
        self.task(self._follow())
        self.task(self._audit_all())
        self.task(self._courier.run())
        self.task(self._watch())

    def _restore(self) -> None:
        self._outbox, self._audited, self._noticed = Outbox(), 0, -1
        snapshot = self._journal.newest_snapshot()
        if snapshot is not None:
            state = msgspec.msgpack.decode(snapshot.state, type=_State)
            self._outbox = Outbox.restore(state.parcels)
            self._audited, self._noticed = state.audited, state.noticed
        for record in self._journal.replay():
            if record.kind == _AUDITED:
                self._audited += 1
            elif record.kind == _PARCEL:
                self._outbox.apply(decode_record(record.payload))
            elif record.kind == _NOTICED:
                self._noticed = int.from_bytes(record.payload, "big")
        if self._noticed < 0:
            self._noticed = self._audited  # A journal from before there were notifications: its past is past.

    def _read_kill_settings(self) -> kill_settings.KillSettings:
        """A file that cannot be read must not take the kill switch down: the strict defaults hold, and that is said."""
        try:
            return kill_settings.load(self.site.home)
        except (UsageError, OSError) as error:
            self.feed.note("kill.settings_refused", "kill.yaml", {"error": str(error)[:2000]})
            return kill_settings.KillSettings()

    def _read_receivers(self) -> notify_settings.NotifySettings:
        try:
            return notify_settings.load(self.site.home)
        except (UsageError, OSError) as error:
            self.feed.note("kill.settings_refused", "notify.yaml", {"error": str(error)[:2000]})
            return notify_settings.NotifySettings()

    # Asked of it ----------------------------------------------------------------------------------------------------

    async def _kill(
        self, target: str, by: str, reason: str, level: str = "terminate", rate: float = 0.0
    ) -> dict[str, Any]:
        order = checked(target, by, reason, time.time(), Level(level), rate)
        if not by.startswith("user:"):
            check_raise(by, order.target, await asyncio.to_thread(self.fence.children))
        await asyncio.to_thread(self.fence.write, order)
        answer: dict[str, Any] = msgspec.to_builtins(order)
        return answer

    async def _lower(self, document: bytes, by: str) -> dict[str, Any]:
        """Perform a signed reset (`aip.governance.kill.reset`)."""
        signed, needed = reset.decode(document), self._settings.reset_signers

        def decide(orders: Any) -> KillOrder:
            keys, now = register.public_keys(self.site.home), time.time()
            return reset.lift(
                signed, orders, fence=self._identity, operators=keys, signers=needed, now=now, by=by
            )

        order = await asyncio.to_thread(self.fence.lower, decide)
        answer: dict[str, Any] = msgspec.to_builtins(order)
        return answer

    async def _orders(self) -> list[dict[str, Any]]:
        return [msgspec.to_builtins(order) for order in self.fence.orders().standing.values()]

    async def _observe(self, kind: str, **fields: Any) -> None:
        """Something that the detectors are to know: `spent`, `quorum`, `circuit`."""
        kinds: Mapping[str, type[Any]] = {
            "spent": trigger.Spent,
            "quorum": trigger.QuorumSeen,
            "circuit": trigger.CircuitOpened,
        }
        if kind not in kinds:
            raise UsageError(f"the detectors know nothing of {kind!r}", hint=", ".join(kinds))
        await self._feed(kinds[kind](**fields))

    async def _notices(self, after: int = 0, wait_s: float = 0.0) -> list[dict[str, Any]]:
        """The events behind this epoch, as CloudEvents; waits for the next one. What an event stream is made of."""
        try:
            async with asyncio.timeout(min(wait_s, WAIT_MAX_S)), self._moved:
                await self._moved.wait_for(lambda: self._noticed > after)
        except TimeoutError:
            return []
        history = await asyncio.to_thread(lambda: list(self.fence.history()))
        return [event_of(order, self._identity) for order in history[after : after + NOTICES_MAX]]

    # Other nodes ----------------------------------------------------------------------------------------------------

    async def _lease(self, payload: bytes) -> bytes:
        """A node's renewal: at once where there is news, else after `WAIT_S`. What it raised is durable when this answers."""
        renewal = decode_renewal(payload)
        known = self.fence.revision()
        grant = await self._grant(renewal)
        if not grant.orders and not renewal.raised:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(leases.WAIT_S), self._moved:
                    await self._moved.wait_for(lambda: self.fence.revision() != known)
            grant = await self._grant(renewal)
        self._nodes.heard(renewal.node)
        return msgspec.msgpack.encode(grant)

    async def _grant(self, renewal: leases.Renewal) -> leases.Grant:
        async with self._granting:
            return await asyncio.to_thread(self._granter.answer, renewal)

    # Following the fence --------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        seen = -1
        while True:
            if self.fence.revision() != seen:
                seen = self.fence.revision()
                await self._notice()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _notice(self) -> None:
        history = await asyncio.to_thread(lambda: list(self.fence.history()))
        for order in history[self._noticed :]:
            event = event_of(order, self._identity)
            wanting = [
                name
                for name, one in self._receivers.receivers.items()
                if order.lifted or one.wants(order.level)
            ]
            self._courier.post(event["id"], encode(event), wanting)
            self._noticed += 1
            self._journal.append(_NOTICED, self._noticed.to_bytes(8, "big"))
        async with self._moved:
            self._moved.notify_all()

    def _keep_parcels(self, records: list[Record]) -> None:
        self._journal.append_many((_PARCEL, encode_record(record)) for record in records)

    async def _audit_all(self) -> None:
        while True:
            try:
                await self._audit()
            except AIPError:
                await self._feed(trigger.AuditAnswered(confirmed=False))  # The next look tries again.
            await asyncio.sleep(LOOK_EVERY_S)

    async def _audit(self) -> None:
        """Every order of the fence's history that is not in the audit log yet goes there, in order, durably."""
        if self._audited >= self._noticed:
            return
        history = await asyncio.to_thread(lambda: list(self.fence.history()))
        for order in history[self._audited : self._noticed]:
            kind = "kill.lifted" if order.lifted else "kill"
            detail = msgspec.to_builtins(order)
            detail["ordered_at"] = detail.pop("at")
            await self.feed.record(kind, order.target, detail)
            self._journal.append(_AUDITED, order.target.encode())
            self._audited += 1
            self._shorten()
        await self._feed(trigger.AuditAnswered(confirmed=True))

    def _shorten(self) -> None:
        if self._journal.last_index - self._journal.snapshot_index >= SNAPSHOT_EVERY:
            state = _State(self._audited, self._noticed, self._outbox.parcels())
            self._journal.snapshot(msgspec.msgpack.encode(state))

    # Raising by itself ----------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            try:
                await self.peers.call(AUDIT_LOG, "ping")
            except (AIPError, NotSent, CellLost):
                await self._feed(trigger.AuditAnswered(confirmed=False))
            else:
                if self._audited >= self._noticed:
                    await self._feed(trigger.AuditAnswered(confirmed=True))
            if self._settings.triggers.breaker_storm.enabled:
                await self._look_at_circuits()

    async def _look_at_circuits(self) -> None:
        found: set[str] = set()
        for page in read_all(self.site.health):
            if page.name.startswith("cell-") and page.ok:
                found |= await self._circuits_of(page.name)
        for circuit in sorted(found - self._open_circuits):
            await self._feed(trigger.CircuitOpened(circuit))
        self._open_circuits = found

    async def _circuits_of(self, cell: str) -> set[str]:
        try:
            answer = await self.peers.call(cell, "breakers")
        except (AIPError, NotSent, CellLost):
            return set()  # A cell that is gone has no open circuits, and its supervisor knows.
        return {f"{cell}:{one['name']}" for one in msgspec.msgpack.decode(answer) if one["state"] == "open"}

    async def _feed(self, event: trigger.Event) -> None:
        order = self._detectors.feed(event, time.time())
        if order is not None:
            await asyncio.to_thread(self.fence.write, order)

    async def closing(self) -> None:
        self._journal.close()
