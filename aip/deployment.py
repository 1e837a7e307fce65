"""From a plan to what the root is given: code packed by digest, agents grouped into pools, everything checked.

Agents share a pool, and with it processes, where they share code, environment, isolation and resources. Two kinds of code never
share one: the plan's own, which is the folder beside it, and ours (`use: aip.…`: models, tool servers). Secrets are resolved in
processes of the second kind only.

    isolation    asked what it can do      its pool's processes import      the type's class           its configuration
    cell         in a process of its own   the plan's code                  what `use:` names          `config:`
    process      as cell                   as cell                          as cell                    as cell
    container    in a sandbox              ours: `code_root` is ""          `actors.sandboxed`         what a sandbox is given

Code in containers is never imported outside a sandbox, here or later; where this machine cannot close one, nothing is made of
the plan (`MeansMissing`).

Agents of one class with different configurations are different types (`writer.3f2a9c01@…`): each keeps what it was given.
"""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from actors.pool_spec import PoolSpec
from actors.run_spec import PoolUse, RunSpec, address_of
from actors.sandboxed import means_here, wrapped

from .compute.bundle import digest_of, files_of, pack
from .compute.inspection import inspect_code, remembered
from .compute.sandbox import Demand, inspect_sandboxed
from .errors import PlanInvalid, UsageError
from .governance.effects.configuration import FILE_NAME, read
from .ids import new_id
from .orchestration.parse import Problem, check, parse, resolve_inputs
from .orchestration.parse.check_effects import unknown_connectors
from .orchestration.parse.vocabulary import OWN_CODE
from .orchestration.plan import AgentSpec, Isolation, Plan, Position, Restart, TaskSpec
from .orchestration.timetable import SCHEDULED_AT, Schedule, checked, stamp
from .settings import DEFAULT_LIMITS, Home

NESTED_MAX = 8  # Plans in plans; deeper is a mistake, and each level is a process that waits.
SANDBOXES_PER_CELL = 50  # Two processes and 22 MiB each, so such a cell takes about 1 GiB where one of 500 agents takes 100 MB.
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

    def contained_manifests(self, home: Home, entries: list[str]) -> dict[str, dict[str, Any]]:
        """The same without a line of it run outside a sandbox. Raises `MeansMissing`, also for what was found out before."""
        if not entries:
            return {}
        means_here().require(Demand())
        return remembered(
            home.code / f"{self.digest}.contained.json", entries, lambda new: _in_sandboxes(self.root, new)
        )

    @property
    def root(self) -> Path:
        """Where a plan's code lies."""
        assert self.place is not None
        return self.place


@cache
def own_code() -> Code:
    return Code(digest_of(OURS, files_of(OURS)), None)


def is_own(use: str) -> bool:
    return use.startswith(OWN_CODE)


def inspect_contained(folder: Path, entries: Sequence[str]) -> dict[str, dict[str, Any]]:
    """entry ("module:Class") -> manifest of code that is to run in containers, and so is imported in a sandbox."""
    with tempfile.TemporaryDirectory(prefix="aip-inspect-") as scratch:
        _, place = pack(
            folder, Path(scratch)
        )  # A sandbox takes in all that is there; a bundle knows what belongs to it.
        return _in_sandboxes(place, entries)


def _in_sandboxes(place: Path, entries: Sequence[str]) -> dict[str, dict[str, Any]]:
    return inspect_sandboxed(place, entries, means_here(), Demand(), random.Random(os.urandom(16)))


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
    problems = [*check(plan, manifests), *_unknown_connectors(home, plan)]
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


def _unknown_connectors(home: Home, plan: Plan) -> list[Problem]:
    """Grants of connectors that this platform does not have. Raises `EffectsInvalid` where its file cannot be read."""
    if not any(agent.effects for agent in plan.agents.values()):
        return []
    file = home.root / FILE_NAME
    return list(unknown_connectors(plan, read(file.read_bytes()).connectors if file.exists() else ()))


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
    contained = {agent.use for agent in plan.agents.values() if is_contained(agent)}
    uses = {agent.use for agent in plan.agents.values() if not is_contained(agent)}
    strangers = bundle.contained_manifests(
        home, sorted(contained)
    )  # First: where it cannot be, nothing is to run.
    found = own_code().manifests(home, sorted(filter(is_own, uses)))
    found |= bundle.manifests(home, sorted(use for use in uses if not is_own(use)))
    return {
        name: (strangers if is_contained(agent) else found)[agent.use] for name, agent in plan.agents.items()
    }


