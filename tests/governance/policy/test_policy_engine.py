"""Whatever is wrong denies, and says what."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policies_for_tests import bundle

from aip.governance.policy.bundle import Bundle
from aip.governance.policy.engine import FAULT, INPUT_BYTES_MAX, UNDEFINED, PolicyError, decide, encode_input

BUNDLE = bundle()


class Panic(BaseException):
    """As a Rust panic arrives."""


class Answers:
    """An engine that has one answer."""

    name = "answers"

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.bundle: Bundle | None = BUNDLE

    def load(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def evaluate(self, path: str, input: Any) -> Any:
        assert path == "aip/decision"
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


WRONG: dict[str, Any] = {
    "undefined": UNDEFINED,
    "null": None,
    "a bare true": True,
    "a text for allow": {"allow": "true"},
    "a one for allow": {"allow": 1},
    "no allow": {"reasons": []},
    "a reason without words": {"allow": True, "reasons": [{"rule": "x"}]},
    "an obligation that is a text": {"allow": True, "obligations": ["audit"]},
    "too many obligations": {"allow": True, "obligations": [{"n": n} for n in range(100)]},
    "an error": PolicyError("divide by zero"),
    "a foreign error": RuntimeError("boom"),
    "a panic": Panic("unsendable"),
    "a full memory": MemoryError(),
}


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG)
def test_it_denies_on(answer: Any) -> None:
    decision = decide(Answers(answer), {}, id="d-1")
    assert not decision.allow
    assert [reason.rule for reason in decision.reasons] == [FAULT]
    assert (decision.revision, decision.id, decision.engine, decision.obligations) == (
        "r1",
        "d-1",
        "answers",
        (),
    )


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(), asyncio.CancelledError()])
def test_what_ends_the_task_or_the_process_goes_through(end: BaseException) -> None:
    with pytest.raises(type(end)):
        decide(Answers(end), {}, id="")


def test_without_a_bundle_everything_is_denied() -> None:
    engine = Answers({"allow": True})
    engine.bundle = None
    assert not decide(engine, {}, id="").allow


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_only_a_true_allow_allows(answer: Any) -> None:
    allowed = decide(Answers(answer), {}, id="").allow
    assert allowed == (isinstance(answer, dict) and answer.get("allow") is True and "reasons" not in answer)


def test_reasons_and_obligations_are_ordered_and_placed() -> None:
    reasons = [
        {"rule": "tenant.foreign", "text": "t"},
        {"rule": "budget.small", "text": "b"},
        {"rule": "?", "text": ""},
    ]
    obligations = [{"kind": "b"}, {"kind": "a", "n": 1}]
    decisions = [
        decide(Answers({"allow": False, "reasons": list(order), "obligations": obligations}), {}, id="")
        for order in itertools.permutations(reasons)
    ]
    assert all(decision == decisions[0] for decision in decisions)
    unknown, small, foreign = decisions[0].reasons
    assert (unknown.file, unknown.line) == ("", 0)
    assert small.file == foreign.file == "aip/rules.rego"
    assert small.line > foreign.line > 0
    assert decisions[0].obligations == ({"kind": "a", "n": 1}, {"kind": "b"})


@pytest.mark.parametrize("input", [object(), {"x": "y" * INPUT_BYTES_MAX}], ids=["object", "large"])
def test_an_input_that_is_no_document_is_an_error(input: Any) -> None:
    with pytest.raises(PolicyError):
        encode_input(input)
