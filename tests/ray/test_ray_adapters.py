"""Agents of other frameworks on the real platform: named in a plan by `use:`, asking its model, held like any agent."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from scripted_server import Say, Status, scripted

from aip.secret import keep_in_file

pytest.importorskip("pydantic_ai")
pytest.importorskip("langgraph")
pytest.importorskip("agents")

pytestmark = pytest.mark.ray

KEY = "sk-of-the-readers-8123"


@pytest.fixture(autouse=True)
def no_plans_module_before_the_sdks(monkeypatch):
    """Tests of the examples put folders with an agents.py on the path, and whoever submits hands the path on."""
    kept = [folder for folder in sys.path if not (Path(folder) / "agents.py").is_file()]
    monkeypatch.setattr(sys, "path", kept)


READERS = '''
"""The same reader in three frameworks, and a function: each of them one line away from a plan."""

import agents
import pydantic_ai
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

import aip
from aip.adapters import langgraph, openai_agents
from aip.adapters import pydantic_ai as adapted

TOOLS = ["library.book.find"]


class Library(aip.Agent):
    @aip.capability("book.find", cost={"tool_calls": 1})
    async def find(self, title: str) -> int:
        """The year of a book."""
        return {"Omoo": 1847}.get(title, 1851)

    @aip.capability("book.burn")
    async def burn(self, title: str) -> None:
        raise AssertionError("nobody was offered this")


def react(model, tools):
    thinks = model.bind_tools(tools)

    async def think(state: MessagesState):
        return {"messages": [await thinks.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode(tools, handle_tool_errors=True))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition, ["tools", END])
    graph.add_edge("tools", "think")
    return graph.compile()


pydantic_reader = adapted.agent_of(pydantic_ai.Agent(name="pydantic-reader"), tools=TOOLS)
openai_reader = openai_agents.agent_of(agents.Agent(name="openai-reader"), tools=TOOLS)
graph_reader = langgraph.agent_of(react, name="graph-reader", tools=TOOLS)


async def plain(prompt: str, ctx: aip.Context) -> str:
    """A plain function that asks the model and a tool by itself."""
    year = await ctx.call("library", "book.find", {"title": "Omoo"})
    answer = await ctx.model("writer").chat(messages=[{"role": "user", "content": f"{prompt} {year}"}])
    return answer["text"]
'''
PLAN = """
apiVersion: aip/v1
kind: Plan
metadata: {{name: readers}}
limits: {{budget: {{usd: 1.00, tool_calls: 100}}}}
models:
  writer: {{base_url: "{url}", model: small-1, api_key: secret:AIP_READERS_KEY, max_output_tokens: 50, retries: 0,
           prices: {{input: 1, output: 2}}}}
agents:
  library: {{use: "readers:Library"}}
  pydantic: {{use: "readers:pydantic_reader", config: {{steps_max: 4}}}}
  openai: {{use: "readers:openai_reader", config: {{steps_max: 4}}}}
  graph: {{use: "readers:graph_reader", config: {{steps_max: 8}}}}
  function: {{use: "readers:plain"}}
tasks:
{tasks}"""
FRAMEWORKS = ("pydantic", "openai", "graph")


@pytest.fixture
def run(platform, home, tmp_path):
    """Runs tasks against an endpoint to the end: the view of the run, and what the endpoint was asked."""
    keep_in_file("AIP_READERS_KEY", KEY, home)
    (tmp_path / "readers.py").write_text(READERS)

    def run_with(endpoint, tasks):
        with scripted(endpoint) as server:
            (tmp_path / "plan.yaml").write_text(PLAN.format(url=server.url, tasks=tasks))
            *_, view = platform.watch(platform.submit(tmp_path / "plan.yaml", {}))
        return view, server

    return run_with


def ask(name, agent, prompt, capability="ask"):
    alone = "retry: {attempts: 1}"
    return f"  {name}: {{agent: {agent}, capability: {capability}, with: {{prompt: {prompt}}}, {alone}}}\n"


def prompt_of(body):
    return next(message["content"] for message in body["messages"] if message["role"] == "user")


def results(body):
    return [message["content"] for message in body["messages"] if message["role"] == "tool"]


def test_each_framework_and_a_function_answer_in_one_plan_with_its_model_and_its_tools(run):
    def endpoint(body):
        read = results(body)
        if body.get("tools") and not read:
            return Say(calls=(("book_find", {"title": "Omoo"}),))
        return Say(f"{prompt_of(body)}: {read[0] if read else 'told'}")

    tasks = "".join(ask(name, name, "year") for name in FRAMEWORKS) + ask(
        "plain", "function", "year", "plain"
    )
    view, server = run(
        endpoint,
        tasks
        + "outputs:\n"
        + "".join(f"  {n}: '${{{{ tasks.{n}.output }}}}'\n" for n in (*FRAMEWORKS, "plain")),
    )
    assert view["state"] == "succeeded", json.dumps(view["tasks"], indent=1)
    answers = {name: str(answer) for name, answer in view["outputs"].items()}
    assert {name for name, answer in answers.items() if "year: 1847" in answer} == set(FRAMEWORKS)
    assert answers["plain"] == "year 1847: told"
    assert len(server.requests) == 2 * len(FRAMEWORKS) + 1
    assert view["spend"]["spent"]["tool_calls"] == len(FRAMEWORKS) + 1
    # Each answer of the scripted endpoint reports 12 tokens read and 5 written.
    assert view["spend"]["spent"]["usd_micro"] == 22 * len(server.requests)
    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}


def test_what_a_model_does_wrong_is_contained_and_told_by_its_code(run):
    def endpoint(body):
        match prompt_of(body):
            case "loop":
                return Say(calls=(("book_find", {"title": f"volume {len(body['messages'])}"}),))
            case "obey":  # A page told it to burn what it reads.
                return (
                    Say("refused")
                    if len(body["messages"]) > 2
                    else Say(calls=(("book_burn", {"title": "Omoo"}),))
                )
        return Status(429, message="too many of you")

    prompts = ("loop", "obey", "busy")
    view, server = run(endpoint, "".join(ask(f"{p}_{name}", name, p) for p in prompts for name in FRAMEWORKS))
    assert view["state"] == "failed"
    ended = {
        name: (task["state"], (task.get("error") or {}).get("code")) for name, task in view["tasks"].items()
    }
    for name in FRAMEWORKS:
        assert ended[f"loop_{name}"] == ("failed", "adapter.steps_exhausted")
        assert ended[f"busy_{name}"] == ("failed", "model.rate_limited")
    offered = {tool["function"]["name"] for body in server.requests for tool in body["tools"]}
    assert offered == {"book_find"}
    assert "nobody was offered this" not in json.dumps(view)
    assert ended["obey_graph"][0] == ended["obey_pydantic"][0] == "succeeded"
    assert ended["obey_openai"] == ("failed", "adapter.misbehaved")
