"""One attempt of a run as it was: who was asked for what, with which arguments, and what came of it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.run_spec import address_of

from ...errors import Corrupt, ErrorRecord, Refused, UsageError
from ...orchestration import run_events as ev
from ...orchestration.run import RunMachine
from ...orchestration.run_scope import Scopes
from ...orchestration.run_task import TaskRun, agent_of
from ...settings import DEFAULT_LIMITS
from .fold import arguments_hash
from .stored import Stored

OUR_CODE = "aip."  # Entries that begin so are AIP's own agents: models and tool servers, which reach outside.


class NotReplayed(Refused):
    """A replay touches nothing outside, and of this there is no record to answer from."""

    code = "refused.not_replayed"


@dataclass(slots=True)
class Work:
    """One attempt as it was: who was asked for what, and what came of it."""

    task: str
    unit: int
    attempt: int
    generation: int
    lease: int
    agent: str
    address: str
    code: Path  # The folder that its agent's code is in.
    capability: str
    arguments: Any
    idempotency_key: str
    timeout_s: float | None
    value: Any = None
    error: ErrorRecord | None = None
    ended: bool = False

    @property
    def outcome(self) -> dict[str, Any]:
        return outcome(self.value, self.error) if self.ended else {"state": "never ended"}


def outcome(value: Any, error: ErrorRecord | None) -> dict[str, Any]:
    """What an attempt came to, as it is compared. Where an error was raised is told and not compared."""
    if error is None:
        return {"state": "succeeded", "value": value}
    return {"state": "failed", "code": error.code, "message": error.message}


def work_of(stored: Stored, task: str, unit: int | None, number: int | None) -> Work:
    """The attempt that is meant: of the task's last generation, its first failed unit, the unit's last attempt."""
    run = RunMachine(stored.plan, load=stored.load, rng=random.Random(0)).run
    chosen = _chosen(stored, task, unit, number)
    scopes = Scopes(run, stored.load, DEFAULT_LIMITS)
    work: Work | None = None
    for _, event in stored.events:
        run.apply(event)
        if isinstance(event, ev.AttemptStarted) and event.lease == chosen.lease:
            work = _prepared(stored, scopes, run.tasks[task], event)
        elif work is not None and getattr(event, "lease", None) == work.lease:
            work.ended = not isinstance(event, ev.AttemptFenced)
            if isinstance(event, ev.AttemptSucceeded):
                work.value = scopes.open(event.value)
            elif isinstance(event, ev.AttemptFailed):
                work.error = event.error
            break
    assert work is not None
    return work


def _chosen(stored: Stored, task: str, unit: int | None, number: int | None) -> Any:
    """The `AttemptStarted` that is meant. Raises `UsageError` that says which there are."""
    started: list[ev.AttemptStarted] = []
    failed: set[int] = set()
    for _, event in stored.events:
        if isinstance(event, ev.TaskReady | ev.MapExpanded) and event.task == task:
            started.clear()
        elif isinstance(event, ev.AttemptStarted) and event.task == task:
            started.append(event)
        elif isinstance(event, ev.AttemptFailed):
            failed.add(event.lease)
    if not started:
        raise UsageError(
            f"no attempt of {task} was ever started",
            hint=f"see why: aip run replay {stored.run}",
        )
    if unit is None:
        unit = next((one.unit for one in reversed(started) if one.lease in failed), started[0].unit)
    of_unit = [one for one in started if one.unit == unit]
    found = [one for one in of_unit if number in (None, one.attempt)]
    if not found:
        there = sorted({one.attempt for one in of_unit} if of_unit else {one.unit for one in started})
        what = "attempts" if of_unit else "units"
        some = ", ".join(map(str, there[:12])) + (", …" if len(there) > 12 else "")
        raise UsageError(f"{task} has no such {what.removesuffix('s')}", hint=f"its {what} are {some}")
    return found[-1]


def _prepared(stored: Stored, scopes: Scopes, task: TaskRun, event: Any) -> Work:
    scope = scopes.unit(task, event.unit, event.attempt)
    arguments = task.spec.arguments.evaluate(scope)
    if arguments_hash(arguments) != event.arguments_sha256:
        raise Corrupt(
            f"the arguments of {task.name} are not those that were sent",
            hint=f"see where the record breaks: aip run replay {stored.run}",
        )
    capability = str(task.spec.capability)
    agent = agent_of(task.spec, event.unit) or _able(stored, capability)
    kind = stored.spec.types[agent]
    entry, place = entries(stored)[kind]
    if entry.startswith(OUR_CODE):
        raise NotReplayed(
            f"{agent} is AIP's own and reaches outside", hint=f"replay the agent that asks {agent}"
        )
    return Work(
        task=task.name,
        unit=event.unit,
        attempt=event.attempt,
        generation=task.generation,
        lease=event.lease,
        agent=agent,
        address=address_of(kind, stored.run, agent, event.replica),
        code=place,
        capability=capability,
        arguments=arguments,
        idempotency_key=scopes.idempotency_key(task, event.unit, scope),
        timeout_s=task.spec.timeout_s,
    )


def _able(stored: Stored, capability: str) -> str:
    """A task without an agent went to whoever the registry found; an agent of the plan that can do it stands in."""
    able = {
        kind
        for use in stored.spec.pools
        for kind, manifest in use.manifests.items()
        if capability in manifest["capabilities"]
    }
    for name, kind in stored.spec.types.items():
        if kind in able:
            return name
    raise UsageError(
        f"no agent of the plan can do {capability}: the run asked one of another plan",
        hint="only the plan's own code can be replayed",
    )


def entries(stored: Stored) -> dict[str, tuple[str, Path]]:
    """type@digest -> its entry, and the folder its code is in now: the home may have moved since."""
    return {
        kind: (entry, stored.home.code / Path(use.spec.code_root).name)
        for use in stored.spec.pools
        for kind, entry in use.spec.types.items()
    }
