"""What every connector is: a named door to the outside that holds the secret or the socket, and opens in two movements.

    check(request)              pure: the request as this connector's own model, or an error that names the field
    describe(wish)              one line for people: what is about to be done, without secrets and without bodies
    prepare(wish, key, …)       all that can be taken back: resolve, connect, log in, write a draft, start a child at its gate
    prepared.commit()           the irreversible call: synchronous, never waits, as near to one system call as the outside allows
    prepared.result()           what came of it
    prepared.discard()          always called once at the end, committed or not: gives back what is still held

The split is what lets the gateway read the kill fence and commit in one step: between the two lies no `await`.

What a connector says by how it fails, after `commit` was called
    EffectFailed                it is certain that nothing happened; the same key may be tried again
    anything else               nobody knows: the effect is in doubt
A connector that has to guess says the second. An answer of the outside that reports an error (an HTTP 500, exit code 3) is a
known outcome and therefore a result, not a failure.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...errors import InvalidPayload

TIMEOUT_S_MAX = (
    3_600.0  # An effect that takes longer is a job to be started and asked about, not one to be waited for.
)
CONCURRENCY_MAX = 1_000  # Sockets of one connector; beyond it file descriptors run out first.
RATE_PER_S_MAX = 100_000.0
DESCRIPTION_CHARS_MAX = 300  # One line of a screen or of an approval.
PROBLEMS_SHOWN_MAX = 5


class ConnectorConfig(BaseModel):
    """What every connector's configuration has."""

    # A key that was pasted here by mistake must not be quoted by the complaint about it.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    timeout_s: float = Field(default=30.0, gt=0, le=TIMEOUT_S_MAX)  # Of one effect, from asking to result.
    concurrency: int = Field(default=16, ge=1, le=CONCURRENCY_MAX)  # At the same time; the others wait.
    rate_per_s: float = Field(default=100.0, gt=0, le=RATE_PER_S_MAX)  # More is refused, retryable.
    burst: int = Field(default=100, ge=1, le=100_000)  # So many at once after a pause.
    # Whether an effect in doubt is done again under the same key: only where the outside tells repeats by that key.
    repeat_in_doubt: bool = False


class Prepared(Protocol):
    """An effect that is ready to happen."""

    def commit(self) -> None: ...
    async def result(self) -> Any: ...
    async def discard(self) -> None: ...


class Connector(Protocol):
    kind: ClassVar[str]

    @property
    def config(self) -> ConnectorConfig: ...
    def check(self, request: Any) -> Any: ...
    def describe(self, wish: Any) -> str: ...
    async def prepare(self, wish: Any, key: str, now: float) -> Prepared:
        """`key` is the same for every attempt at this effect, and nobody else's: fit to be told to the outside."""
        ...


class Request(BaseModel):
    """Base of the connectors' request models."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @classmethod
    def of(cls, value: Any) -> Any:
        """`value` as this model. Raises `InvalidPayload` that names each wrong field and quotes none."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, item['loc'])) or 'request'}: {item['msg']}"
                for item in error.errors(include_url=False, include_input=False, include_context=False)
            ]
            shown = "; ".join(problems[:PROBLEMS_SHOWN_MAX])
            raise InvalidPayload(f"{cls.__name__}: {shown}", problems=problems[:20]) from None


def as_json(value: Any) -> bytes:
    """A body. Raises `InvalidPayload` for what JSON cannot say."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidPayload(f"it has no JSON form: {error}") from None


def line(text: str) -> str:
    """Text as one bounded line for people: what an agent wrote must not draw on their screen."""
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return shown if len(shown) <= DESCRIPTION_CHARS_MAX else shown[: DESCRIPTION_CHARS_MAX - 1] + "…"
