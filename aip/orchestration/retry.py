"""Whether to try again, and when. Pure.

    error                                                   family        tried again where `retry.on` names
    undelivered.deadline                                    timeout       timeout, any
    undelivered.agent_lost, undelivered.fenced              agent_lost    agent_lost, any
    any other that says a retry can help                    transient     transient, any
    an agent's own error that says it cannot                other         any
    the caller's mistake (UserError), refusals that stand   -             never
    (killed, denied, budget), a cancelled or deadlocked
    call, an effect whose outcome is not known, lost state

The last row holds for `any` too: the same input will fail again, a person has said no, or a second try could do harm.
"""

from __future__ import annotations

import random

from ..errors import (
    AgentFailed,
    AgentLost,
    AIPError,
    Cancelled,
    Corrupt,
    DeadlineExceeded,
    Deadlock,
    EffectInDoubt,
    ErrorRecord,
    Fenced,
    Refused,
    UserError,
)
from .plan import Backoff, Retry

_NEVER = (UserError, Refused, Cancelled, Deadlock, EffectInDoubt, Corrupt)


def family(error: ErrorRecord) -> str | None:
    """The family of `error`; None where trying again is out of the question."""
    kind = AIPError.by_code.get(error.code, AgentFailed)
    if issubclass(kind, DeadlineExceeded):
        return "timeout"
    if issubclass(kind, AgentLost | Fenced):
        return "agent_lost"
    if issubclass(kind, _NEVER) and not (issubclass(kind, Refused) and error.retryable):
        return None
    return "transient" if error.retryable else "other"


def again_at_s(
    retry: Retry, attempt: int, error: ErrorRecord, now_s: float, rng: random.Random
) -> float | None:
    """When to start the attempt after number `attempt`; None: it was the last."""
    kind = family(error)
    if kind is None or attempt >= retry.attempts or not ({kind, "any"} & retry.on):
        return None
    return now_s + delay_s(retry.backoff, attempt, rng)


def delay_s(backoff: Backoff, attempt: int, rng: random.Random) -> float:
    """The wait after attempt number `attempt`: exponential, bounded, then jittered so that retries do not march in step."""
    if backoff.initial_s <= 0:
        return 0.0
    # The exponent is bounded as well: a factor to the power of a large count overflows a float.
    plain_s = min(backoff.initial_s * backoff.factor ** min(attempt - 1, 64), backoff.max_s)
    return plain_s * rng.uniform(1.0 - backoff.jitter, 1.0 + backoff.jitter)
