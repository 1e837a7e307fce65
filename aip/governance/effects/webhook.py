"""The webhook connector: one fixed receiver, messages signed so that it knows them for ours.

The signature is that of Standard Webhooks 1.0 (standardwebhooks.com): HMAC-SHA256 over `id.timestamp.body` under a shared
secret, in the headers `webhook-id`, `webhook-timestamp` and `webhook-signature: v1,<base64>`. The id is the effect's key, so a
receiver that remembers ids takes a repeat for what it is, and one that looks at the time takes no old recording.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from . import address
from .connector import Prepared, Request, as_json
from .failure import NotAllowed
from .http import BODY_BYTES_MAX, Web, WebConfig
from .place import Place
from .vault import Vault, check_reference

SECRET_PREFIX = "whsec_"  # noqa: S105 - the specification's mark of a secret, and none itself
KEY_BYTES_MIN = 24  # The specification's own bound.


class WebhookConfig(WebConfig):
    connector: Literal["webhook"] = "webhook"
    url: str
    secret: str  # secret:NAME; its value is whsec_… in base64, or any text
    request_bytes_max: int = Field(default=256 * 2**10, ge=1, le=BODY_BYTES_MAX)

    _secret = field_validator("secret")(check_reference)

    @field_validator("url")
    @classmethod
    def _is_a_place(cls, value: str) -> str:
        Place.of(value)
        return value


class WebhookRequest(Request):
    event: str = Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*$", max_length=100)
    payload: Any = None

    def content(self, now: float) -> bytes:
        told = {"type": self.event, "timestamp": int(now), "data": self.payload}
        return as_json(told)


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,<base64>` of Standard Webhooks."""
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def signing_key(text: str) -> bytes:
    """The key of a secret's value. Raises `NotAllowed` that does not repeat it."""
    key = text.encode()
    if text.startswith(SECRET_PREFIX):
        try:
            key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
        except binascii.Error:
            raise NotAllowed("the webhook's secret is not base64 after whsec_") from None
    if len(key) < KEY_BYTES_MIN:
        raise NotAllowed(f"the webhook's secret has fewer than {KEY_BYTES_MIN} bytes")
    return key


class WebhookConnector:
    kind: ClassVar[str] = "webhook"

    def __init__(
        self, config: WebhookConfig, vault: Vault, resolve: address.Resolve = address.resolve
    ) -> None:
        self.config = config
        self._vault = vault
        self._place = Place.of(config.url)
        self._web = Web(config, vault, resolve)

    def check(self, request: Any) -> WebhookRequest:
        wish: WebhookRequest = WebhookRequest.of(request)
        size = len(wish.content(0.0))
        if size > self.config.request_bytes_max:
            raise NotAllowed(f"a message of {size} bytes exceeds {self.config.request_bytes_max}")
        return wish

    def describe(self, wish: WebhookRequest) -> str:
        return f"send webhook {wish.event} to {self._place.shown}"

    async def prepare(self, wish: WebhookRequest, key: str, now: float) -> Prepared:
        body, timestamp = wish.content(now), int(now)
        shared = signing_key(self._vault.open(self.config.secret))
        headers = {
            "User-Agent": "aip-effects",
            "Content-Type": "application/json",
            "webhook-id": key,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(shared, key, timestamp, body),
        }
        return await self._web.open(self._place, "POST", headers, body)
