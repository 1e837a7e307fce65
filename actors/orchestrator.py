"""The root: one detached, named actor that Ray restarts without end. It declares what should live; supervisors see to it.

    orchestrator
    ├─ control   audit, kill, registry          one_for_one
    ├─ nodes     node-0                         one_for_one
    ├─ state     checkpoint-0                   one_for_one
    ├─ pool-…    its cells                      one_for_one, one supervisor a pool
    └─ runs      one run-… per active run       one_for_one, transient

Its own state is a journal of declarations: pools (code and types), runs submitted and ended, schedules, and a term that grows
with every start of it. Killed and restarted it folds the journal, takes its living children back as they are, and starts what is
missing.

It keeps the *membership*: which cell of which generation hosts which pool. Every start and end of a cell makes a new epoch,
which it pushes to all cells, runs and clients; a cell that missed one learns so from the answer to its next heartbeat. No
message between agents comes through here.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from typing import Any

import msgspec
import ray

from aip.errors import AIPError, NotFound, UserError
from aip.governance.kill import LADDER, Fate
from aip.governance.kill.check import refusal
from aip.governance.policy import rollout, store
from aip.orchestration.artifact import ArtifactStore
from aip.runtime.disk import DiskStorage
from aip.runtime.group_commit import GroupCommit
from aip.runtime.journal import Journal
from aip.runtime.ports import CellLost, NotSent
from aip.runtime.supervision import ChildSpec, Restart, Strategy, SupervisorSpec

from .audit_log import AuditLog
from .cell import CellProcess
from .checkpoint_shard import CheckpointShard
from .effect_gateway import EffectGateway
from .health import read_all
from .kill_switch import KillSwitch
from .last_resort import LastResort
from .node_agent import NodeAgent
from .pool import Pool, membership
from .pool_spec import PoolSpec
from .process import NODE, Process, rpc
from .registry import Registry
from .run import RunProcess
from .run_spec import RunSpec, read_spec, write_spec
from .site import Site
from .supervisor import Child, Living, SupervisorShell
from .timetable import Timetable

NAME = "orchestrator"
WATCH_EVERY_S = 1.0
GENERATIONS_PER_TERM = 1 << 20
CLIENT_LEASE_S = 15.0
ADOPTED_WITHIN_S = 10.0
OPEN_AGAIN_S = 1.0
POLICY_AGAIN_S = 10.0
SWEEP_EVERY_S = 3_600.0  # What nobody holds costs disk and nothing else.

_encode = msgspec.msgpack.Encoder().encode


class Kind(IntEnum):
    """Of a record in the root's journal. Above 20 they are the timetable's."""

    TERM = 1
    POOL = 2
    RUN = 3
    RUN_ENDED = 4
    RUN_RESTS = 5


class RunRecord(msgspec.Struct, frozen=True):
    run: str
    key: str
    at: float


class Orchestrator(Process):
    role = "orchestrator"

    def __init__(self, site: Site, name: str, generation: int, idle_stop_s: float) -> None:
        super().__init__(site, name, generation)
        self._idle_stop_s = idle_stop_s
        self._opening: asyncio.Lock | None = None
        # When Ray restarts this actor nobody calls `open`: it does so itself.
        threading.Thread(target=self._open_myself, name="aip-open", daemon=True).start()

    def _open_myself(self) -> None:
        """Call `open` until it was heard: a call sent while Ray still takes this actor for dead is lost."""
        me = ray.get_runtime_context().current_actor
        while not self._opened:
            me.open.remote()
            time.sleep(OPEN_AGAIN_S)

    async def open(self) -> dict[str, Any]:
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            return await super().open()

    async def opened(self) -> None:
        folder = self.site.home.state / self.name
        self._journal = Journal(DiskStorage(folder, holder=f"{self.name} pid {os.getpid()}"))
        self._commit = GroupCommit(self._journal, ThreadPoolExecutor(1, thread_name_prefix="fsync"))
        term, pools = 0, {}
        self._active: dict[str, RunRecord] = {}
        self._alarms: dict[str, float] = {}  # Resting runs that the clock wakes, and when.
        self._keys: dict[str, str] = {}
        self.timetable = Timetable(
            self.site.home,
            self._journal,
            self._commit.durable,
            submit=self._submit,
            is_active=self._active.__contains__,
            note=self.feed.note,
        )
        for record in self._journal.replay():
            match record.kind:
                case Kind.TERM:
                    term = int.from_bytes(record.payload, "big")
                case Kind.POOL:
                    spec = msgspec.msgpack.decode(record.payload, type=PoolSpec)
                    pools[spec.pool] = spec
                case Kind.RUN:
                    run = msgspec.msgpack.decode(record.payload, type=RunRecord)
                    self._active[run.run] = run
                    self._alarms.pop(run.run, None)
                    if run.key:
                        self._keys[run.key] = run.run
                case Kind.RUN_ENDED:
                    self._active.pop(record.payload.decode(), None)
                    self._alarms.pop(record.payload.decode(), None)
                case Kind.RUN_RESTS:
                    run, at = msgspec.msgpack.decode(record.payload)
                    self._active.pop(run, None)
                    self._alarms[run] = at
                case kind:
                    self.timetable.fold(kind, record.payload)
        self.generation = term + 1
        self._journal.append(Kind.TERM, self.generation.to_bytes(8, "big"))
        await self._commit.durable()
        self._epoch = self.generation * GENERATIONS_PER_TERM
        self.started_at = time.time()
        self._touched = time.monotonic()
        self._clients: dict[str, float] = {}
        self._pools: dict[str, Pool] = {}
        self._pool_shells: dict[str, SupervisorShell] = {}
        self._set_up_tree()
        self.task(self._govern())
        self._whole = asyncio.Event()
        await self._take_back(pools)
        last_resort = LastResort(
            self.site.health, self._shells, lambda: bool(self.kill_check.standing), self.feed.note
        )
        self.methods.update(
            status=rpc(self._status),
            submit=rpc(self._submit),
            revive=rpc(self._revive),
            declare_pool=rpc(self._declare_pool),
            join=rpc(self._join),
            wake=rpc(self._wake),
            load=rpc(self._load),
            run_ended=rpc(self._run_ended),
            want_effects=rpc(self._want_effects),
            outlived=rpc(last_resort.outlived),
            membership=self._membership_now,
            epoch=rpc(self._newest_epoch),
            **{name: rpc(method) for name, method in self.timetable.methods.items()},
        )
        for shell in (self.control, self.nodes, self.state, self.runs):
            shell.begin()
        self.task(self._adopted())
        for active in list(self._active):
            self.task(self._start_run(active))
        self.task(self._watch_over())
        self.task(self.timetable.keep())
        self.task(self._sweep())
        self.task(last_resort.keep())

    # The tree -------------------------------------------------------------------------------------------------------

    def _shells(self) -> Iterator[SupervisorShell]:
        yield from (self.control, self.nodes, self.state, self.runs)
        yield from self._pool_shells.values()

    def _shell(
        self,
        name: str,
        restarts_max: int,
        window_s: float = 60.0,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        *,
        after: SupervisorShell | None = None,
    ) -> SupervisorShell:
        """A supervisor; one `after` another goes on with its generations, for what a name was once is refused for ever."""
        first = self.generation * GENERATIONS_PER_TERM if after is None else after.next_generation
        ordered = strategy is not Strategy.ONE_FOR_ONE
        return SupervisorShell(
            name,
            self.site,
            SupervisorSpec(strategy, restarts_max, window_s, ordered=ordered),
            first_generation=first,
            rng=self.rng,
            on_change=self._changed,
            on_escalate=self._escalated,
            note=self.feed.note,
            task=self.task,
        )

    def _set_up_tree(self) -> None:
        self.control = self._shell("control", restarts_max=20)
        self.nodes = self._shell("nodes", restarts_max=20)
        self.state = self._shell("state", restarts_max=20)
        self.runs = self._shell("runs", restarts_max=50)
        self.control.declare(
            {
                "audit": Child(ChildSpec("audit"), AuditLog),
                "kill": Child(ChildSpec("kill"), KillSwitch),
                "registry": Child(ChildSpec("registry"), Registry),
            }
        )
        self.nodes.declare({"node-0": Child(ChildSpec("node-0"), NodeAgent)})
        self.state.declare({"checkpoint-0": Child(ChildSpec("checkpoint-0"), CheckpointShard)})

    async def _govern(self) -> None:
        """See that a policy is in force, and that each that comes into force is in the audit log."""
        said = 0
        while True:
            try:
                await asyncio.to_thread(rollout.make_sure, self.site.home)
                versions = await asyncio.to_thread(store.load, rollout.folder(self.site.home))
                if versions.active is not None and versions.number != said:
                    said = versions.number
                    kind = "policy.rolled_back" if versions.failed is not None else "policy.activated"
                    detail = {
                        "revision": versions.active.revision,
                        "digest": versions.active.digest,
                        "number": said,
                    }
                    self.feed.note(kind, "policy", detail)
            except (AIPError, OSError) as error:
                self.feed.note("policy.rejected", "policy", {"error": str(error)[:1_000]})
                await asyncio.sleep(POLICY_AGAIN_S)
            await asyncio.sleep(WATCH_EVERY_S)

    async def _want_effects(self) -> None:
        """The effect gateway lives from its first use on: a laptop that needs none has none."""
        if "effects" not in self.control.living:
            self.control.add(Child(ChildSpec("effects"), EffectGateway))

    async def _changed(self, name: str, living: Living | None, reason: str) -> None:
        """A child started or ended. Cells change the membership; the others keep their name and their socket."""
        self.peers.forget(name)
        for pool in self._pools.values():
            if name in pool.members or name in self._pool_shells[pool.spec.pool].tree_names:
                if living is None:
                    pool.left(name, self._active.__contains__)
                else:
                    pool.joined(name, NODE, living.info["generation"])
                await self._publish()
                return

    async def _escalated(self, name: str, reason: str) -> None:
        """A supervisor gave up. The root starts that room anew once things have calmed down; the rest goes on meanwhile."""
        self.feed.note("supervisor.gave_up", name, {"reason": reason[:1000]})
        await asyncio.sleep(30.0)
        pool = self._pools.get(name.removeprefix("pool-"))
        if pool is not None:
            given_up = self._pool_shells[pool.spec.pool]
            self._pool_shells[pool.spec.pool] = self._pool_shell(pool.spec, after=given_up)
            self._reconcile(pool)
        elif name == "runs":
            self.runs = self._shell("runs", restarts_max=50, after=self.runs)
            self.runs.begin()
            for run in list(self._active):
                await self._start_run(run)
        else:
            # Control and state are what everything hangs on: the root itself starts anew and takes the living back.
            os._exit(1)

    async def _take_back(self, pools: dict[str, PoolSpec]) -> None:
        """Pools as they were declared, with the cells that outlived the last root."""
        alive = await asyncio.to_thread(ray.util.list_named_actors)
        if "effects" in alive:
            await self._want_effects()
        for spec in pools.values():
            pool = self._pool(spec)
            pool.wanted.update(name for name in alive if name.startswith(f"cell-{spec.pool}-"))
            self._reconcile(pool)

    async def _adopted(self) -> None:
        """Nothing is published before the living cells are all back in: one left out would count as dead."""
        cells = {
            name: self._pool_shells[pool.spec.pool] for pool in self._pools.values() for name in pool.wanted
        }
        waiting = [shell.started(name, ADOPTED_WITHIN_S) for name, shell in cells.items()]
        for name, back in zip(cells, await asyncio.gather(*waiting, return_exceptions=True), strict=True):
            if isinstance(back, BaseException):
                self.feed.note("cell.not_adopted", name, {"error": f"{type(back).__name__}: {back}"[:500]})
        self._whole.set()
        await self._publish()

    # Membership -----------------------------------------------------------------------------------------------------

    async def _membership_now(self, payload: bytes) -> bytes:
        await self._whole.wait()
        return _encode(membership(self._epoch, self._pools))

    async def _newest_epoch(self) -> int:
        return self._epoch

    async def _publish(self) -> None:
        if not self._whole.is_set():
            return
        self._epoch += 1
        payload = _encode(membership(self._epoch, self._pools))
        cells = [name for pool in self._pools.values() for name in pool.members]
        runs = [f"run-{run}" for run in self._active]
        await asyncio.gather(*(self._push(name, payload) for name in (*cells, *runs, *self._clients)))

    async def _push(self, name: str, payload: bytes) -> None:
        try:
            await asyncio.wait_for(self.peers.call(name, "membership", payload), 5.0)
        except (NotSent, CellLost, TimeoutError, AIPError):
            self._clients.pop(name, None)  # A cell or a run asks for itself when it is back.

    async def _join(self, name: str) -> bytes:
        """A client that wants memberships pushed; it renews by joining again."""
        self._touched = time.monotonic()
        self._clients[name] = time.monotonic() + CLIENT_LEASE_S
        await self._whole.wait()
        return _encode(membership(self._epoch, self._pools))

    async def _load(self, cell: str, agents: int, turns: int = 0) -> int:
        """A cell's heartbeat; answers the epoch, so that one that missed a push knows."""
        for pool in self._pools.values():
            if cell in pool.members:
                pool.load[cell] = agents
                if turns:
                    self._touched = time.monotonic()
        return self._epoch

    # Pools ----------------------------------------------------------------------------------------------------------

    def _pool_shell(self, spec: PoolSpec, *, after: SupervisorShell | None = None) -> SupervisorShell:
        strategy = Strategy(spec.strategy)
        shell = self._shell(f"pool-{spec.pool}", spec.restarts_max, spec.window_s, strategy, after=after)
        shell.begin()
        return shell

    def _pool(self, spec: PoolSpec) -> Pool:
        pool = self._pools.get(spec.pool)
        if pool is None:
            pool = self._pools[spec.pool] = Pool(spec, time.monotonic())
            self._pool_shells[spec.pool] = self._pool_shell(spec)
        return pool

    async def _declare_pool(
        self,
        spec: dict[str, Any],
        manifests: dict[str, Any],
        pins: Sequence[str] = (),
        warm: Sequence[str] = (),
        run: str = "",
    ) -> None:
        """This code is to be reachable: its types are registered, and one cell of it is warm."""
        self._touched = time.monotonic()
        declared = msgspec.convert(spec, PoolSpec)
        self._refuse_in_lockdown(f"pool:{declared.pool}")
        if declared.pool not in self._pools:
            self._journal.append(Kind.POOL, _encode(declared))
            self._pool(declared)
        pool = self._pools[declared.pool]
        merged = msgspec.structs.replace(
            declared,
            types={**pool.spec.types, **declared.types},
            configs={**pool.spec.configs, **declared.configs},
        )
        if merged != pool.spec:
            self._journal.append(Kind.POOL, _encode(merged))
            pool.spec = merged
            for cell in pool.members:
                more = {"types": pool.spec.types, "configs": pool.spec.configs}
                await self.peers.insist(cell, "types", _encode(more))
        if run:
            pool.runs.add(run)
        pool.want(pins, warm, time.monotonic())
        for name, manifest in manifests.items():
            await self.peers.insist(
                "registry", "declare", _encode({"name": name, "pool": declared.pool, "manifest": manifest})
            )
        self._reconcile(pool)
        await self._publish()

    def _reconcile(self, pool: Pool) -> None:
        self._pool_shells[pool.spec.pool].declare(
            {
                name: Child(
                    ChildSpec(name, shutdown_s=15.0),
                    CellProcess,
                    (pool.spec,),
                    _options(pool.spec, pool.slots(name)),
                )
                for name in sorted(pool.wanted)
            }
        )

    async def _wake(self, address: str) -> None:
        """Somebody has mail for an agent whose pool has no cell."""
        kind = address.partition("/")[0]
        for pool in self._pools.values():
            if kind in pool.spec.types:
                if pool.wake(address, time.monotonic()):
                    self._reconcile(pool)
                return
        raise NotFound(f"no agent type {kind!r} is deployed", hint="see `aip agents list`")

    # Runs -----------------------------------------------------------------------------------------------------------

    async def _submit(self, spec: dict[str, Any]) -> str:
        """Accept a run: its specification is on disk and in the journal, fsynced, when this answers."""
        self._touched = time.monotonic()
        run = msgspec.convert(spec, RunSpec)
        self._refuse_in_lockdown(f"run/{run.run}")
        if run.idempotency_key and run.idempotency_key in self._keys:
            return self._keys[run.idempotency_key]
        await asyncio.to_thread(write_spec, self.site.home, run)
        record = RunRecord(run.run, run.idempotency_key, time.time())
        self._journal.append(Kind.RUN, _encode(record))
        await self._commit.durable()
        self._active[run.run] = record
        if record.key:
            self._keys[record.key] = run.run
        await self._start_run(run.run)
        return run.run

    def _refuse_in_lockdown(self, name: str) -> None:
        """Nothing new is started under a lockdown, not a run nor a cell. Raises `Killed`."""
        order = self.kill_check.order_on(name)
        if order is not None and LADDER[order.level].processes is Fate.REFUSED:
            raise refusal(order)

    async def _revive(self, run: str) -> None:
        """An ended run is to go on (retry, resume): its process comes back and reads its journal."""
        self._touched = time.monotonic()
        self._refuse_in_lockdown(f"run/{run}")
        self._alarms.pop(run, None)
        if run not in self._active:
            record = RunRecord(run, "", time.time())
            self._journal.append(Kind.RUN, _encode(record))
            await self._commit.durable()
            self._active[run] = record
        await self._start_run(run)
        await self.runs.started(f"run-{run}")

    async def _start_run(self, run: str) -> None:
        try:
            spec = await asyncio.to_thread(read_spec, self.site.home, run)
            for pool in spec.pools:
                await self._declare_pool(
                    msgspec.to_builtins(pool.spec), pool.manifests, pool.dedicated, pool.warm, run
                )
        except (UserError, AIPError) as error:
            self.feed.note("run.not_started", run, {"error": error.message[:1000]})
            return
        name = f"run-{run}"
        while name in self.runs.living and self.runs.living[name].leaving:  # noqa: ASYNC110 - an end that `_watch` reports
            await asyncio.sleep(0.05)  # Its last process is on its way out and still holds the journal.
        if name not in self.runs.living:
            self.runs.remove(name)
        child = ChildSpec(name, restart=Restart.TRANSIENT, shutdown_s=10.0)
        self.runs.add(Child(child, RunProcess, (run,)))

    async def _run_ended(self, run: str, state: str, wake_at: float = 0.0) -> None:
        """The run's own word that it is over, or waits for a person: its process leaves, until `wake_at` if that is set."""
        self._touched = time.monotonic()
        if self._active.pop(run, None) is not None:
            if wake_at:
                self._alarms[run] = wake_at
                self._journal.append(Kind.RUN_RESTS, _encode((run, wake_at)))
            else:
                self._alarms.pop(run, None)
                self._journal.append(Kind.RUN_ENDED, run.encode())
            await self._commit.durable()
        self.timetable.run_ended(run)
        for pool in self._pools.values():
            for cell in list(pool.members):
                self.task(self._release_run(cell, run))
            if pool.release(run, time.monotonic(), self._active.__contains__):
                self._reconcile(pool)
        self.runs.living.get(f"run-{run}", _NOBODY).leaving = True

    async def _release_run(self, cell: str, run: str) -> None:
        """The agents of this run leave."""
        try:
            await self.peers.call(cell, "release_run", _encode({"run": run}))
        except (NotSent, CellLost, AIPError):
            return  # A cell that is gone holds nothing.

    # Watching over --------------------------------------------------------------------------------------------------

    async def _watch_over(self) -> None:
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            now = time.monotonic()
            for name in [name for name, until in self._clients.items() if until < now]:
                del self._clients[name]
            for pool in list(self._pools.values()):
                if pool.resize(now, _cells_max()):
                    self._reconcile(pool)
            for run in [run for run, at in self._alarms.items() if at <= time.time()]:
                del self._alarms[run]  # At once: the next look must not find it due again.
                self.task(self._revive(run))
            agents = any(sum(pool.load.values()) for pool in self._pools.values())
            if self._active or self._clients or agents or self.timetable.active:
                self._touched = now
            if self._idle_stop_s and now - self._touched > self._idle_stop_s:
                self._stop_platform()
                return

    async def _sweep(self) -> None:
        """Throw away what no run holds any more."""
        store = ArtifactStore(self.site.home.artifacts)
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            try:
                gone = await asyncio.to_thread(store.collect, time.time())
            except OSError as error:
                self.feed.note("artifacts.not_swept", self.name, {"error": str(error)})
                continue
            if gone.objects:
                detail = {"objects": gone.objects, "size_bytes": gone.size_bytes}
                self.feed.note("artifacts.swept", self.name, detail)

    def _stop_platform(self) -> None:
        from .launch import stop_from_inside

        stop_from_inside(self.site.home)

    async def _status(self) -> dict[str, Any]:
        self._touched = time.monotonic()
        rooms = {"control": self.control, "nodes": self.nodes, "state": self.state}
        rooms |= {
            f"pool-{name}": self._pool_shells[name] for name, pool in self._pools.items() if pool.wanted
        }
        rooms["runs"] = self.runs
        children = [
            {"name": name, "state": "running", "pid": None, "restarts": 0, "children": shell.tree()}
            for name, shell in rooms.items()
        ]
        root = {"name": NAME, "state": "running", "pid": os.getpid(), "restarts": self.generation - 1}
        return {
            "platform_id": self.site.platform_id,
            "since_s": time.time() - self.started_at,
            "tree": {**root, "children": children},
            "agents": sum(
                page.agents for page in read_all(self.site.health) if page.name.startswith("cell-")
            ),
            "active_runs": sorted(self._active),
            "kill_orders": [msgspec.to_builtins(order) for order in self.kill_check.orders.standing.values()],
            "idle_stop_s": self._idle_stop_s,
            "epoch": self._epoch,
            "checks": ["kill", "principal", "breaker", "policy", "budget"],
        }


def _options(spec: PoolSpec, slots: int) -> dict[str, Any]:
    """What one process of a pool asks of Ray."""
    options: dict[str, Any] = {"resources": {"agent_slots": slots}, "num_cpus": spec.cpu}
    if spec.memory_bytes:
        options["memory"] = spec.memory_bytes
    if spec.runtime_env:
        options["runtime_env"] = spec.runtime_env
    return options


class _Nobody:
    leaving = False


_NOBODY: Any = _Nobody()


def _cells_max() -> int:
    """Embedded: a few cells share the cores; more would only add processes."""
    return max(4, 2 * (os.cpu_count() or 1))
