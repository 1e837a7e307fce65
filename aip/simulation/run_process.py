"""The run of a plan on the simulated road: the real `RunMachine` behind a real journal, as `actors/run.py` performs it.

`RunWitness` reads the journal as an outsider does and knows nothing of the machine (J1, R1, R2, R3).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import AIPError, Cancelled, to_record
from ..governance.kill import KillCheck
from ..orchestration import run_commands as cmd
from ..orchestration import run_events as ev
from ..orchestration import run_inputs as inp
from ..orchestration.plan import Plan, When
from ..orchestration.run import RunMachine
from ..runtime import codec
from ..runtime.group_commit import GroupCommit
from ..runtime.journal import Journal
from ..runtime.simulated_disk import SimulatedDisk
from ..runtime.task import TaskState
from .cast import watched
from .cell_process import CellProcess
from .clock import NoThreads
from .network import Process
from .witness import Witness

SYNC_EVERY_S = 0.05
FENCE_EVERY_S = 0.2
ATTEMPT_S = 30.0


class RunWitness:
    """What a run's journal must say, event by event."""

    def __init__(self, plan: Plan, witness: Witness) -> None:
        self._plan = plan
        self._witness = witness
        self.flying: dict[int, tuple[str, int]] = {}
        self.finished: dict[tuple[str, int], None] = {}
        self.ends: dict[str, TaskState] = {}

    def see(self, event: ev.AnyEvent) -> None:
        hold = self._witness.hold
        match event:
            case ev.AttemptStarted(task=name, unit=unit, lease=lease):
                unit_key = (name, unit)
                hold("J1", unit_key not in self.finished, f"{unit_key} had finished and started again")
                hold("R3", unit_key not in self.flying.values(), f"{unit_key} has two attempts in flight")
                hold("R1", name not in self.ends, f"task {name} had ended and started again")
                self._released(name)
                self.flying[lease] = unit_key
            case ev.AttemptSucceeded(lease=lease):
                hold("R3", lease in self.flying, f"lease {lease} succeeded and was not in flight")
                if lease in self.flying:
                    self.finished[self.flying.pop(lease)] = None
            case ev.AttemptFailed(lease=lease) | ev.AttemptFenced(lease=lease):
                hold("R3", lease in self.flying, f"lease {lease} failed and was not in flight")
                self.flying.pop(lease, None)
            case ev.TaskEnded(task=name, state=state):
                self._ended(name, state)
            case ev.TaskSkipped(task=name):
                self._ended(name, TaskState.SKIPPED)

    def _ended(self, name: str, state: TaskState) -> None:
        self._witness.hold("R1", name not in self.ends, f"task {name} ended twice")
        self.ends[name] = state

    def _released(self, name: str) -> None:
        spec = self._plan.tasks[name]
        states = [self.ends.get(need) for need in spec.needs]
        good = TaskState.SUCCEEDED
        bad = (TaskState.FAILED, TaskState.CANCELLED)
        allowed = {
            When.ALL_OK: all(state is good for state in states),
            When.NONE_FAILED: None not in states and not any(state in bad for state in states),
            When.ANY_OK: None not in states and (not states or good in states),
            When.ALWAYS: None not in states,
        }[spec.when]
        self._witness.hold("R2", allowed, f"task {name} ({spec.when}) started after {states}")


