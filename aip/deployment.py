"""From a plan to what the root is given: code packed by digest, agents grouped into pools, everything checked.

Agents share a pool, and with it processes, where they share code, environment, isolation and resources. Two kinds of code never
share one: the plan's own, which is the folder beside it, and ours (`use: aip.…`: models, tool servers). Secrets are resolved in
processes of the second kind only.

Agents of one class with different configurations are different types (`writer.3f2a9c01@…`): each keeps what it was given.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from actors.pool_spec import PoolSpec
from actors.run_spec import PoolUse, RunSpec, address_of

from .compute.bundle import digest_of, files_of, pack
from .compute.inspection import inspect_code
from .errors import PlanInvalid, UsageError
from .ids import new_id
from .orchestration.parse import Problem, check, parse, resolve_inputs
from .orchestration.plan import AgentSpec, Isolation, Plan, TaskSpec
from .orchestration.timetable import SCHEDULED_AT, Schedule, checked, stamp
from .settings import DEFAULT_LIMITS, Home

NESTED_MAX = 8  # Plans in plans; deeper is a mistake, and each level is a process that waits.
OURS = Path(__file__).parent  # The package `aip`.

_encode = msgspec.msgpack.Encoder().encode
_ordered = msgspec.msgpack.Encoder(order="deterministic")


class Code(NamedTuple):
    """What a pool's processes import: a bundle, or this package (`place` None)."""

    digest: str
    place: Path | None

    def manifests(self, home: Home, entries: list[str]) -> dict[str, dict[str, Any]]:
        if not entries:
            return {}
        folder = self.place or OURS.parent
        return inspect_code(folder, entries, home.code / f"{self.digest}.manifests.json")


@cache
def own_code() -> Code:
    return Code(digest_of(OURS, files_of(OURS)), None)


def is_own(use: str) -> bool:
    return use.startswith("aip.")


def prepare(
    home: Home,
    source: bytes,
    file: str,
    folder: Path,
    inputs: Mapping[str, Any],
    *,
    idempotency_key: str = "",
    by: str = "",
    rank_by: str = "measured",
) -> RunSpec:
    """Everything that can be wrong with a plan is found here, before a platform is asked."""
    plan = parse(source, file, DEFAULT_LIMITS)
    given = resolve_inputs(plan, inputs, Path.cwd())
    now = time.time()
    run = new_id("r", now, random.Random(os.urandom(16)))
    bundle = Code(*pack(folder, home.code))
    spec = _spec(home, run, plan, source, file, folder, bundle, (folder.resolve() / Path(file).name,))
    return msgspec.structs.replace(
        spec,
        inputs=_encode(given),
        submitted_by=by,
        submitted_at=now,
        idempotency_key=idempotency_key,
        rank_by=rank_by,
    )


def prepare_schedule(
    home: Home, plan_path: Path, inputs: Mapping[str, Any], schedule: Schedule, by: str
) -> tuple[RunSpec, Schedule]:
    """The run that every run of a schedule is made from, and the schedule that names it.

    An input `scheduled_at` is the clock's to fill; a time stands in it here, so that the inputs can be checked as a whole.
    """
    source = read_plan(plan_path)
    plan = parse(source, str(plan_path), DEFAULT_LIMITS)
    given = dict(inputs)
    if SCHEDULED_AT in plan.inputs:
        if SCHEDULED_AT in given:
            raise UsageError(f"the schedule fills the input {SCHEDULED_AT}", hint="leave it out")
        if plan.inputs[SCHEDULED_AT].schema.get("type") != "string":
            raise UsageError(f"inputs.{SCHEDULED_AT} is not a string", hint="declare it as {type: string}")
        given[SCHEDULED_AT] = stamp(int(schedule.created_at), schedule.timezone)
    named = msgspec.structs.replace(schedule, name=schedule.name or plan.name.lower(), plan=plan.name, by=by)
    checked(named)
    spec = prepare(home, source, str(plan_path), plan_path.resolve().parent, given, by=by)
    return spec, msgspec.structs.replace(named, template=spec.run)


def _spec(
    home: Home,
    run: str,
    plan: Plan,
    source: bytes,
    file: str,
    folder: Path,
    bundle: Code,
    outer: tuple[Path, ...],
) -> RunSpec:
    """A plan without its inputs, and with it every plan that it runs. `outer` are the files that led here."""
    manifests = manifests_of(home, plan, bundle)
    problems = check(plan, manifests)
    plans: dict[str, RunSpec] = {}
    for task in (*plan.tasks.values(), *plan.closing.values()):
        if task.plan is None:
            continue
        place = task.position
        path = (outer[-1].parent / task.plan).resolve()
        problem = _sub_plan_problem(plan, task, path, folder, outer)
        if problem:
            message, hint = problem
            problems.append(Problem("plan.subplan", place.file, place.line, place.column, message, hint))
        elif task.plan not in plans:
            text, name = read_plan(path), str(path.relative_to(folder.resolve()))
            inner = parse(text, name, DEFAULT_LIMITS)
            plans[task.plan] = _spec(home, run, inner, text, name, folder, bundle, (*outer, path))
    if problems:
        raise invalid(file, problems)
    types, pools = _pools(plan, run, bundle, manifests)
    return RunSpec(
        run=run,
        plan_source=source,
        plan_file=file,
        inputs=b"",
        types=types,
        pools=pools,
        submitted_by="",
        submitted_at=0.0,
        plans=plans,
    )


