"""The same agent in three frameworks, and a library that it reads in."""

from __future__ import annotations

import asyncio
from typing import Any

import agents
import pydantic_ai
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

import aip
from aip.adapters import langgraph, openai_agents
from aip.adapters import pydantic_ai as adapted_pydantic_ai
from aip.errors import Denied

TOOLS = ["library.book.find", "library.book.burn"]
INSTRUCTIONS = "You read."


class Library(aip.Agent):
    """Knows books."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    @aip.capability("book.find", cost={"tool_calls": 1})
    async def find(self, title: str, ctx: aip.Context) -> dict[str, Any]:
        """Find a book by its title."""
        self.keys.append(ctx.idempotency_key)
        return {"title": title, "year": 1851}

    @aip.capability("book.burn")
    async def burn(self, title: str) -> None:
        raise Denied("only the librarian burns books")

    @aip.capability("book.wait")
    async def wait(self) -> None:
        await asyncio.sleep(60)

    @aip.capability
    async def keys_seen(self) -> list[str]:
        return self.keys


def react(model: Any, tools: list[Any]) -> Any:
    """A model and its tools in turns, as in LangGraph's own tutorials."""
    thinks = model.bind_tools(tools) if tools else model

    async def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await thinks.ainvoke([("system", INSTRUCTIONS), *state["messages"]])]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    # Whatever a tool raises is handed to the model: the habit that must not swallow a refusal of the road.
    graph.add_node("tools", ToolNode(tools, handle_tool_errors=True))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition, ["tools", END])
    graph.add_edge("tools", "think")
    return graph.compile()


class PydanticAI:
    def __str__(self) -> str:
        return "pydantic-ai"

    def kind(self, **said: Any) -> type[aip.Agent]:
        agent = pydantic_ai.Agent(instructions=INSTRUCTIONS, name="reader")
        return adapted_pydantic_ai.agent_of(agent, **{"tools": TOOLS, **said})


class OpenAIAgents:
    def __str__(self) -> str:
        return "openai-agents"

    def kind(self, **said: Any) -> type[aip.Agent]:
        agent = agents.Agent(name="reader", instructions=INSTRUCTIONS)
        return openai_agents.agent_of(agent, **{"tools": TOOLS, **said})


class LangGraph:
    def __str__(self) -> str:
        return "langgraph"

    def kind(self, **said: Any) -> type[aip.Agent]:
        return langgraph.agent_of(react, **{"tools": TOOLS, "name": "reader", **said})


FRAMEWORKS = [PydanticAI(), OpenAIAgents(), LangGraph()]


def find(title: str) -> tuple[str, Any]:
    return ("book_find", {"title": title})


def results(request: dict[str, Any]) -> list[str]:
    """What the model has read from its tools."""
    return [message["content"] for message in request["messages"] if message["role"] == "tool"]
