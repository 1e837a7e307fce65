"""A model for `aip plan make`: one endpoint, answers under a schema. The only module of the command line that talks to one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from .. import secret
from ..errors import UsageError
from ..settings import Home


@asynccontextmanager
async def completion(
    url: str, name: str, key: str, home: Home, timeout_s: float, tokens_max: int
) -> AsyncIterator[Any]:
    """A function of messages and schema that asks the model. What is no JSON comes back as text: the checks refuse it by name."""
    from pydantic import ValidationError

    from ..models.chat import Request
    from ..models.client import Endpoint
    from ..models.failure import Rejected
    from ..models.spec import ModelConfig
    from ..models.structure import spelled_out

    if key and not secret.is_reference(key):
        raise UsageError("--api-key takes a secret's name, not the key", hint="write --api-key secret:NAME")
    try:
        config = ModelConfig(base_url=url, model=name, api_key=key, max_output_tokens=tokens_max)
    except ValidationError as error:
        raise UsageError(f"this is no model: {error.errors(include_input=False)[0]['msg']}") from None
    endpoint = Endpoint(config, secret.resolve(key, home) if key else "")
    endpoint.load()

    async def complete(messages: list[dict[str, str]], schema: dict[str, Any]) -> Any:
        request = Request(tuple(messages), schema=schema, max_output_tokens=tokens_max, temperature=0.0)
        try:
            answer = await endpoint.send(request, timeout_s)
        except Rejected:
            # Endpoints that do not know `response_format` refuse it; in words all of them take it.
            answer = await endpoint.send(spelled_out(request), timeout_s)
        try:
            return json.loads(answer.text)
        except ValueError:
            return answer.text

    try:
        yield complete
    finally:
        await endpoint.close()
