"""Small bundles for the tests of the policy room."""

from __future__ import annotations

import json
from typing import Any

from aip.governance.policy.bundle import Bundle, from_files

RULES = """package aip

import data.aip.roles

default allow := false

allow if {
	count(denials) == 0
	some role in input.principal.roles
	input.capability in roles[role]
}

denials contains {"rule": "tenant.foreign", "text": sprintf("%v is not ours", [input.target.tenant])} if {
	input.target.tenant != input.subject.tenant
}

denials contains {"rule": "budget.small", "text": "less than 10 left"} if {
	is_number(input.budget.usd)
	input.budget.usd < 10
}

obligations contains {"kind": "record"} if allow

decision := {"allow": allow, "reasons": denials, "obligations": obligations}
"""
# Tests as people write them. The reference engine dies of them (`trial.py`): it only ever meets them in a child.
TESTS = """package aip_test

import data.aip

message := {
	"capability": "greet",
	"principal": {"roles": ["guest"]},
	"subject": {"tenant": "a"},
	"target": {"tenant": "a"},
}

test_a_guest_may_greet if {
	aip.allow with input as message
}

test_a_guest_may_not_pay if {
	not aip.allow with input as object.union(message, {"capability": "pay"})
}
"""
# And a test that every engine runs.
SHARED_TESTS = """package aip_test

message := {"capability": "greet", "principal": {"roles": ["guest"]}, "subject": {"tenant": "a"}, "target": {"tenant": "a"}}

test_guests_have_a_role if "greet" in data.aip.roles.guest
"""
ROLES = {"guest": ["greet"], "clerk": ["greet", "pay"]}


def files(**changes: str | None) -> dict[str, bytes]:
    """The bundle's files; a keyword replaces or (None) removes one: `rules`, `tests`, `data`, `manifest`."""
    names = {
        "rules": "aip/rules.rego",
        "tests": "test/rules_test.rego",
        "data": "aip/roles/data.json",
        "manifest": ".manifest",
    }
    texts: dict[str, str | None] = {
        "rules": RULES,
        "tests": TESTS,
        "data": json.dumps(ROLES),
        "manifest": json.dumps({"revision": "r1", "roots": ["aip", "aip_test"]}),
    }
    return {names[key]: text.encode() for key, text in (texts | changes).items() if text is not None}


def bundle(**changes: str | None) -> Bundle:
    return from_files(files(**changes))


def document(**changes: Any) -> dict[str, Any]:
    whole = {
        "capability": "greet",
        "principal": {"roles": ["guest"]},
        "subject": {"tenant": "a"},
        "target": {"tenant": "a"},
    }
    return whole | changes
