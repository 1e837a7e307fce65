"""Chat completions as values: a request, an answer, and the bytes between them judged. No I/O.

The format is that of OpenAI's API reference, "Chat Completions", as its many imitators speak it. Their answers are not trusted:
whatever does not have the shape of an answer ends in `Garbage`, never in a `KeyError` somewhere else.

A streamed answer is a sequence of server-sent events (WHATWG HTML, 9.2) whose data are JSON chunks, ended by `[DONE]`. `Assembly`
takes the bytes as they come and gives the deltas; at the end it gives the whole. One that ends before a choice has a
`finish_reason` was cut off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ..errors import InvalidPayload
from .failure import CutOff, Garbage, Unreachable

ANSWER_BYTES_MAX = 16 * 2**20  # An answer of any model is far below it; more is a server that does not stop.
LINE_BYTES_MAX = 4 * 2**20  # One event of a stream.
TOOL_CALLS_MAX = 128  # Of one answer.
MESSAGES_MAX = 10_000
TOOLS_MAX = 512  # Endpoints take 128 or fewer; this only bounds what is measured.
ROLES = ("system", "developer", "user", "assistant", "tool")
TOOL_CHOICES = ("auto", "none", "required")

ToolChoice = str | dict[str, Any]  # One of TOOL_CHOICES, or {"type": "function", "function": {"name": …}}.


@dataclass(frozen=True, slots=True)
class Request:
    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    schema: Mapping[str, Any] | None = None  # JSON Schema that the answer's text must fit.
    max_output_tokens: int | None = None
    temperature: float | None = None
    stop: tuple[str, ...] = ()
    tool_choice: ToolChoice | None = (
        None  # None: the endpoint's own default, which is "auto" where there are tools.
    )


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What the model wants called. `arguments` is its own text: JSON, if it did well."""

    id: str
    name: str
    arguments: str

    def as_json(self) -> dict[str, Any]:
        return {"id": self.id, "name": self.name, "arguments": self.arguments}


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    tool_calls: tuple[ToolCall, ...]
    finish: str  # stop | length | tool_calls | content_filter, or what the endpoint says.
    usage: Mapping[str, Any] | None  # As reported.


def checked_request(
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None = None,
    schema: dict[str, Any] | None = None,
    max_output_tokens: int | None = None,
    temperature: float | None = None,
    stop: list[str] | None = None,
    tool_choice: ToolChoice | None = None,
) -> Request:
    """A request from a caller's values. Raises `InvalidPayload` that names the wrong one."""
    if not messages or len(messages) > MESSAGES_MAX:
        raise InvalidPayload(f"messages: {len(messages)} of them; give 1 to {MESSAGES_MAX}")
    for index, message in enumerate(messages):
        if message.get("role") not in ROLES:
            raise InvalidPayload(
                f"messages[{index}].role is {message.get('role')!r}; use one of {', '.join(ROLES)}"
            )
    if len(tools or ()) > TOOLS_MAX:
        raise InvalidPayload(f"tools: {len(tools or ())} of them; give at most {TOOLS_MAX}")
    if max_output_tokens is not None and max_output_tokens < 1:
        raise InvalidPayload(f"max_output_tokens is {max_output_tokens}; give 1 or more")
    if temperature is not None and not 0 <= temperature <= 2:
        raise InvalidPayload(f"temperature is {temperature}; give 0 to 2")
    if tool_choice is not None:
        _check_tool_choice(tool_choice, tools or [])
    return Request(
        tuple(messages),
        tuple(tools or ()),
        schema,
        max_output_tokens,
        temperature,
        tuple(stop or ()),
        tool_choice,
    )


def _check_tool_choice(choice: ToolChoice, tools: list[dict[str, Any]]) -> None:
    """A choice that no tool can meet would be paid for and answered with whatever the endpoint makes of it."""
    if isinstance(choice, str):
        if choice not in TOOL_CHOICES:
            raise InvalidPayload(
                f"tool_choice: {choice[:80]!r}; use {', '.join(TOOL_CHOICES)}, or name a function"
            )
        if choice == "required" and not tools:
            raise InvalidPayload("tool_choice: required, and there are no tools to choose from")
        return
    function = choice.get("function")
    name = function.get("name") if isinstance(function, Mapping) else None
    if choice.get("type") != "function" or not isinstance(name, str):
        raise InvalidPayload('tool_choice: write {"type": "function", "function": {"name": NAME}}')
    offered = [tool["function"].get("name") for tool in tools if isinstance(tool.get("function"), Mapping)]
    if name not in offered:
        raise InvalidPayload(f"tool_choice: there is no tool {name[:80]!r} among tools")


