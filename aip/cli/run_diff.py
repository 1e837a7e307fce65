"""`aip run diff`: two runs side by side, and the first place where they part.

Two runs have the same outcome if they ended alike, and every task of theirs did, with equal outputs. Attempts, times and spending
are told and never count: a run that came to the same by another way is the same.

Outputs are compared by their content. One that is an artifact is compared by its hash, and opened to say where it differs if it
is still there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from ..errors import AIPError
from ..settings import Home
from . import measure, text
from .command import Command
from .contract import Json
from .exit_code import ExitCode
from .output import Column, Row, show_rows, show_value
from .records import Records, records
from .run_address import RUN, RunAddress
from .session import Session, session

DIFFERENCES_MAX = 20  # Of one value: enough to see what kind of difference it is.
DEPTH_MAX = 64  # As deep as payloads go (`Limits.payload_depth_max`).
CELL_CHARS_MAX = 120

MISSING: Any = object()

Open = Callable[[Any], Any]


def differences(a: Any, b: Any, path: str = "$", depth: int = 0) -> Iterator[dict[str, Any]]:
    """Where two JSON values differ, outermost and first things first; a side that has nothing there is left out."""
    if depth < DEPTH_MAX and isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in [*a, *(key for key in b if key not in a)]:
            yield from differences(a.get(key, MISSING), b.get(key, MISSING), f"{path}.{key}", depth + 1)
    elif depth < DEPTH_MAX and isinstance(a, list) and isinstance(b, list):
        for index in range(max(len(a), len(b))):
            left = a[index] if index < len(a) else MISSING
            right = b[index] if index < len(b) else MISSING
            yield from differences(left, right, f"{path}[{index}]", depth + 1)
    elif digest(a) != digest(b):
        yield {"path": path, **_side("a", a), **_side("b", b)}


def _side(name: str, value: Any) -> dict[str, Any]:
    return {} if value is MISSING else {name: value}


def digest(value: Any) -> str:
    """SHA-256 of the value as canonical JSON: 1 and 1.0 differ, the order of keys does not. "" for no value."""
    if value is MISSING:
        return ""
    data = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=repr)
    return hashlib.sha256(data.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(slots=True)
class TaskTold:
    """One task of one run, in its last generation, as its journal tells it."""

    state: str = "pending"
    attempts: int = 0
    began_s: float | None = None
    ended_s: float | None = None
    spent: dict[str, int] = field(default_factory=dict)
    arguments: dict[int, str] = field(default_factory=dict)  # By unit: the hash of the last attempt's.
    values: dict[int, Any] = field(default_factory=dict)  # By unit.
    decision: Any = None  # Of a gate, or the tallies of a vote.

    @property
    def took_s(self) -> float | None:
        return None if self.began_s is None or self.ended_s is None else self.ended_s - self.began_s

    @property
    def outcome(self) -> list[Any]:
        return [self.state, self.decision, [[unit, self.values[unit]] for unit in sorted(self.values)]]

    def to_json(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "attempts": self.attempts,
            "took_s": self.took_s,
            "spent": self.spent,
            "output_sha256": digest([[unit, self.values[unit]] for unit in sorted(self.values)])
            if self.values
            else None,
        }


@dataclass(slots=True)
class RunTold:
    """One run, as its journal tells it."""

    run: str = ""
    plan_digest: str = ""
    inputs: Any = None
    state: str = ""
    accepted_s: float | None = None
    finished_s: float | None = None
    outputs: Any = None
    spent: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, TaskTold] = field(
        default_factory=dict
    )  # In the order in which they ended, where they did.

    def to_json(self) -> dict[str, Any]:
        took_s = None
        if self.accepted_s is not None and self.finished_s is not None:
            took_s = self.finished_s - self.accepted_s
        return {
            "run": self.run,
            "plan_digest": self.plan_digest,
            "state": self.state,
            "took_s": took_s,
            "spent": self.spent,
        }


def told(run_id: str, events: Iterable[Json]) -> RunTold:
    """What a journal comes to, task by task. Events that say nothing about outcomes are passed over."""
    found = RunTold(run_id)
    flying: dict[int, tuple[str, int]] = {}
    for event in events:
        match event["event"]:
            case "run_accepted":
                found.plan_digest, found.inputs = event["plan_digest"], event["inputs"]
                found.accepted_s = event["at_s"]
            case "run_moved":
                found.state = event["state"]
            case "run_finished":
                found.state, found.outputs, found.finished_s = event["state"], event["outputs"], event["at_s"]
            case "task_ready" | "map_expanded":
                found.tasks[event["task"]] = TaskTold(
                    "ready"
                )  # Of a later generation: the earlier one is gone.
            case "attempt_started":
                task = found.tasks.setdefault(event["task"], TaskTold())
                flying[event["lease"]] = (event["task"], event["unit"])
                task.state, task.attempts = "running", task.attempts + 1
                task.began_s = event["at_s"] if task.began_s is None else task.began_s
                task.arguments[event["unit"]] = event["arguments_sha256"]
            case "attempt_succeeded" | "attempt_failed":
                name, unit = flying.pop(event["lease"], ("", 0))
                if name in found.tasks:
                    _reported(found, found.tasks[name], unit, event)
            case "attempt_fenced":
                name, _ = flying.pop(event["lease"], ("", 0))
                found.tasks[name].attempts -= 1  # The platform's crash, not an attempt of the agent's.
            case "gate_decided":
                found.tasks[event["task"]].decision = event["decision"]
            case "vote_tallied":
                tallies = found.tasks[event["task"]].decision or []
                found.tasks[event["task"]].decision = [*tallies, _plain(event["tally"])]
            case "task_ended" | "task_skipped":
                task = found.tasks.pop(event["task"], TaskTold())
                task.state, task.ended_s = event.get("state", "skipped"), event["at_s"]
                found.tasks[event["task"]] = task
    return found


def _reported(found: RunTold, task: TaskTold, unit: int, event: Json) -> None:
    if "value" in event:
        task.values[unit] = event["value"]
    for name, amount in (event.get("spent") or {}).items():
        task.spent[name] = task.spent.get(name, 0) + amount
        found.spent[name] = found.spent.get(name, 0) + amount


def _plain(tally: Any) -> Any:
    """A tally by what was decided and how: a struct of another version is compared by what it shows."""
    return tally if isinstance(tally, Mapping | list) else repr(tally)


def compared(a: RunTold, b: RunTold, opened: Open = lambda value: value) -> dict[str, Any]:
    """The comparison as plain JSON. `opened` turns an artifact's reference into its content, where it can."""
    tasks = [_task(name, a.tasks.get(name), b.tasks.get(name), opened) for name in {**a.tasks, **b.tasks}]
    same_outputs = digest(a.outputs) == digest(b.outputs)
    same = a.state == b.state and same_outputs and all(task["same"] for task in tasks)
    return {
        "a": a.to_json(),
        "b": b.to_json(),
        "same_outcome": same,
        "same_plan": a.plan_digest == b.plan_digest,
        "inputs": _values(a.inputs, b.inputs, opened),
        "outputs": _values(a.outputs, b.outputs, opened),
        "tasks": tasks,
        "first_divergence": _first(a, b, tasks),
    }


