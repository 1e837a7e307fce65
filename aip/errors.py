"""Every error of AIP, in one small tree.

Each error says *whose fault it is* (its class), *what it is* (`code`, stable, for programs), *whether trying again can help*
(`retryable`) and *what the person should do* (`hint`). Errors cross cells as `ErrorRecord`s and arrive as the same class with
the same details: nothing is ever parsed out of a string.

    AIPError
    ├─ UserError            the caller's input is wrong; the same input will fail again
    │  ├─ UsageError · PlanInvalid · NotFound · InvalidPayload · UnknownCapability · Unavailable
    ├─ Refused              the guard said no; nothing was dispatched
    │  ├─ Killed · Denied · CircuitOpen · BulkheadFull · BudgetExceeded · BudgetNotDrawn
    ├─ Undelivered          the platform could not finish the exchange
    │  ├─ MailboxFull · AgentLost · DeadlineExceeded · Cancelled · Fenced · Deadlock · PlatformUnavailable
    ├─ AgentFailed          the agent's own code raised; carries the type, the arguments and the user's own file:line
    ├─ EffectInDoubt        an effect was started and its outcome is not known
    └─ Corrupt              stored state does not verify; AIP refuses to guess

An agent author's own error: subclass `AgentFailed` with a `code` of your own; it arrives as that class wherever the class is
imported, and as plain `AgentFailed` (same code, same details) elsewhere.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

TEXT_CHARS_MAX = (
    8_000  # An error is for a person and a log line; a payload in an error text would be a leak and a flood.
)


class ErrorRecord(msgspec.Struct, frozen=True, array_like=True):
    """An error on the wire. `details` holds plain JSON values only."""

    code: str
    message: str
    retryable: bool = False
    hint: str = ""
    details: dict[str, Any] = {}


class AIPError(Exception):
    """Root of the tree. `details` are plain JSON values that cross the wire with the error."""

    code: ClassVar[str] = "aip.error"
    retryable: ClassVar[bool] = False
    default_hint: ClassVar[str] = ""

    by_code: ClassVar[dict[str, type[AIPError]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "code" in cls.__dict__:
            AIPError.by_code[cls.code] = cls

    def __init__(self, message: str, *, hint: str = "", **details: Any) -> None:
        super().__init__(message[:TEXT_CHARS_MAX])
        self.message = message[:TEXT_CHARS_MAX]
        self.hint = hint or self.default_hint
        self.details: dict[str, Any] = details

    def __reduce__(self) -> tuple[Any, ...]:
        return from_record, (to_record(self),)


class UserError(AIPError):
    code = "user"


class UsageError(UserError):
    code = "user.usage"


class PlanInvalid(UserError):
    """A plan that cannot be accepted. `details["problems"]` lists every problem found, each with line and column."""

    code = "plan.invalid"


class NotFound(UserError):
    code = "user.not_found"


class InvalidPayload(UserError):
    """A value that does not fit its schema, is too large, or cannot be serialised."""

    code = "payload.invalid"


class UnknownCapability(UserError):
    code = "capability.unknown"


class Unavailable(UserError):
    """Something this installation or version does not have; never pretended."""

    code = "user.unavailable"


class Refused(AIPError):
    code = "refused"


class Killed(Refused):
    code = "refused.killed"
    default_hint = "a kill order stands against it: see `aip status`; lowering one takes `aip kill --lift`"


class Denied(Refused):
    code = "refused.denied"


class CircuitOpen(Refused):
    code = "refused.circuit_open"
    retryable = True


class BulkheadFull(Refused):
    code = "refused.bulkhead_full"
    retryable = True


class BudgetExceeded(Refused):
    code = "refused.budget"
    default_hint = "raise the budget and resume: `aip resume RUN --budget UNIT=AMOUNT`"


class BudgetNotDrawn(BudgetExceeded):
    """Not a verdict: the cell's purse must be filled first. It draws from the account, then asks the guard again."""

    code = "refused.budget_not_drawn"
    retryable = True
    default_hint = "the cell draws from the account, then tries again"


class Undelivered(AIPError):
    code = "undelivered"


class MailboxFull(Undelivered):
    code = "undelivered.mailbox_full"
    retryable = True
    default_hint = "the receiver is slower than its senders: add replicas, or send less at once"


class AgentLost(Undelivered):
    """The receiver's process ended before it answered. The work may or may not have happened."""

    code = "undelivered.agent_lost"
    retryable = True


class DeadlineExceeded(Undelivered):
    code = "undelivered.deadline"
    retryable = True


class Cancelled(Undelivered):
    code = "undelivered.cancelled"


class Fenced(Undelivered):
    """A newer incarnation of this agent exists; what the older one does no longer counts."""

    code = "undelivered.fenced"
    retryable = True


class Deadlock(Undelivered):
    """Calls that wait for each other in a circle. `details["cycle"]` names the agents in order."""

    code = "undelivered.deadlock"


class PlatformUnavailable(Undelivered):
    code = "platform.unavailable"
    retryable = True
    default_hint = "start one with `aip up`, or see `aip doctor`"


class AgentFailed(AIPError):
    """The agent's code raised. Details: `type`, `args`, `location` (the user's own file:line), `traceback`."""

    code = "agent.failed"
    retryable = True


class EffectInDoubt(AIPError):
    code = "effect.in_doubt"
    default_hint = (
        "look at the outside system, then resume with the effect's outcome or retry under a new key"
    )


class Corrupt(AIPError):
    code = "state.corrupt"


def to_record(error: BaseException) -> ErrorRecord:
    """Any exception as a record. A foreign exception becomes `agent.failed` with its type named."""
    if isinstance(error, AIPError):
        return ErrorRecord(error.code, error.message, error.retryable, error.hint, plain(error.details))
    kind = type(error)
    return ErrorRecord(
        AgentFailed.code,
        f"{kind.__name__}: {error}"[:TEXT_CHARS_MAX],
        AgentFailed.retryable,
        "",
        {"type": f"{kind.__module__}.{kind.__qualname__}", "args": plain(list(error.args))},
    )


def from_record(record: ErrorRecord) -> AIPError:
    """The error again, as its own class; as the nearest known ancestor by dotted code where the class is unknown."""
    known = AIPError.by_code.get(record.code)
    cls = known or _ancestor(record.code)
    error = cls.__new__(cls)
    AIPError.__init__(error, record.message, hint=record.hint)
    error.details = dict(record.details)
    if known is None:
        # What its own class said of it holds, and goes on to whoever knows that class.
        vars(error).update(code=record.code, retryable=record.retryable)
        error.details.setdefault("code", record.code)
    return error


def _ancestor(code: str) -> type[AIPError]:
    while code:
        code = code.rpartition(".")[0]
        if (known := AIPError.by_code.get(code)) is not None:
            return known
    return AgentFailed


def plain(value: Any) -> Any:
    """`value` reduced to JSON values; whatever is not one becomes its bounded `repr`."""
    if value is None or isinstance(value, bool | int | float | str):
        return value[:TEXT_CHARS_MAX] if isinstance(value, str) else value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return repr(value)[:TEXT_CHARS_MAX]
