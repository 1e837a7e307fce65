"""What a plan says of an outside MCP server: how it is reached, what it is given, what it may be asked."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from .catalogue import ALL
from .limits import NAME_CHARS_MAX, RESULT_BYTES_MAX, TOOLS_MAX

SECRET = re.compile(
    r"(?P<before>[A-Za-z][A-Za-z0-9_-]{0,31} )?(?P<reference>secret:[A-Za-z_]\w{0,127})\Z", re.ASCII
)
_LIKE_A_REFERENCE = re.compile(r"secret:\w")
_INTERPRETER = frozenset({"python", "python3"})
_MODES = {"auto": "auto", "2025-11-25": "legacy", "2026-07-28": "2026-07-28"}

Word = Annotated[str, Field(min_length=1, max_length=4_096, pattern=r"^[^\x00]+$")]
ToolName = Annotated[str, Field(min_length=1, max_length=NAME_CHARS_MAX)]


class ServerConfig(BaseModel):
    """One outside MCP server: a program that is started (`command`) or a place that is called (`url`)."""

    # A password that was pasted here by mistake must not be quoted by the complaint about it.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str = Field("tools", max_length=100, description="What errors call it")
    command: list[Word] | None = Field(None, min_length=1, max_length=256)
    url: str | None = Field(None, max_length=2_048)
    env: dict[str, str] = Field(default_factory=dict, max_length=256)
    headers: dict[str, str] = Field(default_factory=dict, max_length=256)
    cwd: Path | None = None
    allow: list[ToolName] = Field(default_factory=lambda: ["*"], min_length=1, max_length=TOOLS_MAX)
    effects: list[ToolName] = Field(
        default_factory=list,
        max_length=TOOLS_MAX,
        description="Tools that change the outside: called through `ctx.effect`, so that a retry does nothing twice",
    )
    protocol: Literal["auto", "2025-11-25", "2026-07-28"] = "auto"
    start_timeout_s: float = Field(30.0, gt=0, le=55, description="Less than a cell gives `on_start`")
    timeout_s: float = Field(30.0, gt=0, le=86_400)
    result_bytes_max: int = Field(2**20, ge=1, le=RESULT_BYTES_MAX)
    concurrency: int = Field(8, ge=1, le=256, description="Calls that the server works on at the same time")

    @field_validator("url")
    @classmethod
    def _plain_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("write http://HOST/PATH or https://HOST/PATH")
        if parts.username or parts.password:
            raise ValueError("a url cannot hold credentials; write `headers: {Authorization: secret:NAME}`")
        return url

    @field_validator("env", "headers")
    @classmethod
    def _whole_references(cls, values: dict[str, str]) -> dict[str, str]:
        """A reference that is not recognised would reach the server as it is written, and fail far from here."""
        for name, value in values.items():
            if _LIKE_A_REFERENCE.search(value) and not SECRET.match(value):
                raise ValueError(f"{name}: write secret:NAME, or one word before it: Bearer secret:NAME")
        return values

    @field_validator("allow", "effects")
    @classmethod
    def _all_or_names(cls, names: list[str], field: ValidationInfo) -> list[str]:
        if ALL in names and len(names) > 1:
            raise ValueError(f"`{field.field_name}` has '*' beside names: keep ['*'], or the names")
        return names

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise ValueError("exactly one of `command` and `url` is needed")
        if self.url is not None and (self.env or self.cwd):
            raise ValueError("`env` and `cwd` are for a `command`; a `url` takes `headers`")
        if self.command is not None and self.headers:
            raise ValueError("`headers` are for a `url`; a `command` takes `env`")
        if ALL not in self.allow and (
            idle := [name for name in self.effects if name not in (*self.allow, ALL)]
        ):
            raise ValueError(f"`effects` names {idle[0]}, which `allow` does not")
        return self

    def has_effects(self, tool: str) -> bool:
        """Whether a call of it is an effect."""
        return tool in self.effects or ALL in self.effects

    @property
    def argv(self) -> list[str]:
        """The command, with the platform's own interpreter where it says `python`."""
        first, *rest = self.command or []
        return [sys.executable if first in _INTERPRETER else first, *rest]

    @property
    def mode(self) -> str:
        """The SDK's name for `protocol`."""
        return _MODES[self.protocol]


def disclosed(values: dict[str, str], resolve: Callable[[str], str]) -> tuple[dict[str, str], list[str]]:
    """`values` with every `secret:NAME` replaced, and the secrets that were put in.

    A word may stand before the reference: `Authorization: Bearer secret:NAME`.
    """
    plain: dict[str, str] = {}
    secrets: list[str] = []
    for name, value in values.items():
        if found := SECRET.match(value):
            secrets.append(resolve(found["reference"]))
            value = (found["before"] or "") + secrets[-1]
        plain[name] = value
    return plain, secrets
