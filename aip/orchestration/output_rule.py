"""A result against its task's `output.schema`. Pure: a value in, the first breach out.

The rule holds for what each attempt answers: in a `for_each` for each item's result, in a vote for each voter's answer. A result
that breaks it is a failure of the agent like any other: retried as `retry` says (family transient), never handed on.
"""

from __future__ import annotations

from typing import Any

from ..errors import AgentFailed, AIPError
from .parse.values import violations
from .plan import OutputRule


class OutputInvalid(AgentFailed):
    """Details: `pointer` (RFC 6901) to the value that is wrong, `position` of the rule in the plan."""

    code = "agent.output_invalid"
    default_hint = "the agent's answer breaks the task's output.schema: mend the agent, or widen the schema"


def broken(rule: OutputRule, value: Any) -> AIPError | None:
    """Why the value may not be a result of the task; None where it may."""
    for path, message in violations(value, rule.schema):
        place = pointer(path)
        told = f"the result at {place}" if place else "the result"
        return OutputInvalid(f"{told} {message}", pointer=place, position=str(rule.position))
    return None


def pointer(path: tuple[str | int, ...]) -> str:
    """A path as a JSON pointer: empty for the value itself."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)
