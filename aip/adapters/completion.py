"""OpenAI's chat completions on one side, the `chat` of the plan's model on the other. Pure.

Frameworks speak the first. What of a request the plan's model can do is passed on; what says nothing about the answer is left
out; **anything else is refused by its name**, because a setting that is silently dropped is a promise that is silently broken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..errors import InvalidPayload

PASSED_AS = {
    "temperature": "temperature",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
}
# How the answer travels, and what an endpoint notes about it; not what it is.
IDLE = frozenset(
    {"model", "stream", "stream_options", "user", "safety_identifier", "metadata", "store", "service_tier"}
    | {"prompt_cache_key", "prompt_cache_retention"}
)
SHAPED = frozenset({"messages", "tools", "tool_choice", "response_format", "stop"})
NOTHING: Mapping[str, Any] = {
    "n": 1,
    "parallel_tool_calls": True,
}  # With these values they ask for what happens anyway.
FINISHES = ("stop", "length", "tool_calls", "content_filter")


def arguments_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """What `chat` takes, of the body of a request. Raises `InvalidPayload` that names what it cannot take."""
    arguments: dict[str, Any] = {"messages": body.get("messages") or []}
    for name, value in body.items():
        if value is None or name in SHAPED or name in IDLE or (name in NOTHING and value == NOTHING[name]):
            continue
        if name not in PASSED_AS:
            raise InvalidPayload(
                f"{name}: the plan's model does not take it",
                hint="take it out of the settings that the framework gives its model",
            )
        arguments[PASSED_AS[name]] = value
    tools, choice = _tools(body.get("tools") or []), body.get("tool_choice")
    schema = _schema(body.get("response_format"))
    stop = body.get("stop")
    if tools:
        arguments["tools"] = tools
        if choice not in (None, "auto"):
            arguments["tool_choice"] = choice
    if schema is not None:
        arguments["schema"] = schema
    if stop:
        arguments["stop"] = [stop] if isinstance(stop, str) else stop
    return arguments


def _tools(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for tool in tools:
        if tool.get("type") != "function":
            raise InvalidPayload(
                f"tools: one of type {tool.get('type')!r}; the plan's model calls functions only"
            )
    return tools


def _schema(response_format: Any) -> dict[str, Any] | None:
    kind = (response_format or {}).get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    if kind == "json_schema":
        schema: dict[str, Any] = response_format["json_schema"]["schema"]
        return schema
    raise InvalidPayload(f"response_format: {kind!r}; use text, json_object or json_schema")


def distinct(answer: dict[str, Any], messages: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """`answer` with ids of tool calls that no earlier message has: some endpoints count from nought in every answer."""
    taken = {call["id"] for message in messages for call in message.get("tool_calls") or ()}
    calls = []
    for call in answer["tool_calls"]:
        unique, number = call["id"], len(taken)
        while unique in taken:
            unique, number = f"{call['id']}-{number}", number + 1
        taken.add(unique)
        calls.append({**call, "id": unique})
    return {**answer, "tool_calls": calls}


def completion(answer: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The answer of `chat` as the body of a reply."""
    message: dict[str, Any] = {"role": "assistant", "content": answer["text"] or None}
    if answer["tool_calls"]:
        message["tool_calls"] = _calls(answer)
    choice = {"index": 0, "message": message, "finish_reason": _finish(answer)}
    return {**_head("chat.completion", model), "choices": [choice], "usage": _usage(answer)}


def chunks(part: Mapping[str, Any], model: str) -> Iterator[dict[str, Any]]:
    """One part of `chat_stream` as the chunks of a streamed reply."""
    head = _head("chat.completion.chunk", model)
    if "delta" in part:
        delta: dict[str, Any] = {"role": "assistant", "content": part["delta"]}
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        return
    calls = [{"index": index, **call} for index, call in enumerate(_calls(part))]
    delta = {"role": "assistant", "tool_calls": calls} if calls else {}
    yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": _finish(part)}]}
    yield {**head, "choices": [], "usage": _usage(part)}


def _head(kind: str, model: str) -> dict[str, Any]:
    return {"id": "chat", "object": kind, "created": 0, "model": model}


def _calls(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": call["arguments"]},
        }
        for call in answer["tool_calls"]
    ]


def _finish(answer: Mapping[str, Any]) -> str:
    if answer["finish"] in FINISHES:
        return str(answer["finish"])
    return "tool_calls" if answer["tool_calls"] else "stop"


def _usage(answer: Mapping[str, Any]) -> dict[str, int]:
    usage = answer["usage"]
    return {
        "prompt_tokens": usage["input_tokens"],
        "completion_tokens": usage["output_tokens"],
        "total_tokens": usage["tokens"],
    }
