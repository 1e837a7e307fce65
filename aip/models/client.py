"""One request to one endpoint: the only module that opens a connection. Built on the `openai` package.

That package makes the connection, the headers and the request; it is told not to retry, because each attempt is paid for by
itself (`exchange.py`). The bytes of the answer are read and judged here (`chat.py`): bounded, their shape not believed.

    send     one answer, within `timeout_s`
    stream   its texts as they come, then the whole; ends when nothing comes for `idle_timeout_s`

A cancelled `send` or `stream` closes its connection: an endpoint that notices stops generating. Importing the package takes about
a second, so `load` does it in a thread while the agent starts.

The key is held by the package's client and by nothing that is printed; errors are made anew from the parts that are safe to show
and raised outside the `except` they were caught in, so that no request with its headers hangs on as their context.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from .chat import ANSWER_BYTES_MAX, Answer, Assembly, Request, read_answer
from .failure import CutOff, Garbage, ModelFailed, RateLimited, Rejected, Unreachable, without_key
from .meter import output_limit
from .retry import retry_after_s
from .spec import ModelConfig
from .structure import response_format

if TYPE_CHECKING:
    from openai import AsyncOpenAI

CONNECT_S_MAX = 10.0  # A host that does not answer within it is down or not there.
_TRANSPORTS = frozenset(
    {"httpx", "httpx2", "httpcore", "httpcore2"}
)  # Which of them depends on openai's version.
# Errors of the transport that say the request never left.
_NEVER_LEFT = frozenset(
    {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "ProxyError"}
)


class Endpoint:
    """A connection pool to one model's endpoint."""

    def __init__(self, config: ModelConfig, key: str) -> None:
        self._config = config
        self._key = key
        self._client: AsyncOpenAI | None = None
        self._headers: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"Endpoint({self._config.base_url}, {self._config.model})"

    def load(self) -> None:
        """Make the client. Takes about a second where the package is not imported yet."""
        import openai

        # Everything that the package would otherwise take from the environment is said here: an OPENAI_API_KEY that lies around
        # is not meant for whatever server a plan names.
        absent: Any = openai.Omit()
        self._headers = {} if self._key else {"Authorization": absent}
        self._client = openai.AsyncOpenAI(
            base_url=self._config.base_url,
            api_key=self._key or "none",
            organization="",
            project="",
            default_headers={"OpenAI-Organization": absent, "OpenAI-Project": absent},
            max_retries=0,
            timeout=openai.Timeout(
                self._config.timeout_s, connect=min(CONNECT_S_MAX, self._config.timeout_s)
            ),
        )

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def send(self, request: Request, timeout_s: float) -> Answer:
        """One answer. Raises the errors of `failure.py`."""
        body = bytearray()
        async with aclosing(self._bytes(request, timeout_s, timeout_s, streamed=False)) as parts:
            async for part in parts:
                body += part
                if len(body) > ANSWER_BYTES_MAX:
                    raise Garbage(f"the endpoint's answer does not end after {ANSWER_BYTES_MAX} bytes")
        return read_answer(bytes(body))

    async def stream(self, request: Request, timeout_s: float) -> AsyncGenerator[str | Answer, None]:
        """The answer's texts as they come, and at last the answer. Raises the errors of `failure.py`."""
        assembly = Assembly()
        idle_s = self._config.idle_timeout_s
        async with aclosing(self._bytes(request, timeout_s, idle_s, streamed=True)) as parts:
            async for part in parts:
                for text in assembly.feed(part):
                    yield text
                if assembly.done:
                    break
        yield assembly.whole()

    async def _bytes(
        self, request: Request, timeout_s: float, idle_s: float, *, streamed: bool
    ) -> AsyncGenerator[bytes, None]:
        """The body of the reply, part by part. Every failure of the transport comes out as one of `failure.py`."""
        assert self._client is not None, "load() comes first"
        failed: ModelFailed
        opened = False
        # Deadlines are looked at between parts: a timeout scope may not stay open across a yield.
        ends = asyncio.get_running_loop().time() + timeout_s
        create = self._client.chat.completions.with_streaming_response.create
        manager = create(**self._body(request, streamed), extra_headers=self._headers)
        try:
            async with _until(ends, idle_s):
                response = await manager.__aenter__()
            opened = True
            parts = response.iter_bytes().__aiter__()
            while True:
                async with _until(ends, idle_s):
                    part = await anext(parts, None)
                if part is None:
                    return
                yield part
        except TimeoutError:
            failed = CutOff(f"the endpoint was silent for {idle_s:g} s, or not done after {timeout_s:g} s")
        except Exception as error:  # noqa: BLE001 - whatever the transport raises is told as one of our own
            failed = self._failure(error)
        finally:
            if opened:
                await manager.__aexit__(None, None, None)
        raise failed

    def _body(self, request: Request, streamed: bool) -> dict[str, Any]:
        config = self._config
        body: dict[str, Any] = {
            "model": config.model,
            "messages": list(request.messages),
            config.output_limit_field: output_limit(request, config),
        }
        if request.tools:
            body["tools"] = list(request.tools)
            if request.tool_choice is not None:
                body["tool_choice"] = request.tool_choice
        if request.schema is not None:
            body["response_format"] = response_format(request.schema)
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.stop:
            body["stop"] = list(request.stop)
        if streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body

    def _failure(self, error: Exception) -> ModelFailed:
        import openai

        if isinstance(error, openai.APIStatusError):
            return self._status_failure(error)
        cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
        kind, said = type(cause).__name__, self._told(str(cause))
        if kind in _NEVER_LEFT:
            return Unreachable(f"no connection to {self._config.base_url}: {said or kind}")
        transport = type(cause).__module__.partition(".")[0] in _TRANSPORTS
        if transport or isinstance(error, OSError | openai.APIConnectionError):
            return CutOff(f"the connection to {self._config.base_url} broke off: {said or kind}")
        return Rejected(f"the request could not be made: {kind}: {said}")

    def _status_failure(self, error: Any) -> ModelFailed:
        status: int = error.status_code
        said = f"{self._config.base_url} answered {status}: {self._told(error.message)}"
        if status == 429:
            after = retry_after_s(error.response.headers.get("retry-after"), time.time())
            return RateLimited(said, after_s=after, status=status)
        if status >= 500 or status in (408, 409, 425):
            return Unreachable(said, status=status)
        if status in (401, 403):
            return Rejected(
                said, status=status, hint="is api_key the right one? keep it with `aip secret set NAME`"
            )
        return Rejected(said, status=status, hint="the request is not what this endpoint takes")

    def _told(self, text: str) -> str:
        return without_key(text, self._key)


def _until(ends: float, idle_s: float) -> asyncio.Timeout:
    return asyncio.timeout_at(min(ends, asyncio.get_running_loop().time() + idle_s))
