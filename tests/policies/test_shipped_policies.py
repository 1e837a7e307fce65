"""The policies that come with AIP: what they allow, what they refuse, and that nothing broken opens them."""

from __future__ import annotations

import copy
import importlib
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aip.cli import policy_engine
from aip.cli.policy_engine import loaded
from aip.governance.policy.engine import BundleRejected
from aip.governance.policy.gate import pass_gate
from aip.governance.policy.generate import generate
from aip.governance.policy.input import plain, read_input
from aip.governance.policy.regorus_engine import RegorusEngine
from aip.governance.policy.rollout import configured, read, shipped

ROOT = Path(__file__).parents[2] / "policies"
STRICT = json.loads((ROOT / "strict" / "config.json").read_text())
LAPTOP = json.loads((ROOT / "data.json").read_text())["aip"]["config"]
BUNDLES = {"laptop": read(ROOT), "strict": read(ROOT, ROOT / "strict" / "config.json")}
ENGINES = {name: loaded(bundle) for name, bundle in BUNDLES.items()}
CONCERNS = (
    "attributes",
    "budgets",
    "effects",
    "isolation",
    "labels",
    "rates",
    "roles",
    "sequence",
    "spawn",
)


def message(**changes: Any) -> dict[str, Any]:
    """An ordinary call inside a run, with some fields changed: `target_type` is the field `type` of `target`."""
    document: dict[str, Any] = {
        "kind": "call",
        "subject": {"address": "planner/1", "type": "planner"},
        "target": {"address": "greeter/1", "type": "greeter"},
        "capability": "greet",
        "run": "r-1",
    }
    for name, value in changes.items():
        outer, _, inner = name.partition("_")
        if outer in ("subject", "target", "principal", "session", "kill"):
            document.setdefault(outer, {})[inner] = value
        else:
            document[name] = value
    return plain(read_input(document))


def decided(mode: str, document: Any) -> tuple[bool, set[str]]:
    decision = ENGINES[mode].decide(document)
    return decision["allow"], {reason["rule"] for reason in decision["reasons"]}


# Their own tests


@pytest.mark.parametrize("mode", BUNDLES)
def test_every_test_of_the_bundle_holds(mode: str) -> None:
    _, results = policy_engine.tested(BUNDLES[mode])
    assert len(results) > 80
    assert [test for test in results if not test.passed] == []


def test_what_aip_ships_is_this_bundle() -> None:
    assert shipped() == ROOT
    assert BUNDLES["laptop"].roots == ("aip",)


def test_every_module_has_tests() -> None:
    modules = {module.path for module in BUNDLES["laptop"].modules}
    served = {module.path for module in BUNDLES["laptop"].served}
    assert {path.removesuffix(".rego") + "_test.rego" for path in served} <= modules
    assert {f"aip/{concern}.rego" for concern in CONCERNS} <= served


def test_every_rule_is_found_in_the_file_of_its_concern() -> None:
    bundle = BUNDLES["laptop"]
    for module in bundle.served:
        for rule in re.findall(r'"rule": "([\w.]+)"', module.text):
            file, line = bundle.place_of(rule)
            assert file == module.path
            assert f'"rule": "{rule}"' in module.text.splitlines()[line - 1]
            assert module.path in (f"aip/{rule.partition('.')[0]}.rego", "aip/decision.rego")


# What they decide