def _sub_plan_problem(
    plan: Plan, task: TaskSpec, path: Path, folder: Path, outer: tuple[Path, ...]
) -> tuple[str, str] | None:
    """Why this task cannot run that plan, and what to do; None where it can."""
    if not path.is_relative_to(folder.resolve()):
        return f"{task.plan} is outside {folder}", "put it beside this plan or below it"
    if not path.is_file():
        return f"there is no plan at {path}", "paths count from the plan that names them"
    if path in outer:
        return f"{task.plan} leads back to itself", "a plan that runs itself never ends"
    if len(outer) >= NESTED_MAX:
        return f"plans are nested deeper than {NESTED_MAX}", "let one plan run more of the others itself"
    short = [unit for unit in plan.limits.budget if unit not in task.budget]
    if short:
        return (
            f"task {task.name} runs another plan and has no part of the budget: {', '.join(short)}",
            f"say how much it may spend: tasks.{task.name}.budget",
        )
    return None


def manifests_of(home: Home, plan: Plan, bundle: Code) -> dict[str, dict[str, Any]]:
    """The plan's agent name -> manifest."""
    uses = {agent.use for agent in plan.agents.values()}
    found = own_code().manifests(home, sorted(filter(is_own, uses)))
    found |= bundle.manifests(home, sorted(use for use in uses if not is_own(use)))
    return {name: found[agent.use] for name, agent in plan.agents.items()}


def invalid(file: str, problems: list[Problem]) -> PlanInvalid:
    plain = [msgspec.to_builtins(problem) for problem in problems]
    return PlanInvalid(f"{file} has {len(problems)} problem(s)", problems=plain)


def read_plan(plan_path: Path) -> bytes:
    """The plan's text, read no further than a plan may be long."""
    try:
        with plan_path.open("rb") as file:
            return file.read(DEFAULT_LIMITS.plan_bytes_max + 1)
    except OSError as error:
        raise UsageError(f"cannot read {plan_path}: {error.strerror}") from None


def single(
    home: Home, folder: Path, entry: str, isolation: Isolation
) -> tuple[PoolSpec, dict[str, dict[str, Any]]]:
    """The pool of one class without a plan, and its manifest by type."""
    code = Code(*pack(folder, home.code))
    manifest = code.manifests(home, [entry])[entry]
    spec = _named(code, PoolSpec("", {}, str(code.place), DEFAULT_LIMITS.density, isolation.value))
    kind = f"{manifest['type']}@{spec.pool}"
    return msgspec.structs.replace(spec, types={kind: entry}), {kind: manifest}


def _pools(
    plan: Plan, run: str, bundle: Code, manifests: Mapping[str, dict[str, Any]]
) -> tuple[dict[str, str], list[PoolUse]]:
    types: dict[str, str] = {}
    uses: dict[str, PoolUse] = {}
    for name, agent in plan.agents.items():
        spec = _pool_of(agent, own_code() if is_own(agent.use) else bundle)
        pool = spec.pool
        kind = types[name] = _kind(agent, manifests[name]["type"], pool)
        use = uses.get(pool) or PoolUse(spec, {})
        known = use.spec.types.get(kind, agent.use)
        if known != agent.use:
            raise PlanInvalid(
                f"agents of {known} and {agent.use} have the same class name", hint="rename one of them"
            )
        configs = {kind: dict(agent.config)} if agent.config else {}
        uses[pool] = PoolUse(
            msgspec.structs.replace(
                use.spec,
                types={**use.spec.types, kind: agent.use},
                configs={**use.spec.configs, **configs},
            ),
            {**use.manifests, kind: manifests[name]},
            (*use.dedicated, *_dedicated(agent, kind, run)),
            (*use.warm, *(address_of(kind, run, name, replica) for replica in range(agent.replicas_min))),
        )
    return types, list(uses.values())


def _kind(agent: AgentSpec, base: str, pool: str) -> str:
    if not agent.config:
        return f"{base}@{pool}"
    return f"{base}.{hashlib.sha256(_ordered.encode(agent.config)).hexdigest()[:8]}@{pool}"


def _pool_of(agent: AgentSpec, code: Code) -> PoolSpec:
    spec = PoolSpec(
        "",
        {},
        str(code.place or ""),
        agent.density or DEFAULT_LIMITS.density,
        agent.isolation.value,
        agent.cpu or 0.0,
        agent.memory_bytes or 0,
        dict(agent.runtime_env),
        agent.restart.strategy,
        agent.restart.max,
        agent.restart.within_s,
    )
    return _named(code, spec)


def _named(code: Code, spec: PoolSpec) -> PoolSpec:
    """With its id: twelve hex digits that stand for everything that makes two agents share a process or not."""
    bare = msgspec.structs.replace(spec, pool="", types={}, code_root="", configs={})
    return msgspec.structs.replace(
        spec, pool=hashlib.sha256(_ordered.encode([code.digest, bare])).hexdigest()[:12]
    )


def _dedicated(agent: AgentSpec, kind: str, run: str) -> list[str]:
    if agent.isolation is not Isolation.PROCESS:
        return []
    return [address_of(kind, run, agent.name, replica) for replica in range(agent.replicas_max)]
