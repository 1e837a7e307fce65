"""Policy in this process: which engine serves a bundle, and how it is made ready.

    regorus     fast: serves with a certificate for this bundle and these versions (`certify.py`)
    rego-cpp    reference: serves whatever has no certificate, or uses what regorus lacks

Evidence behind the choice (OPA's own suite of 2,067 cases; ten rules over 10,000 agents in data, one core): regorus passes 676 of
757 core cases and decides in 145 µs; rego-cpp passes 755 and takes 5 ms with that much data, 0.9 ms with a bundle of roles and
limits. OPA's own engine passes 752 (the rest are the harness's) and is the oracle of `scripts/oracle`; it is no dependency, for
its package asks for a newer Python than ours.

`prepare` does everything that may fail or take time before anything is swapped: gate, tests, comparison, first decision. What it
returns is ready: the swap is an assignment (`serving.py`). The reference engine meets a bundle in a child process first
(`trial.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...errors import AIPError, Unavailable
from .bundle import Bundle
from .certify import INPUTS, SEED, Certificate
from .engine import BundleRejected, PolicyEngine, decide
from .gate import TestResult, pass_gate
from .regocpp_engine import RegoCppEngine, reference_name
from .regorus_engine import RegorusEngine
from .trial import Trial, try_out

TryOut = Callable[[Bundle, int, int], Trial]


@dataclass(frozen=True, slots=True)
class Prepared:
    """An engine that has loaded a bundle and made its first decision."""

    engine: PolicyEngine
    tests: tuple[TestResult, ...]
    certificate: Certificate | None = None
    why: str = ""  # Why not the fast engine, in words for `aip policy show`.


def prepare(
    bundle: Bundle,
    certificate: Certificate | None = None,
    *,
    inputs: int = INPUTS,
    seed: int = SEED,
    try_out: TryOut = try_out,
) -> Prepared:
    """The engine for this bundle. With a certificate that covers it nothing is compared again. Raises `BundleRejected`."""
    try:
        fast = RegorusEngine(tests=True)
        tests = pass_gate(bundle, lambda: fast)
    except (Unavailable, BundleRejected) as error:
        return _by_reference(bundle, error, try_out)
    reference = reference_name()
    if certificate is None or not certificate.covers(bundle, fast.name, reference):
        certificate = try_out(bundle, inputs, seed).certificate
    if certificate is None or not certificate.covers(bundle, fast.name, reference):
        return _warm(RegoCppEngine(), bundle, tests, certificate, _why_not(fast.name, certificate))
    return _warm(RegorusEngine(), bundle, tests, certificate)


def _why_not(engine: str, certificate: Certificate | None) -> str:
    if certificate is None:
        return f"{engine} could not be compared with the reference engine"
    if certificate.differences:
        return f"{engine} decides otherwise: {certificate.differences[0]}"[:500]
    return f"only {certificate.decided} of {certificate.inputs} generated inputs were decided: too few to compare {engine}"


def _by_reference(bundle: Bundle, refusal: Unavailable | BundleRejected, try_out: TryOut) -> Prepared:
    """The fast engine refused: the reference engine may still serve it. If it does not either, both say why."""
    try:
        if try_out(bundle, 0, 0).unshared:
            raise BundleRejected("no engine can run both the rules and the tests of this bundle")
        tests = pass_gate(bundle, lambda: RegoCppEngine(tests=True))
    except (Unavailable, BundleRejected) as error:
        problems = [*_problems(refusal), *_problems(error)]
        raise BundleRejected(f"no engine serves this bundle: {problems[0]}", problems=problems) from refusal
    return _warm(RegoCppEngine(), bundle, tests, None, refusal.message)


def _problems(error: AIPError) -> list[str]:
    return list(error.details.get("problems", [error.message]))


def _warm(
    engine: PolicyEngine,
    bundle: Bundle,
    tests: tuple[TestResult, ...],
    certificate: Certificate | None,
    why: str = "",
) -> Prepared:
    engine.load(bundle)
    decide(
        engine, {}, id="warm"
    )  # What it decides on nothing does not matter; that everything is compiled does.
    return Prepared(engine, tests, certificate, why)
