"""The tools that a framework is offered: capabilities of other agents, under names that its model can call. Pure.

    library                  every capability of the plan's agent
    library.book.find        one of them
    tools.git                every tool of an outside server
    tools.git.git_log        one of them

The same words as in an `LLMAgent` (docs/models.md). The table of offered names is the only way from what a model says to a call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UnknownCapability, UsageError

TOOLS_MAX = 128  # What OpenAI's endpoint takes; a model chooses badly among far fewer.
NAME_CHARS_MAX = 64  # Of a function's name, there.
DOC_CHARS_MAX = 1_024  # Of its description, there.
SERVERS = ("tools", "models")  # Sections of a plan whose agents have a dot in their names.


@dataclass(frozen=True, slots=True)
class Tool:
    """One capability as it is offered."""

    name: str
    agent: str
    capability: str
    doc: str
    schema: Mapping[str, Any]


def target(reference: str) -> tuple[str, str]:
    """Agent and capability of a reference; "" for all of them. Raises `UsageError`."""
    words = reference.split(".")
    length = 2 if words[0] in SERVERS else 1
    if len(words) < length or not all(words) or any(map(str.isspace, reference)):
        raise UsageError(
            f"tools: {reference!r} names no tool",
            hint="write agent, agent.capability, tools.server, or tools.server.tool",
        )
    return ".".join(words[:length]), ".".join(words[length:])


def offered(references: Iterable[str], descriptions: Mapping[str, Mapping[str, Any]]) -> dict[str, Tool]:
    """Tools by their offered names. `descriptions` are what `aip.describe` answers, by agent."""
    tools: dict[str, Tool] = {}
    for agent, capability in map(target, dict.fromkeys(references)):
        known = descriptions[agent].get("capabilities") or {}
        # Parts that come one by one are for readers of streams; a tool has one answer.
        whole = {name: said for name, said in known.items() if said.get("kind") != "stream"}
        if capability and capability not in whole:
            raise UnknownCapability(
                f"tools: {agent} has no capability {capability!r} that answers at once",
                hint=f"it has: {', '.join(sorted(whole)) or 'none'}",
            )
        for name in [capability] if capability else whole:
            if not any((tool.agent, tool.capability) == (agent, name) for tool in tools.values()):
                tool = _tool(agent, name, whole[name], tools)
                tools[tool.name] = tool
    if len(tools) > TOOLS_MAX:
        raise UsageError(
            f"tools: {len(tools)} of them, and a model takes {TOOLS_MAX}",
            hint="name single capabilities instead of whole agents",
        )
    return tools


def _tool(agent: str, capability: str, said: Mapping[str, Any], taken: Mapping[str, Tool]) -> Tool:
    names = [_as_name(capability), _as_name(f"{agent}_{capability}")]
    names += [f"{names[1][: NAME_CHARS_MAX - 4]}_{number}" for number in range(2, TOOLS_MAX + 2)]
    name = next(name for name in names if name not in taken)
    doc = str(said.get("doc") or capability)[:DOC_CHARS_MAX]
    return Tool(name, agent, capability, doc, said.get("input") or {"type": "object"})


def _as_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)[:NAME_CHARS_MAX]
