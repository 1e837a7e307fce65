"""`AIP_HOME/notify.yaml`: who is told of kill orders.

    receivers:
      pager:
        webhook: {url: "https://pager.example/hooks/aip", secret: "secret:PAGER_HOOK"}
        from_level: pause
      night-shift:
        smtp:
          host: mail.example
          user: aip
          password: "secret:MAIL_PASSWORD"
          sender: aip@example.com
          to: [night@example.com]

Without the file nobody is told but the audit log and whoever listens to the event stream.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ...errors import UsageError
from ...ids import KEY
from ...secret import is_reference
from ...settings import Home
from ..effects.smtp import check_mailbox
from ..kill.ladder import Level
from ..kill.settings import problems, read_yaml

RECEIVERS_MAX = 32


def _reference(text: str) -> str:
    if not is_reference(text):
        raise ValueError("write secret:NAME, and keep the value with `aip secret set NAME`")
    return text


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("an http(s) URL with a host")
    if parts.username is not None:
        raise ValueError("a URL without user and password: they would be in every log")
    return text


Reference = Annotated[str, AfterValidator(_reference)]
Mailbox = Annotated[str, AfterValidator(check_mailbox)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Webhook(_Section):
    url: Annotated[str, AfterValidator(_url)]
    secret: Reference  # Its value is whsec_... in base64, or any text of 24 bytes and more.
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 10.0


class Smtp(_Section):
    host: Annotated[str, Field(min_length=1, max_length=253)]
    port: Annotated[int, Field(ge=1, le=65_535)] = 587
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    user: str = ""
    password: Reference | None = None
    sender: Mailbox
    to: Annotated[list[Mailbox], Field(min_length=1, max_length=100)]
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 20.0

    @model_validator(mode="after")
    def _no_password_in_the_clear(self) -> Smtp:
        if self.password is not None and self.tls == "none":
            raise ValueError("a password needs tls: starttls or implicit")
        return self


class Receiver(_Section):
    webhook: Webhook | None = None
    smtp: Smtp | None = None
    from_level: Literal[tuple(level.value for level in Level)] = "throttle"  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _exactly_one(self) -> Receiver:
        if (self.webhook is None) == (self.smtp is None):
            raise ValueError("exactly one of webhook, smtp")
        return self

    def wants(self, level: Level) -> bool:
        return level >= Level(self.from_level)


class NotifySettings(_Section):
    receivers: Annotated[dict[str, Receiver], Field(max_length=RECEIVERS_MAX)] = {}

    @model_validator(mode="after")
    def _names(self) -> NotifySettings:
        for name in self.receivers:
            if not KEY.match(name):
                raise ValueError(f"not a receiver's name: {name!r}")
        return self


def load(home: Home) -> NotifySettings:
    """Raises `UsageError` that names the file and the field."""
    path = home.root / "notify.yaml"
    return parse(read_yaml(path), path) if path.exists() else NotifySettings()


def parse(document: Any, path: Path) -> NotifySettings:
    try:
        return NotifySettings.model_validate(document or {})
    except ValidationError as error:
        raise UsageError(f"{path}: {problems(error)}") from None
