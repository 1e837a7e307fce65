"""A faster engine is compared before it serves, and what it decides differently is shown."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
from policies_for_tests import SHARED_TESTS, bundle

from aip.governance.policy.bundle import Bundle
from aip.governance.policy.certify import INPUTS, Certificate, certify
from aip.governance.policy.engine import UNDEFINED, PolicyError
from aip.governance.policy.generate import Pool, generate
from aip.governance.policy.regorus_engine import RegorusEngine

BUNDLE = bundle(tests=SHARED_TESTS)


class Otherwise:
    """Regorus, but for one turn of its decisions."""

    name = "otherwise 1"

    def __init__(self, turn: Any = None) -> None:
        self._engine = RegorusEngine(tests=True)
        self._turn = turn
        self._engine.load(BUNDLE)

    @property
    def bundle(self) -> Bundle | None:
        return self._engine.bundle

    def load(self, bundle: Bundle) -> None:
        raise AssertionError("loaded already")

    def lacks(self, names: set[str]) -> set[str]:
        return self._engine.lacks(names)

    def evaluate(self, path: str, input: Any) -> Any:
        value = self._engine.evaluate(path, input)
        return self._turn(value, input) if self._turn and path == "aip/decision" else value


def allow_the_foreign(value: dict[str, Any], _: Any) -> Any:
    return {**value, "allow": value["allow"] or bool(value["reasons"])}


def drop_obligations(value: dict[str, Any], _: Any) -> Any:
    return {**value, "obligations": []}


def drop_reasons(value: dict[str, Any], _: Any) -> Any:
    return {**value, "reasons": []}


def never_undefined(_: Any, __: Any) -> Any:
    raise PolicyError("fails")


def test_engines_that_decide_alike_are_certified_for_that_bundle_only() -> None:
    certificate = certify(BUNDLE, Otherwise(), Otherwise())
    assert certificate.differences == ()
    assert certificate.covers(BUNDLE, "otherwise 1", "otherwise 1")
    assert not certificate.covers(bundle(), "otherwise 1", "otherwise 1")
    assert not certificate.covers(BUNDLE, "otherwise 2", "otherwise 1")
    assert not certificate.covers(BUNDLE, "otherwise 1", "otherwise 2")


@pytest.mark.parametrize("turn", [allow_the_foreign, drop_obligations, drop_reasons])
def test_one_that_decides_otherwise_is_not_and_the_input_shows_it(turn: Any) -> None:
    certificate = certify(BUNDLE, Otherwise(turn), Otherwise())
    assert not certificate.covers(BUNDLE, "otherwise 1", "otherwise 1")
    shown = certificate.differences[0]
    assert shown.engine != shown.reference
    assert isinstance(shown.input, dict)


def test_two_engines_that_fail_on_everything_agree_and_it_means_nothing() -> None:
    certificate = certify(BUNDLE, Otherwise(never_undefined), Otherwise(never_undefined))
    assert certificate.differences == ()
    assert not certificate.covers(BUNDLE, "otherwise 1", "otherwise 1")


def test_a_failure_is_a_denial_and_no_allowance() -> None:
    """Where the faster engine fails and the other denies, nothing is lost; where the other allows, it is a difference."""
    always_deny = Otherwise(lambda *_: {"allow": False})
    assert certify(BUNDLE, Otherwise(never_undefined), always_deny).differences == ()
    assert certify(BUNDLE, Otherwise(never_undefined), Otherwise()).differences


def test_a_certificate_survives_the_disk() -> None:
    import msgspec

    certificate = certify(BUNDLE, Otherwise(drop_reasons), Otherwise())
    assert (
        msgspec.json.decode(msgspec.json.encode(certificate), type=Certificate).covers(BUNDLE, "x", "y")
        is False
    )


def test_inputs_fall_on_both_sides_of_the_rules_and_repeat_with_their_seed() -> None:
    engine = Otherwise()
    documents = list(islice(generate(BUNDLE, 7), INPUTS))
    assert documents == list(islice(generate(BUNDLE, 7), INPUTS))
    assert documents != list(islice(generate(BUNDLE, 8), INPUTS))
    rules = set()
    for document in documents:
        try:
            value = engine.evaluate("aip/decision", document)
        except PolicyError:
            continue
        assert value is not UNDEFINED
        rules |= {reason["rule"] for reason in value["reasons"]} | ({"allowed"} if value["allow"] else set())
    assert rules == {"allowed", "budget.small", "tenant.foreign"}


def test_values_come_from_the_sources_and_the_data() -> None:
    pool = Pool.of(BUNDLE)
    assert {"clerk", "pay", "budget.small"} <= set(pool.texts)
    assert {9, 10, 11} <= set(pool.numbers)
    assert ("budget", "usd") in pool.paths
