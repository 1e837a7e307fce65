"""Runs that a run starts for its tasks (`plan: ./other.yaml`).

A child is a run like any other: accepted by the root, in a process of its own, with a journal of its own. What binds it to its
parent is here. Its id follows from the parent's id and the attempt's key and number, so that a parent that comes back after a
crash finds the child it had started, at whatever point that is; a retry is another child. Its budget is lent: it can spend what
its parent's task has left, less what other children of that task hold, and what it spent is the task's. It is cancelled with the
attempt, and a kill order for the parent is repeated for the child.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from aip.errors import (
    AgentFailed,
    AIPError,
    BudgetExceeded,
    Cancelled,
    ErrorRecord,
    Killed,
    NotFound,
    from_record,
)
from aip.orchestration.parse import parse, resolve_inputs
from aip.orchestration.plan import OnExceeded, Plan
from aip.runtime import codec
from aip.runtime.ports import CellLost, NotSent
from aip.settings import DEFAULT_LIMITS, Home

from .peers import Peers
from .run_spec import RunSpec, folder, renamed

ROOT = "orchestrator"
VIEW_FILE = "view.json"
LOOK_S = 10.0  # One look at a child: it answers at once where something changed.
AWAY_S = 0.5  # Between looks at a child that has no process just now: it is being restarted, or rests.
ENDED = frozenset({"succeeded", "failed", "cancelled", "killed"})
_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"

_encode = msgspec.msgpack.Encoder().encode


def child_id(parent: str, key: str) -> str:
    """`r-` and 18 digits: the parent's time, then what follows from its id and the key."""
    number = int.from_bytes(hashlib.sha256(f"{parent}\0{key}".encode()).digest()[:8], "big")
    digits = "".join(_BASE32[number >> 5 * place & 31] for place in range(8))
    return parent[:12] + digits


def child_spec(parent: RunSpec, path: str, key: str, arguments: Any, budget: Mapping[str, int]) -> RunSpec:
    """What the root is given. Raises `UsageError` where the arguments are not the plan's inputs."""
    made = parent.plans.get(path)
    if made is None:
        raise NotFound(f"this run was submitted without the plan {path}", hint="submit it again")
    child = child_id(parent.run, key)
    given = resolve_inputs(parse(made.plan_source, made.plan_file, DEFAULT_LIMITS), arguments or {})
    return msgspec.structs.replace(
        made,
        run=child,
        inputs=_encode(given),
        pools=[renamed(use, made.run, child) for use in made.pools],
        submitted_by=f"run/{parent.run}",
        idempotency_key=f"{parent.run}\0{key}",
        budget=dict(budget),
    )


def bounded(plan: Plan, budget: Mapping[str, int]) -> Plan:
    """The plan under what it was lent, where that is less than it would allow itself.

    Nobody resumes it with more, so when it is spent the run fails, and its parent decides what follows.
    """
    if not budget:
        return plan
    limits = plan.limits
    least = {unit: min(amount, limits.budget.get(unit, amount)) for unit, amount in budget.items()}
    return replace(
        plan, limits=replace(limits, budget={**limits.budget, **least}, on_exceeded=OnExceeded.FAIL)
    )


class Lending:
    """What the children of one run's tasks hold of the tasks' budgets."""

    def __init__(self) -> None:
        self._held: dict[str, dict[str, dict[str, int]]] = {}  # account -> child -> amounts

    def lend(
        self, account: str, child: str, left: Mapping[str, int], asked: Mapping[str, int]
    ) -> dict[str, int]:
        """The child's share of what the task has left: what its plan asks for, else all. Raises `BudgetExceeded`."""
        others = [amounts for name, amounts in self._held.get(account, {}).items() if name != child]
        share: dict[str, int] = {}
        for unit, amount in left.items():
            free = amount - sum(amounts.get(unit, 0) for amounts in others)
            if free <= 0:
                raise BudgetExceeded(
                    f"{account} has no {unit} left that no other run of it holds",
                    hint="give the other plan a budget of its own, so that each run takes a part",
                    account=account,
                )
            share[unit] = min(free, asked.get(unit, free))
        self._held.setdefault(account, {})[child] = share
        return share

    def give_back(self, account: str, child: str) -> None:
        self._held.get(account, {}).pop(child, None)


async def outcome(peers: Peers, home: Home, child: str) -> dict[str, Any]:
    """The last view of a child, when it has ended."""
    version = -1
    while True:
        view = await _look(peers, child, version)
        if view is None:
            view = await asyncio.to_thread(_stored, home, child)
            await asyncio.sleep(AWAY_S)
        if view is not None:
            if view["state"] in ENDED:
                return view
            version = view["version"]


async def _look(peers: Peers, child: str, version: int) -> dict[str, Any] | None:
    request = _encode({"after": version, "wait_s": LOOK_S})
    try:
        answer = await peers.call(f"run-{child}", "view", request)
    except (NotSent, CellLost, AIPError):
        return None
    view: dict[str, Any] = msgspec.msgpack.decode(answer)
    return view


def _stored(home: Home, child: str) -> dict[str, Any] | None:
    try:
        view: dict[str, Any] = json.loads((folder(home, child) / VIEW_FILE).read_text())
    except FileNotFoundError:
        return None
    return view


def answer(view: dict[str, Any], child: str) -> bytes:
    """The outputs of a child that succeeded. Raises what it ended with otherwise."""
    if view["state"] == "succeeded":
        return codec.encode(view["outputs"])
    if view.get("error"):
        known = {name: view["error"][name] for name in ErrorRecord.__struct_fields__ if name in view["error"]}
        error = from_record(ErrorRecord(**known))
        error.details["run"] = child
        raise error
    kinds: dict[str, type[AIPError]] = {"cancelled": Cancelled, "killed": Killed}
    raise kinds.get(view["state"], AgentFailed)(f"run {child} ended {view['state']}", run=child)
