"""What can go wrong inside a framework, as errors of AIP.

    raised inside                                  comes out as
    an AIPError, however deep it was wrapped       that error
    the framework's own limit on steps             StepsExhausted     adapter.steps_exhausted   no retry
    the model did not do what the framework asks   Misbehaved         adapter.misbehaved        retry
    a guardrail of the framework                   GuardrailTripped   adapter.guardrail         no retry
    any other exception of the framework           AdapterFailed      adapter.failed            no retry
    the author's own exception                     AgentFailed, as from any agent

A framework's exception rarely has a line of the author's in its traceback; then the error points to the line that made the agent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import AgentFailed, AIPError, Refused, Unavailable, UsageError
from ..runtime.turn import CURRENT, agent_error

CHAIN_MAX = 50  # Causes of causes that are looked through; a longer chain is a circle.


class AdapterFailed(AgentFailed):
    """The root of what a framework raises by itself. Details: `framework`, `type`, `location`, `traceback`."""

    code = "adapter.failed"
    retryable = False


class StepsExhausted(AdapterFailed):
    code = "adapter.steps_exhausted"
    default_hint = "raise steps_max, or ask for less at once"


class Misbehaved(AdapterFailed):
    code = "adapter.misbehaved"
    retryable = True
    default_hint = "make the output type simpler, or take a better model"


class GuardrailTripped(AdapterFailed):
    code = "adapter.guardrail"


class Interrupted(AdapterFailed):
    """A graph that waits for a person. Details: `thread`, and `interrupts` as `[{"id", "value"}]`."""

    code = "adapter.interrupted"
    default_hint = "show the interrupts to a person, and call `resume` with the thread and the answer"


class Unpriced(Refused):
    """An agent with a model client of its own and without prices, under a budget that limits money."""

    code = "adapter.unpriced"


Table = Mapping[type[BaseException], type[AdapterFailed]]


def translated(
    error: Exception, framework: str, packages: tuple[str, ...], table: Table, made_at: str
) -> Exception:
    """`error` as the caller of an adapted agent is to see it."""
    for inner in _causes(error):
        if isinstance(inner, AIPError):
            return inner
    if not _is_of(error, packages):
        return error
    kind = next((table[base] for base in type(error).__mro__ if base in table), None)
    # A framework that only says "a tool failed" says less than what the tool raised.
    cause = error.__cause__
    if kind is None and isinstance(cause, Exception) and not _is_of(cause, packages):
        return cause
    turn = CURRENT.get()
    root = "" if turn is None else turn.activation.kind.code_root
    details = agent_error(error, root).details
    if not root or details["location"].startswith("/"):  # No line of the author's own.
        details["location"] = made_at
    return (kind or AdapterFailed)(f"{type(error).__name__}: {error}", framework=framework, **details)


def _causes(error: BaseException) -> Iterator[BaseException]:
    waiting: list[BaseException] = [error]
    seen = 0
    while waiting and seen < CHAIN_MAX:
        current = waiting.pop(0)
        seen += 1
        yield current
        if isinstance(current, BaseExceptionGroup):
            waiting += current.exceptions
        behind = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
        if behind is not None:
            waiting.append(behind)


def _is_of(error: BaseException, packages: tuple[str, ...]) -> bool:
    return type(error).__module__.partition(".")[0] in packages


def missing(extra: str) -> Unavailable:
    """The error that says how to get a framework."""
    return Unavailable(
        f"{extra} is not installed", hint=f"pip install 'agent-infrastructure-platform[{extra}]'"
    )


def expected(thing: Any, kind: type | tuple[type, ...], what: str) -> None:
    """`UsageError` unless `thing` is what `agent_of` takes."""
    if not isinstance(thing, kind):
        raise UsageError(f"agent_of takes {what}, not {type(thing).__module__}.{type(thing).__qualname__}")
