"""Mail through a real SMTP server on loopback: STARTTLS, log-in, recipients, and a message that no text can break out of."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from certificates import make_certificate
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from aip.errors import InvalidPayload
from aip.governance.effects.failure import EffectFailed, NotAllowed
from aip.governance.effects.smtp import SmtpConfig, SmtpConnector, SmtpRequest, _quoted
from aip.governance.effects.vault import Vault

KEY = "ab" * 32
MAIL = {"to": ["ada@example.com"], "subject": "Release", "text": "It is out.\n"}


class Post:
    """The server's side: what it has taken responsibility for."""

    def __init__(self) -> None:
        self.taken: list[Envelope] = []
        self.tls: list[bool] = []
        self.users: list[Any] = []
        self.answer = "250 taken"
        self.unknown = "nobody@example.com"
        self.commands = 0

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any
    ) -> str:
        self.commands += 1
        if address == self.unknown:
            return "550 no such person"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.taken.append(envelope)
        self.tls.append(server.transport.get_extra_info("sslcontext") is not None)
        self.users.append(session.auth_data)
        return self.answer


@asynccontextmanager
async def serving(
    post: Post, folder: Path, name: str = "localhost", **options: Any
) -> AsyncIterator[dict[str, Any]]:
    """An SMTP server with STARTTLS; what a configuration needs to reach it."""
    certificate = make_certificate(folder, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    implicit = options.pop("implicit", False)
    if not implicit and options.pop("starttls", True):
        options["tls_context"] = context
        options["require_starttls"] = True

    def make() -> SMTP:
        return SMTP(post, hostname="mail.test", enable_SMTPUTF8=False, **options)

    listening = await asyncio.get_running_loop().create_server(
        make, "127.0.0.1", 0, ssl=context if implicit else None
    )
    port = listening.sockets[0].getsockname()[1]
    try:
        yield {
            "host": "localhost",
            "port": port,
            "ca_file": str(certificate),
            "tls": "implicit" if implicit else "starttls",
        }
    finally:
        listening.close()


def connector(**config: Any) -> SmtpConnector:
    fields = {
        "host": "localhost",
        "sender": "robot@example.com",
        "recipients": ("*@example.com", "Bob@Example.org"),
    }
    return SmtpConnector(SmtpConfig(**{**fields, **config}), Vault(lambda _: "a password", lambda: 0.0))


async def done(door: SmtpConnector, **request: Any) -> Any:
    prepared = await door.prepare(door.check({**MAIL, **request}), KEY, 1_700_000_000.0)
    try:
        prepared.commit()
        return await prepared.result()
    finally:
        await prepared.discard()


@pytest.mark.parametrize("implicit", [False, True])
async def test_a_mail_arrives_once_encrypted_and_as_written(tmp_path: Path, implicit: bool) -> None:
    post = Post()
    text = "Line\n.\n..dots\nfrom äöü\n.QUIT\r\nRCPT TO:<evil@example.net>\n"
    async with serving(post, tmp_path, implicit=implicit) as place:
        answer = await done(
            connector(**place), cc=["bob@example.org"], bcc=["eve@example.com"], text=text, html="<b>x</b>",
            reply_to="help@example.com", subject="Grüße",
        )  # fmt: skip
    assert answer == {
        "accepted": ["ada@example.com", "bob@example.org", "eve@example.com"], "id": f"<{KEY}@example.com>",
    }  # fmt: skip
    (taken,) = post.taken
    assert (taken.mail_from, taken.rcpt_tos) == ("robot@example.com", answer["accepted"])
    assert post.tls == [True]
    message: Any = message_from_bytes(taken.content, policy=default)
    assert (message["Subject"], message["Message-ID"], message["Reply-To"]) == (
        "Grüße",
        answer["id"],
        "help@example.com",
    )
    assert "eve" not in taken.content.decode()
    assert message.get_body(("plain",)).get_content().splitlines() == text.splitlines()


async def test_nothing_is_taken_before_the_commit_nor_after_giving_up(tmp_path: Path) -> None:
    post = Post()
    async with serving(post, tmp_path) as place:
        door = connector(**place)
        prepared = await door.prepare(door.check(MAIL), KEY, 0.0)
        assert post.commands == 1
        assert post.taken == []
        await prepared.discard()
        for _ in range(20):
            await asyncio.sleep(0.005)
    assert post.taken == []


async def test_a_log_in_is_made_with_the_secret_and_over_tls(tmp_path: Path) -> None:
    post = Post()

    def check(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        return AuthResult(success=data.password == b"a password", handled=False, auth_data=data.login)

    async with serving(post, tmp_path, authenticator=check, auth_required=True) as place:
        await done(connector(**place, user="robot", password="secret:MAIL"))
        assert post.users == [b"robot"]
        wrong = connector(**place, user="robot", password="secret:MAIL")
        wrong._vault = Vault(lambda _: "not the password", lambda: 0.0)
        with pytest.raises(EffectFailed) as caught:
            await done(wrong)
    assert "535" in caught.value.message
    assert "not the password" not in str(caught.value)


async def test_a_server_without_tls_is_not_told_anything(tmp_path: Path) -> None:
    post = Post()
    async with serving(post, tmp_path, starttls=False) as place:
        with pytest.raises(EffectFailed, match="STARTTLS"):
            await done(connector(**place))
        assert post.commands == 0
        await done(connector(**{**place, "tls": "none", "host": "127.0.0.1"}))
    assert post.tls == [False]


async def test_a_certificate_of_another_name_is_refused(tmp_path: Path) -> None:
    post = Post()
    async with serving(post, tmp_path, name="other.test") as place:
        with pytest.raises(EffectFailed, match="TLS"):
            await done(connector(**place))
    assert post.commands == 0


async def test_one_refused_recipient_refuses_the_mail(tmp_path: Path) -> None:
    post = Post()
    async with serving(post, tmp_path) as place:
        with pytest.raises(EffectFailed, match="550"):
            await done(connector(**place), to=["ada@example.com", "nobody@example.com"])
    assert post.taken == []


@pytest.mark.parametrize("answer", ["451 try later", "554 no"])
async def test_a_message_that_the_server_refuses_was_not_sent(tmp_path: Path, answer: str) -> None:
    post = Post()
    post.answer = answer
    async with serving(post, tmp_path) as place:
        with pytest.raises(EffectFailed, match=answer[:3]):
            await done(connector(**place))


async def test_a_server_that_breaks_off_after_the_dot_leaves_it_in_doubt() -> None:
    """RFC 1047: it may have the message."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 x\r\n")
        while line := await reader.readline():
            if line == b"DATA\r\n":
                writer.write(b"354 go\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                break
            writer.write(b"250 ok\r\n")
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    door = connector(host="127.0.0.1", tls="none", port=listening.sockets[0].getsockname()[1])
    with pytest.raises(Exception) as caught:
        await done(door)
    assert not isinstance(caught.value, EffectFailed)
    listening.close()


async def test_a_server_that_says_nothing_is_given_up_and_let_go() -> None:
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        gone.set()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    door = connector(host="127.0.0.1", tls="none", port=listening.sockets[0].getsockname()[1])
    preparing = asyncio.ensure_future(door.prepare(door.check(MAIL), KEY, 0.0))
    await asyncio.sleep(0.05)
    preparing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await preparing
    await asyncio.wait_for(gone.wait(), 10)
    listening.close()


@pytest.mark.parametrize(
    "request_",
    [
        {"subject": "a\r\nBcc: evil@example.net"}, {"subject": "a\nb"}, {"subject": "a\u2028b"}, {"subject": "a\0"},
        {"to": ["ada@example.com\r\nRCPT TO:<evil@example.net>"]}, {"to": ["Ada <ada@example.com>"]}, {"to": []},
        {"to": ['"a b"@example.com']}, {"to": ["ada@example.com>"]}, {"to": ["a..b@example.com"]}, {"to": ["@example.com"]},
        {"to": ["ada@example.com,eve@example.com"]}, {"cc": ["x"]}, {"reply_to": "a@example.com\r\nX: y"},
        {"from": "boss@example.com"}, {"to": [f"u{n}@example.com" for n in range(101)]},
    ],
)  # fmt: skip
def test_no_header_and_no_recipient_can_be_smuggled_in(request_: dict[str, Any]) -> None:
    with pytest.raises(InvalidPayload):
        connector().check({**MAIL, **request_})


@pytest.mark.parametrize(
    ("mailbox", "allowed"),
    [("ada@example.com", True), ("ADA@EXAMPLE.COM", True), ("bob@example.org", True), ("eve@example.org", False),
     ("ada@example.com.evil.net", False), ("ada@sub.example.com", False), ("ada@evilexample.com", False)],
)  # fmt: skip
@pytest.mark.parametrize("field", ["to", "cc", "bcc"])
def test_recipients_are_those_that_are_listed(mailbox: str, allowed: bool, field: str) -> None:
    request = {**MAIL, field: [mailbox]}
    if allowed:
        connector().check(request)
    else:
        with pytest.raises(NotAllowed):
            connector().check(request)


@given(
    st.binary(max_size=60), st.sampled_from([b"\r\n.\r\n", b"\n.\n", b"\r.\r", b"."]), st.binary(max_size=20)
)
def test_no_text_ends_the_message_early(before: bytes, dot: bytes, after: bytes) -> None:
    quoted = _quoted(before + dot + after)
    assert quoted.endswith(b"\r\n")
    assert b"\r\n.\r\n" not in b"\r\n" + quoted
    assert b"\n" not in quoted.replace(b"\r\n", b"")
    assert b"\r" not in quoted.replace(b"\r\n", b"")


@given(st.text(max_size=40))
def test_a_subject_that_is_let_through_is_one_line(subject: str) -> None:
    try:
        wish = SmtpRequest.of({**MAIL, "subject": subject})
    except InvalidPayload:
        return
    assert len(wish.subject.splitlines()) <= 1


@pytest.mark.parametrize(
    "config",
    [{"tls": "none", "host": "mail.example.com"}, {"user": "u"}, {"password": "secret:P"}, {"user": "u", "password": "hunter2"},
     {"recipients": ("everybody",)}, {"sender": "Robot <robot@example.com>"}, {"recipients": ()}],
)  # fmt: skip
def test_a_configuration_that_would_leak_or_send_anywhere_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        connector(**config)
    assert "hunter2" not in str(caught.value)


def test_people_are_told_to_whom_and_what_about() -> None:
    door = connector()
    assert door.describe(door.check(MAIL)) == "send mail to ada@example.com: Release"
