"""What the simulated world does for a living, drawn from the seed: messages of clients, scripts of agents, the plan of a run."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from ..orchestration.plan import (
    AgentSpec,
    Backoff,
    Gate,
    Isolation,
    OnExceeded,
    Plan,
    PlanLimits,
    Position,
    Restart,
    Retry,
    TaskSpec,
    When,
)
from ..orchestration.template import Template

DEPTH_MAX = 3  # Of scripts within scripts.
BUSY_S = 4.0  # How long clients keep sending.
RECENT = 3  # Effects' keys come from a small set, so that they meet again.


@dataclass(frozen=True, slots=True)
class Errand:
    """One thing a client does. `patience_s` is when it walks away from its call; None: never."""

    at_s: float
    kind: str  # call, tell, stream, compute
    to: str
    script: list[Any] = field(default_factory=list)
    timeout_s: float = 4.0
    patience_s: float | None = None
    count: int = 0
    take: int = 0


class Scripts:
    def __init__(self, rng: random.Random, agents: int) -> None:
        self._rng = rng
        self.agents = [f"subject/{n}" for n in range(agents - 2)] + ["open/0", "open/1"]

    def errands(self, count: int) -> list[Errand]:
        """What one client does, in order of time: often in bursts, so that order and room are at stake."""
        errands: list[Errand] = []
        while len(errands) < count:
            at_s = self._rng.random() * BUSY_S
            burst = self._rng.choice([1, 1, 1, 2, 6])
            to = self._rng.choice(self.agents)
            errands += [self._errand(at_s + 0.001 * number, to) for number in range(burst)]
        return sorted(errands[:count], key=lambda errand: errand.at_s)

    def _errand(self, at_s: float, to: str) -> Errand:
        rng = self._rng
        kind = rng.choice(["call", "call", "call", "tell", "tell", "stream", "compute"])
        count = rng.randrange(14)
        patience_s = rng.choice([None, None, None, 0.05, 0.3])
        timeout_s = rng.choice([0.1, 1.0, 4.0, 4.0])
        take = rng.choice([count + 1, count + 1, 3])
        return Errand(at_s, kind, to, self.script(0), timeout_s, patience_s, count, take)

    def script(self, depth: int) -> list[Any]:
        return [self._step(depth) for _ in range(self._rng.choice([0, 1, 1, 2, 3]))]

    def _step(self, depth: int) -> list[Any]:
        rng = self._rng
        to = rng.choice(self.agents)
        timeout_s = rng.choice([0.2, 1.0, 4.0])
        how = rng.choice(["async", "sync", "raises", "slow"])
        leaves: list[list[Any]] = [
            ["sleep", rng.choice([0.0, 0.001, 0.02, 0.2, 1.0])],
            ["sleep", 0.005],
            ["count"],
            ["count"],
            ["effect", f"once-{rng.randrange(RECENT)}", how, False],
            ["effect", f"often-{rng.randrange(RECENT)}", how, True],
            ["compute", to, timeout_s],
            ["stream", to, (count := rng.randrange(12)), rng.choice([count + 1, 2]), timeout_s],
        ]
        rare: list[list[Any]] = [
            ["raise"],
            ["cancelled"],
            ["stubborn", 0.3],
            ["spawn", f"child-{rng.randrange(4)}"],
        ]
        if rng.random() < 0.08:
            return rng.choice(rare)
        if depth >= DEPTH_MAX or rng.random() < 0.55:
            return rng.choice(leaves)
        match rng.choice(["call", "call", "tell", "tell", "both"]):
            case "call":
                return ["call", to, self.script(depth + 1), timeout_s]
            case "tell":
                return ["tell", to, self.script(depth + 1)]
        return ["both", self.script(depth + 1), self.script(depth + 1)]

    # The plan of a run ------------------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        tasks = [self._task(number) for number in range(self._rng.randint(2, 6))]
        return Plan(
            name="simulated",
            labels={},
            inputs={},
            limits=PlanLimits(concurrency=self._rng.randint(1, 3), on_exceeded=OnExceeded.PAUSE),
            agents={"worker": _worker()},
            tasks={task.name: task for task in tasks},
            outputs={},
            digest="0" * 64,
        )

    def _task(self, number: int) -> TaskSpec:
        rng = self._rng
        needs = tuple(f"t{need}" for need in range(number) if rng.random() < 0.4)
        kind = rng.choice(["plain", "plain", "map", "gate", "if"])
        gate = Gate(Template("go?"), (), rng.choice([None, 2.0]), rng.choice(["approve", "deny"]))
        steps = [self._step(DEPTH_MAX - 1) for _ in range(rng.randint(0, 2))]
        return TaskSpec(
            name=f"t{number}",
            agent=None if kind == "gate" else "worker",
            capability=None if kind == "gate" else "work",
            arguments=Template({"script": steps}),
            needs=needs,
            for_each=Template(list(range(rng.randrange(4)))) if kind == "map" else None,
            condition=Template(rng.choice(["${{ true }}", "${{ false }}"])) if kind == "if" else None,
            when=rng.choice(list(When)),
            retry=Retry(rng.randint(1, 4), Backoff(rng.choice([0.0, 0.3])), frozenset({"any"})),
            timeout_s=rng.choice([None, 3.0]),
            deadline_s=rng.choice([None, None, 10.0]),
            idempotency_key=None,
            gate=gate if kind == "gate" else None,
            vote=None,
            budget={},
            position=_NOWHERE,
        )


_NOWHERE = Position("plan.yaml", 1, 1)


def _worker() -> AgentSpec:
    return AgentSpec("worker", "m:A", 1, 2, Isolation.CELL, None, None, None, {}, Restart(), _NOWHERE)
