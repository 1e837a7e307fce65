"""`aip plan make` with a model: over a real socket, from an endpoint that answers from a script."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from platform_double import Double

Type = Callable[..., Result]


def proposal(parameter: str) -> str:
    task = {
        "name": "hail",
        "capability": "greeter:greet",
        "why": "it greets",
        "arguments": [{"parameter": parameter, "value": "Ada"}],
        "for_each": None,
        "condition": None,
        "needs": [],
    }
    return json.dumps({"impossible": None, "inputs": [], "tasks": [task], "output": None})


class Endpoint(ThreadingHTTPServer):
    """Answers chats from `script`: a text, or a status to refuse with; the last one again and again."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[str | int] = []
        self.heard: list[dict[str, Any]] = []
        self.keys: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Endpoint)
        server.heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        server.keys.append(self.headers["authorization"])
        said = server.script[min(len(server.heard), len(server.script)) - 1]
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        body: dict[str, Any] = {"id": "1", "object": "chat.completion", "choices": [choice], "model": "m"}
        body["usage"] = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        data = json.dumps({"error": {"message": "no"}} if isinstance(said, int) else body).encode()
        self.send_response(said if isinstance(said, int) else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nothing: a test's output is the product's."""


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def ask(
    typed: Type, platform: Double, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Type:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLANNER_KEY", "sk-very-secret")
    takes = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    greet = {"doc": "Greet.", "input": {**takes, "additionalProperties": False}, "output": {"type": "string"}}
    platform.manifests["agents:Greeter"] = {"type": "greeter", "capabilities": {"greet": greet}}
    url = f"http://127.0.0.1:{endpoint.server_port}/v1"
    words = (
        "plan",
        "make",
        "hail Ada",
        "--agents",
        "agents:Greeter",
        "--model-url",
        url,
        "--model-name",
        "m",
    )

    def make(*more: str) -> Result:
        return typed(*words, "--api-key", "secret:PLANNER_KEY", *more)

    return make


def test_a_model_is_told_what_is_wrong_with_its_plan_and_mends_it(ask: Type, endpoint: Endpoint) -> None:
    endpoint.script = [proposal("nmae"), proposal("name")]
    result = ask()
    assert result.exit_code == 0, result.output
    assert "with: {name: Ada}" in result.stdout
    assert "argument `nmae`" in endpoint.heard[1]["messages"][-1]["content"]
    assert endpoint.heard[0]["response_format"]["json_schema"]["strict"] is True
    assert set(endpoint.keys) == {"Bearer sk-very-secret"}
    assert "sk-very-secret" not in result.output


def test_garbage_without_end_ends_with_3_after_three_repairs(ask: Type, endpoint: Endpoint) -> None:
    endpoint.script = ["Sure! Here is your plan:"]
    result = ask("-o", "json")
    assert result.exit_code == 3
    assert json.loads(result.stderr.splitlines()[-1])["error"]["code"] == "plan.invalid.proposal"
    assert len(endpoint.heard) == 4


def test_an_endpoint_that_does_not_know_schemas_is_told_in_words(ask: Type, endpoint: Endpoint) -> None:
    endpoint.script = [400, proposal("name")]
    assert ask().exit_code == 0
    assert "response_format" not in endpoint.heard[1]
    assert "JSON Schema" in endpoint.heard[1]["messages"][-1]["content"]
