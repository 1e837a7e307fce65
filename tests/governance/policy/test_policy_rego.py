"""The engines in this process: the same answers, gated, one bundle each, one engine a thread."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from policies_for_tests import RULES, SHARED_TESTS, bundle, document

from aip.governance.policy.engine import UNDEFINED, BundleRejected, PolicyError, decide
from aip.governance.policy.gate import GatedEngine, pass_gate
from aip.governance.policy.rego import prepare
from aip.governance.policy.regocpp_engine import RegoCppEngine
from aip.governance.policy.regorus_engine import RegorusEngine
from aip.governance.policy.trial import Trial, examine, try_out

ENGINES = {"regorus": RegorusEngine, "rego-cpp": RegoCppEngine}


@pytest.fixture(params=ENGINES.values(), ids=ENGINES)
def make(request: pytest.FixtureRequest) -> Any:
    return request.param


def loaded(make: Any, **changes: str | None) -> GatedEngine:
    engine: GatedEngine = make()
    engine.load(bundle(**changes))
    return engine


DECISIONS = {
    "greet by a guest": (document(), True, ()),
    "pay by a guest": (document(capability="pay"), False, ()),
    "greet another tenant": (document(target={"tenant": "b"}), False, ("tenant.foreign",)),
    "poor": (document(budget={"usd": 9}), False, ("budget.small",)),
    "poor and foreign": (
        document(budget={"usd": 9}, target={"tenant": "b"}),
        False,
        ("budget.small", "tenant.foreign"),
    ),
    "nothing known": ({}, False, ()),
}


@pytest.mark.parametrize(("input", "allow", "rules"), DECISIONS.values(), ids=DECISIONS)
def test_both_engines_decide(make: Any, input: dict[str, Any], allow: bool, rules: tuple[str, ...]) -> None:
    decision = decide(loaded(make), input, id="d")
    assert decision.allow == allow
    assert tuple(reason.rule for reason in decision.reasons) == rules
    assert decision.obligations == (({"kind": "record"},) if allow else ())


VALUES = {
    "a rule": ("aip/allow", True),
    "data": ("aip/roles/guest", ["greet"]),
    "data inside": ("aip/roles/clerk", ["greet", "pay"]),
    "no such rule": ("aip/nothing", UNDEFINED),
    "no such package": ("nowhere/at/all", UNDEFINED),
    "a part that would be a query": ('aip/x"] or true', UNDEFINED),
    "the text that means undefined": ("aip/odd", "<undefined>"),
    "an empty set": ("aip/none", []),
    "null": ("aip/null_", None),
}


@pytest.mark.parametrize(("path", "value"), VALUES.values(), ids=VALUES)
def test_a_path_has_a_value_or_none(make: Any, path: str, value: Any) -> None:
    rules = RULES + '\nodd := "<undefined>"\n\nnone := set()\n\nnull_ := null\n'
    assert loaded(make, rules=rules).evaluate(path, document()) == value


def test_an_error_of_a_builtin_function_is_an_error(make: Any) -> None:
    engine = loaded(make, rules='package aip\n\ndecision := {"allow": true, "x": 1 / input.zero}\n')
    with pytest.raises(PolicyError):
        engine.evaluate("aip/decision", {"zero": 0})
    assert not decide(engine, {"zero": 0}, id="").allow
    assert decide(engine, {"zero": 1}, id="").allow


def test_rules_that_contradict_each_other_deny(make: Any) -> None:
    rules = (
        'package aip\n\ndecision := {"allow": true} if input.a\n\ndecision := {"allow": false} if input.b\n'
    )
    engine = loaded(make, rules=rules)
    assert decide(engine, {"a": 1}, id="").allow
    assert not decide(engine, {"a": 1, "b": 1}, id="").allow


def test_an_engine_serves_one_bundle_for_life(make: Any) -> None:
    engine = loaded(make)
    with pytest.raises(PolicyError, match="already"):
        engine.load(bundle())


def test_any_thread_may_ask(make: Any) -> None:
    engine = loaded(make)
    barrier = threading.Barrier(4)

    def ask(_: int) -> list[bool]:
        barrier.wait()
        return [decide(engine, document(), id="").allow for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        assert all(all(answers) for answers in pool.map(ask, range(4)))


GATE = {
    "no Rego": ({"rules": "package aip\n\nx = = 1\n"}, "cannot parse|rego"),
    "an unknown function": (
        {"rules": 'package aip\n\nx if nosuch.function("a")\n'},
        r"aip/rules.rego:3: .*nosuch.function",
    ),
    "an unknown function of ours": ({"rules": "package aip\n\nx if data.aip.absent(1)\n"}, "data.aip.absent"),
    "the clock": ({"rules": "package aip\n\nx := time.now_ns()\n"}, "time.now_ns is not served"),
    "the network": (
        {"rules": 'package aip\n\nx := http.send({"url": "http://x"})\n'},
        "http.send is not served",
    ),
    "chance": ({"rules": 'package aip\n\nx := rand.intn("a", 3)\n'}, "rand.intn is not served"),
    "a failing test": ({"data": '{"guest": []}'}, "test_a_guest_may_greet: is .*UNDEFINED.*not true"),
}


@pytest.mark.parametrize(("changes", "words"), GATE.values(), ids=GATE)
def test_the_gate_holds_back(changes: dict[str, str], words: str) -> None:
    with pytest.raises(BundleRejected, match=words):
        pass_gate(bundle(**changes), lambda: RegorusEngine(tests=True))


@pytest.mark.parametrize("what", ["no Rego", "an unknown function", "the clock", "a failing test"])
def test_the_reference_engines_gate_stands_in_a_child(what: str) -> None:
    """Some of these end its process: there is no asking it in ours."""
    changes, _ = GATE[what]
    with pytest.raises(BundleRejected, match="the reference engine"):
        try_out(bundle(**{"tests": SHARED_TESTS, **changes}), 1, 1)


def test_the_gate_reports_the_tests_that_hold() -> None:
    results = pass_gate(bundle(), lambda: RegorusEngine(tests=True))
    assert [(test.name, test.passed) for test in results] == [
        ("test_a_guest_may_greet", True),
        ("test_a_guest_may_not_pay", True),
    ]


SHARED = bundle(tests=SHARED_TESTS)


def test_the_fast_engine_serves_what_both_decide_alike() -> None:
    prepared = prepare(SHARED, try_out=examine)
    assert prepared.engine.name.startswith("regorus")
    assert prepared.certificate is not None
    assert (prepared.certificate.tests, prepared.certificate.unshared) == (1, 0)
    assert 0 < prepared.certificate.allowed < prepared.certificate.decided


def test_a_certificate_that_covers_the_bundle_is_not_made_again() -> None:
    certificate = prepare(SHARED, try_out=examine).certificate

    def never(*_: object) -> Trial:
        raise AssertionError("compared again")

    assert prepare(SHARED, certificate, try_out=never).engine.name.startswith("regorus")
    with pytest.raises(AssertionError):
        prepare(bundle(tests=SHARED_TESTS + "\n"), certificate, try_out=never)


def test_the_reference_serves_what_was_hardly_compared() -> None:
    prepared = prepare(SHARED, inputs=10, try_out=examine)
    assert prepared.engine.name.startswith("rego-cpp")
    assert "too few" in prepared.why


def test_the_reference_serves_what_the_fast_engine_lacks() -> None:
    rules = RULES + '\ntoken := io.jwt.decode("a.b.c")\n'
    prepared = prepare(bundle(rules=rules, tests=SHARED_TESTS), try_out=examine)
    assert prepared.engine.name.startswith("rego-cpp")
    assert "io.jwt.decode" in prepared.why


def test_what_no_engine_serves_is_rejected_with_the_reasons_of_both() -> None:
    with pytest.raises(BundleRejected) as rejected:
        prepare(bundle(rules="package aip\n\nx if nosuch.function(1)\n", tests=SHARED_TESTS))
    assert [
        engine for engine in ("regorus", "rego-cpp") if engine in str(rejected.value.details["problems"])
    ] == [
        "regorus",
        "rego-cpp",
    ]


def test_tests_that_end_the_reference_engines_process_end_a_child() -> None:
    """It is asked again without them: by the message that they are written around, and by generated inputs."""
    trial = try_out(bundle(), 100, 1)
    assert trial.unshared == 2
    assert trial.certificate is not None
    assert trial.certificate.unshared == 2
    assert trial.certificate.decided > 80
    assert not trial.certificate.differences