def is_contained(agent: AgentSpec) -> bool:
    return agent.isolation is Isolation.CONTAINER


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
    agent = AgentSpec("", entry, 1, 1, isolation, None, None, None, {}, Restart(), Position("", 1, 1))
    manifests = code.contained_manifests if is_contained(agent) else code.manifests
    manifest = manifests(home, [entry])[entry]
    spec = _pool_of(agent, code)
    kind = _kind(agent, manifest["type"], spec.pool)
    entry, config = _made_of(agent, code, manifest)
    configs = {kind: config} if config else {}
    return msgspec.structs.replace(spec, types={kind: entry}, configs=configs), {kind: manifest}


def _pools(
    plan: Plan, run: str, bundle: Code, manifests: Mapping[str, dict[str, Any]]
) -> tuple[dict[str, str], list[PoolUse]]:
    types: dict[str, str] = {}
    classes: dict[str, str] = {}  # Of each type, as `use:` names it.
    uses: dict[str, PoolUse] = {}
    for name, agent in plan.agents.items():
        code = own_code() if is_own(agent.use) else bundle
        spec = _pool_of(agent, code)
        pool = spec.pool
        kind = types[name] = _kind(agent, manifests[name]["type"], pool)
        use = uses.get(pool) or PoolUse(spec, {})
        known = classes.setdefault(kind, agent.use)
        if known != agent.use:
            raise PlanInvalid(
                f"agents of {known} and {agent.use} have the same class name", hint="rename one of them"
            )
        entry, config = _made_of(agent, code, manifests[name])
        configs = {kind: config} if config else {}
        uses[pool] = PoolUse(
            msgspec.structs.replace(
                use.spec,
                types={**use.spec.types, kind: entry},
                configs={**use.spec.configs, **configs},
            ),
            {**use.manifests, kind: manifests[name]},
            (*use.dedicated, *_dedicated(agent, kind, run)),
            (*use.warm, *(address_of(kind, run, name, replica) for replica in range(agent.replicas_min))),
        )
    return types, list(uses.values())


def _kind(agent: AgentSpec, base: str, pool: str) -> str:
    if is_contained(agent):
        # What a stranger's class is called is his word: another class of that name must not become the same type.
        return f"{base}.{_digest([agent.use, agent.config])[:8]}@{pool}"
    if not agent.config:
        return f"{base}@{pool}"
    return f"{base}.{_digest(agent.config)[:8]}@{pool}"


def _made_of(agent: AgentSpec, code: Code, manifest: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """What its pool's processes make it of: a class, and that class's configuration."""
    if not is_contained(agent):
        return agent.use, dict(agent.config)
    limits = {} if agent.memory_bytes is None else {"memory_bytes": agent.memory_bytes}
    return wrapped(agent.use, code.root, manifest, agent.config, limits)


def _pool_of(agent: AgentSpec, code: Code) -> PoolSpec:
    spec = PoolSpec(
        "",
        {},
        "" if is_contained(agent) else str(code.place or ""),
        agent.density or (SANDBOXES_PER_CELL if is_contained(agent) else DEFAULT_LIMITS.density),
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
    return msgspec.structs.replace(spec, pool=_digest([code.digest, bare])[:12])


def _digest(value: Any) -> str:
    return hashlib.sha256(_ordered.encode(value)).hexdigest()


def _dedicated(agent: AgentSpec, kind: str, run: str) -> list[str]:
    if agent.isolation is not Isolation.PROCESS:
        return []
    return [address_of(kind, run, agent.name, replica) for replica in range(agent.replicas_max)]
