"""What a decision costs: GOALS.md's policy line.

The policy has sixteen rules over a table of ten thousand agents in data, and is asked on behalf of agents all over that table.
The floor is the same question put to the engine without anything of ours around it. CPU time, so that what else runs on the
machine counts less; the reference engine and the shipped policy stand beside it without a goal.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path

from aip.governance.policy.bundle import Bundle, from_files, read
from aip.governance.policy.engine import PolicyEngine, decide, encode_input
from aip.governance.policy.gate import pass_gate
from aip.governance.policy.input import Input, Principal, Subject, Target
from aip.governance.policy.regocpp_engine import RegoCppEngine
from aip.governance.policy.regorus_engine import RegorusEngine, binding
from aip.governance.policy.serving import Serving

from .row import Row, measured, quantile

BENCH = "policy"
AGENTS = 10_000
RULES = 16
ASKED = 2_000  # Decisions of one repetition: p99 is the twentieth worst.
ASKED_OF_REFERENCE = 50  # Each takes milliseconds.
REPEATS = 5
SHIPPED = Path(__file__).resolve().parent.parent.parent / "policies"

HEAD = """package aip

import data.aip.table.agents
import data.aip.table.roles

agent := agents[input.subject.address]

default allow := false

allow if {
	count(denials) == 0
	input.capability in roles[agent.role]
}

obligations contains {"kind": "record"} if agent.clearance > 2

decision := {"allow": allow, "reasons": denials, "obligations": obligations}
"""
DENIAL = """
denials contains {"rule": "limit.r%(n)02d", "text": sprintf("%%v is beyond limit %(n)d", [input.subject.address])} if {
	agent.clearance < %(n)d
	input.isolation == "container"
	"label%(n)d" in input.labels
}
"""


def sixteen_rules() -> Bundle:
    denials = "".join(DENIAL % {"n": number} for number in range(1, RULES + 1))
    agents = {
        f"worker/{number}": {"role": f"role{number % 8}", "clearance": number % 5} for number in range(AGENTS)
    }
    roles = {f"role{number}": ["read", "write", f"task{number}"] for number in range(8)}
    table = {"agents": agents, "roles": roles}
    return from_files(
        {"rules.rego": (HEAD + denials).encode(), "aip/table/data.json": json.dumps(table).encode()}
    )


def questions(count: int) -> list[Input]:
    rng = random.Random(1)
    return [
        Input(
            kind="call",
            subject=Subject(address=f"worker/{rng.randrange(AGENTS)}", type="worker", tenant="acme"),
            target=Target(address="store/1", type="store", tenant="acme"),
            capability=rng.choice(("read", "write", "pay")),
            principal=Principal(id="user:ada"),
            labels=tuple(f"label{rng.randrange(20)}" for _ in range(2)),
            isolation=rng.choice(("cell", "container")),
        )
        for _ in range(count)
    ]


def rows() -> list[Row]:
    bundle, asked = sixteen_rules(), questions(ASKED)
    fast = _loaded(RegorusEngine(), bundle)
    floor = _times(_bare(bundle), asked)
    ours = _times(lambda one: decide(fast, one, id="m-1"), asked)
    named = {"reference": "the engine alone", "note": fast.name}
    return [
        _quantile(f"decision, {RULES} rules, {AGENTS} agents, uncached: p50", ours, floor, 0.5, 200.0, named),
        _quantile(
            f"decision, {RULES} rules, {AGENTS} agents, uncached: p99", ours, floor, 0.99, 1_000.0, named
        ),
        measured(BENCH, "decision from the cache", _cached(fast, asked[:100]), "µs", goal=3.0),
        _beside("the same, reference engine: p50", RegoCppEngine(), bundle, asked[:ASKED_OF_REFERENCE]),
        _beside("shipped policy, uncached: p50", RegorusEngine(), read(SHIPPED), asked[:200]),
        measured(BENCH, "reload: gate, engine, first decision", _reload_ms(bundle), "ms", goal=250.0),
    ]


def _loaded(engine: PolicyEngine, bundle: Bundle) -> PolicyEngine:
    engine.load(bundle)
    return engine


def _bare(bundle: Bundle) -> Callable[[Input], object]:
    engine = binding().Engine()
    for module in bundle.served:
        engine.add_policy(module.path, module.text)
    engine.add_data_json(json.dumps(bundle.data))

    def ask(one: Input) -> object:
        engine.set_input_json(encode_input(one).decode())
        return engine.eval_rule_as_json("data.aip.decision")

    return ask


def _times(ask: Callable[[Input], object], asked: list[Input]) -> list[list[float]]:
    """Microseconds of CPU for each question, repetition by repetition."""
    for one in asked[:50]:
        ask(one)
    return [[_one(ask, one) for one in asked] for _ in range(REPEATS)]


def _one(ask: Callable[[Input], object], one: Input) -> float:
    began = time.thread_time_ns()
    ask(one)
    return (time.thread_time_ns() - began) / 1_000


def _quantile(
    name: str,
    ours: list[list[float]],
    floor: list[list[float]],
    share: float,
    goal: float,
    named: dict[str, str],
) -> Row:
    beside = sorted(quantile(times, share) for times in floor)[REPEATS // 2]
    values = [quantile(times, share) for times in ours]
    return measured(BENCH, name, values, "µs", reference_value=beside, goal=goal, **named)


def _beside(name: str, engine: PolicyEngine, bundle: Bundle, asked: list[Input]) -> Row:
    _loaded(engine, bundle)
    times = _times(lambda one: decide(engine, one, id="m-1"), asked)
    return measured(BENCH, name, [quantile(one, 0.5) for one in times], "µs", note=engine.name)


def _cached(engine: PolicyEngine, asked: list[Input]) -> list[float]:
    """Microseconds a hit, the key made anew each time, as on the road."""
    serving = Serving()
    serving.activate(engine)

    def all_of_them() -> None:
        for one in asked:
            serving.decide(one, id="m-1")

    all_of_them()
    values = []
    for _ in range(REPEATS):
        began = time.thread_time_ns()
        for _ in range(50):
            all_of_them()
        values.append((time.thread_time_ns() - began) / 1_000 / 50 / len(asked))
    return values


def _reload_ms(bundle: Bundle) -> list[float]:
    """A bundle with its certificate, from its files to its first decision."""
    values = []
    for _ in range(REPEATS):
        began = time.thread_time_ns()
        again = from_files(bundle.files)
        pass_gate(again, lambda: RegorusEngine(tests=True))
        engine = _loaded(RegorusEngine(), again)
        decide(engine, {}, id="warm")
        serving = Serving()
        serving.activate(engine)
        values.append((time.thread_time_ns() - began) / 1e6)
    return values
