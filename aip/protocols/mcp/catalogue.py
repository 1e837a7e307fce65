"""The tools of an outside server: which of them may be called, under which name, with which contract. Pure.

A tool has the name that its server gave it, and a *capability* name that fits AIP's one vocabulary (lower case, digits, `_`):
`createIssue` is `create_issue`, `get-sum` is `get_sum`. Both work in calls; where two tools would share a capability name, only
their own names do. A tool that cannot be used (an odd name, an unusable schema) is left out with its reason, which whoever asks
for it is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcp_types import Tool as ToolRecord

from ...errors import UnknownCapability
from ...ids import CAPABILITY
from .contract import Contract, SchemaUnusable
from .errors import ToolServerUnusable
from .limits import DOC_CHARS_MAX, NAME_CHARS_MAX, NAMES_SHOWN_MAX, TOOLS_MAX
from .stranger import clean

_NAME = re.compile(
    rf"[A-Za-z0-9_./-]{{1,{NAME_CHARS_MAX}}}\Z"
)  # What the specification lets a tool be called.
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
ALL = "*"


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool that may be called. `doc` and `annotations` are the server's own words: data, never an instruction to us."""

    name: str
    capability: str
    doc: str
    takes: Contract
    gives: Contract | None
    annotations: dict[str, bool] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        return {
            "tool": self.name,
            "doc": self.doc,
            "kind": "async",
            "cost": {"tool_calls": 1},
            "input": self.takes.schema,
            "output": self.gives.schema if self.gives else {},
            "annotations": self.annotations,
        }


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What one listing of a server came to."""

    server: str
    tools: dict[str, Tool]  # By the server's names.
    aliases: dict[str, Tool]  # By capability name, where it is one tool's only.
    unusable: dict[str, str]  # Why a tool was left out.
    refused: frozenset[str]  # There, and not allowed.
    whole: bool = True  # Whether the listing ended before TOOLS_MAX.

    def find(self, name: str) -> Tool:
        """The tool of this name or capability name. Raises `UnknownCapability` that says what there is."""
        tool = self.tools.get(name) or self.aliases.get(name)
        if tool is not None:
            return tool
        if name in self.unusable:
            raise UnknownCapability(
                f"tool {name!r} of {self.server} cannot be used: {self.unusable[name]}",
                hint="its server must mend it",
            )
        if name in self.refused:
            raise UnknownCapability(
                f"tool {name!r} of {self.server} is not allowed",
                hint="add it to `allow` where it may be called",
            )
        raise UnknownCapability(
            f"{self.server} has no tool {clean(name, NAME_CHARS_MAX)!r}", hint=f"it has: {_shown(self.tools)}"
        )

    def require(self, field: str, names: Sequence[str]) -> None:
        """Raises `ToolServerUnusable` where `names`, of that field of the configuration, has a tool that cannot be called."""
        wanted = [name for name in names if name != ALL]
        if absent := [name for name in wanted if name not in self.tools and name not in self.unusable]:
            there = self.tools if field != "allow" else self.tools.keys() | self.refused
            rest = "" if self.whole else f" (only the first {TOOLS_MAX} were looked at)"
            raise ToolServerUnusable(
                f"{self.server} has no tool {_shown(absent)}; `{field}` names it",
                hint=f"it has: {_shown(there)}{rest}",
                missing=absent,
            )
        if broken := [name for name in wanted if name in self.unusable]:
            raise ToolServerUnusable(
                f"tool {broken[0]!r} of {self.server} cannot be used: {self.unusable[broken[0]]}",
                hint=f"leave it out of `{field}`",
            )

    def described(self) -> dict[str, Any]:
        """The answer to `aip.describe`."""
        own = {
            tool.capability if tool.capability in self.aliases else tool.name: tool
            for tool in self.tools.values()
        }
        return {
            "capabilities": {name: own[name].described() for name in sorted(own)},
            "unusable": self.unusable,
        }


def catalogue(
    server: str, records: Iterable[ToolRecord], allow: Sequence[str], *, whole: bool = True
) -> Catalogue:
    """Sort out a listing. Of tools with the same name the first counts."""
    permitted = None if ALL in allow else frozenset(allow)
    tools: dict[str, Tool] = {}
    unusable: dict[str, str] = {}
    refused: set[str] = set()
    for record in records:
        shown = clean(record.name, NAME_CHARS_MAX)
        if not _NAME.match(record.name):
            unusable[shown] = "its name has characters that names of tools cannot have"
        elif record.name in tools:
            continue
        elif permitted is not None and record.name not in permitted:
            refused.add(record.name)
        else:
            try:
                tools[record.name] = _tool(record)
            except SchemaUnusable as reason:
                unusable[shown] = f"its schema is refused: {reason}"
    return Catalogue(server, tools, _aliases(tools), unusable, frozenset(refused), whole)


def _tool(record: ToolRecord) -> Tool:
    gives = None if record.output_schema is None else Contract(record.output_schema)
    given = record.annotations.model_dump(by_alias=True, exclude_none=True) if record.annotations else {}
    # Hints, by the specification's own word untrusted: shown to people, decided on by nobody.
    annotations = {key: value for key, value in given.items() if isinstance(value, bool)}
    doc = clean(record.description or record.title or "", DOC_CHARS_MAX)
    return Tool(
        record.name, capability_name(record.name), doc, Contract(record.input_schema), gives, annotations
    )


def capability_name(tool: str) -> str:
    """The tool's name in AIP's vocabulary; the tool's own where none can be made of it."""
    words = re.sub(r"[^a-z0-9_.]+", "_", _HUMP.sub("_", tool).lower()).strip("_.")
    return words if CAPABILITY.match(words) else tool


def _aliases(tools: dict[str, Tool]) -> dict[str, Tool]:
    by_name: dict[str, list[Tool]] = {}
    for tool in tools.values():
        by_name.setdefault(tool.capability, []).append(tool)
    return {
        name: same[0]
        for name, same in by_name.items()
        if len(same) == 1 and (name not in tools or same[0].name == name)
    }


def _shown(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - NAMES_SHOWN_MAX} more" if len(ordered) > NAMES_SHOWN_MAX else ""
    return (", ".join(ordered[:NAMES_SHOWN_MAX]) or "none") + more
