"""How long a plan will take and what it will cost, before it runs.

There is no second scheduler here. The plan is given to the machine that executes real runs (`RunMachine`), on a clock that
jumps from event to event; only the agents are stood in for: a dispatched attempt waits until its replica is free, works for a
time drawn from what was measured, and reports success and what it spent. So slots, priorities, replicas, timeouts and the
retries after them, votes, budgets and the order of starts are those of a run, because they are a run's.

What a plan says about data is not evaluated, since there is none: a `for_each` has as many items as it had before, an `if` holds
as often as it did, and where the inputs alone decide, they do. A person at a gate says yes after the time they took before. What
nobody measured is assumed, and named as assumed.

Bounds, of each simulated run by itself, with the times that were drawn in it:

    critical path    the heaviest chain of tasks; a task of many units lasts at least its longest one, and at least all of them
                     over the slots and replicas it can have
    lower bound      no schedule is shorter (`bound`): the critical path, all work over the slots, an agent's work over its
                     replicas, each of the pieces into which the plan falls where it narrows to one task

Not simulated: failures of agents (the time of their retries), transport, the start of processes.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from typing import Any

from ...errors import AIPError, UsageError
from ...runtime import codec
from .. import run_commands as cmd
from .. import run_inputs as inp
from ..graph import critical_path
from ..plan import Plan, TaskSpec
from ..run import RunMachine
from ..run_ballots import voters_of
from ..template import Template
from .bound import Work, lower_bound
from .history import Estimate, Measured, work_of

DEFAULT_S = 1.0  # Of work that nobody measured and that has no timeout.
TIMEOUT_SHARE = 0.1  # Of a timeout: people set it well above what they expect.
ASSUMED_SPREAD = 0.5  # Of an assumed mean: a guess should not look sure.
ITEMS_ASSUMED = 10
EVENTS_MAX = 2_000_000  # Of one simulated run; a plan of 100,000 units takes 400,000.
RUNS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Forecast:
    """One simulated run. `outcome` is the run's state at its end: a budget that runs out leaves it paused."""

    makespan_s: float
    bound_s: float
    path: tuple[str, ...]
    path_s: float
    work_s: float
    busy_s: Mapping[str, float]
    cost: Mapping[str, int]
    outcome: str


@dataclass(frozen=True, slots=True)
class Summary:
    """Many simulated runs. Times are seconds; `path` is the one that was critical most often."""

    runs: int
    makespan_p50_s: float
    makespan_p95_s: float
    bound_p50_s: float
    ratio_p50: float  # Makespan over lower bound.
    ratio_p95: float
    path: tuple[str, ...]
    path_share: float
    cost_p50: Mapping[str, int]
    cost_p95: Mapping[str, int]
    bottleneck: str
    utilisation: Mapping[str, float]  # Of each agent's replicas, over the makespan.
    outcomes: Mapping[str, int]
    assumed: tuple[str, ...]


