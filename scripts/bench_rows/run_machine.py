"""What the machine of a run costs: CPU a task for a chain and a fan, the start of a large plan, memory of a large for_each.

Everything of a task is in it: handling the report, releasing what follows, evaluating arguments, hashing them, encoding the
events. The floor is what a journal needs at the least: one small event encoded for each of start and end.
"""

from __future__ import annotations

import random
import time
import tracemalloc
from typing import Any

from aip.orchestration import run_commands as cmd
from aip.orchestration import run_events as ev
from aip.orchestration import run_inputs as inp
from aip.orchestration.plan import (
    AgentSpec,
    Isolation,
    Plan,
    PlanLimits,
    Position,
    Restart,
    Retry,
    TaskSpec,
    When,
)
from aip.orchestration.run import RunMachine
from aip.orchestration.template import Template
from aip.runtime import codec

HERE = Position("plan.yaml", 1, 1)
WORKER = AgentSpec("worker", "m:A", 1, 64, Isolation.CELL, None, None, None, {}, Restart(), HERE)
RESULT = codec.encode({"n": 1})


def a_task(name: str, needs: tuple[str, ...] = (), arguments: Any = None, for_each: Any = None) -> TaskSpec:
    return TaskSpec(
        name=name,
        agent="worker",
        capability="work",
        arguments=Template(arguments or {}),
        needs=needs,
        for_each=None if for_each is None else Template(for_each),
        condition=None,
        when=When.ALL_OK,
        retry=Retry(),
        timeout_s=300.0,
        deadline_s=None,
        idempotency_key=None,
        gate=None,
        vote=None,
        budget={},
        position=HERE,
    )


def a_plan(tasks: list[TaskSpec]) -> Plan:
    return Plan(
        "bench", {}, {}, PlanLimits(), {"worker": WORKER}, {one.name: one for one in tasks}, {}, "d" * 64
    )


def chain(count: int, argument: str = "tasks.{}.output.n") -> Plan:
    """Each task is handed what `argument` makes of the result of the one before it."""
    tasks = [a_task("t0")]
    for number in range(1, count):
        before = f"t{number - 1}"
        tasks.append(a_task(f"t{number}", (before,), {"n": f"${{{{ {argument.format(before)} }}}}"}))
    return a_plan(tasks)


def computing_chain(count: int) -> Plan:
    return chain(count, "tasks.{}.output.n + 1")


def fan(count: int) -> Plan:
    middle = [f"m{n}" for n in range(count - 2)]
    tasks = [
        a_task("head"),
        *(a_task(name, ("head",), {"n": "${{ tasks.head.output.n }}"}) for name in middle),
    ]
    return a_plan([*tasks, a_task("tail", tuple(middle))])


def machine_of(plan: Plan) -> RunMachine:
    def load(ref: Any) -> Any:
        raise AssertionError(f"nothing here is an artifact: {ref}")

    return RunMachine(plan, load=load, rng=random.Random(1))


def drive(plan: Plan, *, batch: int = 1) -> float:
    """CPU seconds of a whole run, its events encoded; `batch` reports a step."""
    started = time.process_time()
    machine = machine_of(plan)
    step = machine.accept("r-1", "plan text", codec.encode({}), "bench", 0.0)
    open_: list[cmd.Dispatch] = []
    now_s = 0.0
    while True:
        for event in step.events:
            ev.encode(event)
        open_ += [one for one in step.commands if isinstance(one, cmd.Dispatch)]
        if not open_:
            break
        now_s += 0.001
        reports = [inp.Succeeded(one.attempt, one.lease, RESULT) for one in open_[:batch]]
        del open_[:batch]
        step = machine.handle_all(reports, now_s)
    spent_s = time.process_time() - started
    assert str(machine.run.state) == "succeeded"
    return spent_s


def floor_us() -> float:
    """Two events a task, encoded."""
    count = 20_000
    started = time.process_time()
    for number in range(count):
        ev.encode(ev.AttemptStarted(1.0, "task", 0, 1, number, 0, b"x" * 32))
        ev.encode(ev.AttemptSucceeded(1.0, number, RESULT))
    return (time.process_time() - started) / count * 1e6


def computed_us() -> float:
    """One computed argument by itself: what the expression language asks, on top of the machine."""
    template = Template("${{ tasks.t.output.n + 1 }}")
    scope = {"tasks": {"t": {"output": {"n": 1}}}}
    template.evaluate(scope)
    started = time.process_time()
    for _ in range(5_000):
        template.evaluate(scope)
    return (time.process_time() - started) / 5_000 * 1e6


def map_bytes_per_item(count: int) -> float:
    plan = a_plan([a_task("m", for_each=list(range(count)), arguments={"n": "${{ item }}"})])
    tracemalloc.start()
    try:
        machine = machine_of(plan)
        machine.accept("r-1", "plan text", codec.encode({}), "bench", 0.0)
        return tracemalloc.get_traced_memory()[0] / count
    finally:
        tracemalloc.stop()


def _row(
    name: str, value: float, unit: str, goal: float, reference: str | None = None, floor: float | None = None
) -> dict[str, Any]:
    return {
        "bench": "run_machine",
        "row": name,
        "value": round(value, 1),
        "unit": unit,
        "reference": reference,
        "reference_value": None if floor is None else round(floor, 3),
        "ratio": None if floor is None else round(value / floor, 1),
        "goal": round(goal, 1),
        "met": value <= goal,
    }


def rows() -> list[dict[str, Any]]:
    return [
        *_task_rows(),
        _start_row(),
        _row("for_each of 100,000", map_bytes_per_item(100_000), "bytes an item", 100.0),
    ]


def _task_rows() -> list[dict[str, Any]]:
    floor = floor_us()
    shapes = (
        ("chain", chain, 1),
        ("chain that computes its arguments", computing_chain, 1),
        ("fan", fan, 1),
        ("fan in batches of 64", fan, 64),
    )
    found = []
    for name, make, batch in shapes:
        plan = make(1_000)
        drive(plan)  # Expressions are compiled once for a plan; this pass is the warm one's.
        goal = 60.0 + (computed_us() if make is computing_chain else 0.0)
        best_us = min(drive(plan, batch=batch) for _ in range(5)) / 1_000 * 1e6
        found.append(
            _row(f"1,000 tasks, {name}", best_us, "us CPU a task", goal, "two events encoded", floor)
        )
    return found


def _start_row() -> dict[str, Any]:
    plan = fan(10_000)
    started = time.process_time()
    machine_of(plan).accept("r-1", "plan text", codec.encode({}), "bench", 0.0)
    return _row("start of 10,000 tasks", (time.process_time() - started) * 1e3, "ms CPU", 250.0)