def _values(a: Any, b: Any, opened: Open) -> dict[str, Any]:
    same = digest(a) == digest(b)
    return {"same": same, "differences": [] if same else _some(opened(a), opened(b))}


def _some(a: Any, b: Any) -> list[dict[str, Any]]:
    return [one for one, _ in zip(differences(a, b), range(DIFFERENCES_MAX), strict=False)]


def _task(name: str, a: TaskTold | None, b: TaskTold | None, opened: Open) -> dict[str, Any]:
    row: dict[str, Any] = {"task": name, "a": a and a.to_json(), "b": b and b.to_json()}
    row["same"] = a is not None and b is not None and digest(a.outcome) == digest(b.outcome)
    row["differences"] = []
    if a is not None and b is not None and not row["same"]:
        for unit in sorted({*a.values, *b.values}):
            left, right = a.values.get(unit, MISSING), b.values.get(unit, MISSING)
            if digest(left) != digest(right):
                root = "$" if len(a.values) <= 1 and len(b.values) <= 1 else f"$[{unit}]"
                row["differences"] += differences(_opened(left, opened), _opened(right, opened), root)
        row["differences"] = row["differences"][:DIFFERENCES_MAX]
    return row


def _opened(value: Any, opened: Open) -> Any:
    return value if value is MISSING else opened(value)


