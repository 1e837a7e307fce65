"""Policy as the guard asks it: one check, local and synchronous.

A message that is allowed passes, and what the decision obliges to is handed on before the guard goes to the next check. A message
that is denied is refused with `PolicyDenied`, whose details carry the decision: rules with their file and line, revision, id. An
obligation that cannot be taken on (`oblige` raises) refuses, too: allowed-if is not allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from ...errors import AIPError, Denied, to_record
from ...runtime.envelope import Envelope
from .engine import Decision, Reason
from .input import Input, of_envelope

Describe = Callable[[Envelope, float], Input]
Oblige = Callable[[Envelope, Decision], None]
REASONS_SHOWN = 3  # In the message of the error; all of them are in its details.


class Decider(Protocol):
    """What decides here: `serving.Serving`."""

    def decide(self, input: Input, *, id: str) -> Decision: ...


class PolicyDenied(Denied):
    """Policy said no. Details: `reasons`, `revision`, `decision`, `engine`."""

    code = "refused.policy"
    default_hint = "`aip policy explain` shows the decision and its rules"


def describe(envelope: Envelope, now: float) -> Input:
    """The message by itself, where nobody knows more of it."""
    return of_envelope(envelope)


class PolicyCheck:
    """A `Check` of the guard."""

    __slots__ = ("_decider", "_describe", "_oblige", "name")

    def __init__(self, decider: Decider, oblige: Oblige, describe: Describe = describe) -> None:
        """`describe` makes the input of a message; `oblige` takes on the obligations of one that is allowed."""
        self.name = "policy"
        self._decider = decider
        self._describe = describe
        self._oblige = oblige

    def peek(self, envelope: Envelope, now: float) -> AIPError | None:
        try:
            input = self._describe(envelope, now)
        except (AIPError, ValueError, KeyError) as error:
            return PolicyDenied(
                f"policy cannot judge this message: {to_record(error).message}", decision=envelope.id
            )
        decision = self._decider.decide(input, id=envelope.id)
        if not decision.allow:
            return denied(decision)
        if decision.obligations:
            try:
                self._oblige(envelope, decision)
            except AIPError as error:
                return denied(decision, f"an obligation cannot be met: {error.message}")
        return None


def denied(decision: Decision, why: str = "") -> PolicyDenied:
    """The refusal that a decision makes."""
    reasons = "; ".join(words(reason) for reason in decision.reasons[:REASONS_SHOWN])
    return PolicyDenied(
        f"policy: {why or reasons or 'nothing allows it'}",
        reasons=[msgspec.to_builtins(reason) for reason in decision.reasons],
        revision=decision.revision,
        decision=decision.id,
        engine=decision.engine,
    )


def words(reason: Reason) -> str:
    """A reason in a line: what, and where it is written."""
    place = f" ({reason.file}:{reason.line})" if reason.file else ""
    return f"{reason.text} [{reason.rule}]{place}"