class RunProcess(CellProcess):
    def __init__(
        self, name: str, generation: int, *, plan: Plan, disk: SimulatedDisk, **options: Any
    ) -> None:
        super().__init__(name, generation, hosts=False, **options)
        self.run = name.removeprefix("run-")
        self.disk = disk
        self._plan = plan
        self._kill_check: KillCheck = options["kill_check"]
        self._clock: Callable[[], float] = options["clock"]
        self._run_rng: random.Random = options["rng"]
        self._journal = Journal(disk)
        self._commit = GroupCommit(self._journal, NoThreads())
        self._attempts: dict[int, asyncio.Task[None]] = {}
        self._inbox: list[inp.Input] = []
        self._timer: asyncio.TimerHandle | None = None
        self._sequence = generation << 32
        self.over = False
        self.witnessed = RunWitness(plan, self._witness)

    def begin(self) -> None:
        """A new run is accepted; one with a journal is taken up where it stands."""
        events = [ev.decode(record.payload) for record in self._journal.replay()]
        for event in events:
            self.witnessed.see(event)
        now = self._clock()
        if events:
            self.machine, step = RunMachine.recover(self._plan, events, now, load=_nothing, rng=self._run_rng)
        else:
            self.machine = RunMachine(self._plan, load=_nothing, rng=self._run_rng)
            step = self.machine.accept(self.run, "simulated", codec.encode({}), "ada", now)
        self._perform(step)
        self.task(self._sync_behind())
        self.task(self._watch_fence())

    def take(self, input: inp.Input) -> None:
        self._inbox.append(input)
        if len(self._inbox) == 1:
            asyncio.get_running_loop().call_soon(self._drain)

    def _drain(self) -> None:
        inbox, self._inbox = self._inbox, []
        if inbox and not self.over and self.alive:
            self._perform(self.machine.handle_all(inbox, self._clock()))

    def _perform(self, step: cmd.Step) -> None:
        self._write(step)
        for command in step.commands:
            match command:
                case cmd.Dispatch():
                    self._dispatch(command)
                case cmd.CancelAttempt():
                    if (attempt := self._attempts.get(command.lease)) is not None:
                        attempt.cancel()
                case cmd.SetTimer():
                    self._set_timer(command.at_s)
                case cmd.Finish():
                    self.over = True
                    self.task(self._finish(command))

    def _write(self, step: cmd.Step) -> None:
        if step.events:
            self._journal.append_many((ev.RECORD, ev.encode(event)) for event in step.events)
            for event in step.events:
                self._witness.event("journal", self.run, type(event).__name__)
                self.witnessed.see(event)

    def _dispatch(self, command: cmd.Dispatch) -> None:
        written = self.witnessed.flying.get(command.lease) == (command.task, command.unit)
        self._witness.hold("J1", written, f"{command.attempt} left before its start was in the journal")
        self._attempts[command.lease] = self.task(self._attempt(command))

    def _set_timer(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay_s = max(0.0, at_s - self._clock())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self.take, inp.Tick())

    async def _sync_behind(self) -> None:
        while True:
            await self._commit.durable()
            await asyncio.sleep(SYNC_EVERY_S)

    async def _watch_fence(self) -> None:
        while not self.over:
            for target in ("platform", f"run/{self.run}"):
                order = self._kill_check.standing.get(target)
                if order is not None:
                    self.take(inp.Kill(order.by, order.reason))
            await asyncio.sleep(FENCE_EVERY_S)

    async def _finish(self, command: cmd.Finish) -> None:
        for attempt in list(self._attempts.values()):
            attempt.cancel()
        await self._commit.durable()
        self._witness.event("run ended", self.run, command.state)

    async def _attempt(self, dispatch: cmd.Dispatch) -> None:
        lease, name = dispatch.lease, dispatch.attempt
        try:
            payload = await self._ask(dispatch)
        except asyncio.CancelledError:
            self.take(inp.Failed(name, lease, to_record(Cancelled(f"attempt {name} was cancelled"))))
        except AIPError as failed:
            self.take(inp.Failed(name, lease, to_record(failed)))
        else:
            self.take(inp.Succeeded(name, lease, payload))
        finally:
            self._attempts.pop(lease, None)

    async def _ask(self, dispatch: cmd.Dispatch) -> bytes:
        await self.joined.wait()
        self._sequence += 1
        uid = f"{self.name}.{self.generation}.{dispatch.lease}"
        now = self._clock()
        timeout_s = ATTEMPT_S if dispatch.deadline_s is None else max(0.0, dispatch.deadline_s - now)
        arguments: Mapping[str, Any] = {"uid": uid, "script": dispatch.arguments["script"]}
        envelope = self.cell.request(
            f"run/{self.run}",
            self._sequence,
            f"subject/{self.run}.{dispatch.replica}",
            "work",
            arguments,
            timeout_s=timeout_s,
            run=self.run,
            idempotency_key=dispatch.idempotency_key,
        )
        raised: list[AIPError] = []
        payloads: list[bytes] = []

        async def ask() -> Any:
            try:
                payload = await self.cell.ask(envelope) or b"\xc0"
            except AIPError as error:
                raised.append(error)
                raise
            payloads.append(payload)
            return codec.decode(payload)

        await watched(self._witness, uid, self, now + timeout_s, ask)
        if raised:
            raise raised[0]
        return payloads[0]


def _nothing(ref: Any) -> Any:
    raise AssertionError("every value of a simulated run is inline")


def living_run(process: Process | None) -> RunProcess | None:
    return process if isinstance(process, RunProcess) and process.alive else None
