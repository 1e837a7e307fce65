"""Witnesses of the audit log, both ends: what a node agent's process keeps and answers, and how the log asks.

The witness's rules are `aip.governance.witness`'s. Here are its folder (`state/witness-<name>`), its key, and what it trusts: the
key that a log first came with, kept from then on. On one machine a witness finds what goes wrong by mistake - a log put back from
a copy, a disk that lost writes, two platforms on one folder - and what a process of ours was made to do; who owns the account
owns the witness too. Nodes of other owners make it a witness in the full sense.

A witness that *refuses* has seen another history of the log. `audit.disputed` is entered, once for each size it disputes, and the
log goes on: stopping is for the operator, or for a trigger on that entry.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from aip.errors import AIPError
from aip.governance.key_file import signer_of
from aip.governance.note import COSIGNATURE, Verifier
from aip.governance.tree import Tree, consistency_proof
from aip.governance.witness import Conflict, NotTheLog, Witness, WitnessRefused
from aip.governance.witness_memory import WitnessMemory
from aip.runtime.ports import CellLost, NotSent
from aip.settings import Home

from .peers import Peers
from .process import rpc

METHOD = "witness"
WITNESSES = ("node-0",)  # The processes that keep one: every node agent. One node is all there is so far.
ANSWER_TIMEOUT_S = 2.0
PAUSE_S = 1.0  # Between two askings: witnesses hold the latest checkpoint, not each.


def serve_witness(methods: dict[str, Any], home: Home, name: str) -> None:
    """Give a process the method `witness`."""
    memory = WitnessMemory(home.state / f"witness-{name}")
    key = home.root / "keys" / f"witness-{name}.key"
    witness = Witness(signer_of(key, "aip/witness", os.urandom, COSIGNATURE), memory)
    one_at_a_time = asyncio.Lock()

    def add(old_size: int, proof: list[bytes], note: str, key: str) -> dict[str, str]:
        log = Verifier.parse(key)
        if memory.trusted(log) != log:
            raise NotTheLog(f"{log.name} came with another key before")
        line = witness.add_checkpoint(old_size, proof, note, log, int(time.time()))
        return {"line": line, "key": str(witness.verifier)}

    async def answer(old_size: int, proof: list[bytes], note: str, key: str) -> dict[str, str]:
        async with one_at_a_time:
            return await asyncio.to_thread(add, old_size, proof, note, key)

    methods[METHOD] = rpc(answer)


class Cosigning:
    """The log's side: asks every witness about the latest checkpoint, as often as they keep up."""

    def __init__(
        self,
        peers: Peers,
        key: Verifier,
        tree: Tree,
        note: Callable[[str, str, Mapping[str, Any]], None],
        witnesses: tuple[str, ...] = WITNESSES,
    ) -> None:
        self._peers = peers
        self._key = key
        self._tree = tree
        self._enter = note
        self._sizes = dict.fromkeys(witnesses, 0)  # How far each witness is, as far as we know.
        self._disputed: set[tuple[str, int]] = set()
        self._latest: tuple[str, int] | None = None
        self._arrived = asyncio.Event()

    def latest(self, note: str, size: int) -> None:
        self._latest = (note, size)
        self._arrived.set()

    async def next(self) -> str:
        """The next checkpoint that a witness cosigned, with the cosignatures."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            if self._latest is not None:
                note, size = self._latest
                lines = await asyncio.gather(*(self._asked(name, note, size) for name in self._sizes))
                if any(lines):
                    return note + "".join(lines)
            await asyncio.sleep(PAUSE_S)

    async def _asked(self, name: str, note: str, size: int) -> str:
        """The witness's line; an empty one of a witness that is not there, or does not agree."""
        try:
            return await self._ask(name, note, size)
        except WitnessRefused as refusal:
            self._dispute(name, size, refusal)
        except (AIPError, NotSent, CellLost, TimeoutError):
            return ""  # Its supervisor brings it back; the next checkpoint is another chance.
        return ""

    async def _ask(self, name: str, note: str, size: int) -> str:
        try:
            return await self._ask_from(name, note, self._sizes[name], size)
        except Conflict as conflict:
            known = conflict.details["size"]
            if not 0 <= known <= size:
                raise  # It has seen more of this log than there is.
            return await self._ask_from(name, note, known, size)

    async def _ask_from(self, name: str, note: str, known: int, size: int) -> str:
        proof = consistency_proof(self._tree, known, size) if 0 < known < size else []
        request = {"old_size": known, "proof": proof, "note": note, "key": str(self._key)}
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            answer = await self._peers.call(name, METHOD, msgspec.msgpack.encode(request))
        self._sizes[name] = size
        line: str = msgspec.msgpack.decode(answer)["line"]
        return line

    def _dispute(self, name: str, size: int, refusal: WitnessRefused) -> None:
        seen = (name, refusal.details.get("size", size))
        if seen not in self._disputed:
            self._disputed.add(seen)
            detail = {
                "size": size,
                "code": refusal.code,
                "reason": refusal.message[:1_000],
                **refusal.details,
            }
            self._enter("audit.disputed", name, detail)
