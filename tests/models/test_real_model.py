"""One real model, on this machine, without network: an agent answers, its tokens are counted, a budget stops it.

`scripts/models/install` puts the model and its runtime there. The model has 135 million parameters: what it says is not judged.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aip.errors import BudgetExceeded
from aip.models import LLMAgent, ModelAgent
from aip.runtime.activation import AgentType
from aip.testing import configured, platform

SCRIPTS = Path(__file__).parents[2] / "scripts" / "models"
CACHE = Path(os.environ.get("AIP_MODELS_CACHE") or Path.home() / ".cache" / "aip-models")
CONTEXT_TOKENS = 2_048  # As `serve.mjs` makes it.

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("not run: node is not installed")
    if not (CACHE / "node_modules" / "node-llama-cpp").is_dir() or not list(CACHE.glob("*.gguf")):
        pytest.skip("not run: no model here; scripts/models/install puts one there")
    command = [node, str(SCRIPTS / "serve.mjs"), str(CACHE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None and server.stdout is not None  # noqa: PT018
        said = server.stdout.readline()
        if not said:
            pytest.fail(f"the model server ended with {server.wait()}")
        yield json.loads(said)["url"]
        server.stdin.close()


def writer(url: str, **more: Any) -> AgentType:
    config = {
        "base_url": url,
        "model": "SmolLM2-135M-Instruct",
        "prices": {"input": 1_000_000, "output": 1_000_000},
        "max_output_tokens": 24,
        "context_tokens": CONTEXT_TOKENS,
        **more,
    }
    return configured(ModelAgent, "models.writer", config)


THINKER = configured(LLMAgent, "thinker", model="writer", instructions="Answer in one short sentence.")


async def test_an_agent_answers_with_a_real_model_and_its_tokens_are_counted(url: str) -> None:
    async with platform(THINKER, writer(url), budget={"tokens": 100_000, "usd_micro": 100_000}) as p:
        parts = [
            part
            async for part in p.stream(
                "thinker/a", "ask_stream", timeout_s=120, prompt="What is the capital of France?"
            )
        ]
    assert "Paris" in parts[-1]["answer"]
    assert "".join(part["delta"] for part in parts[:-1]) == parts[-1]["answer"]
    usage = parts[-1]["usage"]
    assert 10 < usage["tokens"] < 100
    assert p.spent["tokens"] == p.spent["usd_micro"] == usage["tokens"], "one usd_micro a token"


async def test_a_real_model_keeps_to_a_schema(url: str) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    }
    asked = [{"role": "user", "content": "Name the capital of France."}]
    async with platform(writer(url, max_output_tokens=100)) as p:
        answer = await p.call("models.writer/any", "chat", timeout_s=120, messages=asked, schema=schema)
    assert set(answer["parsed"]) == {"city"}


async def test_no_prompt_makes_more_tokens_than_its_bytes_allow(url: str) -> None:
    from aip.models.chat import Request
    from aip.models.meter import bound

    model = writer(url, max_output_tokens=1)
    async with platform(model) as p:
        for text in ("a", "naïve Grüße 東京 🦀🦀", "x9$#@!" * 40, "  \n\t " * 30):
            asked = {"role": "user", "content": text}
            answer = await p.call("models.writer/any", "chat", timeout_s=120, messages=[asked])
            most = bound(Request((asked,)), ModelAgent.Config.model_validate(model.config))
            assert 0 < answer["usage"]["input_tokens"] <= most.input_tokens


async def test_a_budget_stops_an_agent_that_asks_a_real_model(url: str) -> None:
    # Room for the bound of a first call, and not for that of a second after what the first has used.
    async with platform(THINKER, writer(url), budget={"tokens": 740}) as p:
        await p.call("thinker/a", "ask", timeout_s=120, prompt="Hello")
        with pytest.raises(BudgetExceeded):
            for _ in range(20):
                await p.call("thinker/a", "ask", timeout_s=120, prompt="Hello")
    assert p.spent["tokens"] <= 740
