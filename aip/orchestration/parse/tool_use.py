"""`use: mcp://…` of an agent: one outside MCP server under a name of the author's choice, as an entry of `tools:` is one.

    mcp://stdio/python -m mcp_server_time     tools: {NAME: {command: [python, -m, mcp_server_time]}}
    mcp://tools.example.com/mcp               tools: {NAME: {url: "https://tools.example.com/mcp"}}

`config` takes what the entry would take beside; `allow` is as required as there. A short form must have one reading only: what
a shell, a proxy or a person could read in another way is refused and belongs under `tools:`, where each word stands by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..plan import AgentSpec
from .document import Node
from .reader import Reader
from .tool_section import ALLOW_HINT, refuse_of_the_other_way, server_agent, server_config
from .vocabulary import MCP, MCP_COMMAND_FORM, MCP_HOST_FORM

STDIO = f"{MCP}stdio/"
_KEYS = frozenset({"use", "config"})
_THIS_MACHINE = re.compile(r"(localhost|127\.[0-9.]+)(:[0-9]+)?/", re.IGNORECASE)


def is_tool_server(node: Node) -> bool:
    """Whether the entry under `agents:` is a server in its short form."""
    use = node.value.get("use") if isinstance(node.value, dict) else None
    return use is not None and isinstance(use.value, str) and use.value.startswith(MCP)


def tool_agent(reader: Reader, name: str, node: Node, place: tuple[int, int]) -> AgentSpec:
    """One server as the agent `name`."""
    what = f"agents.{name}"
    found = reader.fields(node, "agent", what)
    for key in [key for key in found if key not in _KEYS]:
        message = f"{what}.{key} is for an agent of the plan's own code; a tool server is one process"
        reader.problem("plan.value", node.keys[key], message, "leave it out")
    way = _way(reader, found["use"], f"{what}.use")
    config: dict[str, Any] = {"name": name, **way}
    if "config" not in found:
        reader.missing(node, f"{what}.config.allow", ALLOW_HINT)
    else:
        config |= _config(reader, found["config"], f"{what}.config", way)
    return server_agent(reader, name, place, config)


def _config(reader: Reader, node: Node, what: str, way: Mapping[str, Any]) -> dict[str, Any]:
    found = reader.fields(node, "tool_config", what)
    if isinstance(node.value, dict) and "allow" not in found:
        reader.missing(node, f"{what}.allow", ALLOW_HINT)
    for kind in way:
        refuse_of_the_other_way(reader, node, found, what, kind)
    return server_config(reader, found, what)


def _way(reader: Reader, node: Node, what: str) -> dict[str, Any]:
    """`command` or `url` of the address; nothing where it is refused."""
    address = str(node.value)
    if address.startswith(STDIO):
        hint = f"write {STDIO}PROGRAM WORD WORD; anything else as words: tools: {{NAME: {{command: [PROGRAM, WORD]}}}}"
        command = reader.text(node, what, MCP_COMMAND_FORM, hint)
        return {} if command is None else {"command": command.removeprefix(STDIO).split(" ")}
    rest = address.removeprefix(MCP)
    if "@" in rest:
        reader.secret(node, what)
        return {}
    if _THIS_MACHINE.match(rest):
        reader.problem(
            "plan.value",
            node,
            f"{what} means https, which a server on this machine seldom speaks",
            'write it under tools: {NAME: {url: "http://…"}}',
        )
        return {}
    hint = f'write {MCP}HOST/PATH, or {STDIO}PROGRAM; anything else under tools: {{NAME: {{url: "…"}}}}'
    place = reader.text(node, what, MCP_HOST_FORM, hint)
    return {} if place is None else {"url": "https://" + place.removeprefix(MCP)}
