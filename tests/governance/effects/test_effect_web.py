"""HTTP and webhooks against a real server on loopback that behaves, misbehaves, lies and stalls."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from certificates import make_certificate
from pydantic import ValidationError

from aip.errors import InvalidPayload
from aip.governance.effects.failure import EffectFailed, NotAllowed
from aip.governance.effects.http import HttpConfig, HttpConnector
from aip.governance.effects.vault import Vault
from aip.governance.effects.webhook import WebhookConfig, WebhookConnector, signature, signing_key

Behave = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LOOPBACK = ("127.0.0.0/8",)
KEY = "0123456789abcdef" * 4


class Server:
    """Keeps what it is sent; answers what it was told to."""

    def __init__(
        self, answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", then: Behave | None = None
    ) -> None:
        self.answer = answer
        self.then = then
        self.requests: list[bytes] = []
        self.connections = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
            )
            self.requests.append(head + await reader.readexactly(length))
            writer.write(self.answer)
            await writer.drain()
            if self.then is not None:
                await self.then(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(server: Server, context: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


async def loopback(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def connector(server: Server, resolve: Any = loopback, scheme: str = "http", **config: Any) -> HttpConnector:
    rules = [{"url": f"{scheme}://api.test:{server.port}/v1/**", "methods": ["GET", "POST"]}]
    fields = {"allow": rules, "private": LOOPBACK, **config}
    vault = Vault(lambda name: f"value of {name}", lambda: 0.0)
    return HttpConnector(HttpConfig(**fields), vault, resolve)


def url(server: Server, path: str = "/v1/x", scheme: str = "http") -> str:
    return f"{scheme}://api.test:{server.port}{path}"


async def done(door: Any, request: Any) -> Any:
    prepared = await door.prepare(door.check(request), KEY, 1_700_000_000.0)
    try:
        prepared.commit()
        return await prepared.result()
    finally:
        await prepared.discard()


async def test_a_request_goes_out_as_it_was_asked_for() -> None:
    async with serving(Server()) as server:
        answer = await done(
            connector(server),
            {
                "method": "POST",
                "url": url(server, "/v1/x?q=1"),
                "json": {"ä": 1},
                "headers": {"X-Why": "because"},
            },
        )
    assert answer == {
        "status": 200, "headers": {"content-length": "2"}, "body": "ok", "encoding": "text", "complete": True,
    }  # fmt: skip
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1/x?q=1 HTTP/1.1"
    assert lines[1].lower() == f"host: api.test:{server.port}"
    assert json.loads(body) == {"ä": 1}
    lower = {line.lower() for line in lines}
    assert {f"idempotency-key: {KEY}", "x-why: because", "content-type: application/json"} <= lower


async def test_nothing_is_sent_before_the_commit_nor_after_giving_up() -> None:
    async with serving(Server()) as server:
        door = connector(server)
        prepared = await door.prepare(door.check({"url": url(server)}), KEY, 0.0)
        while not server.connections:
            await asyncio.sleep(0.001)
        assert server.requests == []
        await prepared.discard()
        await asyncio.sleep(0)
    assert server.requests == []


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"url": "http://evil.test/v1/x"}, NotAllowed),
        ({"url": "http://api.test/v1/x"}, NotAllowed),
        ({"url": "HOST/v2/x"}, NotAllowed),
        ({"url": "HOST/v1/x", "method": "DELETE"}, NotAllowed),
        ({"url": "HOST/v1/x", "method": "POST", "body": "x" * 101}, NotAllowed),
        ({"url": "HOST/v1/../v2/x"}, InvalidPayload),
        ({"url": "HOST/v1/x", "method": "TRACE"}, InvalidPayload),
        ({"url": "HOST/v1/x", "body": "x"}, InvalidPayload),
        ({"url": "HOST/v1/x", "method": "POST", "body": "x", "json": 1}, InvalidPayload),
        ({"url": "HOST/v1/x", "method": "POST", "json": float("nan")}, InvalidPayload),
        ({"url": "HOST/v1/x", "headers": {"X": "a\r\nHost: evil.test"}}, InvalidPayload),
        ({"url": "HOST/v1/x", "headers": {"X": "a\0"}}, InvalidPayload),
        ({"url": "HOST/v1/x", "headers": {"X: y\r\nZ": "a"}}, InvalidPayload),
        ({"url": "HOST/v1/x", "headers": {"X": "ü"}}, InvalidPayload),
        ({"url": "HOST/v1/x", "headers": {"HOST": "evil.test"}}, InvalidPayload),
        ({"url": "HOST/v1/x", "headers": {"Transfer-Encoding": "chunked"}}, InvalidPayload),
        ({"url": "HOST/v1/x", "headers": {"Authorization": "mine"}}, InvalidPayload),
        ({"url": "HOST/v1/x", "headers": {f"X-{n}": "" for n in range(65)}}, InvalidPayload),
    ],
)
def test_what_is_not_allowed_or_not_well_formed_is_refused(
    request_: dict[str, Any], error: type[Exception]
) -> None:
    server = Server()
    server.port = 8080
    request_["url"] = request_["url"].replace("HOST", "http://api.test:8080")
    with pytest.raises(error):
        connector(server, request_bytes_max=100).check(request_)


async def test_a_name_that_leads_inside_is_not_followed() -> None:
    """SSRF by DNS: the allow-list names the host, and its owner answers with our own address."""
    async with serving(Server()) as server:
        door = connector(server, private=())
        with pytest.raises(NotAllowed, match="no public address"):
            await door.prepare(door.check({"url": url(server)}), KEY, 0.0)
    assert server.connections == 0


async def test_the_address_that_was_looked_at_is_the_one_connected_to() -> None:
    """DNS rebinding: a second answer, to a second question, would be another one. Nobody asks twice."""
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.66"]

    async with serving(Server()) as server:
        assert (await done(connector(server, rebinding), {"url": url(server)}))["status"] == 200
    assert asked == ["api.test"]


async def test_an_address_written_out_is_looked_at_too() -> None:
    async with serving(Server()) as server:
        rules = [{"url": f"http://127.0.0.1:{server.port}/**"}]
        door = connector(server, allow=rules, private=())
        with pytest.raises(NotAllowed):
            await door.prepare(door.check({"url": f"http://127.0.0.1:{server.port}/v1/x"}), KEY, 0.0)
    assert server.connections == 0


async def test_a_redirect_is_an_answer_and_nobody_goes_there() -> None:
    async with serving(Server()) as inside:
        there = f"http://127.0.0.1:{inside.port}/secrets"
        moved = f"HTTP/1.1 302 Found\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n".encode()
        async with serving(Server(moved)) as server:
            answer = await done(connector(server), {"url": url(server)})
    assert (answer["status"], answer["headers"]["location"]) == (302, there)
    assert inside.connections == 0


async def test_secrets_are_sent_and_seen_nowhere_else() -> None:
    echo = base64.b64encode(b"value of secret:T")
    body = b"you are value of secret:T, " + echo
    head = b"HTTP/1.1 200 OK\r\nX-Echo: value of secret:T\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with serving(Server(head + body)) as server:
        door = connector(
            server,
            headers={"Authorization": "Bearer secret:T"},
            allow=[{"url": f"http://127.0.0.1:{server.port}/**"}],
        )
        answer = door._vault.hide(await done(door, {"url": f"http://127.0.0.1:{server.port}/"}))
    assert b"authorization: bearer value of secret:t" in server.requests[0].lower()
    assert (answer["body"], answer["headers"]["x-echo"]) == ("you are [secret], [secret]", "[secret]")


def test_a_secret_does_not_travel_in_the_clear() -> None:
    with pytest.raises(ValidationError, match="in the clear"):
        HttpConfig(allow=[{"url": "http://api.example.com/**"}], headers={"Authorization": "secret:T"})


LONG = b"HTTP/1.1 201 Created\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000
CHUNKED = (
    b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n" + b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n"
)


@pytest.mark.parametrize("answer", [LONG, CHUNKED * 1])
async def test_a_body_that_is_too_long_is_let_go_and_the_outcome_known(answer: bytes) -> None:
    async with serving(Server(answer)) as server:
        found = await done(connector(server, response_bytes_max=1_000), {"url": url(server)})
    assert (found["status"], found["body"], found["complete"]) == (201, "", False)


async def test_a_body_that_drips_is_let_go_and_the_outcome_known() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"1\r\nx\r\n")
            await writer.drain()
            await asyncio.sleep(0.005)

    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serving(Server(head, drip)) as server:
        found = await done(connector(server, body_s=0.1), {"url": url(server)})
    assert (found["status"], found["complete"]) == (200, False)


async def test_a_body_that_breaks_off_is_said_so() -> None:
    async with serving(Server(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")) as server:
        found = await done(connector(server), {"url": url(server)})
    assert (found["status"], found["complete"]) == (200, False)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 2",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
    ],
)
async def test_without_a_whole_answer_nobody_knows(answer: bytes) -> None:
    async with serving(Server(answer)) as server:
        with pytest.raises(Exception) as caught:
            await done(connector(server), {"url": url(server)})
    assert not isinstance(caught.value, EffectFailed)
    assert len(server.requests) == 1


async def test_a_server_that_hung_up_before_the_request_got_nothing() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = Server()
    listening = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    door = connector(server)
    prepared = await door.prepare(door.check({"url": url(server)}), KEY, 0.0)
    while prepared._wire.is_open:
        await asyncio.sleep(0.001)
    with pytest.raises(EffectFailed, match="closed the connection"):
        prepared.commit()
    await prepared.discard()
    listening.close()


async def test_where_nobody_listens_nothing_was_done() -> None:
    async with serving(Server()) as server:
        pass
    with pytest.raises(EffectFailed, match="cannot be reached"):
        await done(connector(server), {"url": url(server)})


async def test_bytes_that_are_no_text_come_as_base64() -> None:
    async with serving(Server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe")) as server:
        found = await done(connector(server), {"url": url(server)})
    assert (found["encoding"], base64.b64decode(found["body"])) == ("base64", b"\xff\xfe")


async def test_a_certificate_is_checked_against_the_name_in_the_url(tmp_path: Path) -> None:
    good, other = make_certificate(tmp_path, "api.test"), make_certificate(tmp_path, "other.test")
    for certificate, fine in ((good, True), (other, False)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        async with serving(Server(), context) as server:
            door = connector(server, scheme="https", ca_file=str(certificate))
            if fine:
                assert (await done(door, {"url": url(server, scheme="https")}))["status"] == 200
            else:
                with pytest.raises(EffectFailed, match="TLS"):
                    await done(door, {"url": url(server, scheme="https")})
                assert server.requests == []


def test_people_are_told_method_and_place_and_no_query() -> None:
    server = Server()
    server.port = 80
    door = connector(server)
    wish = door.check({"method": "POST", "url": "http://api.test/v1/x?token=abc", "body": "abc"})
    assert door.describe(wish) == "POST http://api.test/v1/x?… with 3 bytes"


# Webhooks -----------------------------------------------------------------------------------------------------------


def hook(server: Server, value: str) -> WebhookConnector:
    config = WebhookConfig(url=f"http://api.test:{server.port}/hook", secret="secret:HOOK", private=LOOPBACK)
    return WebhookConnector(config, Vault(lambda _: value, lambda: 0.0), loopback)


async def test_a_webhook_is_signed_so_that_its_receiver_can_check_it() -> None:
    shared = "whsec_" + base64.b64encode(bytes(range(32))).decode()
    async with serving(Server()) as server:
        answer = await done(hook(server, shared), {"event": "plan.done", "payload": {"run": "r-1"}})
    assert answer["status"] == 200
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head.decode().split("\r\n")[1:])
    }
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.digest(bytes(range(32)), signed, "sha256")).decode()
    assert headers["webhook-signature"] == f"v1,{wanted}"
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == (KEY, "1700000000")
    assert json.loads(body) == {"type": "plan.done", "timestamp": 1_700_000_000, "data": {"run": "r-1"}}


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of the standard-webhooks reference libraries (github.com/standard-webhooks/standard-webhooks, MIT)."""
    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("value", ["whsec_***", "whsec_c2hvcnQ=", "short-but-ok"])