@dataclass(slots=True)
class Model:
    """What stands in for the agents: times, costs, sizes, and what of it is assumed.

    `unknown_s`: what work takes that nobody measured; None: guessed from its timeout, and told as assumed.
    """

    plan: Plan
    measured: Measured
    inputs: Mapping[str, Any]
    assumed: dict[str, str] = field(default_factory=dict)
    unknown_s: float | None = None

    def seconds(self, task: TaskSpec, unit: int) -> Estimate:
        known = self.measured.seconds.get(work_of(self.plan, task, unit))
        if known is not None:
            return known
        if self.unknown_s is not None:
            return Estimate(self.unknown_s, 0.0, 0)
        mean = DEFAULT_S if task.timeout_s is None else task.timeout_s * TIMEOUT_SHARE
        why = "" if task.timeout_s is None else f", a tenth of its timeout of {task.timeout_s:g} s"
        self.assumed[task.name] = f"{task.name} takes {mean:g} s{why}"
        return Estimate(mean, (mean * ASSUMED_SPREAD) ** 2, 1)

    def weights(self) -> dict[str, float]:
        """What each task is expected to take: the ranks of list scheduling."""
        return {task.name: self._expected_s(task) for task in self.plan.tasks.values()}

    def _expected_s(self, task: TaskSpec) -> float:
        if task.gate is not None:
            return 0.0
        units = self.items(task)
        return self.seconds(task, 0).mean * units / max(min(units, self.parallel(task)), 1)

    def items(self, task: TaskSpec) -> int:
        """Units of the task, voters included."""
        if task.for_each is None:
            return voters_of(task)
        value = self._from_inputs(task.for_each)
        if isinstance(value, list | tuple):
            return len(value) * voters_of(task)
        known = self.measured.items.get(task.name)
        if known is None:
            self.assumed[f"{task.name} items"] = f"{task.name} has {ITEMS_ASSUMED} items"
        return (ITEMS_ASSUMED if known is None else round(known.mean)) * voters_of(task)

    def parallel(self, task: TaskSpec) -> int:
        """Units of the task that can be at work at once."""
        agents = task.vote.voters if task.vote else (task.agent,)
        specs = [self.plan.agents.get(name or "") for name in dict.fromkeys(agents)]
        replicas = [spec.replicas_max for spec in specs if spec is not None]
        slots = min(self.plan.limits.concurrency, task.max_parallel or self.plan.limits.concurrency)
        return max(1, min(slots, sum(replicas)) if replicas else slots)

    def holds(self, task: TaskSpec, rng: random.Random) -> bool:
        assert task.condition is not None
        value = self._from_inputs(task.condition)
        if isinstance(value, bool):
            return value
        known = self.measured.taken.get(task.name)
        if known is None:
            self.assumed[f"{task.name} if"] = f"the `if` of {task.name} holds"
        return known is None or rng.random() < known.mean

    def decision_s(self, task: TaskSpec, rng: random.Random) -> float:
        known = self.measured.decisions_s.get(task.name)
        if known is None:
            self.assumed[f"{task.name} gate"] = f"{task.name} is approved at once"
            return 0.0
        return drawn(known, rng)

    def _from_inputs(self, template: Template) -> Any:
        """The value, where constants and inputs alone decide it; else None."""
        if any(not one.startswith("inputs.") for one in template.references):
            return None
        try:
            return template.evaluate({"inputs": dict(self.inputs)})
        except AIPError:
            return None  # An input that was not given: what was measured decides.


def forecast(
    plan: Plan,
    measured: Measured,
    *,
    runs: int,
    seed: int,
    inputs: Mapping[str, Any] | None = None,
    workers: int | None = None,
    weights: Mapping[str, float] | None = None,
) -> Summary:
    """Many runs, from `seed` on. `weights` rank the tasks, as for `RunMachine`."""
    if not 1 <= runs <= RUNS_MAX:
        raise UsageError(f"1 to {RUNS_MAX} runs can be simulated, not {runs}")
    plan = with_workers(plan, workers)
    model = Model(plan, measured, inputs or {})
    found = [simulate(model, seed + number, weights) for number in range(runs)]
    return _summary(plan, found, tuple(model.assumed.values()))


def simulate(model: Model, seed: int, weights: Mapping[str, float] | None = None) -> Forecast:
    """One run of the model's plan, from a seed. `weights` rank its tasks, as for `RunMachine`."""
    return _World(model, random.Random(seed), weights).run()


def with_workers(plan: Plan, workers: int | None) -> Plan:
    """The plan with so many slots."""
    if workers is None:
        return plan
    if workers < 1:
        raise UsageError(f"a run needs at least one worker, not {workers}")
    return replace(plan, limits=replace(plan.limits, concurrency=workers))


def _summary(plan: Plan, found: Sequence[Forecast], assumed: tuple[str, ...]) -> Summary:
    spans = sorted(one.makespan_s for one in found)
    ratios = sorted(one.makespan_s / one.bound_s if one.bound_s > 0 else 1.0 for one in found)
    paths = Counter(one.path for one in found)
    units = sorted({unit for one in found for unit in one.cost})
    costs = {unit: sorted(one.cost.get(unit, 0) for one in found) for unit in units}
    used = {
        name: sum(one.busy_s.get(name, 0.0) for one in found)
        / max(sum(one.makespan_s for one in found) * spec.replicas_max, 1e-12)
        for name, spec in plan.agents.items()
    }
    path, often = paths.most_common(1)[0]
    return Summary(
        runs=len(found),
        makespan_p50_s=quantile(spans, 0.5),
        makespan_p95_s=quantile(spans, 0.95),
        bound_p50_s=quantile(sorted(one.bound_s for one in found), 0.5),
        ratio_p50=quantile(ratios, 0.5),
        ratio_p95=quantile(ratios, 0.95),
        path=path,
        path_share=often / len(found),
        cost_p50={unit: round(quantile(amounts, 0.5)) for unit, amounts in costs.items()},
        cost_p95={unit: round(quantile(amounts, 0.95)) for unit, amounts in costs.items()},
        bottleneck=max(used, key=lambda name: used[name], default=""),
        utilisation=used,
        outcomes=dict(Counter(one.outcome for one in found)),
        assumed=assumed,
    )


