"""How a plan or a configuration describes a model: an endpoint that speaks OpenAI's chat completions, and what it costs.

    models:
      writer:
        base_url: https://api.example.com/v1
        model: small-1
        api_key: secret:EXAMPLE_KEY
        prices: {input: 0.15, output: 0.60}            # USD per million tokens

The parser makes a `ModelConfig` of it, in whole numbers of usd_micro. A key stands here by name only: what is written into a plan
travels, into journals, audit entries and `aip run show`.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from .. import secret

CONCURRENCY_MAX = (
    1_000  # Connections of one process to one endpoint; beyond it file descriptors run out first.
)
RETRIES_MAX = 10
TOKENS_MAX = 100_000_000  # No context window comes near it; a larger number is a slip of the pen.
PRICE_MAX = 10_000_000_000  # usd 10,000 for a million tokens: the same.


class Prices(BaseModel):
    """usd_micro per million tokens. A model that costs nothing says so with zeros."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: int = Field(ge=0, le=PRICE_MAX)
    output: int = Field(ge=0, le=PRICE_MAX)
    cached_input: int | None = Field(default=None, ge=0, le=PRICE_MAX)  # None: as `input`.


class ModelConfig(BaseModel):
    """One model. Every field is a static value of plan.yaml."""

    # A key that was pasted here by mistake must not be quoted by the complaint about it.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    base_url: str
    model: str = Field(min_length=1, max_length=200)
    api_key: str = ""  # `secret:NAME`; empty for a server that asks for none.
    prices: Prices | None = None  # None: not known, so the model is refused where money is limited.
    max_output_tokens: int = Field(default=4_096, ge=1, le=TOKENS_MAX)  # Where a request does not say less.
    # The endpoint's own window, prompt and answer together. It makes reservations smaller; one that is smaller than the
    # endpoint's would make them wrong.
    context_tokens: int | None = Field(default=None, ge=16, le=TOKENS_MAX)
    # The field in which this endpoint takes the limit of its answer. OpenAI's reasoning models know only the second.
    output_limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    # `validate`: for endpoints that do not know `response_format`; the schema goes into the prompt. An endpoint that refuses
    # `json_schema` is found out by itself.
    structured_output: Literal["json_schema", "validate"] = "json_schema"
    timeout_s: float = Field(
        default=120.0, gt=0, le=3_600
    )  # One attempt, from request to the end of the answer.
    idle_timeout_s: float = Field(default=30.0, gt=0, le=3_600)  # Between two parts of a streamed answer.
    retries: int = Field(default=3, ge=0, le=RETRIES_MAX)
    concurrency: int = Field(
        default=16, ge=1, le=CONCURRENCY_MAX
    )  # Requests at the same time; the others wait.

    @field_validator("base_url")
    @classmethod
    def _is_an_endpoint(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("write it with its scheme, such as https://api.example.com/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError(
                "no credentials, query or fragment in it: the key belongs in api_key: secret:NAME"
            )
        return value.rstrip("/")

    @field_validator("api_key")
    @classmethod
    def _is_a_reference(cls, value: str) -> str:
        if value and not secret.is_reference(value):
            raise ValueError(
                "write secret:NAME and keep the key with `aip secret set NAME`; never the key itself"
            )
        return value
