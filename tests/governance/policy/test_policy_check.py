"""Policy in the guard: allowed passes, denied is refused with its reasons, what is owed is taken on first."""

from __future__ import annotations

from typing import Any

import pytest
from policies_for_tests import bundle

from aip.errors import Denied, InvalidPayload, from_record, to_record
from aip.governance.policy import check as checks
from aip.governance.policy.check import PolicyCheck, PolicyDenied
from aip.governance.policy.engine import Decision
from aip.governance.policy.input import SCHEMA, Input, Principal, of_envelope, plain, read_input
from aip.governance.policy.regorus_engine import RegorusEngine
from aip.governance.policy.serving import Serving
from aip.runtime.envelope import Envelope, Kind
from aip.runtime.guard import Check, Guard, OpenFence

CALL = Envelope(
    "m-1", Kind.CALL, "plan/r-1", "greeter@0123456789ab/ada", "greet", b"", run="r-1", tenant="acme",
    labels=(("team", "blue"), ("data", "secret,pii")),
)  # fmt: skip


def serving() -> Serving:
    engine, place = RegorusEngine(), Serving()
    engine.load(bundle(tests=None))
    place.activate(engine)
    return place


class Describer:
    """Tells of each message what it says itself, and these facts; `known` is how it is known again."""

    def __init__(self, known: Any = None, **facts: Any) -> None:
        self._known = known
        self._facts = facts

    def facts(self, envelope: Envelope, now: float) -> Any:
        return self._known

    def input(self, envelope: Envelope, facts: Any) -> Input:
        return of_envelope(envelope, **self._facts)


def check(owed: list[Any] | None = None, **facts: Any) -> PolicyCheck:
    taken = [] if owed is None else owed

    def oblige(envelope: Envelope, decision: Decision) -> bool:
        taken.append((envelope.id, decision.obligations))
        return False

    return PolicyCheck(serving(), Describer(**facts), oblige)


GUEST = Principal(id="user:ada", roles=("guest",))


def test_it_is_a_check_of_the_guard() -> None:
    one: Check = check(principal=GUEST)
    guard = Guard(OpenFence(), [one])
    assert guard.names == ("kill", "policy")
    assert guard.admit(CALL, 0.0) is None


def test_what_an_allowed_message_owes_is_handed_on() -> None:
    owed: list[Any] = []
    assert check(owed, principal=GUEST).peek(CALL, 0.0) is None
    assert owed == [("m-1", ({"kind": "record"},))]


def test_a_refusal_carries_its_reasons_with_their_place() -> None:
    owed: list[Any] = []
    refusal = check(owed, principal=GUEST, budget={"usd": 1.0}).peek(CALL, 0.0)
    assert isinstance(refusal, PolicyDenied)
    assert isinstance(refusal, Denied)
    assert (refusal.code, owed) == ("refused.policy", [])
    (reason,) = refusal.details["reasons"]
    assert (reason["rule"], reason["file"]) == ("budget.small", "aip/rules.rego")
    assert refusal.details["revision"] == "r1"
    assert refusal.details["decision"] == "m-1"
    assert "less than 10 left" in refusal.message
    again = from_record(to_record(refusal))
    assert isinstance(again, PolicyDenied)
    assert again.details == refusal.details


def test_an_obligation_that_cannot_be_met_refuses() -> None:
    def cannot(envelope: Envelope, decision: Decision) -> bool:
        raise InvalidPayload("no audit log")

    refusal = PolicyCheck(serving(), Describer(principal=GUEST), cannot).peek(CALL, 0.0)
    assert isinstance(refusal, PolicyDenied)
    assert "no audit log" in refusal.message


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("y"), OSError("disk"), InvalidPayload("z")])
@pytest.mark.parametrize("step", ["facts", "input"])
def test_a_message_that_cannot_be_described_is_refused(step: str, error: Exception) -> None:
    def fails(*_: Any) -> Any:
        raise error

    describer = Describer()
    setattr(describer, step, fails)
    assert isinstance(PolicyCheck(serving(), describer, lambda *_: True).peek(CALL, 0.0), PolicyDenied)


