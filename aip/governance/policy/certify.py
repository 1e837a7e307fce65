"""May a faster engine serve this bundle? Only after it decided as the reference engine does.

Asked of both engines: every test of the bundle, and `INPUTS` generated inputs (`generate.py`), many of them variations of the
documents that the tests are written around. Compared: allow, reasons and obligations; where one fails, that the other does not
allow, for a failure denies. The certificate names what was compared with what: it holds for that bundle's digest and those
versions of the engines, and for nothing else.

Not guaranteed: that they agree on every input there is. A certificate is evidence, and says how much of it there is.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import msgspec

from .bundle import Bundle
from .engine import FAULT, Decision, PolicyEngine, PolicyError, decide
from .gate import GatedEngine, TestResult, examples_of, run_tests, tests_of
from .generate import generate

INPUTS = 1_000  # About two seconds of the reference engine: what an activation may take.
DECIDED_MIN = INPUTS // 2  # Two engines that both fail on everything agree, and it means nothing.
SEED = 1
DIFFERENCES_MAX = 10  # The first few show what is wrong.


class Difference(msgspec.Struct, frozen=True):
    """One input on which two engines do not decide alike; for a test, its name."""

    input: Any
    engine: str
    reference: str


class Certificate(msgspec.Struct, frozen=True):
    digest: str
    revision: str
    engine: str
    reference: str
    tests: int
    inputs: int  # Compared, unless differences ended it sooner.
    decided: (
        int  # Inputs on which the reference gave a decision, rather than failed: only these show agreement.
    )
    allowed: int
    seed: int
    differences: tuple[Difference, ...] = ()
    unshared: int = 0  # Tests that only the faster engine could run (`trial.py`).

    def covers(self, bundle: Bundle, engine: str, reference: str) -> bool:
        """Whether it lets this engine serve this bundle."""
        same = (self.digest, self.engine, self.reference) == (bundle.digest, engine, reference)
        return same and not self.differences and self.decided >= DECIDED_MIN


class NotCertified(PolicyError):
    """The faster engine decided differently. `details["differences"]` shows the first inputs."""

    code = "policy.not_certified"
    default_hint = (
        "the reference engine serves this bundle; report the difference to the engine's maintainers"
    )


def certify(
    bundle: Bundle,
    engine: GatedEngine,
    reference: GatedEngine,
    *,
    inputs: int = INPUTS,
    seed: int = SEED,
    share_tests: bool = True,
) -> Certificate:
    """Both engines have loaded the bundle with its tests; `share_tests=False`: the reference has not."""
    differences = _tests_apart(engine, reference, bundle) if share_tests else []
    tests = len(tests_of(bundle))
    examples = examples_of(engine, bundle)
    decided = allowed = 0
    for document in islice(generate(bundle, seed, examples), inputs):
        found = decide(engine, document, id="")
        expected = decide(reference, document, id="")
        decided += not is_fault(found) and not is_fault(expected)
        allowed += expected.allow
        if not alike(found, expected):
            differences.append(Difference(document, shown(found), shown(expected)))
            if len(differences) >= DIFFERENCES_MAX:
                break
    return Certificate(
        digest=bundle.digest,
        revision=bundle.revision,
        engine=engine.name,
        reference=reference.name,
        tests=tests if share_tests else 0,
        unshared=0 if share_tests else tests,
        inputs=inputs,
        decided=decided,
        allowed=allowed,
        seed=seed,
        differences=tuple(differences),
    )


def alike(one: Decision, other: Decision) -> bool:
    """The same decision, whoever made it. A failure denies: it is as good as any denial, and never as good as an allowance."""
    if is_fault(one) or is_fault(other):
        return not one.allow and not other.allow
    return (one.allow, one.reasons, one.obligations) == (other.allow, other.reasons, other.obligations)


def is_fault(decision: Decision) -> bool:
    return not decision.allow and any(reason.rule == FAULT for reason in decision.reasons)


def shown(decision: Decision) -> str:
    """A decision in one line, for a person who compares two."""
    rules = "; ".join(f"{reason.rule}: {reason.text}" for reason in decision.reasons)
    obligations = msgspec.json.encode(decision.obligations).decode()
    return f"{'allow' if decision.allow else 'deny'} [{rules}] {obligations}"


def _tests_apart(engine: PolicyEngine, reference: PolicyEngine, bundle: Bundle) -> list[Difference]:
    def verdicts(one: PolicyEngine) -> dict[tuple[str, str], TestResult]:
        return {(test.file, test.name): test for test in run_tests(one, bundle)}

    found, expected = verdicts(engine), verdicts(reference)
    return [
        Difference(f"{file}: {name}", str(found[file, name].passed), str(expected[file, name].passed))
        for file, name in expected
        if found[file, name].passed != expected[file, name].passed
    ][:DIFFERENCES_MAX]