async def test_a_weak_or_broken_webhook_secret_is_refused_and_not_repeated(value: str) -> None:
    async with serving(Server()) as server:
        with pytest.raises(NotAllowed) as caught:
            await done(hook(server, value), {"event": "plan.done"})
    assert value not in str(caught.value)
    assert server.connections == 0


@pytest.mark.parametrize(
    "request_", [{}, {"event": "Not An Event"}, {"event": "x", "url": "http://evil.test"}]
)
def test_a_webhooks_receiver_and_form_are_not_the_agents_to_say(request_: dict[str, Any]) -> None:
    server = Server()
    server.port = 80
    with pytest.raises(InvalidPayload):
        hook(server, "x").check(request_)


# Connections that are kept ---------------------------------------------------------------------------------------------------


class Staying(Server):
    """Answers on one connection as often as it is asked; `between` is what it does after each answer."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(self.answer)
                if self.then is not None:
                    await self.then(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def asked(door: HttpConnector, server: Server, times: int = 3) -> list[str]:
    return [(await done(door, {"url": url(server)}))["body"] for _ in range(times)]


async def test_a_connection_is_used_again_where_the_operator_has_it_kept_and_only_there() -> None:
    async with serving(Staying()) as server:
        assert await asked(connector(server, keep_alive_s=5), server) == ["ok"] * 3
        assert server.connections == 1
        assert not any(b"connection: close" in request.lower() for request in server.requests)
    async with serving(Staying()) as server:
        assert await asked(connector(server), server) == ["ok"] * 3
        assert server.connections == 3
        assert all(b"connection: close" in request.lower() for request in server.requests)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        # What nobody asked for would be taken for the answer to the next request.
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    ],
)
async def test_a_connection_that_the_server_ends_or_spoils_is_not_used_again(answer: bytes) -> None:
    async with serving(Staying(answer)) as server:
        assert await asked(connector(server, keep_alive_s=5), server) == ["ok"] * 3
        assert server.connections == 3


async def test_what_comes_late_on_an_idle_connection_is_nobodys_answer() -> None:
    spoilt = asyncio.Event()

    async def speak_unasked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.01)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        await writer.drain()
        spoilt.set()

    async with serving(Staying(then=speak_unasked)) as server:
        door = connector(server, keep_alive_s=5)
        for _ in range(2):
            spoilt.clear()
            assert await asked(door, server, 1) == ["ok"]
            await spoilt.wait()
            await asyncio.sleep(0.01)
        assert server.connections == 2


async def test_a_connection_that_the_server_closed_while_it_idled_puts_nothing_in_doubt() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await writer.drain()
        writer.close()

    async with serving(Staying(then=hang_up)) as server:
        door = connector(server, keep_alive_s=5)
        for _ in range(3):
            assert await asked(door, server, 1) == ["ok"]
            await asyncio.sleep(0.02)
        assert server.connections == 3


async def test_a_connection_is_kept_for_its_time_and_no_longer() -> None:
    async with serving(Staying()) as server:
        door = connector(server, keep_alive_s=0.05)
        await asked(door, server, 2)
        await asyncio.sleep(0.2)
        await asked(door, server, 1)
        assert server.connections == 2


async def test_a_connection_to_an_address_that_the_name_no_longer_has_is_left_alone() -> None:
    addresses = ["127.0.0.1"]

    async def resolve(host: str, port: int) -> list[str]:
        return addresses

    async with serving(Staying()) as server:
        door = connector(server, resolve, keep_alive_s=5)
        await asked(door, server, 1)
        addresses[:] = ["10.0.0.1"]
        with pytest.raises(NotAllowed):
            await asked(door, server, 1)
        assert len(server.requests) == 1
