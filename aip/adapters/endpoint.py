"""The plan's model as an OpenAI client: for frameworks whose own models speak chat completions.

Nothing is sent anywhere. Under the client lies a transport that turns each request into a call of the plan's model, on the same
road as any other, so that a framework keeps its own translation of messages, tools and output types and still spends nothing
that was not reserved. The client's retries are off: the model agent tries again by itself, and reserves each attempt.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .completion import arguments_of, chunks, completion
from .reins import Reins

if TYPE_CHECKING:
    from openai import AsyncOpenAI

BASE_URL = (
    "http://plan.invalid/v1"  # A name that no network resolves (RFC 6761): if it is ever asked for, it fails.
)


def client(reins: Reins) -> AsyncOpenAI:
    """A client whose only endpoint is the model of `reins`."""
    import openai

    http: Any = openai.DefaultAsyncHttpxClient(transport=_transport(reins))
    return openai.AsyncOpenAI(api_key="of-the-plan", base_url=BASE_URL, http_client=http, max_retries=0)


def _transport(reins: Reins) -> Any:
    import openai

    # Which of its generations of httpx this openai stands on.
    name = openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0]
    http: Any = importlib.import_module(name)

    class Events(http.AsyncByteStream):  # type: ignore[misc]
        """Server-sent events; closed early, the call of the model is cancelled."""

        def __init__(self, parts: AsyncGenerator[bytes, None]) -> None:
            self._parts = parts

        def __aiter__(self) -> AsyncIterator[bytes]:
            return self._parts

        async def aclose(self) -> None:
            await self._parts.aclose()

    class Transport(http.AsyncBaseTransport):  # type: ignore[misc]
        async def handle_async_request(self, request: Any) -> Any:
            if not request.url.path.endswith("/chat/completions"):
                raise UsageError(
                    f"{request.url.path}: the plan's model answers chat completions and nothing else",
                    hint="take what needs another endpoint out of the agent, or give it a client of its own",
                )
            body = json.loads(await request.aread())
            arguments, model = arguments_of(body), str(body.get("model"))
            if body.get("stream"):
                events = Events(_events(reins, arguments, model))
                return http.Response(200, headers={"content-type": "text/event-stream"}, stream=events)
            return http.Response(200, json=completion(await reins.chat(arguments), model))

    return Transport()


async def _events(reins: Reins, arguments: dict[str, Any], model: str) -> AsyncGenerator[bytes, None]:
    async with aclosing(reins.chat_stream(arguments)) as parts:
        async for part in parts:
            for chunk in chunks(part, model):
                yield f"data: {json.dumps(chunk)}\n\n".encode()
    yield b"data: [DONE]\n\n"
