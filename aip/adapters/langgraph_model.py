"""The plan's model as a LangChain chat model, and capabilities of other agents as LangChain tools.

Both are made before there is a turn, at the top of an author's module or when a graph is built, and find the turn they work in
when they are called.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, convert_to_openai_messages
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import ToolCallChunk
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import make_invalid_tool_call, parse_tool_call
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool

from ..errors import UsageError
from ..toolbox import Tool
from .completion import arguments_of
from .reins import current_reins


class PlanModel(BaseChatModel):
    """The model that the agent of this graph is configured with."""

    @property
    def _llm_type(self) -> str:
        return "aip"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return current_reins().from_thread(self._agenerate(messages, stop, None, **kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = await current_reins().chat(_arguments(messages, stop, kwargs))
        good, bad = [], []
        for call in _raw_calls(answer):
            try:
                good.append(parse_tool_call(call, return_id=True))
            except (
                ValueError
            ) as error:  # Arguments that are no JSON: the graph decides what it tells the model.
                bad.append(make_invalid_tool_call(call, str(error)))
        message = AIMessage(
            content=answer["text"],
            tool_calls=good,
            invalid_tool_calls=bad,
            usage_metadata=_usage(answer),
            response_metadata={"finish_reason": answer["finish"], "model_name": current_reins().model},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with aclosing(current_reins().chat_stream(_arguments(messages, stop, kwargs))) as parts:
            async for part in parts:
                chunk = ChatGenerationChunk(message=_chunk(part))
                if run_manager is not None:
                    await run_manager.on_llm_new_token(part.get("delta", ""), chunk=chunk)
                yield chunk

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: Any = None,
        **kwargs: Any,
    ) -> Runnable[Any, AIMessage]:
        wanted = [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(tools=wanted, tool_choice=_choice(tool_choice), **kwargs)

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[Any, Any]:
        """The model agent itself holds the answer to the schema, and lets it be repaired once."""
        if include_raw or kwargs:
            raise UsageError(
                f"with_structured_output: the plan's model takes the schema alone, not {['include_raw', *kwargs]}"
            )
        wanted = convert_to_json_schema(schema)
        parser: Any = JsonOutputParser()
        if isinstance(schema, type) and hasattr(schema, "model_validate"):
            parser = PydanticOutputParser(pydantic_object=schema)
        form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": wanted}}
        asked: Runnable[Any, Any] = self.bind(response_format=form) | parser
        return asked


def tools_of(offered: Mapping[str, Tool]) -> list[BaseTool]:
    """Capabilities of other agents, as tools of a graph."""
    return [_tool(tool) for tool in offered.values()]


def _tool(tool: Tool) -> BaseTool:
    async def use(**arguments: Any) -> str:
        return await current_reins().use(tool.name, arguments)

    def use_from_thread(**arguments: Any) -> str:
        return current_reins().from_thread(use(**arguments))

    return StructuredTool(
        name=tool.name,
        description=tool.doc,
        args_schema={"title": tool.name, "properties": {}, **tool.schema},
        func=use_from_thread,
        coroutine=use,
    )


def _choice(choice: Any) -> Any:
    """As endpoints know it: LangChain writes `any` or True for "some tool", and a tool's bare name for that one."""
    if choice in ("any", True):
        return "required"
    if not choice:
        return None
    if isinstance(choice, str) and choice not in ("auto", "none", "required"):
        return {"type": "function", "function": {"name": choice}}
    return choice


def _arguments(messages: list[BaseMessage], stop: list[str] | None, more: dict[str, Any]) -> dict[str, Any]:
    known = {
        name: value for name, value in more.items() if not name.startswith("ls_")
    }  # LangSmith's own notes.
    return arguments_of({"messages": convert_to_openai_messages(messages), "stop": stop, **known})


def _raw_calls(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"id": call["id"], "function": {"name": call["name"], "arguments": call["arguments"] or "{}"}}
        for call in answer["tool_calls"]
    ]


def _chunk(part: Mapping[str, Any]) -> AIMessageChunk:
    if "delta" in part:
        return AIMessageChunk(content=part["delta"])
    calls = [
        ToolCallChunk(
            type="tool_call_chunk", id=call["id"], name=call["name"], args=call["arguments"], index=index
        )
        for index, call in enumerate(part["tool_calls"])
    ]
    return AIMessageChunk(
        content="",
        tool_call_chunks=calls,
        usage_metadata=_usage(part),
        response_metadata={"finish_reason": part["finish"]},
    )


def _usage(answer: Mapping[str, Any]) -> UsageMetadata:
    usage = answer["usage"]
    return UsageMetadata(
        input_tokens=usage["input_tokens"],
        output_tokens=usage["output_tokens"],
        total_tokens=usage["tokens"],
    )
