"""An engine for questions of a person: one bundle, decisions as plain values.

It decides as the platform does, with one difference: nobody compared the engines for a question typed by hand. `aip policy check`
does; what serves a platform was always compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from ..errors import Unavailable
from ..governance.policy.bundle import Bundle
from ..governance.policy.engine import BundleRejected, PolicyEngine, decide
from ..governance.policy.gate import GatedEngine, TestResult, lacking, run_tests
from ..governance.policy.regocpp_engine import RegoCppEngine
from ..governance.policy.regorus_engine import RegorusEngine


@dataclass(frozen=True, slots=True)
class Loaded:
    bundle: Bundle
    engine: PolicyEngine

    def decide(self, document: Any, id: str = "") -> dict[str, Any]:
        plain: dict[str, Any] = msgspec.to_builtins(decide(self.engine, document, id=id))
        return plain


def loaded(bundle: Bundle) -> Loaded:
    """The bundle on the fast engine, or on the reference engine where the fast one is not installed or lacks something."""
    return Loaded(bundle, _load(bundle, tests=False))


def tested(bundle: Bundle) -> tuple[str, list[TestResult]]:
    """The engine's name, and what became of each of the bundle's own tests."""
    engine = _load(bundle, tests=True)
    return engine.name, list(run_tests(engine, bundle))


def _load(bundle: Bundle, *, tests: bool) -> GatedEngine:
    problems: list[str] = []
    for make in (RegorusEngine, RegoCppEngine):
        try:
            engine: GatedEngine = make(tests=tests)
            if missing := list(lacking(bundle, engine)):
                raise BundleRejected(missing[0], problems=missing)
            engine.load(bundle)
        except (Unavailable, BundleRejected) as error:
            problems += error.details.get("problems") or [error.message]
        else:
            return engine
    raise BundleRejected(problems[0], problems=problems)
