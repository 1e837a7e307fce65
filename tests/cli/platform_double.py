"""A platform in memory behind the names that the command line uses: runs are scripts of views, acts are written down."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec

from aip.errors import NotFound, PlatformUnavailable
from aip.governance.kill import Fence
from aip.settings import Home

Json = dict[str, Any]
T0 = 1_800_000_000.0


def task(state: str = "pending", **more: Any) -> Json:
    return {
        "state": state,
        "generation": 1,
        "agent": "reader",
        "capability": "read",
        "attempts": 0,
        "started_at_s": None,
        "finished_at_s": None,
        "error": None,
        "position": "plan.yaml:9:3",
    } | more


def run_view(
    run: str = "r-1", state: str = "running", tasks: Mapping[str, Json] | None = None, **more: Any
) -> Json:
    ended = state in ("succeeded", "failed", "cancelled", "killed")
    return {
        "run": run,
        "plan": "market-report",
        "state": state,
        "reason": "",
        "error": None,
        "submitted_by": "ada",
        "accepted_at_s": T0,
        "finished_at_s": T0 + 42 if ended else None,
        "in_flight": 0,
        "tasks": dict(tasks or {}),
        "gates": [],
        "critical_path": [],
        "spend": {"spent": {}, "reserved": {}, "limits": {}},
        "efficiency": None,
        "stale_reports": 0,
    } | more


def failed(code: str = "agent.failed", message: str = "ValueError: no page", **details: Any) -> Json:
    return {"code": code, "message": message, "retryable": True, "hint": "", "details": details}


class Double:
    """Both the module `aip.client` and the platform it connects to. `up` says whether one runs."""

    def __init__(self, *, up: bool = True) -> None:
        self.up = up
        self.started: list[Json] = []
        self.acts: list[tuple[Any, ...]] = []
        self.views: dict[str, list[Json]] = {}
        self.next_views: list[Json] = [run_view("r-new", "succeeded")]
        self.log: list[Json] = []
        self.journal: list[Json] = []
        self.manifests: dict[str, Json] = {}
        self.on_watch: Callable[[int], None] = lambda _: None
        self.error: Exception | None = None
        self.watched = 0
        self.answer: Any = "hello, Ada"

    # aip.client

    def connect(
        self,
        home: Home | None = None,
        *,
        start: bool = False,
        on_progress: Callable[[str], None] | None = None,
        **options: Any,
    ) -> Double:
        if not self.up:
            if not start:
                raise PlatformUnavailable("no platform is running")
            if on_progress:
                on_progress("starting Ray")
            self.started.append(options)
            self.up = True
        return self

    def stored_runs(self, home: Home) -> list[Json]:
        return self.runs()

    def stored_run(self, home: Home, run: str) -> Json:
        return self.run(run)

    def stored_events(self, home: Home, run: str, after: int = 0) -> Iterator[Json]:
        return iter(self.journal[after:])

    def stored_logs(self, home: Home, run: str, task: str | None) -> Iterator[Json]:
        return self.logs(run, task)

    def standing_orders(self, home: Home) -> list[Json]:
        return [msgspec.to_builtins(one) for one in Fence(home.state / "kill").orders().standing.values()]

    def inspect_code(self, folder: Path, entries: Sequence[str]) -> Mapping[str, Json]:
        self.acts.append(("inspect", list(entries)))
        return {entry: self.manifests[entry] for entry in entries}

    def inspect_contained(self, folder: Path, entries: Sequence[str]) -> Mapping[str, Json]:
        self.acts.append(("inspect in a sandbox", list(entries)))
        return {entry: self.manifests[entry] for entry in entries}

    # Platform

    def ask(self, name: str, method: str, timeout_s: float = 30.0, /, **arguments: Any) -> Any:
        raise PlatformUnavailable(f"{name} does not answer {method}")

    def close(self) -> None:
        self.acts.append(("close",))

    def status(self) -> Json:
        return {
            "platform_id": "p-1",
            "address": "127.0.0.1:6379",
            "since_s": 60.0,
            "tree": {
                "name": "root",
                "state": "up",
                "pid": 11,
                "restarts": 0,
                "children": [{"name": "registry", "state": "up", "pid": 12, "restarts": 1, "children": []}],
            },
            "processes": [{"role": "head", "pid": 10, "rss_bytes": 100 * 2**20, "cpu_s": 1.5}],
            "agents": 3,
            "runs": {"running": 1},
            "kill_orders": [{"target": "greeter/ada", "by": "ada", "reason": "nonsense"}],
            "idle_stop_s": 1800.0,
            "checks": ["kill", "budget"],
        }

    def submit(
        self,
        plan_path: Path,
        inputs: Json,
        *,
        idempotency_key: str = "",
        by: str = "",
        rank_by: str = "measured",
    ) -> str:
        if self.error:
            raise self.error
        self.acts.append(("submit", plan_path.name, inputs, idempotency_key))
        run_id = str(self.next_views[0]["run"])
        self.views[run_id] = self.next_views
        return run_id

    def run(self, run_id: str) -> Json:
        if run_id not in self.views:
            raise NotFound(f"no run {run_id}")
        return deepcopy(self.views[run_id][-1])

    def runs(self) -> list[Json]:
        return [deepcopy(views[-1]) for views in self.views.values()]

    def events(self, run_id: str, after: int = 0, follow: bool = False) -> Iterator[Json]:
        return iter(self.journal[after:])

    def logs(self, run_id: str, task: str | None = None, follow: bool = False) -> Iterator[Json]:
        return (entry for entry in self.log if task is None or entry.get("task") == task)

    def watch(self, run_id: str) -> Iterator[Json]:
        self.watched += 1
        self.on_watch(self.watched)
        yield from (deepcopy(view) for view in self.views[run_id])

    def cancel(self, run_id: str, reason: str) -> None:
        self.acts.append(("cancel", run_id, reason))
        self.views[run_id] = [run_view(run_id, "cancelled", reason=reason)]

    def pause(self, run_id: str) -> None:
        self.acts.append(("pause", run_id))

    def resume(self, run_id: str, budget: dict[str, int]) -> None:
        self.acts.append(("resume", run_id, budget))

    def decide(self, run_id: str, task: str, approve: bool, by: str, comment: str) -> None:
        self.acts.append(("decide", run_id, task, approve, comment))

    def retry(self, run_id: str, task: str) -> None:
        self.acts.append(("retry", run_id, task))

    def agents(self, run: str | None) -> list[Json]:
        found = [
            {
                "address": "greeter/ada",
                "state": "active",
                "cell": "c-1",
                "incarnation": 2,
                "mailbox": 0,
                "run": "r-1",
            },
            {
                "address": "greeter/bob",
                "state": "active",
                "cell": "c-1",
                "incarnation": 1,
                "mailbox": 4,
                "run": "",
            },
        ]
        return [one for one in found if run is None or one["run"] == run]

    def agent(self, address: str) -> Json:
        kind, _, key = address.partition("/")
        return {"address": f"{kind}@3f2a9c01d2e4/{key}", "state": "active", "capabilities": ["greet"]}

    def call(self, target: str, capability: str, arguments: Json, *, timeout_s: float) -> Any:
        if self.error:
            raise self.error
        self.acts.append(("call", target, capability, arguments, timeout_s))
        return self.answer

    def types(self) -> list[Json]:
        old = {**GREETER, "type": "greeter@000000000000", "capabilities": {}}
        return [old, {**GREETER, "type": "greeter@3f2a9c01d2e4"}]


GREETER: Json = {
    "type": "greeter",
    "doc": "Greets people.",
    "reentrant": False,
    "capabilities": {
        "greet": {
            "doc": "Greet one person.",
            "kind": "async",
            "input": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "times": {"type": "integer", "default": 1}},
                "required": ["name"],
                "additionalProperties": False,
            },
            "output": {"type": "string"},
        }
    },
}


def one_json(text: str) -> Any:
    """The only JSON document in a text; anything beside it is an error."""
    return json.loads(text)
