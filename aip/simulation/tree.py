"""The root: the runtime's pure supervisors performed on simulated processes, and the membership they lead to.

What `actors/orchestrator.py` and `actors/supervisor.py` do with Ray this does with `Process`es, in the same order: who lives is
adopted, who is missing is started under a new generation, an end is published before a successor may start. Its own state - its
term and the cells that are wanted - is a journal; killed and started again it takes its living children back as they are.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import msgspec

from ..agent import type_name
from ..runtime.journal import Journal
from ..runtime.placement import CellRecord, Membership
from ..runtime.ports import CellLost, NotSent
from ..runtime.simulated_disk import SimulatedDisk
from ..runtime.supervision import (
    ChildExited,
    ChildSpec,
    ChildStarted,
    ChildState,
    Command,
    Desired,
    Escalate,
    Event,
    Exit,
    Restart,
    Start,
    StartFailed,
    Stop,
    Stopped,
    Supervisor,
    SupervisorSpec,
    Timer,
)
from .cast import KINDS
from .cell_process import CellProcess
from .network import Process

if TYPE_CHECKING:
    from .world import World

POOL = "pool"
GENERATIONS_PER_TERM = 1 << 20
PUSH_TIMEOUT_S = 5.0
START_S = 0.2  # At most, for a process to come up.
START_FAILS = 0.05
RESTARTS_MAX = (
    50  # A storm is no reason to give up: escalation is the business of tests/runtime/test_supervision.py.
)
_TERM, _WANTED = 1, 2

_wanted = msgspec.msgpack.Decoder(dict[str, int])


class Room:
    """One supervisor, with the timer it asked for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.core: Supervisor | None = None
        self.timer: asyncio.TimerHandle | None = None


