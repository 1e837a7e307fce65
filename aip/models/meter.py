"""What a request may cost before it is sent, and what it cost after. Pure arithmetic on integers.

**Before.** A byte-level BPE never makes more tokens of a text than it has UTF-8 bytes: every byte is a token of its vocabulary
and merges only join them. So the bytes of the messages, of the tools and of the schema bound the tokens of the prompt from above,
given room for what the endpoint's chat template adds around them (role marks, a default system text, words about tools). The
answer is bounded by the limit that the request carries. Where the window of the model is known, both together fit into it.

**After.** The endpoint's usage, where it reports one that makes sense; else the bound. Nothing in between is guessed.

Prices are usd_micro per million tokens. An amount is rounded up once, at its end: a fraction of a micro-dollar is a micro-dollar.

Not covered: parts of a message that are not text. Their tokens do not follow from their bytes, so such a request is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ..errors import InvalidPayload
from .chat import Request
from .spec import TOKENS_MAX, ModelConfig, Prices

MILLION = 1_000_000
REQUEST_TOKENS = (
    512  # What templates add once: begin marks, a default system text, dates, how to call a tool.
)
MESSAGE_TOKENS = (
    16  # What templates add around each message; 4 to 8 in those of Llama, Qwen, Mistral and ChatML.
)
TOOL_TOKENS = 64  # What templates add around each tool.


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request. `reported` is false where the endpoint did not say and the bound stands in."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0  # A part of `input_tokens`.
    usd_micro: int = 0
    requests: int = 0
    reported: bool = True

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.usd_micro + other.usd_micro,
            self.requests + other.requests,
            self.reported and other.reported,
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cached_tokens": self.cached_tokens,
            "tokens": self.tokens,
            "usd_micro": self.usd_micro,
            "requests": self.requests,
            "reported": self.reported,
        }


@dataclass(frozen=True, slots=True)
class Bound:
    """The most that one request can use. `usd_micro` is None where the model has no price."""

    input_tokens: int
    output_tokens: int
    tokens: int
    usd_micro: int | None

    def as_usage(self) -> Usage:
        """As if all of it had been used."""
        output = min(self.output_tokens, self.tokens)
        return Usage(self.tokens - output, output, 0, self.usd_micro or 0, 1, reported=False)


def prompt_bytes(request: Request) -> int:
    """UTF-8 bytes of everything that a template can turn into prompt. Raises `InvalidPayload` for what has no bound."""
    for index, message in enumerate(request.messages):
        content = message.get("content")
        parts = content if isinstance(content, list) else ()
        for part in parts:
            if not isinstance(part, Mapping) or part.get("type") != "text":
                raise InvalidPayload(
                    f"messages[{index}].content has a part that is not text, whose cost cannot be bounded before it is sent",
                    hint="send text, or parts of type text",
                )
    # As JSON: longer than each text in it (quotes and escapes only add), and it has the names of roles and arguments too.
    texts = sum(len(msgspec.json.encode(message)) for message in request.messages)
    # What is JSON itself is rendered by some templates with indents of 4 and with escapes: the widest way bounds all.
    calls = [call for message in request.messages for call in message.get("tool_calls") or ()]
    widest = (
        json.dumps(part, indent=4) for part in (*request.tools, request.schema, *calls) if part is not None
    )
    return texts + sum(map(len, widest))


def bound(request: Request, config: ModelConfig) -> Bound:
    """The most that `request` can use at this model."""
    prompt = (
        prompt_bytes(request)
        + REQUEST_TOKENS
        + MESSAGE_TOKENS * len(request.messages)
        + TOOL_TOKENS * len(request.tools)
    )
    output = output_limit(request, config)
    window = config.context_tokens
    if window is None:
        return Bound(prompt, output, prompt + output, _price_of(config.prices, prompt, output))
    prompt, output = min(prompt, window), min(output, window)
    total = min(prompt + output, window)
    prices = config.prices
    # Both are not full at once where the window is. The dearest way to fill it has as much as it can of what costs more.
    if prices is None or prices.output >= prices.input:
        dearest = (total - output, output)
    else:
        dearest = (prompt, total - prompt)
    return Bound(prompt, output, total, _price_of(prices, *dearest))


def output_limit(request: Request, config: ModelConfig) -> int:
    """The limit of the answer that the request carries to the endpoint."""
    asked = request.max_output_tokens
    limit = config.max_output_tokens if asked is None else min(asked, config.max_output_tokens)
    return limit if config.context_tokens is None else min(limit, config.context_tokens)


def _price_of(prices: Prices | None, input_tokens: int, output_tokens: int, cached: int = 0) -> int | None:
    if prices is None:
        return None
    cached_price = prices.input if prices.cached_input is None else prices.cached_input
    millionths = (
        (input_tokens - cached) * prices.input + cached * cached_price + output_tokens * prices.output
    )
    return -(-millionths // MILLION)


def measured(reported: Mapping[str, Any] | None, held: Bound, config: ModelConfig) -> Usage:
    """What an answered request used: what the endpoint reports, or the bound where it reports nothing that makes sense."""
    counts = _counts(reported)
    if counts is None:
        return held.as_usage()
    prompt, output, cached = counts
    return Usage(prompt, output, cached, _price_of(config.prices, prompt, output, cached) or 0, 1)


def _counts(reported: Mapping[str, Any] | None) -> tuple[int, int, int] | None:
    if not isinstance(reported, Mapping):
        return None
    prompt, output = _count(reported.get("prompt_tokens")), _count(reported.get("completion_tokens"))
    if not prompt or output is None:
        return (
            None  # No request has an empty prompt: the template alone makes tokens. Zero means "not counted".
        )
    details = reported.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, Mapping) else None
    return prompt, output, min(cached or 0, prompt)


def _count(value: Any) -> int | None:
    plausible = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= TOKENS_MAX
    return value if plausible else None
