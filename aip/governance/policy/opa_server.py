"""Decisions of a real OPA server, asked through `opa-python-client`.

Guaranteed: an answer within `deadline_s`, or a denial; no second attempt behind its back (the client's own retries are off: a
call has one deadline, and the breaker sees every failure); with the breaker open, a denial at once. The server is asked to treat
errors of built-in functions as errors, as the engines in this process do. The revision is the server's own, from the provenance
of its answer; where one is expected and another answers, that is a denial.

Not guaranteed: anything about who else writes to that server. `push` is for a server without bundles of its own: it replaces
module by module, and others may be answered by a mixture meanwhile; this client denies until it is done.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from typing import Any, Protocol, Self

import msgspec

from ...errors import Unavailable
from .bundle import Bundle
from .engine import (
    DECISION_PATH,
    UNDEFINED,
    Decision,
    PolicyError,
    PolicyTimeout,
    denial,
    encode_input,
    path_of,
    read_decision,
)

PACKAGE = "opa-python-client"
DEADLINE_S = (
    0.25  # A hundred times what a healthy server beside us takes; a caller waits no longer for a yes or no.
)
PUSH_DEADLINE_S = 30.0
STRICT = {"strict-builtin-errors": "true", "provenance": "true"}


class Breaker(Protocol):
    """What is asked of a circuit breaker (`aip.orchestration.breaker.CircuitBreaker` is one)."""

    def try_acquire(self, now: float) -> bool: ...
    def record(self, now: float, duration_s: float, ok: bool) -> None: ...
    def give_back(self) -> None: ...


class Client(Protocol):
    """What is used of `opa_client.AsyncOpaClient`."""

    async def query_rule(
        self, input_data: Any, package_path: str, rule_name: str | None = None, query_params: Any = None
    ) -> dict[str, Any]: ...
    async def update_policy_from_string(
        self, new_policy: str, endpoint: str, rego_compat: bool = True
    ) -> bool: ...
    async def update_or_create_data(self, new_data: dict[str, Any], endpoint: str) -> bool: ...
    async def close_connection(self) -> None: ...


async def connect(host: str, port: int = 8181, *, token: str | None = None, tls: bool = True) -> Client:
    """A client of the server at this place, without retries."""
    try:
        package: Any = importlib.import_module("opa_client")
    except ImportError as error:
        raise Unavailable("the client of OPA is not installed", hint=f"pip install {PACKAGE}") from error
    # Its own time-out only bounds what we gave up on long ago.
    client = package.AsyncOpaClient(
        host=host, port=port, ssl=tls, token=token, retries=0, timeout=PUSH_DEADLINE_S
    )
    entered: Client = await client.__aenter__()
    return entered


class OpaServer:
    """Asks one server. `bundle` is what it is expected to serve: it places reasons, and its revision must answer."""

    name = "opa server"

    def __init__(
        self,
        client: Client,
        breaker: Breaker,
        clock: Callable[[], float],
        bundle: Bundle,
        *,
        deadline_s: float = DEADLINE_S,
        revision_from_server: bool = True,
    ) -> None:
        """`revision_from_server=False`: the server was given its policy by `push` and knows of no revision."""
        self._client = client
        self._breaker = breaker
        self._clock = clock
        self._deadline_s = deadline_s
        self._must_name_revision = revision_from_server
        self._pushing = False
        self.bundle = bundle

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.close_connection()

    async def decide(self, input: Any, *, id: str) -> Decision:
        try:
            answer = await self._ask(DECISION_PATH, input)
            self._check_revision(answer)
        except PolicyError as error:
            return denial(error.message, id=id, engine=self.name, revision=self.bundle.revision)
        return read_decision(_value(answer), self.bundle, id=id, engine=self.name)

    async def evaluate(self, path: str, input: Any) -> Any:
        """The value of `data.<path>`, or `UNDEFINED`. Raises `PolicyError`."""
        return _value(await self._ask(path, input))

    async def push(self, bundle: Bundle) -> None:
        """Data and modules of this bundle to a server without bundles. Until it has all of them, everything is denied."""
        self._pushing = True
        async with asyncio.timeout(PUSH_DEADLINE_S):
            for key, value in bundle.data.items():
                if not isinstance(value, dict):
                    raise PolicyError(f"data at {key!r} is not an object: a server takes objects only")
                await self._client.update_or_create_data(value, key)
            for module in bundle.served:
                await self._client.update_policy_from_string(module.text, module.path, rego_compat=False)
        self.bundle, self._pushing = bundle, False

    async def _ask(self, path: str, input: Any) -> dict[str, Any]:
        if self._pushing:
            raise PolicyError("the server is being given another policy")
        parts, document = path_of(path), encode_input(input)
        began = self._clock()
        if not self._breaker.try_acquire(began):
            raise PolicyError("the policy server is not asked: its circuit is open")
        try:
            answer = await self._query(parts, document)
        except asyncio.CancelledError:
            self._breaker.give_back()
            raise
        except BaseException:
            self._record(began, ok=False)
            raise
        self._record(began, ok=True)
        return answer

    async def _query(self, parts: tuple[str, ...], document: bytes) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._deadline_s):
                answer = await self._client.query_rule(
                    msgspec.json.decode(document), "/".join(parts), query_params=STRICT
                )
        except TimeoutError as error:
            raise PolicyTimeout(f"the policy server did not answer within {self._deadline_s} s") from error
        except Exception as error:
            raise PolicyError(f"the policy server failed: {type(error).__name__}: {error}") from error
        if not isinstance(answer, dict):
            raise PolicyError("the policy server's answer is not an object")
        return answer

    def _record(self, began: float, *, ok: bool) -> None:
        now = self._clock()
        self._breaker.record(now, now - began, ok)

    def _check_revision(self, answer: dict[str, Any]) -> None:
        if not self._must_name_revision:
            return
        bundles = (answer.get("provenance") or {}).get("bundles") or {}
        served = sorted(str(bundle.get("revision", "")) for bundle in bundles.values())
        if self.bundle.revision not in served:
            raise PolicyError(f"the policy server serves {served or 'no bundle'}, not {self.bundle.revision}")


def _value(answer: dict[str, Any]) -> Any:
    return answer.get("result", UNDEFINED)
