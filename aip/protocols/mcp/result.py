"""What a tool answered, as a plain value. Pure.

    the server gave                      the caller gets
    structuredContent                    that, held to the tool's output schema
    text only                            the text (several blocks joined by newlines)
    anything else among the content      a list of parts: {"type": "text", "text"}, {"type": "image" | "audio" | "blob", "mime",
                                         "data"} (base64 as sent), {"type": "resource", "uri", "mime", "text"},
                                         {"type": "link", "uri", "name", "mime"}
    isError                              `ToolFailed` with the text

An answer above `result_bytes_max` is an error, never cut: half an answer is a wrong one.
"""

from __future__ import annotations

import json
from typing import Any

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from ...errors import InvalidPayload
from .catalogue import Tool
from .errors import ToolFailed
from .limits import ERROR_CHARS_MAX, RESULT_PARTS_MAX
from .stranger import Redaction, clean


def value_of(tool: Tool, server: str, result: CallToolResult, bytes_max: int, redaction: Redaction) -> Any:
    """The plain value of `result`. Raises `ToolFailed`, or `InvalidPayload` where it is too large."""
    if result.is_error:
        said = redaction(clean(_text(result.content), ERROR_CHARS_MAX)) or "it gave no reason"
        raise ToolFailed(f"{server}.{tool.name}: {said}", type="tool", tool=tool.name, server=server)
    if result.structured_content is not None:
        value: Any = result.structured_content
        _bound(tool, server, len(json.dumps(value)), bytes_max)
        if tool.gives is not None and (problems := tool.gives.problems(value)):
            raise ToolFailed(
                f"{server}.{tool.name} broke its own contract: {'; '.join(problems)}",
                type="return",
                tool=tool.name,
                server=server,
            )
        return value
    _bound(tool, server, sum(_size(block) for block in result.content), bytes_max)
    if all(isinstance(block, TextContent) for block in result.content):
        return _text(result.content)
    if len(result.content) > RESULT_PARTS_MAX:
        raise InvalidPayload(
            f"{server}.{tool.name} answered {len(result.content)} parts, the limit is {RESULT_PARTS_MAX}"
        )
    return [_part(block) for block in result.content]


def _bound(tool: Tool, server: str, size: int, bytes_max: int) -> None:
    if size > bytes_max:
        raise InvalidPayload(
            f"{server}.{tool.name} answered {size} bytes, the limit is {bytes_max}",
            hint="ask for less, or raise the server's `result_bytes_max`",
        )


def _text(content: list[ContentBlock]) -> str:
    return "\n".join(block.text for block in content if isinstance(block, TextContent))


def _size(block: ContentBlock) -> int:
    match block:
        case TextContent(text=text):
            return len(text.encode(errors="replace"))
        case ImageContent(data=data) | AudioContent(data=data):
            return len(data)
        case EmbeddedResource(resource=BlobResourceContents(blob=blob)):
            return len(blob)
        case EmbeddedResource(resource=TextResourceContents(text=text)):
            return len(text.encode(errors="replace"))
        case ResourceLink(uri=uri, name=name):
            return len(uri) + len(name)
    raise TypeError(f"no content of a tool: {type(block).__name__}")


def _part(block: ContentBlock) -> dict[str, Any]:
    match block:
        case TextContent(text=text):
            return {"type": "text", "text": text}
        case ImageContent(data=data, mime_type=mime):
            return {"type": "image", "mime": mime, "data": data}
        case AudioContent(data=data, mime_type=mime):
            return {"type": "audio", "mime": mime, "data": data}
        case EmbeddedResource(resource=BlobResourceContents(uri=uri, mime_type=mime, blob=data)):
            return {"type": "blob", "uri": uri, "mime": mime, "data": data}
        case EmbeddedResource(resource=TextResourceContents(uri=uri, mime_type=mime, text=text)):
            return {"type": "resource", "uri": uri, "mime": mime, "text": text}
        case ResourceLink(uri=uri, name=name, mime_type=mime):
            return {"type": "link", "uri": uri, "name": name, "mime": mime}
    raise TypeError(f"no content of a tool: {type(block).__name__}")
