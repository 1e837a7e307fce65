"""The reins of one ask: what becomes of each call that a model wants to make. Pure bookkeeping, no I/O.

A model is not trusted. It makes names up, repeats itself, writes what is not JSON, and does what the text it read told it to do.
So each wish is judged before anything is called:

    wish                                       first time            again
    a name that was not offered                told `refused: …`     the same; it is counted
    arguments that are no JSON object          told `error: …`       BadArguments
    arguments that the tool does not take      told `error: …`       BadArguments
    the same call with the same arguments      made                  made; the third time Looped
    more calls at once than CALLS_AT_ONCE_MAX  told `refused: …`     the same; it is counted

A call that was made and failed either ends the ask (the budget, a kill, a cancellation, an effect in doubt: nothing a model may
talk itself around), or the model is told, so that it can do something else. The number of steps bounds all of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ..errors import AgentFailed, AIPError, InvalidPayload, Refused
from ..toolbox import ENDS_THE_TURN, TOLD_CHARS_MAX, Tool, digest, told_error
from .chat import ToolCall

SAME_CALL_MAX = 2  # A third time brings no news: the model is in a loop.
ARGUMENT_STRIKES_MAX = 1  # For each tool: a model that was told once and errs again does not know it.
CALLS_AT_ONCE_MAX = 16  # Of one answer; they run at the same time.


class AskFailed(AgentFailed):
    """The root of what ends an ask without an answer."""

    code = "llm.failed"
    retryable = False


class Looped(AskFailed):
    code = "llm.looped"
    default_hint = "say in the instructions what to do with that answer, or take a better model"


class StepsExhausted(AskFailed):
    code = "llm.steps_exhausted"
    default_hint = "raise steps_max, or ask for less at once"


class BadArguments(AskFailed):
    code = "llm.bad_arguments"
    default_hint = "describe the tool's parameters better, or take a better model"


@dataclass(frozen=True, slots=True)
class Wish:
    """A call of the model, judged: `tool` is to be called with `arguments`, or the model is told `reply` instead."""

    call: ToolCall
    tool: Tool | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    key: str = (
        ""  # The same for the same call of the same ask: a repeated attempt does not do its effects again.
    )
    reply: str = ""


@dataclass(slots=True)
class Ask:
    """The state of one ask."""

    tools: Mapping[str, Tool]
    steps_max: int
    steps: int = 0
    refused: int = 0
    _made: Counter[str] = field(default_factory=Counter)
    _strikes: Counter[str] = field(default_factory=Counter)

    def begin_step(self) -> None:
        """One more question to the model, or `StepsExhausted`."""
        if self.steps >= self.steps_max:
            raise StepsExhausted(
                f"the model still calls tools after {self.steps} steps",
                steps=self.steps,
                refused=self.refused,
            )
        self.steps += 1

    def judge(self, calls: tuple[ToolCall, ...]) -> list[Wish]:
        """What becomes of the calls of one answer, in their order. Raises `Looped`, `BadArguments`."""
        wishes = [self._judged(call) for call in calls[:CALLS_AT_ONCE_MAX]]
        for call in calls[CALLS_AT_ONCE_MAX:]:
            self.refused += 1
            wishes.append(Wish(call, reply=f"refused: at most {CALLS_AT_ONCE_MAX} calls at once"))
        return wishes

    def _judged(self, call: ToolCall) -> Wish:
        tool = self.tools.get(call.name)
        if tool is None:
            self.refused += 1
            names = ", ".join(self.tools) or "none"
            return Wish(call, reply=f"refused: there is no tool {call.name[:80]!r}. There are: {names}")
        arguments = _arguments(call.arguments)
        if arguments is None:
            self._strike(tool, "its arguments are not a JSON object")
            return Wish(call, reply="error: the arguments must be one JSON object")
        call_digest = digest(tool.name, arguments)
        self._made[call_digest] += 1
        if self._made[call_digest] > SAME_CALL_MAX:
            raise Looped(
                f"the model calls {tool.name} with the same arguments for the third time",
                tool=tool.name,
                steps=self.steps,
            )
        return Wish(call, tool, arguments, f"{call_digest}-{self._made[call_digest]}")

    def failed(self, wish: Wish, error: AIPError) -> str:
        """What the model is told of a call that failed; or the error is raised, because it ends the ask."""
        assert wish.tool is not None
        if isinstance(error, ENDS_THE_TURN):
            raise error
        if isinstance(error, InvalidPayload):
            self._strike(wish.tool, error.message)
        if isinstance(error, Refused):
            self.refused += 1
        return told_error(error)

    def _strike(self, tool: Tool, why: str) -> None:
        self._strikes[tool.name] += 1
        if self._strikes[tool.name] > ARGUMENT_STRIKES_MAX:
            raise BadArguments(
                f"the model cannot call {tool.name}: {why}"[:TOLD_CHARS_MAX], tool=tool.name, steps=self.steps
            )


def _arguments(text: str) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(text or "{}")
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
