"""The HTTP connector: requests to the places it allows, with the credentials that only it knows.

    ctx.effect("tickets", {"method": "POST", "url": "https://api.example.com/v1/tickets", "json": {"title": "…"}})
    → {"status": 201, "headers": {…}, "body": "…", "encoding": "text", "complete": true}

Held here: method, host, port and path by rules (`place.py`); the address that is connected to (`address.py`); TLS with the
system's trust or the operator's; headers that an agent may not set; sizes and times. Every request carries the effect's key as
`Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header), the same for every attempt.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from . import address
from .connector import ConnectorConfig, Prepared, Request, as_json
from .exchange import Kept, open_exchange
from .failure import NotAllowed
from .place import Place, Rule
from .vault import Vault, is_secret

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
RULES_MAX = 256
HEADERS_MAX = 64
HEADER_CHARS_MAX = 8_192
KEEP_ALIVE_S_MAX = 300.0  # Servers and what stands before them seldom keep an idle connection longer.
BODY_BYTES_MAX = 8 * 2**20  # Nothing larger fits the message that asks.
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}\Z")  # RFC 9110, 5.6.2
_FIELD_TEXT = re.compile(r"[\t\x20-\x7e]*\Z")  # No CR, LF, NUL: nothing in a header ends it.
# What frames the message or names its receiver is the connector's to say, and what proves who asks.
OWN_HEADERS = frozenset(
    {
        "host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect",
        "keep-alive", "proxy-connection", "proxy-authorization", "proxy-authenticate", "accept-encoding",
        "authorization", "cookie", "forwarded", "x-forwarded-for", "x-forwarded-host", "x-http-method-override",
    }
)  # fmt: skip


def check_headers(headers: dict[str, str]) -> dict[str, str]:
    """For pydantic."""
    if len(headers) > HEADERS_MAX:
        raise ValueError(f"at most {HEADERS_MAX} headers")
    for name, value in headers.items():
        if not _TOKEN.match(name):
            raise ValueError("a header's name is a token (RFC 9110)")
        if len(value) > HEADER_CHARS_MAX or not _FIELD_TEXT.match(value):
            raise ValueError(f"{name}: printable ASCII on one line, at most {HEADER_CHARS_MAX} characters")
    return headers


class HttpRule(BaseModel):
    """One place and what may be done there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    methods: tuple[Method, ...] = Field(default=("GET", "HEAD"), min_length=1)

    @field_validator("url")
    @classmethod
    def _is_a_rule(cls, value: str) -> str:
        Rule.of(value)
        return value


