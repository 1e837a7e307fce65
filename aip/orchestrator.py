"""`Orchestrator`: the architecture guide's single-node face of the platform.

    orchestrator = Orchestrator()
    orchestrator.register_agent(agent, capabilities)
    results = await orchestrator.execute(plan)

`agent` is an `aip.Agent` class (or a plain function) of an importable module; `capabilities` are those it is registered for.
`plan` is the path of a plan.yaml, or the same as a mapping: what it leaves out (`apiVersion`, `kind`, `metadata`, `agents`,
`outputs`) is filled in from what was registered. Everything runs on the embedded platform, under the same guard as any
submitted plan.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from .agent import Agent, agent_of, type_name
from .client import Platform, connect, whoami
from .deployment import prepare
from .errors import AgentFailed, AIPError, Cancelled, ErrorRecord, Refused, UsageError, from_record
from .settings import Home


class Orchestrator:
    """Registered agents and the platform that runs plans over them. The platform is started with the first `execute`."""

    def __init__(self, home: Home | None = None) -> None:
        self._home = home or Home.find()
        self._agents: dict[str, type[Agent]] = {}
        self._entries: dict[str, str] = {}
        self._folder: Path | None = None

    def register_agent(
        self, agent: type[Agent] | Agent | Callable[..., Any], capabilities: Sequence[str] = ()
    ) -> str:
        """Make an agent available to plans; the name plans call it by. Raises `UsageError` for a capability it lacks."""
        given = type(agent) if isinstance(agent, Agent) else agent
        kind = agent_of(given)
        missing = sorted(set(capabilities) - kind.capabilities.keys())
        if missing:
            has = ", ".join(sorted(kind.capabilities))
            raise UsageError(f"{kind.__name__} has no capability {missing[0]!r}", hint=f"it has: {has}")
        name = type_name(kind).replace("-", "_")
        self._entries[name] = self._entry(given)
        self._agents[name] = kind
        return name

    def _entry(self, given: Any) -> str:
        """`module:name` beside the other registered agents: all of them travel in one bundle."""
        source = inspect.getsourcefile(given)
        if source is None:
            raise UsageError(f"{given!r} has no source file", hint="define agents in a module")
        path = Path(source).resolve()
        if given.__module__ == "__main__":
            raise UsageError(
                f"{given.__name__} is defined in the script that runs; its cells could not import it without running it",
                hint=f"move it into a module beside {path.name} and import it",
            )
        folder = path.parents[given.__module__.count(".")]
        if self._folder not in (None, folder):
            raise UsageError(
                f"agents from {self._folder} and {folder} cannot share a plan",
                hint="put them into one folder",
            )
        self._folder = folder
        return f"{given.__module__}:{given.__qualname__}"

    async def execute(
        self, plan: str | Path | Mapping[str, Any], inputs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run a plan to its end; its outputs. Raises the error that failed it, typed."""
        return await asyncio.to_thread(self._execute, plan, dict(inputs or {}))

    def _execute(self, plan: str | Path | Mapping[str, Any], inputs: dict[str, Any]) -> Any:
        with connect(self._home, start=True) as platform:
            if isinstance(plan, Mapping):
                source = yaml.safe_dump(self._whole(plan), sort_keys=False).encode()
                spec = prepare(self._home, source, "plan", self._folder or Path.cwd(), inputs, by=whoami())
                run = platform.submit_spec(spec)
            else:
                run = platform.submit(Path(plan), inputs)
            return outcome(platform, run)

    def _whole(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        agents = {name: {"use": entry} for name, entry in self._entries.items()}
        tasks = {name: self._assigned(task) for name, task in plan.get("tasks", {}).items()}
        outputs = {name: f"${{{{ tasks.{name}.output }}}}" for name in tasks}
        whole = {"apiVersion": "aip/v1", "kind": "Plan", "metadata": {"name": "plan"}, "outputs": outputs}
        return {**whole, **plan, "agents": {**agents, **plan.get("agents", {})}, "tasks": tasks}

    def _assigned(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """A task that names only a capability goes to the registered agent that has it."""
        if "agent" in task or "assign" in task or "capability" not in task:
            return dict(task)
        able = [name for name, kind in self._agents.items() if task["capability"] in kind.capabilities]
        return {**task, "agent": able[0]} if able else dict(task)


def outcome(platform: Platform, run: str) -> Any:
    """Wait for a run's end; its outputs, or its error raised."""
    *_, view = platform.watch(run)
    if view["state"] == "succeeded":
        return view["outputs"]
    raise _error(run, view)


def _error(run: str, view: Mapping[str, Any]) -> AIPError:
    failed = [task["error"] for task in view["tasks"].values() if task.get("error")]
    error = view.get("error") or (failed[0] if failed else None)
    if error is not None:
        known = {field: error[field] for field in ErrorRecord.__struct_fields__ if field in error}
        return from_record(ErrorRecord(**known))
    if view["state"] == "held":
        return Refused(f"run {run} waits for a person", hint=f"aip approve {run}")
    if view["state"] == "cancelled":
        return Cancelled(f"run {run} was cancelled")
    return AgentFailed(f"run {run} ended {view['state']}")
