"""`tools:` of a plan: outside MCP servers, each an agent named `tools.NAME` in a process of its own.

What a server may be asked is written down (`allow`), because a server decides by itself which tools it offers, and may offer
others tomorrow. What it is given of this machine is written down too (`env`, `cwd`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..plan import AgentSpec, Isolation, Restart
from .document import Node
from .reader import Reader
from .vocabulary import CALL_S_MAX, HEADER_FORM, TOOL_FORM, TOOL_URL_FORM, VARIABLE_FORM, WORDS_MAX

USE = "aip.protocols.mcp.tool_server:ToolServer"
TIMEOUT_S = 30.0  # A tool that is silent for longer is more often stuck than busy.
ANY_TOOL = "*"
_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"})


def tool_server(reader: Reader, name: str, node: Node, place: tuple[int, int]) -> AgentSpec:
    """One server as the agent that speaks to it."""
    what = f"tools.{name}"
    found = reader.fields(node, "tool", what)
    if isinstance(node.value, dict):
        _refuse_two_ways(reader, node, found, what)
        if "allow" not in found:
            reader.missing(node, f"{what}.allow", "name the tools that may be called, or write ['*'] for all")
    return AgentSpec(
        name=what,
        use=USE,
        replicas_min=0,
        replicas_max=1,
        isolation=Isolation.PROCESS,
        density=None,
        cpu=None,
        memory_bytes=None,
        runtime_env={},
        restart=Restart(),
        position=reader.position(place),
        config={"name": name, "timeout_s": TIMEOUT_S, **_config(reader, found, what)},
    )


def _refuse_two_ways(reader: Reader, node: Node, found: Mapping[str, Node], what: str) -> None:
    """A server is a program that is started, or a place that is called."""
    if ("command" in found) == ("url" in found):
        reader.problem(
            "plan.missing" if "url" not in found else "plan.value",
            node,
            f"{what} needs one of command and url",
            "such as command: [python, -m, mcp_server_time]",
        )
        return
    wrong = ("headers",) if "command" in found else ("env", "cwd")
    for key in wrong:
        if key in found:
            kind = "a url" if key == "headers" else "a command"
            reader.problem("plan.value", node.keys[key], f"{what}.{key} is for {kind} only", "leave it out")


def _config(reader: Reader, found: Mapping[str, Node], what: str) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for key, node in found.items():
        where = f"{what}.{key}"
        match key:
            case "command":
                config[key] = _words(reader, node, where)
            case "url":
                config[key] = reader.text(node, where, TOOL_URL_FORM, "write https://HOST/PATH")
            case "env":
                config[key] = _values(reader, node, where, VARIABLE_FORM)
            case "headers":
                config[key] = _values(reader, node, where, HEADER_FORM)
            case "allow":
                config[key] = _allowed(reader, node, where)
            case "timeout":
                config["timeout_s"] = reader.duration_s(node, where, CALL_S_MAX)
            case "cwd":
                config[key] = reader.text(node, where)
    return {key: value for key, value in config.items() if value is not None}


def _words(reader: Reader, node: Node, what: str) -> list[str] | None:
    """A command as its words: no shell reads it, and a word may stand in it twice."""
    if isinstance(node.value, str):
        words = ", ".join(node.value.split())[:80]
        reader.problem("plan.type", node, f"{what} is a text, not a list of words", f"write [{words}]")
        return None
    if not reader.is_kind(node, list, what, "a list of words"):
        return None
    if not 1 <= len(node.value) <= WORDS_MAX:
        reader.problem("plan.value", node, f"{what} must have 1 to {WORDS_MAX} words")
        return None
    read = [reader.text(word, f"a word of {what}") for word in node.value]
    return [word for word in read if word is not None]


def _values(reader: Reader, node: Node, what: str, form: str) -> dict[str, str]:
    """Names with their texts. What is a secret by its name must be one by reference."""
    found = reader.entries(node, what, form, "letters, digits and _")
    if len(found) > WORDS_MAX:
        reader.problem("plan.value", node, f"{what} has {len(found)} entries; the limit is {WORDS_MAX}")
        return {}
    read: dict[str, str | None] = {}
    for name, value in found.items():
        secret = name.lower() in _SECRET_HEADERS or str(value.value).startswith("secret:")
        read[name] = (
            reader.secret(value, f"{what}.{name}") if secret else reader.text(value, f"{what}.{name}")
        )
    return {name: value for name, value in read.items() if value is not None}


def _allowed(reader: Reader, node: Node, what: str) -> list[str]:
    found = reader.texts(node, what)
    if node.value == [] or len(found) > WORDS_MAX:
        reader.problem(
            "plan.value", node, f"{what} must name 1 to {WORDS_MAX} tools", "['*'] allows all of them"
        )
    for name, item in found:
        if name != ANY_TOOL and not re.fullmatch(TOOL_FORM.rstrip("$").lstrip("^"), name):
            reader.problem(
                "plan.value",
                item,
                f"{what} cannot name {name[:40]!r}",
                "write tools as their server names them",
            )
        elif name == ANY_TOOL and len(found) > 1:
            reader.problem("plan.value", item, f"{what} has '*' beside names", "keep ['*'], or the names")
    return [name for name, _ in found]
