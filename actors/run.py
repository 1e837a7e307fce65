"""A run's process: performs on the road what the run's machine decides (`aip.orchestration.run`).

    input ──► machine.handle ──► events ──► journal (one write) ──► commands ──► envelopes, timers, artifacts ──► inputs …

An event is in the journal before what follows from it leaves this process; a background fsync follows at most 50 ms behind, and
the end of the run and a person's decision wait for theirs. A restart folds the journal and goes on: what had finished stays
finished, what was in flight is fenced and sent again under the same idempotency key.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from math import inf
from pathlib import Path
from typing import Any

import msgspec

from aip.errors import AIPError, Cancelled, ErrorRecord, Killed, NotFound, from_record, plain, to_record
from aip.governance.kill import ENDING, KillOrder
from aip.orchestration import run_commands as cmd
from aip.orchestration import run_events as ev
from aip.orchestration import run_inputs as inp
from aip.orchestration.artifact import ArtifactRef, ArtifactStore
from aip.orchestration.budget import account_of
from aip.orchestration.parse import parse
from aip.orchestration.parse.added import source_of
from aip.orchestration.run import RunMachine
from aip.orchestration.run_lifecycle import RunState
from aip.orchestration.run_view import view
from aip.runtime import cell as road
from aip.runtime import codec
from aip.runtime.border import Misspoken
from aip.runtime.calls import Listener
from aip.runtime.disk import DiskStorage
from aip.runtime.group_commit import GroupCommit
from aip.runtime.guard import Guard
from aip.runtime.journal import Journal
from aip.runtime.placement import Membership, Placement
from aip.runtime.speaker import SPEAKER
from aip.settings import DEFAULT_LIMITS

from .added_tasks import refuse_unfit
from .cell import ROOT, RegistryResolver, ShardCheckpoints, Waker
from .earlier_runs import measured_weights
from .local_policy import LocalPolicy
from .membership import adopt, decode
from .peers import PeerTransport
from .principal import PrincipalCheck
from .process import Process, rpc
from .run_ledger import RunLedger
from .run_spec import address_of, folder, read_spec
from .site import Site
from .spending import KILL_SWITCH, Spending, watched
from .sub_run import VIEW_FILE, Lending, answer, bounded, child_id, child_spec, outcome

SYNC_EVERY_S = 0.05
FENCE_EVERY_S = 0.2
KEEP_UP_EVERY_S = 2.0
LOADED_MAX = 256  # Opened artifacts kept in memory.
INPUT_CHARS_MAX = 2_000  # Of an attempt's input, in its error.
LINGER_S = 1.0  # After the end, for those who watch to read the last view.
WARM_AGAIN_S = 0.5
REST_AFTER_S = 15.0  # Without anything to do but wait for a person, a run leaves its processes to others.
RESTING = frozenset({RunState.HELD, RunState.PAUSED})

_encode = msgspec.msgpack.Encoder().encode


class RunProcess(Process):
    role = "run"

    def __init__(self, site: Site, name: str, generation: int, run: str) -> None:
        super().__init__(site, name, generation)
        self.run = run

    async def opened(self) -> None:
        home = self.site.home
        self._spec = await asyncio.to_thread(read_spec, home, self.run)
        self._plan = bounded(
            parse(self._spec.plan_source, self._spec.plan_file, DEFAULT_LIMITS), self._spec.budget
        )
        self._lending = Lending()
        self._children: set[str] = set()  # Runs started for tasks that are under way.
        tasks = (*self._plan.tasks.values(), *self._plan.closing.values())
        self._paid = bool(self._plan.limits.budget) or any(task.budget for task in tasks)
        self._store = ArtifactStore(home.artifacts)
        self._loaded: dict[ArtifactRef, Any] = {}
        self._journal = Journal(
            DiskStorage(folder(home, self.run) / "journal", holder=f"{self.name}#{self.generation}")
        )
        self._commit = GroupCommit(self._journal, ThreadPoolExecutor(1, thread_name_prefix="fsync"))
        self._unsynced = asyncio.Event()
        self._attempts: dict[int, asyncio.Task[None]] = {}
        self._inbox: list[inp.Input] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = inf  # When the machine next wants to be woken.
        self._busy_at_s = time.monotonic()  # When there last was something else to do than to wait.
        self._sequence = self.generation << 32
        self._changed = asyncio.Event()
        self._version = 0
        self._over = False
        self._leaving = False
        await self._weigh()
        await self._join_road()
        self.methods.update(
            membership=self._membership,
            view=rpc(self._view),
            events=rpc(self._events),
            act=rpc(self._act),
            addresses=rpc(self._addresses),
            draw=rpc(self._draw),
            settle=rpc(self._settle),
            split=rpc(self._split),
            add_tasks=rpc(self._add_tasks),
        )

    async def _weigh(self) -> None:
        """What earlier runs took orders the tasks that are ready; where none was measured, the tasks behind each do."""
        self._weights: dict[str, float] | None = None
        if self._spec.rank_by == "hops":
            return
        inputs = codec.decode(self._spec.inputs)
        self._weights, unreadable = await asyncio.to_thread(
            measured_weights, self.site.home, self.run, self._plan, inputs
        )
        for run, why in unreadable.items():
            self.feed.note("run.history_unreadable", run, {"why": why})

    async def _join_road(self) -> None:
        self.placement = Placement(Membership(epoch=0))
        self.policy = LocalPolicy(
            self.site.home, self.feed.note, self.placement.isolation, level=self.kill_check.level
        )
        await self.policy.open()
        self.placement.offer(decode(await self.peers.insist(ROOT, "membership")))
        self.cell = road.Cell(
            self.name,
            self.generation,
            types={},
            locator=self.placement,
            transport=PeerTransport(self.peers),
            checkpoints=ShardCheckpoints(self.peers),
            audit=self.feed,
            guard=Guard(self.kill_check, [PrincipalCheck(), self.policy.check]),
            clock=time.time,
            rng=self.rng,
            homeless=Waker(self).wake,
        )
        self.cell.start()
        self._resolver = RegistryResolver(self.peers, self.rng)
        self.methods["deliver"] = self.cell.deliver

    def begin(self) -> None:
        """A new run is accepted; one with a journal is taken up where it stands."""
        self.task(self._sync_behind())
        self.task(self.policy.follow())
        self.task(self._keep_up())
        self.task(self._watch_fence())
        self.task(self._rest_when_waiting())
        self.task(self._tell_spending())
        events = [event for _, event in ev.recorded(self._journal)]
        now = time.time()
        if events:
            self.machine, step = RunMachine.recover(
                self._plan, events, now, load=self._load, rng=self.rng, weights=self._weights
            )
        else:
            self.machine = RunMachine(self._plan, load=self._load, rng=self.rng, weights=self._weights)
            source = self._spec.plan_source.decode()
            inputs = self._value(self._spec.inputs)
            step = self.machine.accept(self.run, source, inputs, self._spec.submitted_by, now)
        self._last_view().unlink(missing_ok=True)  # Of an end that was not the last one.
        self._open_ledger()
        self._perform(step)
        self.task(self._warm())

    async def _warm(self) -> None:
        """Start the replicas that are to live from the beginning."""
        warm = [address for pool in self._spec.pools for address in pool.warm]
        await asyncio.gather(*(self._warm_one(address) for address in warm))

    async def _warm_one(self, address: str) -> None:
        """Ask until it lives, or is not to live: its cell may be on its way, and may be lost on it."""
        while self.machine.run.state in (RunState.RUNNING, RunState.HELD):
            self._sequence += 1
            start = self.cell.request(
                f"run/{self.run}",
                self._sequence,
                address,
                "aip.start",
                {},
                run=self.run,
                conversation=self.run,
            )
            try:
                await self.cell.ask(start)
                return
            except AIPError as error:
                if not error.retryable:
                    return  # Whoever calls it is told why.
            await asyncio.sleep(WARM_AGAIN_S)

    def counts(self) -> tuple[int, int, int, int]:
        return 0, 0, len(self._inbox), len(self._attempts)

    # Machine and journal --------------------------------------------------------------------------------------------

    def _take(self, input: inp.Input) -> None:
        """Something happened. Inputs of one loop turn are one step: one write, one look at what is ready."""
        self._inbox.append(input)
        if len(self._inbox) == 1:
            asyncio.get_running_loop().call_soon(self._drain)

    def _drain(self) -> None:
        inbox, self._inbox = self._inbox, []
        if inbox and not self._over and not self._leaving:
            self._perform(self.machine.handle_all(inbox, time.time()))

    def _perform(self, step: cmd.Step) -> None:
        if step.events:
            self._journal.append_many((ev.RECORD, ev.encode(event)) for event in step.events)
            self._unsynced.set()
        for command in step.commands:
            match command:
                case cmd.Dispatch():
                    self._attempts[command.lease] = self.task(self._attempt(command))
                case cmd.StartRun():
                    self._attempts[command.lease] = self.task(self._sub_run(command))
                case cmd.CancelAttempt():
                    if (attempt := self._attempts.get(command.lease)) is not None:
                        attempt.cancel()
                case cmd.SetTimer():
                    self._set_timer(command.at_s)
                case cmd.OpenGate():
                    self.feed.note(
                        "gate.opened", self.run, {"task": command.task, "question": command.question[:500]}
                    )
                case cmd.CollectArtifacts():
                    self._store.drop(self.run, command.refs)
                case cmd.Finish():
                    self._over = True
                    self.task(self._finish(command))
        for account in self._ledger.owned():
            task = self.machine.run.tasks.get(account.partition("/")[2])
            if task is None or task.state.terminal:
                self._ledger.end(account)
        self._version += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _set_timer(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due_s = at_s
        delay_s = max(0.0, at_s - time.time())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._ring)

    def _ring(self) -> None:
        self._due_s = inf
        self._take(inp.Tick())

    async def _sync_behind(self) -> None:
        while True:
            await self._unsynced.wait()
            self._unsynced.clear()
            await self._commit.durable()
            await asyncio.sleep(SYNC_EVERY_S)

    async def _watch_fence(self) -> None:
        """A kill order against this run ends it, whatever its agents do."""
        while True:
            order = self._order()
            if order is not None and not self._over:
                self._take(inp.Kill(order.by, f"{order.target}: {order.reason}"))
            await asyncio.sleep(FENCE_EVERY_S)

    def _order(self) -> KillOrder | None:
        """The kill order that stands against this run as a whole."""
        order = self.kill_check.order_on(f"run/{self.run}")
        return order if order is not None and order.level >= ENDING else None

    async def _finish(self, command: cmd.Finish) -> None:
        """The end is fsynced, its outputs are stored and its last view is on disk before anybody is told."""
        if isinstance(command.value, ArtifactRef):
            await asyncio.to_thread(self._store.put, command.data)
            self._store.hold(self.run, [command.value])
        for attempt in list(self._attempts.values()):
            attempt.cancel()
        await self._commit.durable()
        await asyncio.to_thread(self._write_view)
        self.feed.note("run.ended", self.run, {"state": str(command.state)})
        await self.feed.flush()
        await asyncio.sleep(LINGER_S)
        if not self._over:
            return  # A person sent it on meanwhile.
        ended = {"run": self.run, "state": str(command.state), "wake_at": self.machine.next_expiry_s() or 0.0}
        await self.peers.insist(ROOT, "run_ended", _encode(ended))
        self.depart()

    async def _rest_when_waiting(self) -> None:
        """A run that only waits for a person, or for the clock: its agents leave, and its own process too.

        A person's act or its alarm at the root brings the process back, which goes on from its journal.
        """
        while not self._over:
            await asyncio.sleep(FENCE_EVERY_S)
            soon = self._due_s - time.time() < REST_AFTER_S
            if self.machine.run.state not in RESTING or self._attempts or self._inbox or soon:
                self._busy_at_s = time.monotonic()
            elif time.monotonic() - self._busy_at_s > REST_AFTER_S:
                self._over = True
                await self._commit.durable()
                await asyncio.to_thread(self._write_view)
                await self.feed.flush()
                if not self._over:
                    continue  # A person acted meanwhile.
                due_s = 0.0 if self._due_s == inf else self._due_s
                rests = {"run": self.run, "state": str(self.machine.run.state), "wake_at": due_s}
                await self.peers.insist(ROOT, "run_ended", _encode(rests))
                self.depart()

    def _last_view(self) -> Path:
        return folder(self.site.home, self.run) / VIEW_FILE

    def _write_view(self) -> None:
        path = self._last_view()
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(self._shown()))
        os.replace(fresh, path)

    # Attempts -------------------------------------------------------------------------------------------------------

    async def _attempt(self, dispatch: cmd.Dispatch) -> None:
        lease, name = dispatch.lease, dispatch.attempt
        try:
            try:
                payload = await self._ask(dispatch)
            finally:
                self._attempts.pop(lease, None)
            value = self._value(payload)
        except asyncio.CancelledError:
            error = to_record(Cancelled(f"attempt {name} was cancelled"))
            self._take(inp.Failed(name, lease, error, self._spent(dispatch)))
        except AIPError as failed:
            if isinstance(failed, Killed) and (order := self._order()) is not None:
                self._take(inp.Kill(order.by, f"{order.target}: {order.reason}"))
            self._take(inp.Failed(name, lease, _with_input(failed, dispatch), self._spent(dispatch)))
        else:
            self._take(inp.Succeeded(name, lease, value, self._spent(dispatch)))

    async def _sub_run(self, start: cmd.StartRun) -> None:
        """Start a run of another plan, or find it again, and wait for its end."""
        lease, name, account = start.lease, start.attempt, start.budget_account
        key = f"{start.idempotency_key}#{start.number}"
        child = child_id(self.run, key)
        self._children.add(child)
        spent: dict[str, int] = {}
        try:
            lent: dict[str, int] = {}
            if self._paid:
                self._ledger.begin(account, self.machine.run.tasks[start.task].generation, start.budget)
            if start.budget:
                made = self._spec.plans[start.plan]
                asked = parse(made.plan_source, made.plan_file, DEFAULT_LIMITS).limits.budget
                lent = self._lending.lend(account, child, start.budget, asked)
            spec = child_spec(self._spec, start.plan, key, start.arguments, lent)
            self.fence.born(
                f"run/{self.run}", f"run/{child}"
            )  # What stands against this run stands against that one.
            request = {"spec": msgspec.to_builtins(spec, builtin_types=(bytes,))}
            await self.peers.insist(ROOT, "submit", _encode(request))
            self._take(inp.Progress(name, lease, f"run {child}", None))
            view = await outcome(self.peers, self.site.home, child)
            spent = {unit: amount for unit, amount in view["spend"]["spent"].items() if amount}
            if self._paid:
                self._ledger.charge(account, child, spent)
                spent = self._ledger.news(account)
            value = self._value(answer(view, child))
        except asyncio.CancelledError:
            # Not where this process leaves: its successor takes the child up. Nor under an order, which holds for the child too.
            if not self._leaving and self._order() is None:
                act = _encode({"verb": "cancel", "by": f"run/{self.run}", "reason": f"{name} was cancelled"})
                with contextlib.suppress(AIPError):  # It has ended.
                    await self.peers.insist(f"run-{child}", "act", act, timeout_s=1.0)
            self._take(inp.Failed(name, lease, to_record(Cancelled(f"attempt {name} was cancelled")), {}))
        except AIPError as failed:
            self._take(inp.Failed(name, lease, _with_input(failed, start), spent))
        else:
            self._take(inp.Succeeded(name, lease, value, spent))
        finally:
            self._attempts.pop(lease, None)
            self._children.discard(child)
            self._lending.give_back(account, child)

    async def _ask(self, dispatch: cmd.Dispatch) -> bytes:
        capability = dispatch.capability or ""
        address = await self._address(dispatch, capability)
        self._sequence += 1
        timeout_s = (
            DEFAULT_LIMITS.call_timeout_s * 60
            if dispatch.deadline_s is None
            else dispatch.deadline_s - time.time()
        )
        account = dispatch.budget_account if self._paid else ""
        if account:
            generation = self.machine.run.tasks[dispatch.task].generation
            self._ledger.begin(account, generation, dispatch.budget)
        envelope = self.cell.request(
            f"run/{self.run}",
            self._sequence,
            address,
            capability,
            dispatch.arguments if dispatch.arguments is not None else {},
            timeout_s=timeout_s,
            run=self.run,
            budget=account,
            conversation=self.run,
            idempotency_key=dispatch.idempotency_key,
            labels=(*dispatch.labels.items(), ("task", dispatch.task), ("attempt", dispatch.attempt)),
        )
        return await self.cell.ask(envelope, self._listener(dispatch)) or b"\xc0"

    async def _address(self, dispatch: cmd.Dispatch, capability: str) -> str:
        if dispatch.agent is None:
            return await self._resolver.resolve(capability)
        return address_of(self._spec.types[dispatch.agent], self.run, dispatch.agent, dispatch.replica)

    async def _addresses(self) -> dict[str, list[str]]:
        """Where this plan's agents live, by the names it gives them."""
        return {
            name: [
                address_of(kind, self.run, name, replica)
                for replica in range(self._plan.agents[name].replicas_max)
            ]
            for name, kind in self._spec.types.items()
        }

    def _listener(self, dispatch: cmd.Dispatch) -> Listener:
        def heard(fraction: float | None, text: str) -> None:
            self._take(inp.Progress(dispatch.attempt, dispatch.lease, text, fraction))

        return heard

    # Values ---------------------------------------------------------------------------------------------------------

    def _value(self, data: bytes) -> ev.Value:
        if len(data) <= DEFAULT_LIMITS.inline_bytes_max:
            return data
        ref = self._store.put(data)
        self._store.hold(self.run, [ref])
        return ref

    def _load(self, ref: ArtifactRef) -> Any:
        if ref not in self._loaded:
            if len(self._loaded) >= LOADED_MAX:
                del self._loaded[next(iter(self._loaded))]
            self._loaded[ref] = codec.decode(self._store.get(ref))
        return self._loaded[ref]

    # Budget ---------------------------------------------------------------------------------------------------------

    def _open_ledger(self) -> None:
        run = self.machine.run
        self._ledger = RunLedger(self.run, self.generation, run.ledger.statement(self.run).limits, run.spent)

    def _spent(self, dispatch: cmd.Dispatch) -> dict[str, int]:
        """What the task's account has spent since the last report: this attempt's, up to what others spent beside it."""
        return self._ledger.news(dispatch.budget_account)

    async def _tell_spending(self) -> None:
        async def tell(event: bytes) -> bytes:
            return await self.peers.call(KILL_SWITCH, "observe", event)

        if self._paid:
            await Spending(self.run, watched(self.site.home), self._ledger.spent, tell).keep()

    async def _draw(self, **draw: Any) -> dict[str, Any]:
        _spends_as(draw["holder"])
        granted: dict[str, Any] = msgspec.to_builtins(self._ledger.draw(**draw))
        return granted

    async def _settle(self, account: str, holder: str, reservation: str, spent: dict[str, int]) -> None:
        _spends_as(holder)
        self._ledger.settle(account, holder, reservation, spent)

    async def _split(self, account: str, part: str, limits: dict[str, int]) -> None:
        task = self.machine.run.tasks.get(account.split("/")[1])
        if task is None or task.state.terminal:
            raise NotFound(f"no task of {self.run} works on the account {account}")
        if not self._paid:
            self._ledger.begin(account_of(self.run, task.name), task.generation, {})
        self._ledger.split(account, part, limits)

    async def _add_tasks(self, attempt: str, tasks: dict[str, Any]) -> None:
        """An agent adds tasks to this run. Durable when this answers; refused with every reason."""
        source = source_of(tasks)
        refuse_unfit(self.machine.run, self._spec, attempt, source)
        step = self.machine.handle(inp.AddTasks(attempt, source), time.time())
        self._perform(step)
        if step.refusals:
            raise from_record(step.refusals[0].error)
        await self._commit.durable()
        self.feed.note("run.tasks_added", self.run, {"attempt": attempt, "tasks": sorted(tasks)})

    # For people and programs ----------------------------------------------------------------------------------------

    def _shown(self) -> dict[str, Any]:
        shown = view(self.machine)
        succeeded = self.machine.run.state is RunState.SUCCEEDED
        outputs = self.machine.outputs() if succeeded else None
        return {
            **shown,
            "outputs": outputs,
            "plan_file": self._spec.plan_file,
            "version": self._version,
            "fsyncs": self._commit.syncs,
        }

    async def _view(self, after: int = -1, wait_s: float = 0.0) -> dict[str, Any]:
        """The view, as soon as it is newer than version `after`, or after `wait_s` as it is."""
        if self._version <= after and wait_s > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), min(wait_s, 30.0))
        return self._shown()

    async def _events(self, after: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
        found = islice(ev.recorded(self._journal, after), limit)
        return [{"index": index, **ev.to_json(event)} for index, event in found]

    async def _act(self, verb: str, by: str, **details: Any) -> dict[str, Any]:
        """A person's act: cancel, pause, resume, decide, retry. Durable when this answers; refused with a reason."""
        input = _ACTS[verb](by, details)
        step = self.machine.handle(input, time.time())
        if isinstance(input, inp.Resume) and input.budget and not step.refusals:
            self._ledger.raise_limits(input.budget)
        state = self.machine.run.state
        if state is not None and not state.terminal:
            self._over = False
            self._last_view().unlink(missing_ok=True)
        self._perform(step)
        told = {"by": by, **{name: value for name, value in details.items() if value}}
        if step.refusals:
            error = step.refusals[0].error
            self.feed.note("run.refused", self.run, {"act": verb, "code": error.code, **told})
            raise from_record(error)
        await self._commit.durable()
        self.feed.note(f"run.{verb}", self.run, told)
        return self._shown()

    async def _keep_up(self) -> None:
        """Memberships are pushed. One that was pushed while this process could not yet hear, or was lost, is asked for."""
        while True:
            with contextlib.suppress(AIPError):
                newest = msgspec.msgpack.decode(await self.peers.insist(ROOT, "epoch"))
                if newest > self.placement.epoch:
                    await self._membership(await self.peers.insist(ROOT, "membership"))
            await asyncio.sleep(KEEP_UP_EVERY_S)

    async def _membership(self, payload: bytes) -> bytes:
        adopt(self.placement, self.cell, payload)
        return b""

    async def closing(self) -> None:
        self._leaving = (
            True  # What is cut off now is no outcome: it is fenced and sent again by the next process.
        )
        for attempt in list(self._attempts.values()):
            attempt.cancel()
        await self.cell.stop()
        await self._commit.durable()
        self._journal.close()


def _with_input(error: AIPError, dispatch: cmd.Dispatch | cmd.StartRun) -> ErrorRecord:
    """The error with what it was about: which attempt, and the beginning of what it was given."""
    error.details.update(attempt=dispatch.number, unit=dispatch.unit)
    given = plain(dispatch.arguments)
    text = json.dumps(given, ensure_ascii=False)
    error.details["input"] = given if len(text) <= INPUT_CHARS_MAX else f"{text[:INPUT_CHARS_MAX]}…"
    return to_record(error)


def _spends_as(holder: str) -> None:
    speaker = SPEAKER.get()
    if speaker is not None and holder != str(speaker):
        raise Misspoken(f"{speaker} may not spend as {holder}")


def _decide(by: str, details: dict[str, Any]) -> inp.Input:
    decision = "approve" if details.get("approve", True) else "deny"
    return inp.Decide(details["task"], decision, by, details.get("comment", ""))


_ACTS: dict[str, Any] = {
    "cancel": lambda by, details: inp.Cancel(by, details.get("reason", "")),
    "pause": lambda by, details: inp.Pause(by, details.get("reason", "")),
    "resume": lambda by, details: inp.Resume(by, details.get("budget") or {}),
    "decide": _decide,
    "retry": lambda by, details: inp.RetryFrom(details["task"], by),
}
