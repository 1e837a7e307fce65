"""OPA's REST API as an ASGI application (https://www.openpolicyagent.org/docs/rest-api).

    GET POST PUT PATCH DELETE /v1/data[/PATH]      POST /  (the default decision: aip/decision, its input as the body)
    GET PUT DELETE            /v1/policies[/ID]
    GET POST                  /v1/query            POST /v1/compile
    GET                       /v1/config  /v1/status  /health  /metrics

Every request but `/health` bears the token. Answers to data and queries carry a `decision_id`, which the `decided` port is told
before the answer goes out, so that the audit log may hold it. `pretty`, `metrics` and `provenance` are understood. `explain` is
not: the engine keeps no trace, and the answer says so in a warning. `strict-builtin-errors` is always on. Prometheus' `go_info`
is there because OPA's clients look for it; its value is 0, for nothing here is written in Go.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import perf_counter_ns
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ...errors import UsageError
from ...governance.policy.engine import UNDEFINED
from ...governance.policy.rate import RateMeter
from .desk import Decided, Desk, detached, nobody
from .document import Path, too_deep
from .failure import INVALID, UNAUTHORIZED, Rejected, invalid
from .server import API_USAGE, Server

REQUEST_BYTES_MAX = 8 * 2**20  # What a message may carry.
REQUEST_DEPTH_MAX = 64
PATH_PARTS_MAX = 64
REQUEST_S_MAX = (
    10.0  # Until a request's body is there: who sends byte by byte holds a connection that others want.
)
# Of one client's address, with and without the token: some ten times what one engine answers, and too few to guess by.
REQUESTS_PER_S_MAX = 5_000
TOKEN_CHARS_MIN = 16

NO_TRACE = "explain is not served: the engine keeps no trace; the reasons of a decision are in its value"
NO_INPUT = "'input' key missing from the request"


def app(
    make: Callable[[], Server],
    *,
    token: str | None,
    decided: Decided = nobody,
    open_to_all: bool = False,
    new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    clock_ns: Callable[[], int] = perf_counter_ns,
) -> Starlette:
    """The application. `make` is called once, in the thread that the engine will live in.

    Without a token it starts only if `open_to_all` says that this is meant: a test on a closed port.
    `app.state.desk.ask(lambda server: server.activate(bundle))` brings another policy into force.
    """
    if not open_to_all and len(token or "") < TOKEN_CHARS_MIN:
        raise UsageError(
            f"OPA's API is served with a token of at least {TOKEN_CHARS_MIN} characters only",
            hint="whoever reaches it may read every policy and write their own",
        )
    desk = Desk(make, token, decided, new_id, clock_ns)
    rates = RateMeter()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await desk.close()

    routes = [
        Route("/v1/data", _guarded(desk, rates, data), methods=[*DATA]),
        Route("/v1/data/{path:path}", _guarded(desk, rates, data), methods=[*DATA]),
        Route("/v1/policies", _guarded(desk, rates, policies), methods=["GET"]),
        Route("/v1/policies/{name:path}", _guarded(desk, rates, policies), methods=["GET", "PUT", "DELETE"]),
        Route("/v1/query", _guarded(desk, rates, query), methods=["GET", "POST"]),
        Route("/v1/compile", _guarded(desk, rates, compilation), methods=["POST"]),
        Route("/v1/config", _guarded(desk, rates, config), methods=["GET"]),
        Route("/v1/status", _guarded(desk, rates, status), methods=["GET"]),
        Route("/metrics", _guarded(desk, rates, metrics), methods=["GET"]),
        Route("/health", _guarded(desk, rates, health, closed=False), methods=["GET"]),
        Route("/", _guarded(desk, rates, default_decision), methods=["POST"]),
    ]
    made = Starlette(routes=routes, lifespan=lifespan)
    made.state.desk = desk
    return made


Handler = Callable[[Desk, Request], Awaitable[Response]]


def _guarded(
    desk: Desk, rates: RateMeter, handler: Handler, *, closed: bool = True
) -> Callable[[Request], Awaitable[Response]]:
    """The route: rate and token first, errors in OPA's shape, everything counted."""

    async def route(request: Request) -> Response:
        try:
            if rates.count(_client(request), "request", desk.clock_ns() / 1e9) > REQUESTS_PER_S_MAX:
                raise Rejected(429, INVALID, f"more than {REQUESTS_PER_S_MAX} requests a second")
            if closed and not _admitted(desk, request):
                raise Rejected(401, UNAUTHORIZED, "request rejected by administrative policy")
            response = await handler(desk, request)
        except Rejected as error:
            response = answer(request, error.body(), error.status)
        except ClientDisconnect:
            response = Response(status_code=499)
        except Exception as error:  # noqa: BLE001 - whatever the engine raises is an answer in OPA's shape, never a closed door.
            failure = detached(error)
            response = answer(request, failure.body(), failure.status)
        desk.served[handler.__name__, response.status_code] += 1
        return response

    return route


