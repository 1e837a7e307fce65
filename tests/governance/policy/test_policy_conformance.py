"""OPA's own cases of the core language (`cases/README.md`), asked of the engines in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aip.governance.policy.bundle import from_files
from aip.governance.policy.engine import UNDEFINED, BundleRejected, PolicyError
from aip.governance.policy.regocpp_engine import RegoCppEngine
from aip.governance.policy.regorus_engine import RegorusEngine

Case = dict[str, Any]
CASES: list[Case] = [
    json.loads(line) for line in (Path(__file__).parent / "cases" / "core.jsonl").read_text().splitlines()
]
STRICT = "functionerrors/undefined builtin result"  # By design: an error of a function is an error here.
APART = {
    RegorusEngine: {
        STRICT,
        "refheads/general, set leaf, deep query",
    },  # It answers the set, not paths below it.
    RegoCppEngine: {STRICT},
}


@pytest.mark.parametrize("make", APART, ids=lambda make: make.__name__)
def test_an_engine_answers_as_opa_does_but_for_what_is_named_here(make: Any) -> None:
    assert set(failures(make)) == APART[make]


def failures(make: Any) -> Iterator[str]:
    for case in CASES:
        try:
            found = answer(make(), case)
        except (PolicyError, BundleRejected):
            found = (
                PolicyError if wants_value(case) else UNDEFINED
            )  # Of no value and an error, either denies.
        if not same(found, case):
            yield case["note"]


def answer(engine: Any, case: Case) -> Any:
    files = {f"m{number}.rego": text.encode() for number, text in enumerate(case.get("modules", []))}
    engine.load(from_files({**files, "data.json": json.dumps(case.get("data") or {}).encode()}))
    return engine.evaluate(
        case["query"].removeprefix("data.").removesuffix(" = x").replace(".", "/"), case.get("input", {})
    )


def same(found: Any, case: Case) -> bool:
    """Sets come as lists, in any order."""
    if not wants_value(case):
        return found is UNDEFINED
    value = case["want_result"][0]["x"]
    if isinstance(found, list) and isinstance(value, list):
        return sorted(map(json.dumps, found)) == sorted(map(json.dumps, value))
    return bool(found == value)


def wants_value(case: Case) -> bool:
    return bool(case.get("want_result")) and not {"want_error", "want_error_code"} & set(case)
