"""The test build: AIP with one check at a time switched off. The product has no such switch; this stands outside of it.

A process that has this folder on its PYTHONPATH imports the modules of `WITHOUT` as they are, and then has in each one function
replaced by a wrapper. The wrapper calls the original, unless AIP_HOME/without names its check: then that check says yes.
So every attack is tried on a platform that holds all the others' checks.

`WITHOUT` names module and function. Where either is gone the import fails: a check that was renamed is not taken for one that
held. A rule of the policy is switched off where its decision is made: what only this rule denied is allowed.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

Function = Callable[..., Any]
Replacement = Callable[[Function], Function]  # What stands in for the original while its check is off.


def off(check: str) -> bool:
    try:
        return Path(os.environ["AIP_HOME"], "without").read_text() == check
    except FileNotFoundError:
        return False


def says(answer: Any) -> Replacement:
    """Not asked: its answer is always this one."""
    return lambda original: lambda *given, **named: answer


def unread_allow_list(original: Function) -> Function:
    """A connector that takes every request that it understands."""

    def check(connector: Any, request: Any) -> Any:
        from aip.governance.effects.http import HttpRequest

        return HttpRequest.of(request)

    return check


def every_tool(original: Function) -> Function:
    return lambda server, records, allow, **named: original(server, records, ["*"], **named)


def without_rule(rule: str) -> Replacement:
    def replacement(original: Function) -> Function:
        def decide(*given: Any, **named: Any) -> Any:
            from msgspec.structs import replace

            decision = original(*given, **named)
            denied_by = {reason.rule for reason in decision.reasons}
            return replace(decision, allow=True) if denied_by == {rule} else decision

        return decide

    return replacement


def anybody_approves(original: Function) -> Function:
    """A gate that takes whoever answers for the one it waits for."""

    def decide(machine: Any, act: Any, now_s: float) -> Any:
        from msgspec.structs import replace

        gate = machine.run.tasks[act.task].spec.gate if hasattr(act, "decision") else None
        return original(machine, replace(act, by=gate.approvers[0]) if gate else act, now_s)

    return decide


DECIDE = ("aip.governance.policy.serving", "Serving.decide")
WITHOUT: dict[str, list[tuple[str, str, Replacement]]] = {
    "asi01": [(*DECIDE, without_rule("sequence.external_after_secret"))],
    "asi02": [("aip.governance.effects.http", "HttpConnector.check", unread_allow_list)],
    "asi03": [(*DECIDE, without_rule("decision.default"))],
    "asi04": [("aip.protocols.mcp.catalogue", "catalogue", every_tool)],
    "asi05": [(*DECIDE, without_rule("isolation.demanded"))],
    "asi06": [(*DECIDE, without_rule("sequence.forbidden"))],
    "asi07": [("aip.governance.effects.stamp", "Stamps.verify", says(None))],
    "asi08": [
        ("aip.orchestration.breaker_check", "BreakerCheck.peek", says(None)),
        ("aip.orchestration.breaker_check", "BreakerCheck.take", says(None)),
    ],
    "asi09": [("aip.orchestration.run", "RunMachine.handle", anybody_approves)],
    # The fence has two readers: the guard's own check, and what policies are told.
    "asi10": [
        ("aip.governance.kill.check", "KillCheck._refused", says(None)),
        ("aip.governance.kill.check", "KillCheck.level", says("none")),
    ],
}


def switchable(check: str, original: Function, replacement: Replacement) -> Function:
    other = replacement(original)

    @functools.wraps(original)
    def either(*given: Any, **named: Any) -> Any:
        return (other if off(check) else original)(*given, **named)

    return either


def make_switchable(module: ModuleType) -> None:
    for check, places in WITHOUT.items():
        for name, path, replacement in places:
            if name == module.__name__:
                *owner_path, function = path.split(".")
                owner = functools.reduce(getattr, owner_path, module)
                setattr(owner, function, switchable(check, getattr(owner, function), replacement))


class Switchable(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        make_switchable(module)


class Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of `WITHOUT` where they are; everything else is none of its business."""

    modules = frozenset(name for places in WITHOUT.values() for name, *_ in places)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if name not in self.modules:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.origin is None:
            return None
        return importlib.util.spec_from_file_location(name, spec.origin, loader=Switchable(name, spec.origin))


sys.meta_path.insert(0, Finder())