def _client(request: Request) -> str:
    return request.client.host if request.client else ""


def _admitted(desk: Desk, request: Request) -> bool:
    if desk.token is None:
        return True
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), desk.token.encode())


# Routes --------------------------------------------------------------------------------------------------------------------


async def data(desk: Desk, request: Request) -> Response:
    return await DATA[request.method](desk, request, _path(request))


async def _get_data(desk: Desk, request: Request, path: Path) -> Response:
    given = request.query_params.get("input")
    return await _decide(desk, request, path, UNDEFINED if given is None else _json(given.encode()))


async def _post_data(desk: Desk, request: Request, path: Path) -> Response:
    body = await _body(request)
    found = _json(body) if body.strip() else {}
    if not isinstance(found, dict):
        raise invalid("the body must be an object with the key 'input'")
    return await _decide(desk, request, path, found.get("input", UNDEFINED))


async def _put_data(desk: Desk, request: Request, path: Path) -> Response:
    value = _json(await _body(request))
    if request.headers.get("if-none-match") == "*" and await desk.ask(lambda server: server.has_data(path)):
        return Response(status_code=304)
    await desk.ask(lambda server: server.put_data(path, value))
    return Response(status_code=204)


async def _patch_data(desk: Desk, request: Request, path: Path) -> Response:
    patches = _json(await _body(request))
    await desk.ask(lambda server: server.patch_data(path, patches))
    return Response(status_code=204)


async def _delete_data(desk: Desk, request: Request, path: Path) -> Response:
    await desk.ask(lambda server: server.delete_data(path))
    return Response(status_code=204)


DATA = {
    "GET": _get_data,
    "POST": _post_data,
    "PUT": _put_data,
    "PATCH": _patch_data,
    "DELETE": _delete_data,
}


async def default_decision(desk: Desk, request: Request) -> Response:
    """OPA's `POST /`: the body is the input, the answer the bare value."""
    body = await _body(request)
    given = _json(body) if body.strip() else UNDEFINED
    value = await desk.ask(lambda server: server.value(("aip", "decision"), given))
    if value is UNDEFINED:
        raise Rejected(404, "undefined_document", "document missing: data.aip.decision")
    await desk.decided(_event(desk.new_id(), "aip/decision", given, value))
    return answer(request, value)


async def _decide(desk: Desk, request: Request, path: Path, given: Any) -> Response:
    begun = desk.clock_ns()
    value, provenance = await desk.ask(lambda server: (server.value(path, given), server.provenance()))
    found: dict[str, Any] = {} if value is UNDEFINED else {"result": value}
    found["decision_id"] = desk.new_id()
    if given is UNDEFINED and request.method == "POST":
        found["warning"] = {"code": API_USAGE, "message": NO_INPUT}
    await desk.decided(_event(found["decision_id"], "/".join(path), given, value))
    return answer(request, _extras(desk, request, found, provenance, begun))


async def query(desk: Desk, request: Request) -> Response:
    begun = desk.clock_ns()
    found = _object(await _body(request)) if request.method == "POST" else {}
    asked = found.get("query", request.query_params.get("q"))
    given = found.get("input", UNDEFINED)
    rows, provenance = await desk.ask(lambda server: (server.solutions(asked, given), server.provenance()))
    told: dict[str, Any] = {"result": rows} if rows else {}
    return answer(request, _extras(desk, request, told, provenance, begun))


async def compilation(desk: Desk, request: Request) -> Response:
    begun = desk.clock_ns()
    found = _object(await _body(request))
    given = found.get("input", UNDEFINED)
    result, provenance = await desk.ask(
        lambda server: (
            server.compiled(found.get("query"), given, found.get("unknowns")),
            server.provenance(),
        )
    )
    return answer(request, _extras(desk, request, {"result": result}, provenance, begun))


