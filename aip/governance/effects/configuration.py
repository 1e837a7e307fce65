"""The operator's list of connectors: `AIP_HOME/effects.yaml`.

    connectors:
      tickets:
        connector: http
        allow:
          - {url: "https://api.example.com/v1/tickets", methods: [POST]}
        headers: {Authorization: "Bearer secret:TICKETS_TOKEN"}
      reports: {connector: file, root: /srv/reports}

It belongs to whoever runs the platform, not to a plan: a plan that could describe a connector could send the operator's secrets
wherever it likes. A plan names the connectors that its agents may use.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ...errors import UserError
from . import address
from .connector import Connector
from .file import FileConfig, FileConnector
from .http import HttpConfig, HttpConnector
from .process import ProcessConfig, ProcessConnector
from .smtp import SmtpConfig, SmtpConnector
from .vault import Vault
from .webhook import WebhookConfig, WebhookConnector

FILE_NAME = "effects.yaml"
FILE_BYTES_MAX = 2**20  # Written by hand; a larger one is not this file.
CONNECTORS_MAX = 256
NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z")
PROBLEMS_SHOWN_MAX = 10

AnyConfig = Annotated[
    HttpConfig | FileConfig | ProcessConfig | SmtpConfig | WebhookConfig, Field(discriminator="connector")
]


class EffectsInvalid(UserError):
    """effects.yaml cannot be taken. `details["problems"]` lists every problem found."""

    code = "effects.invalid"
    default_hint = "docs/effects.md lists every field"


class EffectsConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    connectors: dict[str, AnyConfig] = Field(default={}, max_length=CONNECTORS_MAX)

    @field_validator("connectors")
    @classmethod
    def _are_named(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not NAME.match(name):
                raise ValueError("a connector's name is lower case letters, digits, _ and -")
        return value


def read(text: bytes) -> EffectsConfig:
    """Raises `EffectsInvalid` that names each wrong field and quotes no value."""
    if len(text) > FILE_BYTES_MAX:
        raise EffectsInvalid(f"{FILE_NAME} has more than {FILE_BYTES_MAX} bytes")
    try:
        plain = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise EffectsInvalid(f"{FILE_NAME}{where}: {error.problem}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise EffectsInvalid(f"{FILE_NAME} is not YAML: {type(error).__name__}") from None
    return configured(plain or {})


def configured(plain: Any) -> EffectsConfig:
    try:
        return EffectsConfig.model_validate(plain)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
            for item in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise EffectsInvalid(
            f"{FILE_NAME}: {'; '.join(problems[:PROBLEMS_SHOWN_MAX])}", problems=problems[:100]
        ) from None


def connect(
    config: EffectsConfig, vault: Vault, resolve: address.Resolve = address.resolve
) -> dict[str, Connector]:
    """The connectors by name. Nothing is opened yet, and no secret is looked up."""
    return {name: _connector(one, vault, resolve) for name, one in config.connectors.items()}


def _connector(config: Any, vault: Vault, resolve: address.Resolve) -> Connector:
    match config:
        case HttpConfig():
            return HttpConnector(config, vault, resolve)
        case WebhookConfig():
            return WebhookConnector(config, vault, resolve)
        case FileConfig():
            return FileConnector(config, vault)
        case ProcessConfig():
            return ProcessConnector(config, vault)
        case SmtpConfig():
            return SmtpConnector(config, vault)
    raise TypeError(f"no connector takes a {type(config).__name__}")
