"""Plans in a line or two, and a world that answers a run's dispatches: for tests of the machine."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from aip.errors import ErrorRecord
from aip.orchestration import run_commands as cmd
from aip.orchestration import run_events as ev
from aip.orchestration import run_inputs as inp
from aip.orchestration.plan import (
    AgentSpec,
    Backoff,
    Compensation,
    Isolation,
    OnExceeded,
    Plan,
    PlanLimits,
    Position,
    Restart,
    Retry,
    Role,
    TaskSpec,
    When,
)
from aip.orchestration.run import RunMachine
from aip.orchestration.template import Template
from aip.runtime import codec

ONCE = Retry(attempts=1)
QUICK = Retry(attempts=3, backoff=Backoff(initial_s=1.0, jitter=0.0))
TRANSIENT = ErrorRecord("agent.failed", "boom", True)
PERMANENT = ErrorRecord("payload.invalid", "bad input")


def task(name: str, *needs: str, **fields: Any) -> TaskSpec:
    defaults: dict[str, Any] = {
        "agent": "worker",
        "capability": "work",
        "arguments": Template(fields.pop("with_", {})),
        "for_each": None,
        "condition": None,
        "when": When.ALL_OK,
        "retry": QUICK,
        "timeout_s": None,
        "deadline_s": None,
        "idempotency_key": None,
        "gate": None,
        "vote": None,
        "budget": {},
        "position": Position("plan.yaml", 1, 1),
    }
    for key in ("for_each", "condition", "idempotency_key"):
        if isinstance(fields.get(key), str | list):
            fields[key] = Template(fields[key])
    return TaskSpec(name=name, needs=needs, **{**defaults, **fields})


def closing(name: str, *needs: str, **fields: Any) -> TaskSpec:
    """A task of `finally`."""
    return task(name, *needs, role=Role.CLOSE, **fields)


def undo(with_: Any = None, **fields: Any) -> Compensation:
    defaults: dict[str, Any] = {
        "agent": "worker",
        "capability": "undo",
        "retry": ONCE,
        "timeout_s": 60.0,
        "position": Position("plan.yaml", 1, 1),
    }
    return Compensation(arguments=Template(with_ or {}), **{**defaults, **fields})


def agent(name: str, replicas_max: int = 4) -> AgentSpec:
    position = Position("plan.yaml", 1, 1)
    return AgentSpec(name, "m:A", 1, replicas_max, Isolation.CELL, None, None, None, {}, Restart(), position)


def plan(
    *tasks: TaskSpec,
    outputs: dict[str, Any] | None = None,
    agents: Iterable[AgentSpec] = (),
    closing: Iterable[TaskSpec] = (),
    **limits: Any,
) -> Plan:
    return Plan(
        name="p",
        labels={},
        inputs={},
        limits=PlanLimits(**{"concurrency": 8, "on_exceeded": OnExceeded.PAUSE, **limits}),
        agents={one.name: one for one in agents or (agent("worker"),)},
        tasks={one.name: one for one in tasks},
        outputs={name: Template(value) for name, value in (outputs or {}).items()},
        digest="d" * 64,
        closing={one.name: one for one in closing},
    )


Answer = Callable[[Any], Any]


class World:
    """A shell without a platform: keeps the journal, remembers what was asked, answers when told to."""

    def __init__(self, a_plan: Plan, *, inputs: Any = None, start: bool = True) -> None:
        self.plan = a_plan
        self.now_s = 100.0
        self.journal: list[bytes] = []
        self.commands: list[cmd.Command] = []
        self.refusals: list[cmd.Refusal] = []
        self.open: dict[int, Any] = {}  # Dispatch and StartRun, by lease.
        self.dispatched: list[Any] = []
        self.artifacts: dict[str, Any] = {}
        self.machine = self.new_machine()
        if start:
            self.take(self.machine.accept("r-1", "text", codec.encode(inputs or {}), "ada", self.now_s))

    def new_machine(self) -> RunMachine:
        return RunMachine(self.plan, load=self.load, rng=random.Random(7))

    def load(self, ref: Any) -> Any:
        return self.artifacts[ref.sha256]

    def take(self, step: cmd.Step) -> cmd.Step:
        self.journal += [ev.encode(event) for event in step.events]
        self.commands += step.commands
        self.refusals += step.refusals
        for command in step.commands:
            if isinstance(command, cmd.Dispatch | cmd.StartRun):
                self.open[command.lease] = command
                self.dispatched.append(command)
        return step

    def tell(self, *inputs: inp.Input) -> cmd.Step:
        return self.take(self.machine.handle_all(inputs, self.now_s))

    def wait(self, seconds: float) -> cmd.Step:
        self.now_s += seconds
        return self.tell(inp.Tick())

    def asked(self, name: str, unit: int = 0) -> Any:
        return next(one for one in reversed(self.open.values()) if (one.task, one.unit) == (name, unit))

    def succeed(self, name: str, value: Any = None, unit: int = 0, **spent: int) -> cmd.Step:
        one = self.open.pop(self.asked(name, unit).lease)
        return self.tell(inp.Succeeded(one.attempt, one.lease, codec.encode(value), spent))

    def fail(self, name: str, error: ErrorRecord = TRANSIENT, unit: int = 0, **spent: int) -> cmd.Step:
        one = self.open.pop(self.asked(name, unit).lease)
        return self.tell(inp.Failed(one.attempt, one.lease, error, spent))

    def run_through(self, answer: Answer = lambda _: None, steps_max: int = 100_000) -> None:
        """Answer every dispatch in order until there is none left; an ErrorRecord is a failure."""
        for _ in range(steps_max):
            if not self.open:
                return
            one = self.open.pop(next(iter(self.open)))
            value = answer(one)
            if isinstance(value, ErrorRecord):
                self.tell(inp.Failed(one.attempt, one.lease, value))
            else:
                self.tell(inp.Succeeded(one.attempt, one.lease, codec.encode(value)))
        raise AssertionError("the run does not end")

    def crash(self, events: int | None = None) -> None:
        """Kill the machine and start it again from the first `events` of its journal."""
        if events is not None:
            del self.journal[events:]
        self.open.clear()
        machine, step = RunMachine.recover(
            self.plan, map(ev.decode, self.journal), self.now_s, load=self.load, rng=random.Random(8)
        )
        self.machine = machine
        self.take(step)

    def replayed(self) -> RunMachine:
        machine = self.new_machine()
        for record in self.journal:
            machine.run.apply(ev.decode(record))
        return machine

    @property
    def state(self) -> str:
        return str(self.machine.run.state)

    def states(self) -> dict[str, str]:
        return {name: str(one.state) for name, one in self.machine.run.tasks.items()}

    def error(self, name: str) -> ErrorRecord:
        error = self.machine.run.tasks[name].error
        assert error is not None
        return error

    @property
    def finish(self) -> cmd.Finish:
        return next(one for one in reversed(self.commands) if isinstance(one, cmd.Finish))

    def issued(self, kind: type[Any]) -> list[Any]:
        return [one for one in self.commands if isinstance(one, kind)]