async def policies(desk: Desk, request: Request) -> Response:
    name = request.path_params.get("name", "").strip("/")
    if request.method == "PUT":
        text = _text(await _body(request))
        await desk.ask(lambda server: server.put_policy(name, text))
        return answer(request, {})
    if request.method == "DELETE":
        await desk.ask(lambda server: server.delete_policy(name))
        return answer(request, {})
    found = await desk.ask(lambda server: server.policy(name) if name else server.policies())
    return answer(request, {"result": found})


async def config(desk: Desk, request: Request) -> Response:
    return answer(request, {"result": await desk.ask(Server.config)})


async def status(desk: Desk, request: Request) -> Response:
    return answer(request, {"result": await desk.ask(Server.status)})


async def health(desk: Desk, request: Request) -> Response:
    """Whether questions are answered; with `?bundles`, whether they are answered by a policy that was activated."""
    try:
        revision = await desk.ask(lambda server: server.revision)
    except Rejected as error:
        return answer(request, {"error": error.message}, 500)
    if _flag(request, "bundles") and not revision:
        return answer(request, {"error": "one or more bundles are not activated"}, 500)
    return answer(request, {})


async def metrics(desk: Desk, request: Request) -> Response:
    lines = [
        "# HELP go_info Information about the Go environment; 0: there is none.",
        "# TYPE go_info gauge",
        'go_info{version=""} 0',
        "# HELP http_requests_total Requests answered, by handler and status.",
        "# TYPE http_requests_total counter",
        *(
            f'http_requests_total{{handler="{handler}",code="{code}"}} {count}'
            for (handler, code), count in sorted(desk.served.items())
        ),
        "# HELP aip_opa_engine_seconds_total Time that requests spent with the engine, their wait included.",
        "# TYPE aip_opa_engine_seconds_total counter",
        f"aip_opa_engine_seconds_total {desk.spent_ns / 1e9:.6f}",
        "# HELP aip_opa_pending Requests that wait for the engine.",
        "# TYPE aip_opa_pending gauge",
        f"aip_opa_pending {desk.pending}",
    ]
    return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")


# Requests and answers --------------------------------------------------------------------------------------------------------


def answer(request: Request, body: Any, status: int = 200) -> Response:
    if _flag(request, "pretty"):
        return Response(json.dumps(body, indent=2) + "\n", status, media_type="application/json")
    return JSONResponse(body, status)


def _extras(
    desk: Desk, request: Request, found: dict[str, Any], provenance: dict[str, Any], begun: int
) -> dict[str, Any]:
    if _flag(request, "provenance"):
        found["provenance"] = provenance
    if _flag(request, "metrics") or _flag(request, "instrument"):
        found["metrics"] = {"timer_server_handler_ns": desk.clock_ns() - begun}
    if request.query_params.get("explain", "off") != "off":
        found["warning"] = {"code": API_USAGE, "message": NO_TRACE}
    return found


def _event(id: str, path: str, given: Any, value: Any) -> dict[str, Any]:
    """A decision in the shape of OPA's decision log."""
    event: dict[str, Any] = {"decision_id": id, "path": path}
    if given is not UNDEFINED:
        event["input"] = given
    if value is not UNDEFINED:
        event["result"] = value
    return event


def _flag(request: Request, name: str) -> bool:
    """OPA takes `?pretty` and `?pretty=true` alike."""
    return request.query_params.get(name, "false").lower() in ("", "true", "1", "t")


def _path(request: Request) -> Path:
    parts = tuple(part for part in request.path_params.get("path", "").split("/") if part)
    if len(parts) > PATH_PARTS_MAX:
        raise invalid(f"a path has at most {PATH_PARTS_MAX} parts")
    return parts


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    try:
        async with asyncio.timeout(REQUEST_S_MAX):
            async for part in request.stream():
                size += len(part)
                if size > REQUEST_BYTES_MAX:
                    raise Rejected(413, INVALID, f"a request is at most {REQUEST_BYTES_MAX} bytes")
                parts.append(part)
    except TimeoutError:
        raise Rejected(408, INVALID, f"a request takes at most {REQUEST_S_MAX:.0f} s to come") from None
    return b"".join(parts)


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise invalid("a policy is UTF-8") from None


def _object(body: bytes) -> dict[str, Any]:
    found = _json(body)
    if not isinstance(found, dict):
        raise invalid("the body must be an object")
    return found


def _json(body: bytes) -> Any:
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise invalid(f"the body is not JSON: {error}") from None
    if too_deep(value, REQUEST_DEPTH_MAX):
        raise invalid(f"the body is nested more than {REQUEST_DEPTH_MAX} deep")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