class WebConfig(ConnectorConfig):
    """What connectors that speak HTTP share."""

    private: tuple[str, ...] = Field(default=(), max_length=64)  # CIDR ranges beside public addresses.
    ca_file: str = ""  # Trusted instead of the system's certificate authorities.
    response_bytes_max: int = Field(default=2**20, ge=0, le=BODY_BYTES_MAX)
    body_s: float = Field(default=10.0, gt=0, le=600)  # From the head of an answer to its end.
    # How long an idle connection is kept for the next effect; 0: not at all. It must be less than the server keeps its own: one
    # that is closed just as we write puts an effect in doubt.
    keep_alive_s: float = Field(default=0.0, ge=0, le=KEEP_ALIVE_S_MAX)

    @field_validator("private")
    @classmethod
    def _are_ranges(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            ipaddress.ip_network(text)
        return value

    @property
    def networks(self) -> list[address.Network]:
        return [ipaddress.ip_network(text) for text in self.private]


class HttpConfig(WebConfig):
    connector: Literal["http"] = "http"
    allow: tuple[HttpRule, ...] = Field(min_length=1, max_length=RULES_MAX)
    headers: dict[str, str] = Field(
        default_factory=dict
    )  # Sent with every request; values may hold secret:NAME.
    idempotency_header: str = "Idempotency-Key"  # Empty: none is sent.
    request_bytes_max: int = Field(default=2**20, ge=0, le=BODY_BYTES_MAX)

    _headers = field_validator("headers")(check_headers)

    @model_validator(mode="after")
    def _keeps_its_secrets(self) -> HttpConfig:
        if self.repeat_in_doubt and not self.idempotency_header:
            raise ValueError("repeat_in_doubt needs idempotency_header: by it the server tells repeats")
        if any(map(is_secret, self.headers.values())):
            for rule in self.allow:
                place = Rule.of(rule.url)
                host = address.literal(place.host)
                if place.scheme == "http" and not (host and host.is_loopback):
                    raise ValueError(f"a secret would travel in the clear to {rule.url}: use https")
        return self


class HttpRequest(Request):
    method: Method = "GET"
    url: str
    headers: dict[str, str] = Field(default_factory=dict)
    body: str | bytes | None = None
    data: Any = Field(default=None, alias="json")

    _headers = field_validator("headers")(check_headers)

    @field_validator("headers")
    @classmethod
    def _leaves_ours(cls, value: dict[str, str]) -> dict[str, str]:
        if own := sorted(name for name in value if name.lower() in OWN_HEADERS):
            raise ValueError(f"only the connector sets {', '.join(own)}")
        return value

    @field_validator("url")
    @classmethod
    def _is_a_place(cls, value: str) -> str:
        Place.of(value)
        return value

    @model_validator(mode="after")
    def _has_one_body(self) -> HttpRequest:
        if self.body is not None and "data" in self.model_fields_set:
            raise ValueError("body or json, not both")
        if self.method in ("GET", "HEAD") and (self.body or "data" in self.model_fields_set):
            raise ValueError(f"{self.method} has no body")
        return self

    @cached_property
    def place(self) -> Place:
        return Place.of(self.url)

    def content(self) -> bytes:
        if "data" in self.model_fields_set:
            return as_json(self.data)
        return self.body.encode() if isinstance(self.body, str) else self.body or b""


class HttpConnector:
    kind: ClassVar[str] = "http"

    def __init__(self, config: HttpConfig, vault: Vault, resolve: address.Resolve = address.resolve) -> None:
        self.config = config
        self._vault = vault
        self._web = Web(config, vault, resolve)
        self._rules = [(Rule.of(rule.url), frozenset(rule.methods)) for rule in config.allow]

    def check(self, request: Any) -> HttpRequest:
        wish: HttpRequest = HttpRequest.of(request)
        place = wish.place
        matching = [methods for rule, methods in self._rules if rule.allows(place)]
        if not matching:
            raise NotAllowed(f"{place.shown} is at no place that this connector allows")
        if not any(wish.method in methods for methods in matching):
            raise NotAllowed(f"{wish.method} is not allowed at {place.shown}")
        size = len(wish.content())
        if size > self.config.request_bytes_max:
            raise NotAllowed(f"a body of {size} bytes exceeds {self.config.request_bytes_max}")
        return wish

    def describe(self, wish: HttpRequest) -> str:
        size = len(wish.content())
        return f"{wish.method} {wish.place.shown}" + (f" with {size} bytes" if size else "")

    async def prepare(self, wish: HttpRequest, key: str, now: float) -> Prepared:
        headers = {"User-Agent": "aip-effects", "Accept": "*/*"}
        if "data" in wish.model_fields_set:
            headers["Content-Type"] = "application/json"
        for name, value in wish.headers.items():
            _put(headers, name, value)
        for name, value in self.config.headers.items():  # Ours last: an agent does not overrule them.
            _put(headers, name, self._vault.expand(value))
        if self.config.idempotency_header:
            _put(headers, self.config.idempotency_header, key)
        return await self._web.open(wish.place, wish.method, headers, wish.content())


class Web:
    """Ways out to the web under one configuration: addresses looked at, TLS, limits."""

    def __init__(self, config: WebConfig, vault: Vault, resolve: address.Resolve) -> None:
        self._config = config
        self._vault = vault
        self._resolve = resolve
        self._networks = config.networks
        self._kept = Kept(config.keep_alive_s)
        self._context: ssl.SSLContext | None = None

    async def open(self, place: Place, method: str, headers: dict[str, str], body: bytes) -> Prepared:
        answers = [place.host] if address.literal(place.host) else await self._ask(place)
        addresses = address.vetted(place.host, answers, self._networks)
        framing = {"Accept-Encoding": "identity"} | (
            {} if self._config.keep_alive_s else {"Connection": "close"}
        )
        return await open_exchange(
            place,
            addresses,
            self._trust() if place.scheme == "https" else None,
            method,
            headers | framing,
            body,
            kept=self._kept,
            body_bytes_max=self._config.response_bytes_max,
            body_s=self._config.body_s,
            hide=self._vault.hide,
        )

    async def _ask(self, place: Place) -> list[str]:
        try:
            return list(await self._resolve(place.host, place.port))
        except OSError as error:
            raise NotAllowed(f"{place.host} has no address: {error.strerror or error}") from None

    def _trust(self) -> ssl.SSLContext:
        """Made once: reading the system's authorities takes some 20 ms."""
        if self._context is None:
            self._context = ssl.create_default_context(cafile=self._config.ca_file or None)
        return self._context


def _put(headers: dict[str, str], name: str, value: str) -> None:
    """Names of headers do not differ by case."""
    for known in [known for known in headers if known.lower() == name.lower()]:
        del headers[known]
    headers[name] = value