class Counting:
    """A decider that says yes, or no, and how often it was asked."""

    def __init__(self, allow: bool = True, owed: bool = True) -> None:
        self.allow = allow
        self.owed = owed
        self.asked = 0

    def decide(self, input: Input, *, id: str) -> Decision:
        self.asked += 1
        return Decision(self.allow, obligations=({"kind": "notice"},) if self.owed else ())


@pytest.mark.parametrize(
    ("known", "allow", "owed", "owes_nothing", "asked"),
    [
        ("same", True, False, False, 1),
        ("same", True, True, True, 1),
        ("same", True, True, False, 3),  # What is owed is owed for each of them.
        ("same", False, False, True, 3),  # Refusals are told with their own reasons.
        (None, True, False, True, 3),
    ],
)
def test_a_message_like_one_that_passed_and_owes_nothing_passes_unasked(
    known: Any, allow: bool, owed: bool, owes_nothing: bool, asked: int
) -> None:
    decider = Counting(allow, owed)
    one = PolicyCheck(decider, Describer(known), lambda *_: owes_nothing)
    assert {one.peek(CALL, 0.0) is None for _ in range(3)} == {allow}
    assert decider.asked == asked


def test_what_passed_is_forgotten_with_its_policy() -> None:
    decider = Counting()
    one = PolicyCheck(decider, Describer("same"), lambda *_: True)
    assert one.peek(CALL, 0.0) is None
    decider.allow = False
    assert one.peek(CALL, 0.0) is None
    one.forget()
    assert isinstance(one.peek(CALL, 0.0), PolicyDenied)


def test_what_the_old_policy_allowed_while_it_was_replaced_is_not_kept() -> None:
    class Replaced(Counting):
        """Another policy comes into force while this one decides."""

        def decide(self, input: Input, *, id: str) -> Decision:
            one.forget()
            return super().decide(input, id=id)

    decider = Replaced()
    one = PolicyCheck(decider, Describer("same"), lambda *_: True)
    assert one.peek(CALL, 0.0) is None
    assert one.peek(CALL, 0.0) is None
    assert decider.asked == 2


def test_what_passed_is_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "PASSED_MAX", 10)
    decider = Counting()
    one = PolicyCheck(decider, describer := Describer(0), lambda *_: True)
    for known in [*range(11), 10, 0]:
        describer.facts = lambda *_, known=known: known  # type: ignore[method-assign]
        assert one.peek(CALL, 0.0) is None
    assert decider.asked == 12  # 10 was among those kept, 0 was not any more.


def test_a_message_tells_of_itself() -> None:
    document = plain(of_envelope(CALL))
    assert document["kind"] == "call"
    assert document["subject"]["type"] == "plan"
    assert document["target"] == {"address": "greeter@0123456789ab/ada", "type": "greeter", "tenant": "acme"}
    assert list(document["labels"]) == ["secret", "pii"]
    assert document["tags"] == {"team": "blue"}
    assert read_input(document) == of_envelope(CALL)


WRONG_INPUTS = {
    "no kind": {"subject": {}, "target": {}},
    "an unknown kind": {"kind": "whisper", "subject": {}, "target": {}},
    "a field that is not there": {"kind": "call", "subject": {}, "target": {}, "roles": []},
    "a limit spelt as a text": {"kind": "call", "subject": {}, "target": {}, "budget": {"usd": "10"}},
    "standing above one": {"kind": "call", "subject": {}, "target": {}, "reputation": 1.5},
    "too many labels": {"kind": "call", "subject": {}, "target": {}, "labels": ["x"] * 65},
}


@pytest.mark.parametrize("document", WRONG_INPUTS.values(), ids=WRONG_INPUTS)
def test_a_document_is_refused_for(document: dict[str, Any]) -> None:
    with pytest.raises(InvalidPayload, match=r"not an input document"):
        read_input(document)


def test_the_schema_describes_what_is_read() -> None:
    import jsonschema

    validator = jsonschema.Draft202012Validator(SCHEMA)
    validator.validate(plain(of_envelope(CALL)) | {"labels": [], "principal": {}, "session": {}})
    for document in WRONG_INPUTS.values():
        assert not validator.is_valid(document)