def _first(a: RunTold, b: RunTold, tasks: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first task, in the order of A's ends, that came to something else. Its dependencies came to the same, so the cause is
    in it: with the same arguments in the agent, with others in the plan, its inputs or its expressions."""
    for task in tasks:
        if task["same"]:
            continue
        name = task["task"]
        left, right = a.tasks.get(name), b.tasks.get(name)
        if left is None or right is None:
            return {"task": name, "why": f"only in {(a if right is None else b).run}"}
        units = sorted({*left.arguments, *right.arguments})
        for unit in units:
            if left.arguments.get(unit) != right.arguments.get(unit):
                return {"task": name, "unit": unit, "why": "other arguments"}
            if digest(left.values.get(unit, MISSING)) != digest(right.values.get(unit, MISSING)):
                return {"task": name, "unit": unit, "why": "same arguments, another result"}
        return {"task": name, "why": "ended otherwise" if left.state != right.state else "decided otherwise"}
    return None


@click.command(
    "diff",
    cls=Command,
    examples="""
    aip run diff r-01jd r-01je
    aip run diff last r-01jd -o json
    """,
)
@click.argument("a", metavar="RUN_A", type=RUN)
@click.argument("b", metavar="RUN_B", type=RUN)
def diff(a: RunAddress, b: RunAddress) -> None:
    """Compare two runs: plan, inputs, and what each task came to.

    Exit code 0 if they came to the same, 1 if not. Attempts, times and spending are shown and do not count.
    """
    one = session()
    with records(one) as known:
        found = compared(_read(known, a), _read(known, b), opener(one.folder))
    show_value(one, found, lambda: show(one, found))
    if not found["same_outcome"]:
        click.get_current_context().exit(ExitCode.FAILED)


def _read(known: Records, address: RunAddress) -> RunTold:
    run_id = known.id_of(address)
    return told(run_id, known.events(run_id))


def opener(home: Home) -> Open:
    """Opens artifacts of this home. One that is gone stays the reference that it is."""
    from ..orchestration.artifact import ArtifactRef, ArtifactStore
    from ..runtime import codec

    store = ArtifactStore(home.artifacts)

    def opened(value: Any) -> Any:
        if not isinstance(value, Mapping) or value.keys() != {"sha256", "size_bytes"}:
            return value
        try:
            return codec.decode(store.get(ArtifactRef(value["sha256"], value["size_bytes"])))
        except AIPError:
            return value  # Collected, or an agent's own value that looks like one of ours.

    return opened


def show(one: Session, found: Json) -> None:
    a, b = found["a"], found["b"]
    one.write(
        text.line(f"a  {a['run']}  {a['state']}  {measure.duration(a['took_s'])}  {_spent(a['spent'])}")
    )
    one.write(
        text.line(f"b  {b['run']}  {b['state']}  {measure.duration(b['took_s'])}  {_spent(b['spent'])}")
    )
    one.write(f"plan     {'same' if found['same_plan'] else 'DIFFERS'}")
    for name in ("inputs", "outputs"):
        one.write(f"{name:<8} {'same' if found[name]['same'] else 'DIFFER'}")
        for line in difference_lines(found[name]["differences"]):
            one.write(f"         {line}")
    show_rows(one, found["tasks"], TASK_COLUMNS, nothing="neither run has started a task")
    for task in found["tasks"]:
        for line in difference_lines(task["differences"]):
            one.write(text.line(f"{task['task']}  {line}"))
    first = found["first_divergence"]
    if first is not None:
        unit = f" unit {first['unit']}" if first.get("unit") else ""
        one.say(f"they part at {first['task']}{unit}: {first['why']}")
    elif found["same_outcome"]:
        one.say("same outcome")


def difference_lines(found: Iterable[Json]) -> Iterator[str]:
    for one in found:
        left, right = (
            text.line(text.compact_json(one[side]), CELL_CHARS_MAX) if side in one else "nothing"
            for side in "ab"
        )
        yield text.line(f"{one['path']}  {left} | {right}")


def _spent(spent: Mapping[str, int]) -> str:
    return ", ".join(
        f"{measure.unit_name(unit)} {measure.amount(unit, amount)}" for unit, amount in spent.items()
    )


def _of(
    side: str, name: str, shown: Callable[[Any], object] = lambda value: value
) -> Callable[[Row], object]:
    def cell(row: Row) -> object:
        task = row.get(side)
        return "" if task is None else shown(task.get(name))

    return cell


TASK_COLUMNS = (
    Column("TASK", lambda row: row["task"]),
    Column("OUTCOME", lambda row: "same" if row["same"] else "differs"),
    Column("A", _of("a", "state")),
    Column("B", _of("b", "state")),
    Column("TRIES A", _of("a", "attempts"), right=True),
    Column("TRIES B", _of("b", "attempts"), right=True),
    Column("TOOK A", _of("a", "took_s", measure.duration), right=True),
    Column("TOOK B", _of("b", "took_s", measure.duration), right=True),
    Column("SPENT A", _of("a", "spent", _spent)),
    Column("SPENT B", _of("b", "spent", _spent)),
)
