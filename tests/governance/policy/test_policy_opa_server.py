"""Decisions of a server that speaks OPA's REST API, through the real client: in time, at the expected revision, or denied."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from policies_for_tests import bundle, document

from aip.governance.policy.engine import FAULT, UNDEFINED, PolicyError
from aip.governance.policy.opa_server import OpaServer, connect
from aip.governance.policy.regorus_engine import RegorusEngine
from aip.orchestration.breaker import BreakerConfig, BreakerState, CircuitBreaker

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """OPA's `/v1/data`, `/v1/policies` over an engine of ours, on a free port."""

    def __init__(self) -> None:
        self.engine = RegorusEngine()
        self.engine.load(bundle(tests=None))
        self.revision = "r1"
        self.asked: list[web.Request] = []
        self.put: dict[str, str] = {}
        self.answer: Answer = self.decide

    async def decide(self, request: web.Request) -> web.StreamResponse:
        value = self.engine.evaluate(request.match_info["path"], (await request.json())["input"])
        body: dict[str, Any] = {"provenance": {"bundles": {"aip": {"revision": self.revision}}}}
        return web.json_response(body if value is UNDEFINED else {**body, "result": value})

    async def _post(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        return await self.answer(request)

    async def _put(self, request: web.Request) -> web.StreamResponse:
        self.put[request.path] = await request.text()
        return web.json_response({}, status=204 if "/data/" in request.path else 200)

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/v1/data/{path:.*}", self._post)
        app.router.add_put("/v1/{path:.*}", self._put)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        return runner


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    one = Server()
    runner = await one.start()
    yield one
    await runner.cleanup()


def breaker() -> CircuitBreaker:
    config = BreakerConfig(window_calls=10, calls_min=4)
    return CircuitBreaker("opa", config, random.Random(1))


async def client(server: Server, **options: Any) -> OpaServer:
    opened = await connect("127.0.0.1", server.port, tls=False)
    return OpaServer(
        opened, options.pop("breaker", breaker()), time.monotonic, bundle(), **({"deadline_s": 5.0} | options)
    )


async def test_a_server_decides_as_its_policy_says(server: Server) -> None:
    async with await client(server) as opa:
        allowed = await opa.decide(document(), id="d-1")
        assert (allowed.allow, allowed.id, allowed.revision) == (True, "d-1", "r1")
        denied = await opa.decide(document(budget={"usd": 1}), id="d-2")
        assert [(reason.rule, reason.file) for reason in denied.reasons] == [
            ("budget.small", "aip/rules.rego")
        ]
        assert await opa.evaluate("aip/roles/guest", {}) == ["greet"]
        assert await opa.evaluate("aip/nothing", {}) is UNDEFINED
    assert server.asked[0].query["strict-builtin-errors"] == "true"


async def never(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("the event is never set")


async def fails(_: web.Request) -> web.StreamResponse:
    return web.json_response({"code": "internal_error"}, status=500)


async def babbles(_: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>", content_type="text/html")


async def lists(_: web.Request) -> web.StreamResponse:
    return web.json_response([])


async def no_revision(_: web.Request) -> web.StreamResponse:
    return web.json_response({"result": {"allow": True}})


WRONG = {
    "silence": never,
    "a failure": fails,
    "no JSON": babbles,
    "no object": lists,
    "no revision": no_revision,
}


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG)
async def test_it_denies_on(server: Server, answer: Answer) -> None:
    server.answer = answer
    async with await client(server, deadline_s=0.05 if answer is never else 5.0) as opa:
        decision = await opa.decide(document(), id="d")
    assert not decision.allow
    assert decision.reasons[0].rule == FAULT
    assert len(server.asked) == 1  # No second attempt behind our back.


async def test_another_revision_than_expected_is_denied(server: Server) -> None:
    server.revision = "r0"
    async with await client(server) as opa:
        decision = await opa.decide(document(), id="d")
    assert not decision.allow
    assert "r0" in decision.reasons[0].text


async def test_a_server_that_keeps_failing_is_not_asked_any_more(server: Server) -> None:
    server.answer = fails
    circuit = breaker()
    async with await client(server, breaker=circuit) as opa:
        for _ in range(10):
            assert not (await opa.decide(document(), id="d")).allow
    assert circuit.state is BreakerState.OPEN
    assert len(server.asked) == 4


async def test_a_server_that_is_not_there_denies() -> None:
    absent = Server()
    runner = await absent.start()
    await runner.cleanup()
    async with await client(absent) as opa:
        assert not (await opa.decide(document(), id="d")).allow


async def test_a_pushed_policy_goes_over_as_it_is_and_denies_until_it_is_there(server: Server) -> None:
    async with await client(server, revision_from_server=False) as opa:
        pushing = asyncio.create_task(opa.push(bundle(manifest='{"revision": "r2"}')))
        await asyncio.sleep(0)
        assert not (await opa.decide(document(), id="d")).allow
        await pushing
        assert (await opa.decide(document(), id="d")).revision == "r2"
    assert server.put["/v1/policies/aip/rules.rego"] == bundle().served[0].text
    assert set(server.put) == {"/v1/policies/aip/rules.rego", "/v1/data/aip"}


async def test_a_caller_that_gives_up_is_no_failure_of_the_server(server: Server) -> None:
    server.answer = never
    circuit = breaker()
    async with await client(server, breaker=circuit) as opa:
        for _ in range(6):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await opa.decide(document(), id="d")
    assert circuit.state is BreakerState.CLOSED


async def test_an_input_that_is_no_document_asks_nobody(server: Server) -> None:
    async with await client(server) as opa:
        with pytest.raises(PolicyError):
            await opa.evaluate("aip/decision", object())
    assert server.asked == []
