"""What every process of ours has in common: a name, a generation, an endpoint, a health page, an audit feed, a way to be watched.

open()    once, by whoever started it: the process is ready when this returns
serve()   its methods through Ray, for whoever seals the call; the same ones answer on its Unix socket
watch()   returns at an orderly end only; its supervisor holds one such call: its failure is the obituary, ~10 ms after
leave()   an orderly end
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import ray

from aip.errors import NotFound, PlatformUnavailable, Refused
from aip.governance.audit import Batch
from aip.governance.feed import AuditFeed
from aip.governance.kill import Fence, KillCheck
from aip.runtime.speaker import SPEAKER, Door, Speaker, Unproven, Voice, speaker_key

from .effect_key import admit_visitors, link_key
from .health import HealthPage
from .link import Endpoint, Handler
from .peers import NAMESPACE, Peers
from .site import Site

BEAT_S = 0.1
REFUSALS_NOTED_EVERY_S = 1.0  # A stranger that knocks on and on fills no log: one entry a second,
REASONS_NOTED_MAX = 16  # with so many different reasons, each with its number.
AUDIT_LOG = "audit"
NODE = "node-0"  # There is one; its agent is a process of this name.


class Process:
    """Base of the actors. Subclasses add methods to `self.methods` and override `opened` and `closing`."""

    role = "process"

    def __init__(self, site: Site, name: str, generation: int) -> None:
        self.site = site
        self.name = name
        self.generation = generation
        self.rng = random.Random(os.urandom(16))
        self.methods: dict[str, Handler] = {"ping": self._ping}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._opened = False
        self._left = asyncio.Event()
        self._refused: Counter[str] = (
            Counter()
        )  # Requests that proved no speaker, by why; not yet in the audit.
        self._noting = False

    def __repr__(self) -> str:
        return f"aip:{self.name}#{self.generation}"

    async def open(self) -> dict[str, Any]:
        """Make ready. Safe to call again: a restarted supervisor does not know whether it was called."""
        if not self._opened:
            sockets = Path(self.site.sockets)
            key = link_key(self.site.home)
            admit_visitors(sockets, key)
            self.door = Door(self.name, key)
            voice = Voice(
                lambda: Speaker(self.name, self.generation), lambda speaker: speaker_key(key, speaker)
            )
            self.peers = Peers(sockets, voice=voice)
            self.fence = Fence(self.site.fence, self.name)
            self.kill_check = KillCheck.at(self.fence, self.places())
            self.feed = AuditFeed(f"{self.name}#{self.generation}", self._send_audit, time.time)
            self.page = HealthPage(self.site.health, self.name)
            self.page.blocked("")
            await self.opened()
            self.endpoint = Endpoint(self.methods, self.door, self._refuse)
            await self.endpoint.open(self.peers.socket(self.name))
            self.begin()
            self.task(self._beat())
            if self.name != AUDIT_LOG:
                self.task(self.feed.run())
            self._opened = True
        return {"pid": os.getpid(), "generation": self.generation}

    async def opened(self) -> None:
        """Restore state; the endpoint opens after this, and only then can anybody answer."""

    def begin(self) -> None:
        """Start own work, before the first request is looked at."""

    async def closing(self) -> None:
        """Finish and hand over; the endpoint is still open."""

    def places(self) -> tuple[str, ...]:
        """Where this process is, as kill orders name it."""
        return (f"node:{NODE}",)

    def counts(self) -> tuple[int, int, int, int]:
        """agents, turns, waiting, calls: for the health page."""
        return 0, 0, 0, 0

    async def serve(self, method: str, payload: bytes, seal: bytes = b"") -> bytes:
        if not self._opened:
            raise PlatformUnavailable(f"{self.name} is not open yet")
        try:
            SPEAKER.set(self.door.open(seal, method, payload, time.time()))
        except Unproven as refusal:
            self._refuse(refusal)
            raise
        handler = self.methods.get(method)
        if handler is None:
            raise NotFound(f"{self.name} has no method {method!r}")
        return await handler(payload)

    def _refuse(self, refusal: Refused) -> None:
        """Somebody asked and did not prove who it is."""
        if len(self._refused) < REASONS_NOTED_MAX or refusal.message in self._refused:
            self._refused[refusal.message] += 1
        if not self._noting:
            self._note_refusals()

    def _note_refusals(self) -> None:
        """An entry of those since the last one; again in a while, as long as there are any."""
        self._noting = bool(self._refused)
        if self._noting:
            self.feed.note("speaker.refused", self.name, {"code": Unproven.code, "why": dict(self._refused)})
            self._refused.clear()
            asyncio.get_running_loop().call_later(REFUSALS_NOTED_EVERY_S, self._note_refusals)

    async def watch(self) -> None:
        await self._left.wait()

    def depart(self) -> None:
        """Leave of one's own accord. Ray lets an actor exit only from within one of its own calls."""
        ray.get_runtime_context().current_actor.leave.remote()

    async def leave(self) -> None:
        await self.closing()
        await self.feed.flush()
        await self.endpoint.close()
        with contextlib.suppress(OSError):
            self.page.path.unlink()
        self._left.set()  # Ray exits an actor only when none of its calls is at work, and `watch` always is.
        ray.actor.exit_actor()

    def task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.feed.note(
                "process.task_failed", self.name, {"error": f"{type(error).__name__}: {error}"[:2000]}
            )
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"{self.name}: a task failed", "exception": error}
            )

    async def _ping(self, payload: bytes) -> bytes:
        return payload

    async def _beat(self) -> None:
        while True:
            self.page.write(self.generation, *self.counts())
            await asyncio.sleep(BEAT_S)

    async def _send_audit(self, batch: Batch) -> None:
        await self.peers.insist(AUDIT_LOG, "append", msgspec.msgpack.encode(batch), timeout_s=5.0)


def spawn(
    kind: type[Process], site: Site, name: str, generation: int, *arguments: Any, **options: Any
) -> Any:
    """Start an actor process. `max_restarts=0`: who restarts it, and whether, is its supervisor's to decide."""
    settings: dict[str, Any] = {
        "name": name,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "num_cpus": 0,
        "max_restarts": 0,
        "max_concurrency": 10_000,
        "enable_task_events": False,
    }
    settings.update(options)
    return ray.remote(kind).options(**settings).remote(site, name, generation, *arguments)


def rpc(handler: Callable[..., Coroutine[Any, Any, Any]]) -> Handler:
    """A method of plain values: arguments come as one MessagePack map, the answer goes as one value."""

    async def serve(payload: bytes) -> bytes:
        arguments = msgspec.msgpack.decode(payload) if payload else {}
        return msgspec.msgpack.encode(await handler(**arguments))

    return serve