class Root(Process):
    def __init__(self, world: World, disk: SimulatedDisk, rng: random.Random) -> None:
        self.disk = disk
        self._world = world
        self._rng = rng
        self._journal = Journal(disk)
        term = 0
        self.wanted: dict[str, int] = {}  # cell -> slots
        for record in self._journal.replay():
            if record.kind == _TERM:
                term = int.from_bytes(record.payload, "big")
            else:
                self.wanted = _wanted.decode(record.payload)
        super().__init__("orchestrator", term + 1)
        self._journal.append(_TERM, self.generation.to_bytes(8, "big"))
        self._journal.sync()
        self.epoch = self.generation * GENERATIONS_PER_TERM
        self.living: dict[str, Process] = {}
        self.pins: dict[str, str] = {}
        self._rooms = {name: Room(name) for name in ("state", POOL, "runs")}

    # Declaring --------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        for name in self._rooms:
            self.begin_room(name, self.generation * GENERATIONS_PER_TERM)

    def begin_room(self, name: str, first_generation: int) -> None:
        """A supervisor with nothing in its memory: whoever lives is adopted, the rest is started."""
        room = self._rooms[name]
        spec = SupervisorSpec(restarts_max=RESTARTS_MAX, ordered=False)
        room.core = Supervisor(spec, self._children(name), self._rng, first_generation)
        self._step(name, Timer())

    def restart_supervisor(self, name: str) -> None:
        core = self._rooms[name].core
        assert core is not None
        self._world.witness.event("supervisor restarts", name)
        for child in self._children(name):
            self.living.pop(child.child, None)
        self.begin_room(name, core.next_generation)

    def want(self, wanted: dict[str, int]) -> None:
        """Which cells there should be. Journaled before anything follows from it."""
        self.wanted = dict(wanted)
        self._journal.append(_WANTED, msgspec.msgpack.encode(self.wanted))
        self._journal.sync()
        self._step(POOL, Desired(tuple(self._children(POOL))))
        self.publish()

    def _children(self, room: str) -> list[ChildSpec]:
        match room:
            case "state":
                return [ChildSpec("checkpoint-0")]
            case "runs":
                return [ChildSpec(name, restart=Restart.TRANSIENT) for name in self._world.runs_wanted]
        return [ChildSpec(name, shutdown_s=15.0) for name in self.wanted]

    # Membership -------------------------------------------------------------------------------------------------------

    def membership(self) -> Membership:
        records = [
            CellRecord(name, POOL, "here", process.generation, slots=self.wanted.get(name, 0))
            for name, process in self.living.items()
            if isinstance(process, CellProcess) and process.hosts
        ]
        return Membership(
            epoch=self.epoch,
            pools={POOL: tuple(records)},
            types={type_name(kind): POOL for kind in KINDS},
            pins=dict(self.pins),
        )

    def publish(self) -> list[asyncio.Task[None]]:
        self.epoch += 1
        membership = self.membership()
        self._world.witness.event("publish", self.epoch, *(r.cell_id for r in membership.cells()))
        return [self.task(self._push(each, membership)) for each in self._world.listeners()]

    async def _push(self, listener: CellProcess, membership: Membership) -> None:
        async def take(target: Process) -> None:
            self._world.adopt(listener, membership)

        weather = self._world.network.weather
        if self._rng.random() < weather.push_lost:
            return
        if self._rng.random() < 0.1:
            await asyncio.sleep(self._rng.random() * 2.0)  # Overtaken by later ones.
        try:
            await asyncio.wait_for(
                self._world.network.exchange(self, lambda: listener, take, always=True), PUSH_TIMEOUT_S
            )
        except (NotSent, CellLost, TimeoutError):
            return  # It asks for itself with its next heartbeat.

    # Performing -------------------------------------------------------------------------------------------------------

    def _step(self, name: str, event: Event) -> None:
        if not self.alive:
            return
        room, loop = self._rooms[name], asyncio.get_running_loop()
        core = room.core
        assert core is not None
        for command in core.step(event, loop.time()):
            self._perform(name, core, command)
        if room.timer is not None:
            room.timer.cancel()
            room.timer = None
        if core.wake_s is not None:
            room.timer = loop.call_later(max(0.0, core.wake_s - loop.time()), self._step, name, Timer())

    def _perform(self, room: str, core: Supervisor, command: Command) -> None:
        match command:
            case Start():
                self.task(self._start(room, core, command))
            case Stop():
                self.task(self._stop(room, command))
            case Escalate() | Stopped():
                self._world.witness.violate("internal", f"the {room} supervisor gave up: {command.reason}")

    async def _start(self, room: str, core: Supervisor, command: Start) -> None:
        name = command.child
        await asyncio.sleep(command.delay_s)
        process = self._world.living(name)
        if process is None:
            await asyncio.sleep(START_S * self._rng.random())
            if self._rooms[room].core is not core or core.states().get(name) != (
                ChildState.STARTING,
                command.generation,
            ):
                return  # This supervisor is no more, or the child was stopped before it was there.
            process = self._world.living(name)
        if process is None:
            if self._rng.random() < START_FAILS:
                self._step(room, StartFailed(name, command.generation, "no room"))
                return
            process = self._world.start(name, command.generation)
        if self._rooms[room].core is not core:
            return
        self.living[name] = process
        self.task(self._watch(room, core, name, command.generation, process))
        self._step(room, ChildStarted(name, command.generation))
        await self._changed(room)

    async def _watch(self, room: str, core: Supervisor, name: str, generation: int, process: Process) -> None:
        await process.died.wait()
        if self._rooms[room].core is not core:
            return
        if self.living.get(name) is process:
            del self.living[name]
        # Who must know that it is gone hears it before its successor can start.
        await self._changed(room)
        exit_ = Exit.NORMAL if process.leaving else Exit.ABNORMAL
        if self._rooms[room].core is core:
            self._step(room, ChildExited(name, generation, exit_))

    async def _changed(self, room: str) -> None:
        if room == POOL:
            await asyncio.gather(*self.publish())

    async def _stop(self, room: str, command: Stop) -> None:
        process = self.living.get(command.child)
        if process is None:
            if (adopted := self._world.living(command.child)) is not None:
                adopted.crash()  # Still being taken back: the shell kills it too, whoever had started it.
            self._step(room, StartFailed(command.child, command.generation, "was never there"))
        elif command.kill:
            process.crash()
        else:
            process.leaving = True
            process.task(process.leave())