DECISIONS = [
    # what happens                                                  laptop                    strict
    (message(), "roles.laptop", "decision.default"),
    (message(principal_roles=["operator"]), "roles.laptop roles.granted", "roles.granted"),
    (message(principal_roles=["reader"], capability="search"), "roles.laptop", "roles.granted"),
    (message(principal_roles=["reader"], capability="delete"), "roles.laptop", "decision.default"),
    (message(run="", principal_id="user:ada"), "roles.laptop", "decision.default"),
    (message(run=""), "decision.default", "decision.default"),
    (message(kind="tell"), "roles.laptop", "decision.default"),
    (message(kind="effect", target_type="http"), "roles.laptop", "effects.connector"),
    (message(kind="spawn", subject_depth=32), "spawn.depth", "spawn.depth"),
    (message(kind="spawn", subject_children=10_000), "spawn.children", "spawn.children"),
    (message(target_tenant="other"), "attributes.tenant", "attributes.tenant"),
    (message(target_tenant="commons", principal_roles=["operator"]), "attributes.tenant", "roles.granted"),
    (message(reputation=0.1), "roles.laptop", "attributes.reputation"),
    (message(kill_level="drain"), "attributes.kill", "attributes.kill"),
    (message(kill_level="pause"), "roles.laptop", "decision.default"),
    (
        message(kind="effect", target_type="disk", kill_level="quarantine"),
        "attributes.quarantine",
        "attributes.quarantine effects.connector",
    ),
    (message(budget={"usd_micro": -1}), "budgets.exhausted", "budgets.exhausted"),
    (message(budget={"usd_micro": 0}), "roles.laptop", "decision.default"),
    (message(rates={"spawn": 20_001}), "rates.exceeded", "rates.exceeded"),
    (message(rates={"call": 1_001}), "roles.laptop", "rates.exceeded"),
    (message(target_type="untrusted.code"), "isolation.demanded", "isolation.demanded"),
    (message(target_type="untrusted.code", isolation="container"), "roles.laptop", "decision.default"),
    (message(target_type="http", labels=["public"]), "roles.laptop", "decision.default"),
    (
        message(target_type="http", labels=["pii"]),
        "labels.external",
        "isolation.demanded labels.external labels.refused",
    ),
    (
        message(target_type="http", session_labels=["secret"]),
        "sequence.external_after_secret",
        "sequence.external_after_secret",
    ),
    (message(target_type="secrets", session_labels=["secret"]), "roles.laptop", "decision.default"),
    (message(session_labels=["secret"]), "roles.laptop", "sequence.external_after_secret"),
]


@pytest.mark.parametrize(("document", "laptop", "strict"), DECISIONS)
def test_a_laptop_runs_its_own_plans_and_strict_asks_for_a_grant(
    document: dict[str, Any], laptop: str, strict: str
) -> None:
    for mode, rules in (("laptop", laptop), ("strict", strict)):
        granted = rules.startswith("roles.")
        assert decided(mode, document) == (granted, set(rules.split())), mode


def test_the_laptop_says_what_it_is_with_every_yes() -> None:
    decision = ENGINES["laptop"].decide(message())
    assert {"kind": "notice", "mode": "laptop"}.items() <= decision["obligations"][0].items()
    assert "mode laptop" in decision["reasons"][0]["text"]


def test_reading_a_secret_obliges_to_remember_it() -> None:
    decision = ENGINES["laptop"].decide(message(target_type="secrets"))
    assert {"kind": "label", "labels": ["secret"]} in decision["obligations"]


def test_an_effect_obliges_to_its_record() -> None:
    decision = ENGINES["laptop"].decide(message(kind="effect", target_type="disk"))
    assert {"kind": "record_before"} in decision["obligations"]


# Nothing broken opens them

TEXT, NUMBER, TEXTS, NUMBERS, ANY_OBJECT, NOTHING_ELSE = (
    ("10",),
    (7,),
    ([],),
    ({},),
    ({}, {"x": "y"}, {"x": None}),
    (),
)
# Of the wrong values below, those that a field takes all the same.
TAKES: dict[tuple[str, ...], tuple[Any, ...]] = {
    ("kind",): NOTHING_ELSE,
    **dict.fromkeys(itertools.product(("subject", "target"), ("type", "tenant")), TEXT),
    ("subject", "depth"): NUMBER,
    ("subject", "children"): NUMBER,
    ("capability",): TEXT,
    ("run",): TEXT,
    ("principal", "id"): TEXT,
    ("principal", "roles"): TEXTS,
    ("principal", "attributes"): ANY_OBJECT,
    ("labels",): TEXTS,
    ("session", "labels"): TEXTS,
    ("isolation",): NOTHING_ELSE,
    ("budget",): NUMBERS,
    ("rates",): NUMBERS,
    ("reputation",): NUMBER,
    ("kill", "level"): TEXT,
    **dict.fromkeys(itertools.product(("subject", "target", "principal", "session", "kill")), NOTHING_ELSE),
}
GONE = object()
WRONG = [GONE, None, True, 7, "10", [], {}, [3], ["x", None], {"x": "y"}, {"x": None}, [["secret"]]]


@pytest.mark.parametrize("path", TAKES, ids=".".join)
def test_a_field_that_is_gone_or_of_a_wrong_type_is_refused_as_the_inputs_fault(
    path: tuple[str, ...],
) -> None:
    for wrong in WRONG:
        document = message(principal_roles=["operator"], rates={"call": 1}, budget={"usd": 1})
        place = document
        for part in path[:-1]:
            place = place[part]
        if wrong is GONE:
            del place[path[-1]]
        else:
            place[path[-1]] = wrong
        if not any(type(wrong) is type(one) and wrong == one for one in TAKES[path]):
            assert decided("laptop", document) == (False, {"shape.input"}), wrong


