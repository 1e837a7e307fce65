"""What a request may cost before it is sent, and what it cost after."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aip.errors import InvalidPayload
from aip.models import meter
from aip.models.chat import Request
from aip.models.spec import ModelConfig, Prices


def config(**more: Any) -> ModelConfig:
    given = {"base_url": "http://localhost/v1", "model": "m", "prices": {"input": 150_000, "output": 600_000}}
    return ModelConfig.model_validate({**given, **more})


def request(*texts: str, **more: Any) -> Request:
    return Request(tuple({"role": "user", "content": text} for text in texts), **more)


texts = st.text(max_size=200)
prices = st.builds(Prices, input=st.integers(0, 10**7), output=st.integers(0, 10**7))
configs = st.builds(
    lambda prices, output, window: config(prices=prices, max_output_tokens=output, context_tokens=window),
    prices,
    st.integers(1, 10_000),
    st.none() | st.integers(16, 20_000),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(texts, min_size=1, max_size=5), configs)
def test_no_usage_that_a_byte_level_tokenizer_can_make_is_above_the_bound(
    words: list[str], model: ModelConfig
) -> None:
    asked = request(*words)
    bound = meter.bound(asked, model)
    # One token a byte is the worst that a byte-level BPE does; 8 marks a message is what templates add.
    prompt = sum(len(word.encode()) + 8 for word in words)
    output = meter.output_limit(asked, model)
    if model.context_tokens is not None:
        prompt = min(prompt, model.context_tokens)
        output = min(output, model.context_tokens - prompt)
    used = meter.measured({"prompt_tokens": prompt, "completion_tokens": output}, bound, model)
    assert used.tokens <= bound.tokens
    assert bound.usd_micro is not None
    assert used.usd_micro <= bound.usd_micro


@settings(deadline=None, max_examples=60)
@given(configs, st.integers(1, 20_000), st.integers(0, 20_000), st.integers(0, 20_000))
def test_any_use_of_a_known_window_costs_at_most_the_bound(
    model: ModelConfig, prompt: int, output: int, cached: int
) -> None:
    bound = meter.bound(request("x"), model)
    prompt = min(prompt, bound.input_tokens)
    output = min(output, bound.output_tokens, bound.tokens - prompt)
    reported = {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    assert meter.measured(reported, bound, model).usd_micro <= (bound.usd_micro or 0)


@pytest.mark.parametrize(
    ("prompt", "output", "usd_micro"),
    [(1, 0, 1), (6, 0, 1), (7, 0, 2), (0, 1, 0), (1_000_000, 1_000_000, 750_000), (1_000_001, 0, 150_001)],
)
def test_a_price_is_rounded_up_once_at_its_end(prompt: int, output: int, usd_micro: int) -> None:
    bound = meter.bound(request("x"), config())
    reported = {"prompt_tokens": prompt, "completion_tokens": output}
    used = meter.measured(reported, bound, config())
    expected = usd_micro if prompt else bound.usd_micro  # A prompt of no tokens is no report.
    assert used.usd_micro == expected


def test_cached_tokens_have_their_own_price() -> None:
    model = config(prices={"input": 2_000_000, "output": 0, "cached_input": 1_000_000})
    reported = {
        "prompt_tokens": 100,
        "completion_tokens": 1,
        "prompt_tokens_details": {"cached_tokens": 60},
    }
    assert meter.measured(reported, meter.bound(request("x"), model), model).usd_micro == 40 * 2 + 60


@pytest.mark.parametrize(
    "reported",
    [
        None,
        {},
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": -3, "completion_tokens": 1},
        {"prompt_tokens": "12", "completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": 1},
        {"prompt_tokens": 10**15, "completion_tokens": 1},
    ],
)
def test_where_the_endpoint_reports_nothing_that_makes_sense_the_bound_is_charged(reported: Any) -> None:
    bound = meter.bound(request("hello"), config())
    used = meter.measured(reported, bound, config())
    assert (used.tokens, used.usd_micro, used.reported) == (bound.tokens, bound.usd_micro, False)


def test_tools_and_schema_are_part_of_the_prompt() -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    plain = meter.bound(request("x"), config()).input_tokens
    assert meter.bound(request("x", tools=(tool,)), config()).input_tokens > plain + len(str(tool))
    assert meter.bound(request("x", schema={"type": "string"}), config()).input_tokens > plain


def test_a_caller_may_ask_for_less_output_and_not_for_more() -> None:
    model = config(max_output_tokens=50)
    assert meter.output_limit(request("x", max_output_tokens=10), model) == 10
    assert meter.output_limit(request("x", max_output_tokens=500), model) == 50


def test_what_has_no_bound_is_refused() -> None:
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}
    with pytest.raises(InvalidPayload, match=r"messages\[0\].content has a part that is not text"):
        meter.bound(Request((picture,)), config())


def test_a_model_without_a_price_has_a_bound_in_tokens_only() -> None:
    bound = meter.bound(request("x"), config(prices=None))
    assert bound.usd_micro is None
    assert bound.tokens > 0
