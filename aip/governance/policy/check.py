"""Policy as the guard asks it: one check, local and synchronous.

A message that is allowed passes, and what the decision obliges to is handed on before the guard goes to the next check. A message
that is denied is refused with `PolicyDenied`, whose details carry the decision: rules with their file and line, revision, id, and
the input that it was made on, so that it can be asked again (`aip policy explain --from-audit`). An obligation that cannot be
taken on (`oblige` raises) refuses, too: allowed-if is not allowed.

A message just like one that was allowed passes at once, where nothing is owed for it: that is the whole road of most messages,
some 1 µs. "Just like" is the describer's `facts`: all that the input is made of, in full, so that equal facts are an equal input.
They are forgotten as a whole when another policy comes into force (`forget`). What a decision allowed is noted where its facts
were looked up before it was made: a decision of the old policy never stands among those of the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Protocol

import msgspec

from ...errors import AIPError, Denied, to_record
from ...runtime.envelope import Envelope
from .engine import Decision, Reason
from .input import Input

Oblige = Callable[[Envelope, Decision], bool]
REASONS_SHOWN = 3  # In the message of the error; all of them are in its details.
PASSED_MAX = 16_384  # Facts kept: pairs of types times what they ask of each other, at some 500 bytes each.


class Decider(Protocol):
    """What decides here: `serving.Serving`."""

    def decide(self, input: Input, *, id: str) -> Decision: ...


class PolicyDenied(Denied):
    """Policy said no. Details: `reasons`, `revision`, `decision`, `engine`, and the `input` that was decided on."""

    code = "refused.policy"
    default_hint = "`aip policy explain` shows the decision and its rules"


class Describer(Protocol):
    """What a message is to a policy, in two steps: the second only where the first was not met before."""

    def facts(self, envelope: Envelope, now: float) -> Hashable:
        """All that its input is made of. None: of this one nothing is to be kept."""

    def input(self, envelope: Envelope, facts: Any) -> Input:
        """The input that these facts make."""


class PolicyCheck:
    """A `Check` of the guard."""

    __slots__ = ("_decider", "_describer", "_oblige", "_passed", "name")

    def __init__(self, decider: Decider, describer: Describer, oblige: Oblige) -> None:
        """`oblige` takes on the obligations of a message that is allowed, and tells whether the next one like it owes nothing."""
        self.name = "policy"
        self._decider = decider
        self._describer = describer
        self._oblige = oblige
        self._passed: set[Hashable] = set()

    def peek(self, envelope: Envelope, now: float) -> AIPError | None:
        passed = self._passed  # Once, and before it is decided.
        try:
            facts = self._describer.facts(envelope, now)
            if facts in passed:
                return None
            input = self._describer.input(envelope, facts)
        except (AIPError, ValueError, KeyError, OSError) as error:
            return PolicyDenied(
                f"policy cannot judge this message: {to_record(error).message}", decision=envelope.id
            )
        decision = self._decider.decide(input, id=envelope.id)
        if not decision.allow:
            return denied(decision, input)
        owes_nothing = True
        if decision.obligations:
            try:
                owes_nothing = self._oblige(envelope, decision)
            except AIPError as error:
                return denied(decision, input, f"an obligation cannot be met: {error.message}")
        if owes_nothing and facts is not None:
            if len(passed) >= PASSED_MAX:
                passed.clear()  # Cheaper than to know which are old, and the decisions behind it are cached again.
            passed.add(facts)
        return None

    def forget(self) -> None:
        """Another policy is in force. Called when it decides already, so that nothing of the one before is noted after this."""
        self._passed = set()


def denied(decision: Decision, input: Input, why: str = "") -> PolicyDenied:
    """The refusal that a decision makes."""
    reasons = "; ".join(words(reason) for reason in decision.reasons[:REASONS_SHOWN])
    return PolicyDenied(
        f"policy: {why or reasons or 'nothing allows it'}",
        reasons=[msgspec.to_builtins(reason) for reason in decision.reasons],
        revision=decision.revision,
        decision=decision.id,
        engine=decision.engine,
        input=msgspec.json.decode(msgspec.json.encode(input)),  # As it travels: lists, no tuples.
    )


def words(reason: Reason) -> str:
    """A reason in a line: what, and where it is written."""
    place = f" ({reason.file}:{reason.line})" if reason.file else ""
    return f"{reason.text} [{reason.rule}]{place}"