@pytest.mark.parametrize("whatever", [None, 1, "x", [], {}, {"kind": "call"}, [message()]], ids=repr)
def test_what_is_no_input_document_is_refused(whatever: Any) -> None:
    for mode in ENGINES:
        assert decided(mode, whatever)[0] is False


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [path, *(leaf for key, item in items for leaf in leaves(item, (*path, key)))]
    return [path]


def damaged(config: Any, path: tuple[Any, ...], wrong: Any) -> Any:
    changed = copy.deepcopy(config)
    place = changed
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = wrong
    return changed


CONFIG_LEAVES = [path for path in leaves(STRICT) if path and path != ("mode",)]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(CONFIG_LEAVES), st.sampled_from([None, "10", 7, True, ["x", 3], {"x": "y"}]))
def test_a_configuration_that_is_misspelt_is_not_whole(path: tuple[Any, ...], wrong: Any) -> None:
    place = STRICT
    for part in path:
        place = place[part]
    if type(wrong) is type(place) or (isinstance(wrong, int) and isinstance(place, float)):
        return  # That is another configuration, not a broken one.
    engine = RegorusEngine()
    engine.load(configured(BUNDLES["laptop"], damaged(STRICT, path, wrong)))
    assert engine.evaluate("aip/shape/config_whole", {}) is False


def test_a_configuration_that_is_not_whole_is_never_served() -> None:
    misspelt = damaged(STRICT, ("limits", "rates_per_s_max", "call"), "1000")
    with pytest.raises(BundleRejected, match="test_the_configuration_of_this_bundle_is_whole"):
        pass_gate(configured(BUNDLES["laptop"], misspelt), lambda: RegorusEngine(tests=True))


@pytest.mark.parametrize(
    "table",
    [
        ("limits", "rates_per_s_max"),
        ("limits", "budget_left_min"),
        ("attributes", "required"),
        ("attributes", "reputation_min"),
        ("catalogue",),
        ("isolation", "of_types"),
        ("isolation", "of_labels"),
        ("sequences", "no_external_after"),
        ("sequences", "forbidden"),
        ("spawn", "depth_max"),
        ("spawn", "children_max"),
    ],
    ids=".".join,
)
def test_a_table_that_is_gone_refuses_everything_even_where_no_gate_was_passed(
    table: tuple[str, ...],
) -> None:
    changed = copy.deepcopy(LAPTOP)
    place = changed
    for part in table[:-1]:
        place = place[part]
    del place[table[-1]]
    decision = loaded(configured(BUNDLES["laptop"], changed)).decide(message())
    assert decision["allow"] is False
    assert {reason["rule"] for reason in decision["reasons"]} == {"shape.config"}


def test_engines_that_pass_over_errors_of_functions_decide_the_same() -> None:
    """OPA's server goes on with `undefined` where a function fails; here that never makes a denial disappear."""
    regopy = importlib.import_module("regopy")
    for mode, bundle in BUNDLES.items():
        lenient = regopy.Interpreter()
        lenient.strict_built_in_errors = False
        for module in bundle.served:
            lenient.add_module(module.path, module.text)
        lenient.add_data_json(json.dumps(bundle.data))
        plan = lenient.build("value = data.aip.decision", [])
        for document in itertools.islice(generate(bundle, seed=7), 150):
            lenient.set_input_term(json.dumps(document))
            found = json.loads(str(lenient.query_bundle(plan)))["bindings"]["value"]
            allow, rules = decided(mode, document)
            assert found["allow"] is allow
            assert {reason["rule"] for reason in found["reasons"]} == rules


@pytest.mark.parametrize("mode", BUNDLES)
def test_generated_inputs_are_allowed_as_well_as_denied(mode: str) -> None:
    """That engines agree on denials alone would say little: of each policy a fair share is allowed."""
    documents = itertools.islice(generate(BUNDLES[mode], seed=5), 1_000)
    assert 0.2 < sum(decided(mode, document)[0] for document in documents) / 1_000 < 0.8


def test_generated_inputs_reach_every_rule() -> None:
    """What the comparison of engines asks is no idle question: each rule speaks somewhere."""
    spoken = set()
    for mode, bundle in BUNDLES.items():
        for document in itertools.islice(generate(bundle, seed=3), 1_500):
            spoken |= decided(mode, document)[1]
    spoken |= decided("laptop", {})[1]
    named = {
        rule for module in BUNDLES["laptop"].served for rule in re.findall(r'"rule": "([\w.]+)"', module.text)
    }
    # No shipped configuration demands attributes, forbids orders of its own or types of children; broken ones are refused above.
    assert named - spoken == {"attributes.required", "sequence.forbidden", "spawn.type", "shape.config"}
