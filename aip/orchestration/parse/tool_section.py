"""`tools:` of a plan: outside MCP servers, each an agent named `tools.NAME` in a process of its own.

What a server may be asked is written down (`allow`), because a server decides by itself which tools it offers, and may offer
others tomorrow. Which of them change the outside world is written down as well (`effects`): a server's own word on that is a
stranger's. What it is given of this machine is written down too (`env`, `cwd`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..plan import AgentSpec, Isolation, Restart
from .document import Node
from .problem import quoted
from .reader import Reader
from .vocabulary import (
    CALL_S_MAX,
    HEADER_FORM,
    PROTOCOLS,
    TOOL_CALLS_MAX,
    TOOL_FORM,
    TOOL_RESULT_BYTES_MAX,
    TOOL_START_S_MAX,
    TOOL_URL_FORM,
    VARIABLE_FORM,
    WORDS_MAX,
)

USE = "aip.protocols.mcp.tool_server:ToolServer"
TIMEOUT_S = 30.0  # A tool that is silent for longer is more often stuck than busy.
ANY_TOOL = "*"
ALLOW_HINT = "name the tools that may be called, or write ['*'] for all"
_OF_A_COMMAND = ("env", "cwd")
_OF_A_URL = ("headers",)
_SECRET_BY_NAME = re.compile(r"(^|[-_])(authorization|cookie|token|secret|password|api[-_]?key)\Z", re.I)
_TOOL = re.compile(TOOL_FORM.removeprefix("^").removesuffix("$"))
_LIKE_A_REFERENCE = re.compile(r"secret:\w")


def tool_server(reader: Reader, name: str, node: Node, place: tuple[int, int]) -> AgentSpec:
    """One server as the agent that speaks to it."""
    what = f"tools.{name}"
    found = reader.fields(node, "tool", what)
    if isinstance(node.value, dict):
        _refuse_two_ways(reader, node, found, what)
        if "allow" not in found:
            reader.missing(node, f"{what}.allow", ALLOW_HINT)
    return server_agent(reader, what, place, {"name": name, **server_config(reader, found, what)})


def server_agent(reader: Reader, name: str, place: tuple[int, int], config: Mapping[str, Any]) -> AgentSpec:
    """The agent `name` of a plan, which is one server."""
    return AgentSpec(
        name=name,
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
        config={"timeout_s": TIMEOUT_S, **config},
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
    refuse_of_the_other_way(reader, node, found, what, "command" if "command" in found else "url")


def refuse_of_the_other_way(
    reader: Reader, node: Node, found: Mapping[str, Node], what: str, way: str
) -> None:
    """A program is given variables and a folder, a place is sent headers."""
    wrong, kind = (_OF_A_URL, "a url") if way == "command" else (_OF_A_COMMAND, "a command")
    for key in wrong:
        if key in found:
            reader.problem("plan.value", node.keys[key], f"{what}.{key} is for {kind} only", "leave it out")


def server_config(reader: Reader, found: Mapping[str, Node], what: str) -> dict[str, Any]:
    """`ServerConfig` of what the plan says; what it leaves out is the server's own default."""
    config: dict[str, Any] = {}
    for key, node in found.items():
        where = f"{what}.{key}"
        match key:
            case "command":
                config[key] = _words(reader, node, where)
            case "url":
                config[key] = _url(reader, node, where)
            case "env":
                config[key] = _values(reader, node, where, VARIABLE_FORM)
            case "headers":
                config[key] = _values(reader, node, where, HEADER_FORM)
            case "allow" | "effects":
                config[key] = [name for name, _ in _tools(reader, node, where)]
            case "timeout":
                config["timeout_s"] = reader.duration_s(node, where, CALL_S_MAX)
            case "start_timeout":
                config["start_timeout_s"] = reader.duration_s(node, where, TOOL_START_S_MAX)
            case "result_bytes_max":
                config[key] = reader.size_bytes(node, where, TOOL_RESULT_BYTES_MAX)
            case "concurrency":
                config[key] = reader.integer(node, where, 1, TOOL_CALLS_MAX)
            case "protocol":
                config[key] = reader.choice(node, where, PROTOCOLS)
            case "cwd":
                config[key] = reader.text(node, where)
    _refuse_idle_effects(reader, found, config, what)
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


def _url(reader: Reader, node: Node, what: str) -> str | None:
    if isinstance(node.value, str) and "@" in node.value:
        reader.secret(node, what)  # A password before the host: refused, and not repeated.
        return None
    return reader.text(node, what, TOOL_URL_FORM, "write https://HOST/PATH")


def _values(reader: Reader, node: Node, what: str, form: str) -> dict[str, str]:
    """Names with their texts. What is a secret by its name must be one by reference."""
    found = reader.entries(node, what, form, "letters, digits and _")
    if len(found) > WORDS_MAX:
        reader.problem("plan.value", node, f"{what} has {len(found)} entries; the limit is {WORDS_MAX}")
        return {}
    read: dict[str, str | None] = {}
    for name, value in found.items():
        where = f"{what}.{name}"
        secret = _SECRET_BY_NAME.search(name) or _LIKE_A_REFERENCE.search(str(value.value))
        read[name] = reader.secret(value, where, word=True) if secret else reader.text(value, where)
    return {name: value for name, value in read.items() if value is not None}


def _tools(reader: Reader, node: Node, what: str) -> list[tuple[str, Node]]:
    found = reader.texts(node, what)
    if node.value == [] or len(found) > WORDS_MAX:
        reader.problem(
            "plan.value", node, f"{what} must name 1 to {WORDS_MAX} tools", "['*'] means all of them"
        )
    for name, item in found:
        if name != ANY_TOOL and not _TOOL.fullmatch(name):
            reader.problem(
                "plan.value",
                item,
                f"{what} cannot name {quoted(name[:40])}",
                "write tools as their server names them",
            )
        elif name == ANY_TOOL and len(found) > 1:
            reader.problem("plan.value", item, f"{what} has '*' beside names", "keep ['*'], or the names")
    return found


def _refuse_idle_effects(
    reader: Reader, found: Mapping[str, Node], config: Mapping[str, Any], what: str
) -> None:
    """An effect that is not allowed is a mistake in one of the two lists; which of them, only the author knows."""
    allow = config.get("allow") or [ANY_TOOL]
    named = found["effects"].value if "effects" in found and ANY_TOOL not in allow else ()
    for item in named if isinstance(named, list) else ():
        if isinstance(item.value, str) and _TOOL.fullmatch(item.value) and item.value not in allow:
            message = f"{what}.effects names {quoted(item.value)}, which {what}.allow does not"
            reader.problem("plan.value", item, message, "add it to allow, or leave it out of effects")
