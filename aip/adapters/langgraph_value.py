"""What goes into a graph and comes out of it, as values of messages and of plans. Pure."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessageChunk, BaseMessage, convert_to_openai_messages

from ..errors import UsageError
from .failure import Interrupted


def asked(prompt: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}]}


def said(outcome: dict[str, Any]) -> Any:
    """What a graph of messages has answered."""
    if outcome["interrupts"]:
        raise Interrupted(
            "the graph waits for a person", thread=outcome["thread"], interrupts=outcome["interrupts"]
        )
    output = outcome["output"]
    if isinstance(output, dict) and output.get("structured_response") is not None:
        return output["structured_response"]
    if not isinstance(output, dict) or not output.get("messages"):
        raise UsageError("this graph does not answer with messages", hint="call `invoke` with its own input")
    return output["messages"][-1]["content"]


def output(graph: Any, values: Any) -> Any:
    channels = graph.output_channels
    if isinstance(values, dict) and not isinstance(channels, str):
        values = {name: value for name, value in values.items() if name in channels}
    return plain(values)


def told(mode: str, event: Any) -> list[dict[str, Any]]:
    if mode == "updates":
        return [
            {"node": node, "update": plain(update)}
            for node, update in event.items()
            if node != "__interrupt__"
        ]
    if mode == "messages":
        message, about = event
        text = message.text if isinstance(message, AIMessageChunk) else ""
        return [{"delta": str(text), "node": about["langgraph_node"]}] if text else []
    return [{"custom": plain(event)}]


def plain(value: Any) -> Any:
    """Messages as the `{"role", "content"}` that an expression of a plan can read; the rest as it is."""
    if isinstance(value, BaseMessage):
        return convert_to_openai_messages(value)
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
