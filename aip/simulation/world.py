"""One simulated platform: its processes and disks, what is done to it, and the calm after.

0 s         the root comes up and starts the shard, the cells and the run
1 s - 5 s   clients send, blows fall
then        the weather clears, kill orders are lifted; everything that was begun comes to its end
epilogue    what the platform promises in fair weather (`epilogue.py`)
the end     nothing is left in any cell
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec

from ..errors import AIPError
from ..governance.kill import PLATFORM, KillCheck, KillOrder, KillOrders
from ..orchestration import run_inputs as inp
from ..runtime import codec
from ..runtime.cell import Cell
from ..runtime.checkpoint import ActivationRecord
from ..runtime.envelope import Envelope, Kind
from ..runtime.placement import Membership
from ..runtime.ports import CellLost, NotSent
from ..runtime.simulated_disk import SimulatedDisk
from ..runtime.task import TaskState
from ..settings import DEFAULT_LIMITS
from .cast import WORLD, read_stream, watched
from .cell_process import CellProcess, WatchedCell
from .clock import VirtualLoop
from .network import Network, Process
from .run_process import RunProcess, living_run
from .script import BUSY_S, Errand, Scripts
from .shard import Shard, states_of
from .storm import CALM, Blow, blows, profile_of
from .tree import POOL, Root
from .witness import Witness

# Small enough that a few messages reach every bound.
LIMITS = DEFAULT_LIMITS.but(
    mailbox_max=4, stalled_max=24, call_timeout_s=6.0, stream_window=4, idle_passivate_s=1.0
)
UP_S = 1.0  # By then everything has come up.
HEARTBEAT_S = 1.0
LOOK_EVERY_S = 0.1
LOSS_KNOWN_S = 0.5  # From a caller's learning of a death to the outcome of its calls there.
SETTLE_S = 60.0  # Longest way to rest: a hand-over that times out, then a deadline, then the run's retries.
DRAIN_S = 4.0  # Every cell has heard of it, and what runs there is over.
REVIVE_S = 0.3
CLIENTS = 2
PERSON_EVERY_S = 0.5


class Fence:
    """The kill fence: orders, and a revision that is raised after them."""

    def __init__(self) -> None:
        self.revision = 0
        self.history: list[KillOrder] = []

    def write(self, order: KillOrder) -> None:
        self.history.append(order)
        self.revision += 1

    def orders(self) -> KillOrders:
        orders = KillOrders()
        for order in self.history:
            orders.apply(order)
        return orders


class World:
    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        self.seed = seed
        self.loop = loop
        self.profile = profile_of(seed)
        self.clock = loop.clock
        self.witness = Witness(loop.time)
        self.witness.strict = self.profile.strict
        self.witness.doubtful = "root" in self.profile.blows
        self.rng = self._stream("world")
        self.network = Network(self._stream("network"), self.profile.weather, self._broke)
        self.fence = Fence()
        self.blown: Counter[str] = Counter()
        self.processes: dict[str, Process] = {}
        self.clients: list[CellProcess] = []
        self.scripts = Scripts(self._stream("scripts"), self.rng.randint(5, 8))
        self.plan = self.scripts.plan()
        self.runs_wanted = ["run-r1"] if self.rng.random() < 0.6 and not self.profile.strict else []
        self._disks = {
            name: SimulatedDisk(self._stream(f"disk {name}")) for name in ("root", "shard", "run-r1")
        }
        self._wanted = {f"cell-{POOL}-{n}": 4 for n in range(self.rng.randint(2, 3))}
        self._cells_named = len(self._wanted)
        self._starts = 0
        self._uids = 0
        self._sequences: Counter[str] = Counter()

    def _stream(self, name: str) -> random.Random:
        """A source of randomness of its own for each part, so that a change in one does not shift all others."""
        return random.Random(f"{self.seed} {name}")

    def _broke(self, what: str, error: BaseException) -> None:
        self.witness.violate("internal", f"{what}: {type(error).__name__}: {error}")

    def uncaught(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.witness.violate("internal", f"{context.get('message')}: {context.get('exception')!r}")

    # Processes --------------------------------------------------------------------------------------------------------

    @property
    def root(self) -> Root | None:
        return cast(Root | None, self.living("orchestrator"))

    @property
    def shard(self) -> Shard | None:
        return cast(Shard | None, self.living("checkpoint-0"))

    @property
    def last_shard(self) -> Shard:
        """The one that lives, or lived last: what it had synced is synced."""
        return cast(Shard, self.processes["checkpoint-0"])

    @property
    def run(self) -> RunProcess | None:
        return living_run(self.processes.get("run-r1"))

    @property
    def cells(self) -> list[CellProcess]:
        return [each for each in self.processes.values() if isinstance(each, CellProcess) and each.alive]

    @property
    def hosts(self) -> list[CellProcess]:
        return [each for each in self.cells if each.hosts]

    def living(self, name: str) -> Process | None:
        process = self.processes.get(name)
        return process if process is not None and process.alive else None

    def listeners(self) -> list[CellProcess]:
        return self.cells

    def process_of(self, cell: Cell) -> CellProcess:
        return cast(CellProcess, cast(WatchedCell, cell).process)

    def start(self, name: str, generation: int) -> Process:
        """A new process, as its supervisor orders."""
        self.witness.hold("alive", self.living(name) is None, f"{name} is started and lives already")
        self.witness.event("process", name, generation)
        process: Process
        if name == "checkpoint-0":
            process = shard = Shard(generation, self._disk("shard"), self.witness)
            shard.begin()
        elif name.startswith("run-"):
            process = run = RunProcess(
                name, generation, plan=self.plan, disk=self._disk(name), **self._options()
            )
            self._join(run)
            run.begin()
        else:
            process = self._join(CellProcess(name, generation, hosts=True, **self._options()))
        self.processes[name] = process
        return process

    def _disk(self, name: str) -> SimulatedDisk:
        self._disks[name] = self._disks[name].kill()
        return self._disks[name]

    def _options(self) -> dict[str, Any]:
        self._starts += 1
        check = KillCheck(lambda: self.fence.revision, self.fence.orders)
        standing = list(check.standing) == list(self.witness.standing)
        self.witness.hold("K4", standing, f"a new process knows {list(check.standing)}")
        return {
            "network": self.network,
            "find": self.living,
            "witness": self.witness,
            "kill_check": check,
            "clock": self.clock,
            "rng": self._stream(f"process {self._starts}"),
            "limits": LIMITS,
        }

    def _join(self, process: CellProcess) -> CellProcess:
        process.task(self._heartbeat(process))
        return process

    async def _heartbeat(self, process: CellProcess) -> None:
        async def membership(target: Process) -> Membership:
            return cast(Root, target).membership()

        while True:
            try:
                found = await self.network.exchange(process, lambda: self.root, membership)
            except (NotSent, CellLost):
                pass
            else:
                self.adopt(process, found)
            await asyncio.sleep(HEARTBEAT_S)

    def adopt(self, process: CellProcess, membership: Membership) -> None:
        """A process learns who lives. Its calls into the dead must end now (D5)."""
        if not process.alive:
            return
        outs = [
            out
            for name in process.adopt(membership)
            for out in self.witness.out.values()
            if out.caller is process
            and out.served_by
            and out.served_by.name == name
            and not out.served_by.alive
        ]
        if outs:
            self.loop.call_later(LOSS_KNOWN_S, self._known_lost, [out.uid for out in outs])

    def _known_lost(self, uids: list[str]) -> None:
        for uid in uids:
            self.witness.hold(
                "D5", uid not in self.witness.out, f"{uid} still waits for a process known to be dead"
            )

    def _start_root(self) -> None:
        if self.root is None:
            self._disks["root"] = self._disks["root"].kill()
            root = Root(self, self._disks["root"], self._stream(f"root {self._starts}"))
            self._starts += 1
            self.witness.event("process", root.name, root.generation)
            self.processes[root.name] = root
            root.begin()

    # The course of events ---------------------------------------------------------------------------------------------

    async def live(self) -> None:
        WORLD.set(self)
        self._start_root()
        root = self.root
        assert root is not None
        root.want(self._wanted)
        for number in range(CLIENTS):
            client = CellProcess(f"client-{number}", 1, hosts=False, **self._options())
            self.processes[client.name] = self._join(client)
            self.clients.append(client)
        watching = asyncio.ensure_future(self._look())
        errands = self.rng.randint(10, 24)
        work = [asyncio.ensure_future(self._errands(client, errands)) for client in self.clients]
        await self._blow(blows(self.profile, self._stream("storm")))
        self._clear()
        _, left = await asyncio.wait(work, timeout=SETTLE_S)
        self.witness.hold("D1", not left, f"calls of clients do not end: {list(self.witness.out)}")
        await self.rest("live", "the platform does not heal", self._unhealed)
        await self.rest("R1", "the run does not end", self._run_is_over)
        await self.rest("leak", "does not come to rest", self.at_rest)
        from .epilogue import Epilogue

        await Epilogue(self).play()
        await self.rest("leak", "is not empty at the end", self.at_rest)
        self._account()
        watching.cancel()

    async def _look(self) -> None:
        """Ten times a second: bounds, and a person who decides the run's open gates."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for process in self.hosts:
                for activation in process.cell.host.agents.values():
                    size = len(activation.mailbox)
                    self.witness.hold(
                        "O3", size <= 2 * LIMITS.mailbox_max, f"{activation.address} holds {size}"
                    )
                size = process.cell.post_office.stalls.size
                self.witness.hold(
                    "O3", size <= LIMITS.stalled_max, f"{size} messages are stalled in {process.name}"
                )
            run = self.run
            if run is not None and not run.over and self.rng.random() < LOOK_EVERY_S / PERSON_EVERY_S:
                for task in run.machine.run.order:
                    if task.state is TaskState.WAITING:
                        run.take(inp.Decide(task.name, self.rng.choice(["approve", "deny"]), "ada"))
                        break

    async def rest(self, row: str, text: str, reached: Any) -> None:
        deadline = self.loop.time() + SETTLE_S
        # Looked at from outside: the runtime tells nobody that it has come to rest.
        while (left := reached()) and self.loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY_S)
        self.witness.hold(row, not left, f"{text}: {left}")

    def _unhealed(self) -> list[str]:
        """Whoever should live lives, and everybody knows it."""
        root = self.root
        if root is None or self.shard is None:
            return ["no root or no shard"]
        hosts = [host.name for host in self.hosts]
        missing = [name for name in [*self._wanted, *self.runs_wanted] if self.living(name) is None]
        leaving = [name for name in hosts if name not in self._wanted]
        unknown = [name for name in hosts if root.living.get(name) is not self.living(name)]
        behind = [each.name for each in self.cells if each.placement.epoch != root.epoch]
        found = {"missing": missing, "still there": leaving, "unknown": unknown, "behind": behind}
        return [f"{what}: {names}" for what, names in found.items() if names]

    def _run_is_over(self) -> list[str]:
        if not self.runs_wanted:
            return []
        run = self.run
        if run is None:
            return ["no process"]
        if not run.over:
            return [
                f"{task.name} is {task.state}" for task in run.machine.run.order if not task.state.terminal
            ]
        missing = [name for name in self.plan.tasks if name not in run.witnessed.ends]
        return [f"{name} has no end" for name in missing]

    def at_rest(self) -> list[str]:
        late = [f"{uid} has no outcome" for uid in self.witness.out]
        return late or [left for process in self.cells for left in process.residue()]

    def _account(self) -> None:
        """Every tell was started, or its loss was noted, or it died with a process."""
        lost = [tell for tell in self.witness.tells.values() if tell.sender.alive]
        if not self.blown.keys() & {"cell", "root", "power", "run", "leave"}:
            noted = self.witness.tells_noted
            self.witness.hold(
                "D2",
                len(lost) <= noted,
                f"{len(lost)} tells are gone, {noted} were noted: {[t.uid for t in lost]}",
            )
        for uid in self.witness.out:
            self.witness.violate("D1", f"{uid} has no outcome")

    # Clients ----------------------------------------------------------------------------------------------------------

    def uid(self, prefix: str) -> str:
        self._uids += 1
        return f"{prefix}{self._uids}"

    def request(
        self, client: CellProcess, to: str, capability: str, arguments: Any, kind: Kind, timeout_s: float
    ) -> Envelope:
        self._sequences[client.name] += 1
        return client.cell.request(
            f"client/{client.name}",
            self._sequences[client.name],
            to,
            capability,
            arguments,
            kind=kind,
            timeout_s=timeout_s,
        )

    async def call(
        self, client: CellProcess, to: str, script: list[Any], timeout_s: float, capability: str = "work"
    ) -> str:
        uid = self.uid("c")
        arguments = {"uid": uid} | ({"script": script} if capability == "work" else {})
        envelope = self.request(client, to, capability, arguments, Kind.CALL, timeout_s)

        async def ask() -> Any:
            return codec.decode(await client.cell.ask(envelope) or b"\xc0")

        return await watched(self.witness, uid, client, envelope.deadline, ask)

    async def tell(self, client: CellProcess, to: str, script: list[Any]) -> None:
        uid = self.uid("t")
        envelope = self.request(client, to, "work", {"uid": uid, "script": script}, Kind.TELL, 0.0)
        self.witness.told(uid, client, to)
        try:
            await client.cell.send(envelope)
        except AIPError as error:
            self.witness.untold(uid, error.code)

    async def stream(self, client: CellProcess, to: str, count: int, take: int, timeout_s: float) -> str:
        uid = self.uid("s")
        envelope = self.request(client, to, "parts", {"uid": uid, "count": count}, Kind.STREAM, timeout_s)

        async def parts() -> AsyncIterator[int]:
            async for part in client.cell.read(envelope):
                yield codec.decode(part)

        async def read() -> str:
            await read_stream(self.witness, uid, parts(), count, take)
            return uid

        return await watched(self.witness, uid, client, envelope.deadline, read)

    async def _errands(self, client: CellProcess, count: int) -> None:
        await asyncio.sleep(UP_S)
        began = self.loop.time()
        running: list[asyncio.Task[Any]] = []
        for errand in self.scripts.errands(count):
            await asyncio.sleep(max(0.0, began + errand.at_s - self.loop.time()))
            running.append(asyncio.ensure_future(self._run_errand(client, errand)))
        if running:
            await asyncio.wait(running)

    async def _run_errand(self, client: CellProcess, errand: Errand) -> None:
        work: Any
        match errand.kind:
            case "call":
                work = self.call(client, errand.to, errand.script, errand.timeout_s)
            case "compute":
                work = self.call(client, errand.to, [], errand.timeout_s, "compute")
            case "tell":
                work = self.tell(client, errand.to, errand.script)
            case _:
                work = self.stream(client, errand.to, errand.count, errand.take, errand.timeout_s)
        task = asyncio.ensure_future(work)
        if errand.patience_s is not None and errand.kind != "tell":
            await asyncio.wait([task], timeout=errand.patience_s)
            task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broke(f"{errand.kind} to {errand.to}", error)

    # Blows ------------------------------------------------------------------------------------------------------------

    async def _blow(self, blows: list[Blow]) -> None:
        for blow in blows:
            await asyncio.sleep(max(0.0, blow.at_s - self.loop.time()))
            self.blown[blow.kind] += 1
            self.witness.event("blow", blow.kind)
            getattr(self, f"_blow_{blow.kind}")()
        await asyncio.sleep(max(0.0, UP_S + BUSY_S - self.loop.time()))

    def _clear(self) -> None:
        self.network.weather = CALM
        for target in list(self.witness.standing):
            self._order(target, lifted=True)
        self._start_root()
        self._want()
        self.witness.event("clear")

    def _blow_cell(self) -> None:
        if self.hosts:
            self.rng.choice(self.hosts).crash()

    def _blow_shard(self) -> None:
        if self.shard is not None:
            self.shard.crash()

    def _blow_run(self) -> None:
        if self.run is not None:
            self.run.crash()

    def _blow_root(self) -> None:
        if self.root is not None:
            self.root.crash()
            self.loop.call_later(REVIVE_S * (0.2 + 3 * self.rng.random()), self._start_root)

    def _blow_supervisor(self) -> None:
        if self.root is not None:
            self.root.restart_supervisor(self.rng.choice([POOL, "state", "runs"]))

    def _blow_power(self) -> None:
        """The machine goes dark: every process, and what no disk had synced."""
        shard = self.shard
        promised = shard.durable_index if shard is not None else 0
        for process in list(self.processes.values()):
            if process not in self.clients:  # Clients sit at another machine.
                process.crash()
        self._disks = {name: disk.power_cut() for name, disk in self._disks.items()}
        left = Shard(0, self._disks["shard"].kill(), self.witness)
        left.alive = False
        self.witness.hold(
            "A5", left.last_index >= promised, f"{promised} records were synced, {left.last_index} left"
        )
        incarnations = {
            r.agent: r.incarnation for r in left.records.values() if isinstance(r, ActivationRecord)
        }
        states = {agent: msgspec.msgpack.decode(state) for agent, state in states_of(left.records).items()}
        self.witness.power_cut(incarnations, states)
        self.loop.call_later(REVIVE_S, self._start_root)

    def _want(self) -> None:
        if self.root is not None:
            self.root.want(self._wanted)

    def _blow_join(self) -> None:
        if len(self._wanted) < 5:
            self._wanted[f"cell-{POOL}-{self._cells_named}"] = 4
            self._cells_named += 1
            self._want()

    def _blow_slots(self) -> None:
        self._wanted = {name: self.rng.randint(1, 8) if slots else 0 for name, slots in self._wanted.items()}
        self._want()

    def _blow_drain(self) -> None:
        able = [name for name, slots in self._wanted.items() if slots]
        if len(able) > 1:
            self._wanted[self.rng.choice(able)] = 0
            self._want()

    def _blow_leave(self) -> None:
        """A cell goes for good. It is stopped in good order, drained or not."""
        able = [name for name, slots in self._wanted.items() if slots]
        if len(able) > 2:
            name = self.rng.choice(able)
            self._unpin(name)
            self._wanted[name] = 0
            self._want()
            # In good order an empty cell goes; what leaves in a hurry answers its waiting mail with errors.
            self.loop.call_later(DRAIN_S if self.profile.strict else 0.0, self._remove, name)

    def _remove(self, name: str) -> None:
        if self._wanted.pop(name, None) is not None:
            self._want()

    def _unpin(self, cell: str) -> None:
        if self.root is not None:
            self.root.pins = {agent: where for agent, where in self.root.pins.items() if where != cell}

    def _blow_pin(self) -> None:
        root = self.root
        if root is not None:
            agent = self.rng.choice(self.scripts.agents)
            if root.pins.pop(agent, None) is None and root.living:
                root.pins[agent] = self.rng.choice([name for name, slots in self._wanted.items() if slots])
            root.publish()

    def _order(self, target: str, *, lifted: bool = False) -> None:
        self.fence.write(KillOrder(target, self.clock(), "ada", "simulated", lifted))
        if lifted:
            self.witness.standing.pop(target, None)
        else:
            self.witness.standing[target] = None
        self.witness.event("lift" if lifted else "kill", target)

    def _blow_kill(self) -> None:
        agent = self.rng.choice(self.scripts.agents)
        self._order(self.rng.choice([agent, agent, agent, "open", "run/r1", "client/client-0", PLATFORM]))

    def _blow_lift(self) -> None:
        if self.witness.standing:
            self._order(next(iter(self.witness.standing)), lifted=True)