def read_answer(body: bytes) -> Answer:
    """The answer in the body of a reply that was not streamed. Raises `Garbage`."""
    document = _decoded(body)
    choice = _first_choice(document)
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise Garbage("the endpoint's answer has no choices[0].message")
    text = message.get("content")
    refusal = message.get("refusal")
    calls = message.get("tool_calls")
    return Answer(
        text=text if isinstance(text, str) else refusal if isinstance(refusal, str) else "",
        tool_calls=tuple(_tool_call(call, index) for index, call in enumerate(_bounded(calls))),
        finish=str(choice.get("finish_reason") or "stop")[:40],
        usage=_mapping(document.get("usage")),
    )


@dataclass(slots=True)
class _PartialCall:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


class Assembly:
    """A streamed answer in the making: `feed` its bytes, read the deltas, `whole` at the end."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._bytes = 0
        self._text: list[str] = []
        self._calls: dict[int, _PartialCall] = {}
        self._finish = ""
        self._usage: Mapping[str, Any] | None = None
        self.done = False  # The endpoint said so: nothing that comes after it is read.

    def feed(self, data: bytes) -> Iterator[str]:
        """The texts that these bytes complete. Raises `Garbage`, or what the endpoint says went wrong."""
        self._bytes += len(data)
        if self._bytes > ANSWER_BYTES_MAX:
            raise Garbage(f"the endpoint's answer does not end after {ANSWER_BYTES_MAX} bytes")
        self._rest += data
        *lines, rest = self._rest.split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            raise Garbage(f"one event of the endpoint's stream is longer than {LINE_BYTES_MAX} bytes")
        self._rest = rest
        for line in lines:
            if self.done:
                return
            if line.startswith(b"data:"):
                yield from self._event(bytes(line[5:]).strip())

    def _event(self, data: bytes) -> Iterator[str]:
        if data == b"[DONE]":
            self.done = True
            return
        document = _decoded(data)
        if document.get("error"):
            raise Unreachable(f"the endpoint broke off: {_error_text(document['error'])}", cost_unknown=True)
        self._usage = _mapping(document.get("usage")) or self._usage
        choices = document.get("choices")
        if isinstance(choices, list) and not choices:
            return  # The chunk that carries the usage has none.
        choice = _first_choice(document)
        self._finish = str(choice.get("finish_reason") or self._finish)[:40]
        delta = _mapping(choice.get("delta")) or {}
        for position, part in enumerate(_bounded(delta.get("tool_calls"))):
            self._take_call(part, position)
        text = delta.get("content")
        if isinstance(text, str) and text:
            self._text.append(text)
            yield text

    def _take_call(self, part: Any, position: int) -> None:
        given = _mapping(part) or {}
        index = given.get("index", position)
        if not isinstance(index, int) or not 0 <= index < TOOL_CALLS_MAX:
            raise Garbage(f"the endpoint's stream has a tool call at index {str(index)[:40]!r}")
        call = self._calls.setdefault(index, _PartialCall())
        function = _mapping(given.get("function")) or {}
        call.id = call.id or str(given.get("id") or "")[:200]
        call.name = call.name or str(function.get("name") or "")[:200]
        if isinstance(function.get("arguments"), str):
            call.arguments.append(function["arguments"])

    def whole(self) -> Answer:
        """The answer, now that the bytes have ended. Raises `CutOff` where they ended too early."""
        if not self._finish:
            raise CutOff("the endpoint's stream ended before its answer did")
        calls = tuple(
            ToolCall(call.id or f"call_{index}", call.name, "".join(call.arguments))
            for index, call in sorted(self._calls.items())
        )
        return Answer("".join(self._text), calls, self._finish, self._usage)


def _decoded(data: bytes) -> Mapping[str, Any]:
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise Garbage("the endpoint's answer is not a JSON object")
    return document


def _first_choice(document: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise Garbage("the endpoint's answer has no choices")
    return choices[0]


def _tool_call(call: Any, index: int) -> ToolCall:
    given = _mapping(call) or {}
    function = _mapping(given.get("function")) or {}
    arguments = function.get("arguments")
    if not isinstance(arguments, str):  # Some servers send the object itself.
        arguments = msgspec.json.encode(arguments if arguments is not None else {}).decode()
    return ToolCall(
        str(given.get("id") or f"call_{index}")[:200], str(function.get("name") or "")[:200], arguments
    )


def _bounded(calls: Any) -> list[Any]:
    found = calls if isinstance(calls, list) else []
    if len(found) > TOOL_CALLS_MAX:
        raise Garbage(
            f"the endpoint's answer has {len(found)} tool calls; at most {TOOL_CALLS_MAX} are taken"
        )
    return found


def _mapping(value: Any) -> Mapping[str, Any] | None:
    return value if isinstance(value, Mapping) else None


def _error_text(error: Any) -> str:
    text = error.get("message") if isinstance(error, Mapping) else error
    return str(text)[:300]
