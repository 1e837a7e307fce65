"""The registry: which agents live, and who can do what.

    types    what a deployed agent type can do (its manifest); durable, in a journal; set by the root when a pool is declared
    live     which agents of a type are active now; reported by their cells every second under a lease, forgotten with it

`find(capability)` answers addresses: live agents of the types that have it, or - where none is awake - one address of each such
type, because an agent is always addressable (semantics A1). Calls to a known agent never come here.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from aip.errors import NotFound
from aip.runtime.disk import DiskStorage
from aip.runtime.journal import Journal

from .process import Process, rpc

LEASE_S = 5.0  # Five missed heartbeats.
FOUND_MAX = 64  # Enough to spread calls over; a caller asks again every few seconds.
FIRST_KEY = "any"
_TYPE, _GONE = 1, 2


class TypeRecord(msgspec.Struct, frozen=True):
    name: str
    pool: str
    manifest: dict[str, Any]
    at: float


class _Lease(msgspec.Struct):
    generation: int
    until: float
    agents: set[str]


class Registry(Process):
    role = "registry"

    async def opened(self) -> None:
        self._types: dict[str, TypeRecord] = {}
        self._leases: dict[str, _Lease] = {}
        self._journal = Journal(
            DiskStorage(self.site.home.state / self.name, holder=f"{self.name}#{self.generation}")
        )
        for record in self._journal.replay():
            if record.kind == _TYPE:
                known = msgspec.msgpack.decode(record.payload, type=TypeRecord)
                self._types[known.name] = known
            elif record.kind == _GONE:
                self._types.pop(record.payload.decode(), None)
        self.methods.update(
            declare=rpc(self._declare),
            retract=rpc(self._retract),
            find=rpc(self._find),
            beat=rpc(self._beat_of),
            types=rpc(self._all_types),
        )
        self.task(self._expire())

    async def _declare(self, name: str, pool: str, manifest: dict[str, Any]) -> None:
        known = self._types.get(name)
        if known is None or known.pool != pool or known.manifest != manifest:
            known = TypeRecord(name, pool, manifest, time.time())
            self._journal.append(_TYPE, msgspec.msgpack.encode(known))
            self._types[name] = known

    async def _retract(self, name: str) -> None:
        if name in self._types:
            self._journal.append(_GONE, name.encode())
            del self._types[name]

    async def _find(self, capability: str) -> list[str]:
        kinds = {name for name, known in self._types.items() if capability in known.manifest["capabilities"]}
        if not kinds:
            raise NotFound(
                f"no deployed agent has the capability {capability!r}", hint="see `aip agents list`"
            )
        live = [
            address
            for lease in self._leases.values()
            for address in lease.agents
            if address.partition("/")[0] in kinds
        ]
        newest = max(kinds, key=lambda name: self._types[name].at)
        return sorted(live)[:FOUND_MAX] or [f"{newest}/{FIRST_KEY}"]

    async def _beat_of(
        self,
        cell: str,
        generation: int,
        types: list[str],
        started: list[str],
        stopped: list[str],
        whole: bool,
    ) -> bool:
        """Renew a cell's lease. False: this registry does not know the cell's agents, it must tell them all."""
        until = time.monotonic() + LEASE_S
        lease = self._leases.get(cell)
        if lease is None or lease.generation != generation:
            if lease is not None and lease.generation > generation:
                return True  # A ghost of an older generation; nobody is to find its agents.
            self._leases[cell] = _Lease(generation, until, set(started))
            return whole
        lease.until = until
        if whole:
            lease.agents = set(started)
        else:
            lease.agents |= set(started)
            lease.agents -= set(stopped)
        return True

    async def _all_types(self) -> list[dict[str, Any]]:
        live: dict[str, int] = {}
        for lease in self._leases.values():
            for address in lease.agents:
                kind = address.partition("/")[0]
                live[kind] = live.get(kind, 0) + 1
        return [
            {
                "type": known.name,
                "pool": known.pool,
                "live": live.get(known.name, 0),
                "doc": known.manifest.get("doc", ""),
                "capabilities": sorted(known.manifest["capabilities"]),
            }
            for known in self._types.values()
        ]

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 5)
            now = time.monotonic()
            for cell in [cell for cell, lease in self._leases.items() if lease.until < now]:
                lost = self._leases.pop(cell)
                self.feed.note("registry.lease_expired", cell, {"agents": len(lost.agents)})

    async def closing(self) -> None:
        self._journal.close()
