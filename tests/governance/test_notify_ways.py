"""Telling over real sockets: a signed webhook, a mail, and a courier between them and the outbox."""

from __future__ import annotations

import asyncio
import email
import email.policy
import random
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from kill_kit import order

from aip.errors import NotFound, UsageError
from aip.governance.effects.webhook import signature
from aip.governance.notify import mail, settings, webhook
from aip.governance.notify.courier import Courier
from aip.governance.notify.event import encode, event_of
from aip.governance.notify.failure import NotTold
from aip.governance.notify.outbox import Outbox, Parcel
from aip.governance.notify.ways import ways

SECRET = "a shared secret of twenty-four bytes and more"
BODY = encode(event_of(order("greeter", reason="x\r\nBcc: all@example.com", epoch=3), "f00d"))
PARCEL = Parcel("pager", "f00d-3", BODY, 1_000.0, 1_000.0)


def parsed(**receivers):
    return settings.parse({"receivers": receivers}, Path("notify.yaml"))


@asynccontextmanager
async def http(*statuses, delay_s=0.0):
    """A receiver on loopback: what it was sent, and its URL. Answers these statuses in turn, then the last one."""
    heard, left = [], list(statuses)

    async def serve(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head.splitlines()[1:] if line)
        }
        body = await reader.readexactly(int(fields["content-length"]))
        heard.append((head.split()[1], fields, body))
        await asyncio.sleep(delay_s)
        status = left.pop(0) if len(left) > 1 else left[0]
        location = "location: /elsewhere\r\n" if status == 302 else ""
        writer.write(
            f"HTTP/1.1 {status} x\r\n{location}content-length: 0\r\nconnection: close\r\n\r\n".encode()
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield heard, f"http://127.0.0.1:{port}/hook"


def hook(url, **more):
    return settings.Webhook(url=url, secret="secret:HOOK", **more)


async def test_a_webhook_hears_the_event_signed_under_the_shared_secret():
    async with http(204) as (heard, url):
        await webhook.tell(PARCEL, hook(url), lambda name: SECRET, 1_234.0)
    ((path, fields, body),) = heard
    assert path == "/hook"
    assert body == BODY
    assert fields["content-type"].startswith("application/cloudevents+json")
    assert fields["webhook-id"] == "f00d-3"
    assert fields["webhook-signature"] == signature(SECRET.encode(), "f00d-3", 1_234, BODY)
    assert fields["webhook-timestamp"] == "1234"


@pytest.mark.parametrize(("status", "final"), [(500, False), (404, False), (302, False), (410, True)])
async def test_an_answer_that_is_no_success_is_none_and_no_redirect_is_followed(status, final):
    async with http(status) as (heard, url):
        with pytest.raises(NotTold) as caught:
            await webhook.tell(PARCEL, hook(url), lambda name: SECRET, 1.0)
    assert len(heard) == 1
    assert caught.value.final is final


async def test_a_receiver_that_nobody_answers_for_was_not_told():
    async with http(200) as (_, url):
        pass
    with pytest.raises(NotTold):
        await webhook.tell(PARCEL, hook(url), lambda name: SECRET, 1.0)


@asynccontextmanager
async def smtp_server(reply="250 ok"):
    """Just enough of RFC 5321 to take one message."""
    messages = []

    async def serve(reader, writer):
        async def say(text):
            writer.write(text.encode() + b"\r\n")
            await writer.drain()

        await say("220 test")
        while line := (await reader.readline()).decode().strip():
            if line.upper() == "DATA":
                await say("354 go on")
                messages.append((await reader.readuntil(b"\r\n.\r\n"))[:-5])
                await say(reply)
            else:
                await say("221 bye" if line.upper() == "QUIT" else "250 ok")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield messages, server.sockets[0].getsockname()[1]


def mailbox(port):
    return settings.Smtp(
        host="127.0.0.1", port=port, tls="none", sender="aip@example.com", to=["eve@example.com"]
    )


async def test_a_mail_says_what_happened_and_a_reason_cannot_become_a_header():
    async with smtp_server() as (messages, port):
        await mail.tell(PARCEL, mailbox(port), lambda name: "")
    message = email.message_from_bytes(messages[0], policy=email.policy.default)
    assert message["Subject"] == "[AIP kill] greeter: terminate by user:ada"
    assert message["Message-ID"] == "<f00d-3@example.com>"
    assert message["Bcc"] is None
    assert "id: f00d-3" in message.get_content()


async def test_a_server_that_refuses_the_mail_was_not_told():
    async with smtp_server("554 no") as (_, port):
        with pytest.raises(NotTold):
            await mail.tell(PARCEL, mailbox(port), lambda name: "")


# The courier


class Desk:
    """A courier with a journal in memory."""

    def __init__(self, told):
        self.outbox, self.journal, self.notes = Outbox(), [], []
        self.courier = Courier(
            self.outbox,
            told,
            keep=self.journal.extend,
            note=lambda kind, subject, detail: self.notes.append((kind, subject)),
            clock=lambda: 1_000.0,
            rng=random.Random(1),
        )

    @asynccontextmanager
    async def at_work(self):
        task = asyncio.ensure_future(self.courier.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_receiver_that_hangs_delays_neither_the_order_nor_another_receiver():
    async def hang(parcel):
        await asyncio.sleep(60)

    heard = []

    async def hear(parcel):
        heard.append(parcel.id)

    async with Desk({"slow": hang, "quick": hear}).at_work() as desk:
        for number in range(3):
            desk.courier.post(str(number), b"{}", ["slow", "quick"])
        await until(lambda: len(heard) == 3)
    assert heard == ["0", "1", "2"]
    assert [parcel.id for parcel in desk.outbox.parcels()] == ["0", "1", "2"]


async def test_a_receiver_without_its_secret_is_tried_again_and_that_is_noted_once():
    async def no_secret(parcel):
        raise NotFound("no secret HOOK")

    async with Desk({"pager": no_secret}).at_work() as desk:
        desk.courier.post("1", b"{}", ["pager"])
        await until(lambda: desk.notes)
    assert desk.notes == [("notify.failed", "pager")]
    assert desk.outbox.head("pager").due_at > 1_000.0


async def test_a_courier_that_comes_back_tells_what_the_last_one_did_not():
    async def down(parcel):
        raise NotTold("down", final=False)

    first = Desk({"pager": down})
    async with first.at_work():
        first.courier.post("1", b"{}", ["pager"])
        await until(lambda: first.notes)
    heard = []

    async def hear(parcel):
        heard.append((parcel.id, parcel.attempts))

    second = Desk({"pager": hear})
    for record in first.journal[:1]:  # Its record of the failure was lost with it.
        second.outbox.apply(record)
    async with second.at_work():
        await until(lambda: heard)
    assert heard == [("1", 0)]


async def test_from_the_file_to_the_socket():
    async with http(500, 200) as (heard, url), smtp_server() as (messages, port):
        found = parsed(
            pager={"webhook": {"url": url, "secret": "secret:HOOK"}},
            night={
                "smtp": {
                    "host": "127.0.0.1",
                    "port": port,
                    "tls": "none",
                    "sender": "aip@example.com",
                    "to": ["eve@example.com"],
                }
            },
        )
        told = ways(found, lambda name: SECRET, lambda: 5.0)
        with pytest.raises(NotTold):
            await told["pager"](PARCEL)
        await told["pager"](PARCEL)
        await told["night"](PARCEL)
    assert len(heard) == 2
    assert len(messages) == 1


@pytest.mark.parametrize(
    ("receiver", "field"),
    [
        ({}, "exactly one"),
        ({"webhook": {"url": "ftp://x/", "secret": "secret:H"}}, "webhook.url"),
        ({"webhook": {"url": "https://ada:pw@x/", "secret": "secret:H"}}, "webhook.url"),
        ({"webhook": {"url": "https://x/", "secret": "s3cr3t"}}, "webhook.secret"),
        ({"smtp": {"host": "x", "sender": "a@x.org", "to": []}}, "smtp.to"),
        ({"smtp": {"host": "x", "sender": "a@x.org\nBcc: b@x.org", "to": ["b@x.org"]}}, "smtp.sender"),
        (
            {
                "smtp": {
                    "host": "x",
                    "tls": "none",
                    "password": "secret:P",
                    "sender": "a@x.org",
                    "to": ["b@x.org"],
                }
            },
            "password",
        ),
        ({"webhook": {"url": "https://x/", "secret": "secret:H"}, "from_level": "loud"}, "from_level"),
    ],
)
def test_a_wrong_receiver_names_the_field_and_never_repeats_a_secret(receiver, field):
    with pytest.raises(UsageError) as caught:
        parsed(pager=receiver)
    assert field in caught.value.message
    assert "s3cr3t" not in caught.value.message
    assert "pw@" not in caught.value.message


def test_a_receiver_hears_from_its_level_on():
    one = parsed(pager={"webhook": {"url": "https://x/", "secret": "secret:H"}, "from_level": "drain"})
    wanted = [str(level) for level in settings.Level if one.receivers["pager"].wants(level)]
    assert wanted == ["drain", "terminate", "revoke", "lockdown"]
