"""The tools of an agent that thinks: other agents' capabilities, under names that a model can call. Pure.

Whoever lets a model call agents (an `LLMAgent`, an agent of another framework) writes them the same way:

    researcher               every capability of the plan's agent
    researcher.web.search    one of them
    tools.git                every tool of an outside server
    tools.git.git_log        one of them
    capability:web.search    of whichever agent has it, as the registry finds one at each call

What a tool takes comes from its agent's own description (`aip.describe`). Endpoints know functions by names of letters, digits,
`_` and `-`, so `web.search` is offered as `web_search`, with its agent's name before it where two would be the same. The table of
offered names is the only way from what a model says to a call: a name that is not in it is no tool.

What comes of a call is text that the model reads, bounded (`told`, `told_error`). But what ends its agent's turn is told to no
model (`ENDS_THE_TURN`: the budget, a kill, a cancellation, an effect in doubt): nothing that it may talk itself around.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from .errors import (
    AIPError,
    BudgetExceeded,
    Cancelled,
    EffectInDoubt,
    Fenced,
    Killed,
    Refused,
    UnknownCapability,
    UsageError,
)

TOOLS_MAX = 128  # What OpenAI's endpoint takes; a model chooses badly among far fewer.
NAME_CHARS_MAX = 64  # Of a function's name, at OpenAI's endpoint.
DOC_CHARS_MAX = 1_024  # Of its description, there.
RESULT_CHARS_MAX = 20_000  # Of a result that a model reads: it is paid for again at every later step.
TOLD_CHARS_MAX = 600  # Of an error that a model reads.
ENDS_THE_TURN = (BudgetExceeded, Killed, Cancelled, Fenced, EffectInDoubt)
ANY_AGENT = "capability:"
SERVERS = ("tools", "models")  # Sections of a plan whose agents have a dot in their names.
_OPEN: dict[str, Any] = {"type": "object", "additionalProperties": True}


@dataclass(frozen=True, slots=True)
class Reference:
    """What a configuration names. `agent` is None for whichever has the capability, `capability` is "" for all of them."""

    agent: str | None
    capability: str

    @classmethod
    def parse(cls, text: str) -> Reference:
        if text.startswith(ANY_AGENT):
            agent, capability = None, text.removeprefix(ANY_AGENT)
            complete = bool(capability)
        else:
            words = text.split(".")
            length = 2 if words[0] in SERVERS else 1
            agent, capability = ".".join(words[:length]), ".".join(words[length:])
            complete = len(words) >= length and all(words)
        if not complete or any(map(str.isspace, text)):
            raise UsageError(
                f"tools: {text!r} names no tool",
                hint="write agent, agent.capability, tools.server, tools.server.tool, or capability:name",
            )
        return cls(agent, capability)


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool as it is offered. `agent` is "" for the agent's own, None for whichever has the capability."""

    name: str
    agent: str | None
    capability: str
    doc: str
    schema: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        function = {"name": self.name, "description": self.doc, "parameters": dict(self.schema)}
        return {"type": "function", "function": function}


Found = tuple[str | None, str, Mapping[str, Any]]  # Agent, capability, and what its agent says of it.


def chosen(reference: Reference, description: Mapping[str, Any] | None) -> list[Found]:
    """The capabilities that a reference means, by its agent's description. Raises `UnknownCapability`."""
    if reference.agent is None or description is None:
        return [(reference.agent, reference.capability, {})]
    known: Mapping[str, Mapping[str, Any]] = description.get("capabilities") or {}
    # Parts that come one by one are for readers of streams; a tool has one answer.
    whole = {name: said for name, said in known.items() if said.get("kind") != "stream"}
    if not reference.capability:
        return [(reference.agent, name, said) for name, said in whole.items()]
    if reference.capability not in whole:
        raise UnknownCapability(
            f"tools: {reference.agent} has no capability {reference.capability!r} that answers at once",
            hint=f"it has: {', '.join(sorted(whole)) or 'none'}",
        )
    return [(reference.agent, reference.capability, whole[reference.capability])]


def offered(found: Iterable[Found]) -> dict[str, Tool]:
    """Tools by the name they are offered under. Raises `UsageError` where they are too many."""
    tools: dict[str, Tool] = {}
    meant: set[tuple[str | None, str]] = set()
    for agent, capability, said in found:
        if (agent, capability) in meant:
            continue
        meant.add((agent, capability))
        name = _free_name(agent, capability, tools)
        doc = str(said.get("doc") or capability)[:DOC_CHARS_MAX]
        tools[name] = Tool(name, agent, capability, doc, said.get("input") or _OPEN)
    if len(tools) > TOOLS_MAX:
        raise UsageError(
            f"tools: {len(tools)} of them, and a model takes {TOOLS_MAX}",
            hint="name single capabilities instead of whole agents",
        )
    return tools


def _free_name(agent: str | None, capability: str, taken: Mapping[str, Tool]) -> str:
    plain = _as_name(capability)
    if plain not in taken:
        return plain
    longer = _as_name(f"{agent or 'any'}_{capability}")
    number, name = 1, longer
    while name in taken:
        number += 1
        suffix = f"_{number}"
        name = longer[: NAME_CHARS_MAX - len(suffix)] + suffix
    return name


def _as_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)[:NAME_CHARS_MAX]


# Calls ------------------------------------------------------------------------------------------------------------------


def digest(name: str, arguments: Mapping[str, Any]) -> str:
    """The same for the same call, however its arguments are ordered."""
    canonical = msgspec.json.encode([name, arguments], order="deterministic")
    return hashlib.sha256(canonical).hexdigest()[:24]


def told(result: Any) -> str:
    """A result as a model reads it."""
    text = result if isinstance(result, str) else msgspec.json.encode(result).decode()
    if len(text) <= RESULT_CHARS_MAX:
        return text
    return f"{text[:RESULT_CHARS_MAX]}\n[cut: {len(text) - RESULT_CHARS_MAX} more characters]"


def told_error(error: AIPError) -> str:
    """An error as a model reads it."""
    kind = "refused" if isinstance(error, Refused) else "error"
    return f"{kind}: {error.message}"[:TOLD_CHARS_MAX]