def quantile(ordered: Sequence[float], part: float) -> float:
    """The nearest-rank quantile: a value that was seen."""
    return ordered[max(math.ceil(part * len(ordered)), 1) - 1]


def drawn(estimate: Estimate, rng: random.Random) -> float:
    """A time with this mean and spread: log-normal, as times of work are - never negative, with a long right tail."""
    if estimate.mean <= 0 or estimate.variance <= 0:
        return max(estimate.mean, 0.0)
    log_variance = math.log(1 + estimate.variance / estimate.mean**2)
    return rng.lognormvariate(math.log(estimate.mean) - log_variance / 2, math.sqrt(log_variance))


def skeleton(model: Model, rng: random.Random) -> Plan:
    """The plan without data: the same tasks, edges, agents and limits, with sizes and conditions decided."""
    return replace(
        model.plan,
        tasks=_bare(model, model.plan.tasks, rng),
        closing=_bare(model, model.plan.closing, rng),
        outputs={},
    )


def _bare(model: Model, specs: Mapping[str, TaskSpec], rng: random.Random) -> dict[str, TaskSpec]:
    """Tasks that read no data and promise none; agents that are stood in for report no progress, and undo nothing."""
    tasks = {}
    for task in specs.values():
        items = None
        if task.for_each is not None:
            items = Template([None] * (model.items(task) // voters_of(task)))
        condition = None if task.condition is None else Template(model.holds(task, rng))
        gate = task.gate and replace(task.gate, question=Template("?"), approvers=())
        tasks[task.name] = replace(
            task,
            arguments=Template({}),
            for_each=items,
            condition=condition,
            idempotency_key=None,
            gate=gate,
            heartbeat_s=None,
            output=None,
            compensate=None,
        )
    return tasks


class _World:
    """The agents, the people and the clock of one simulated run."""

    def __init__(self, model: Model, rng: random.Random, weights: Mapping[str, float] | None) -> None:
        self._model = model
        self._rng = rng
        self._plan = skeleton(model, rng)
        self._tasks = {**self._plan.tasks, **self._plan.closing}
        self._machine = RunMachine(self._plan, load=_no_artifact, rng=rng, weights=weights)
        self._now_s = 0.0
        self._numbers = count()
        self._agenda: list[tuple[float, int, inp.Input]] = []
        self._free_at: dict[tuple[str, int], float] = {}
        self._began: dict[int, tuple[str, str | None, float, float]] = {}  # By lease: task, agent, from, to.
        self._took: dict[str, list[float]] = {name: [] for name in self._tasks}
        self._busy: dict[str, float] = {}
        self._cost: dict[str, int] = {}

    def run(self) -> Forecast:
        self._perform(self._machine.accept("simulated", "", codec.encode({}), "simulation", 0.0))
        for _ in range(EVENTS_MAX):
            state = self._machine.run.state
            if not self._agenda or state is None or state.terminal:
                break
            at_s, _, input = heappop(self._agenda)
            self._now_s = max(self._now_s, at_s)
            if isinstance(input, inp.Succeeded) and input.lease not in self._machine.run.in_flight:
                continue  # The machine gave it up before: a timeout, or the end of the run.
            self._count(input)
            self._perform(self._machine.handle(input, self._now_s))
        else:
            raise UsageError(f"the plan is too large to simulate: more than {EVENTS_MAX} events")
        return self._forecast()

    def _perform(self, step: cmd.Step) -> None:
        for command in step.commands:
            match command:
                case cmd.Dispatch():
                    self._work(command)
                case cmd.CancelAttempt():
                    self._stop(command.lease)
                case cmd.SetTimer():
                    self._note(command.at_s, inp.Tick())
                case cmd.OpenGate():
                    waited_s = self._model.decision_s(self._tasks[command.task], self._rng)
                    decision = inp.Decide(command.task, "approve", "simulation")
                    self._note(self._now_s + waited_s, decision)
                case _:
                    pass

    def _note(self, at_s: float, input: inp.Input) -> None:
        heappush(self._agenda, (at_s, next(self._numbers), input))

    def _work(self, one: cmd.Dispatch) -> None:
        """An attempt waits for its replica, works, and reports. Whoever the registry finds is taken to be free."""
        task = self._tasks[one.task]
        starts_s = self._now_s
        if one.agent is not None:
            starts_s = max(starts_s, self._free_at.get((one.agent, one.replica), 0.0))
        ends_s = starts_s + drawn(self._model.seconds(task, one.unit), self._rng)
        if one.agent is not None:
            self._free_at[one.agent, one.replica] = ends_s
        self._began[one.lease] = (one.task, one.agent, starts_s, ends_s)
        value = codec.encode({"vote": "yes"} if task.vote else None)
        spent = self._spent(task, one.unit)
        self._note(ends_s, inp.Succeeded(one.attempt, one.lease, value, spent))

    def _spent(self, task: TaskSpec, unit: int) -> dict[str, int]:
        costs = self._model.measured.costs.get(work_of(self._plan, task, unit), {})
        return {name: amount for name, one in costs.items() if (amount := round(drawn(one, self._rng))) > 0}

    def _count(self, input: inp.Input) -> None:
        if isinstance(input, inp.Succeeded):
            self._account(input.lease, self._now_s)
            for unit, amount in input.spent.items():
                self._cost[unit] = self._cost.get(unit, 0) + amount

    def _stop(self, lease: int) -> None:
        """An attempt that was given up: its replica is free from now on, if nothing waits behind it."""
        _, agent, starts_s, ends_s = self._began[lease]
        self._account(lease, max(min(self._now_s, ends_s), starts_s))
        for place, free_at in self._free_at.items():
            if place[0] == agent and free_at == ends_s:
                self._free_at[place] = max(self._now_s, starts_s)

    def _account(self, lease: int, until_s: float) -> None:
        task, agent, starts_s, _ = self._began.pop(lease)
        self._took[task].append(until_s - starts_s)
        self._busy[agent or "any"] = self._busy.get(agent or "any", 0.0) + until_s - starts_s

    def _forecast(self) -> Forecast:
        plan, run = self._plan, self._machine.run
        spans = {name: self._span_s(self._tasks[name], took) for name, took in self._took.items()}
        spans |= {name: self._waited_s(name) for name, task in plan.tasks.items() if task.gate}
        path, path_s = critical_path(plan, spans)
        path_s += max((spans[name] for name in plan.closing), default=0.0)  # They wait for all the others.
        work_s = sum(self._busy.values())
        bound_s = self._bound_s(plan.tasks, spans) + self._bound_s(plan.closing, spans)
        end_s = run.finished_at_s if run.finished_at_s is not None else self._now_s
        return Forecast(
            makespan_s=end_s,
            bound_s=bound_s,
            path=tuple(path),
            path_s=path_s,
            work_s=work_s,
            busy_s=dict(self._busy),
            cost=dict(self._cost),
            outcome=str(run.state),
        )

    def _bound_s(self, specs: Mapping[str, TaskSpec], spans: Mapping[str, float]) -> float:
        """Of the work, or of what closes: the one waits for the whole of the other. What did not run binds nobody."""
        work = {
            name: Work(spans[name], self._took[name], "" if task.vote else task.agent or "")
            for name, task in specs.items()
            if self._took[name] or task.gate is not None
        }
        needs = {name: task.needs for name, task in specs.items()}
        replicas = {name: spec.replicas_max for name, spec in self._plan.agents.items()}
        return lower_bound(needs, work, self._plan.limits.concurrency, replicas)

    def _span_s(self, task: TaskSpec, took: list[float]) -> float:
        """The least that the task's units can last together."""
        return max(max(took, default=0.0), sum(took) / self._model.parallel(task))

    def _waited_s(self, name: str) -> float:
        task = self._machine.run.tasks[name]
        if task.gate is None or task.gate.decision is None or task.finished_at_s is None:
            return 0.0
        return task.finished_at_s - (
            task.started_at_s if task.started_at_s is not None else task.finished_at_s
        )


def _no_artifact(ref: Any) -> Any:
    raise AIPError(f"a simulated run has no artifact {ref}")
