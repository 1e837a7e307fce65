"""How a model is described, and that a key is never part of it."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest

from aip.models.agent import ModelAgent
from aip.models.spec import ModelConfig, Prices
from aip.orchestration.parse import parse

GOOD = {"base_url": "https://api.example.com/v1/", "model": "m"}


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("api_key", "sk-4711", "write secret:NAME"),
        ("api_key", "secret:../../etc/passwd", "write secret:NAME"),
        ("base_url", "api.example.com", "with its scheme"),
        ("base_url", "https://ada:sk-4711@api.example.com/v1", "no credentials"),
        ("base_url", "https://api.example.com/v1?key=sk-4711", "no credentials"),
        ("prices", {"input": -1, "output": 0}, "greater than or equal to 0"),
        ("prices", {"input": 0.5, "output": 0}, "valid integer"),
        ("retries", 1_000, "less than or equal to 10"),
        ("modle", "m", "Extra inputs"),
    ],
)
def test_a_wrong_field_is_named_and_never_quoted(field: str, value: Any, says: str) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        ModelConfig.model_validate({**GOOD, field: value})
    told = str(caught.value)
    assert field in told
    assert says in told
    assert "sk-4711" not in told


def test_a_slash_at_the_end_of_an_address_means_nothing() -> None:
    assert ModelConfig.model_validate(GOOD).base_url == "https://api.example.com/v1"


PLAN = """\
apiVersion: aip/v1
kind: Plan
metadata: {name: p}
agents: {a: {use: "agents:A"}}
models:
  writer:
    base_url: http://127.0.0.1:8000/v1
    model: small-1
    api_key: secret:WRITER_KEY
    prices: {input: 0.15, output: 0.60}
    timeout: 1m
    idle_timeout: 5s
    retries: 2
    concurrency: 4
    max_output_tokens: 900
    context_tokens: 8192
    structured_output: validate
    output_limit_field: max_completion_tokens
  free: {base_url: "http://127.0.0.1:8000/v1", model: tiny, prices: {input: 0, output: 0}}
tasks: {t: {agent: a, capability: c}}
"""


def test_what_a_plan_says_of_a_model_is_what_its_agent_takes() -> None:
    agents = parse(PLAN.encode(), "plan.yaml").agents
    spec = agents["models.writer"]
    assert spec.use == f"{ModelAgent.__module__}:{ModelAgent.__name__}"
    config = ModelConfig.model_validate(spec.config)
    assert (config.timeout_s, config.idle_timeout_s, config.retries) == (60.0, 5.0, 2)
    assert config.prices == Prices(input=150_000, output=600_000)
    assert ModelConfig.model_validate(agents["models.free"].config).prices == Prices(input=0, output=0)
