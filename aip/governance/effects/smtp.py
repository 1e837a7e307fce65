"""The SMTP connector: mail through one server, from one sender, to recipients that are allowed.

    ctx.effect("mail", {"to": ["ada@example.com"], "subject": "Release 1.4", "text": "…"})
    → {"accepted": ["ada@example.com"], "id": "<…@example.com>"}

A server takes responsibility for a message at the end of its data (RFC 5321, 4.1.1.4 and 6.1), so everything up to there is
preparation: connection, STARTTLS with the certificate checked, log-in, sender, recipients, the whole text. The commit is the
line with the dot. A refused recipient refuses the message: half a mail is not what was asked for. `Message-ID` is made from the
effect's key, so a repeat is recognisable.

In doubt: between the dot and the server's answer. A server that breaks off there may have the message (RFC 1047).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import smtplib
import socket
import ssl
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from .address import literal
from .connector import ConnectorConfig, Prepared, Request
from .failure import EffectFailed, NotAllowed
from .vault import Vault, check_reference

RECIPIENTS_MAX = 100  # RFC 5321, 4.5.3.1.8: what every server takes.
TEXT_CHARS_MAX = 1_000_000
SUBJECT_CHARS_MAX = 500
COMMIT_S = 0.2  # The dot is three bytes; a socket that has no room for them has an unread message before it.
_DOT = b".\r\n"
# A subset of RFC 5321's mailbox: no quotes, comments or groups. What is left can end no header and no command.
_MAILBOX = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?\Z"
)
_RECIPIENT = re.compile(r"(\*|[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64})@[A-Za-z0-9.-]{1,253}\Z")


def check_mailbox(text: str) -> str:
    """For pydantic."""
    local = text.partition("@")[0]
    if not _MAILBOX.match(text) or ".." in text or local.startswith(".") or local.endswith("."):
        raise ValueError("a plain address such as ada@example.com, without a name before it")
    return text


class SmtpConfig(ConnectorConfig):
    connector: Literal["smtp"] = "smtp"
    host: str = Field(min_length=1, max_length=253)
    port: int = Field(default=587, ge=1, le=65_535)
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    ca_file: str = ""  # Trusted instead of the system's certificate authorities.
    user: str = ""
    password: str = ""  # secret:NAME
    sender: str
    recipients: tuple[str, ...] = Field(min_length=1, max_length=1_000)  # Addresses, or *@example.com
    hello: str = "localhost"  # The name we say; ours may say more of this machine than is meant.

    _sender = field_validator("sender")(check_mailbox)

    @field_validator("recipients")
    @classmethod
    def _are_recipients(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if not _RECIPIENT.match(text):
                raise ValueError("each is an address, or *@domain")
        return tuple(text.lower() for text in value)

    @model_validator(mode="after")
    def _keeps_its_secrets(self) -> SmtpConfig:
        if bool(self.user) is not bool(self.password):
            raise ValueError("user and password go together")
        if self.password:
            check_reference(self.password)
        address = literal(self.host)
        if self.tls == "none" and not (address and address.is_loopback):
            raise ValueError("tls: none is for a server on this machine, by its address")
        return self

    def allows(self, mailbox: str) -> bool:
        mailbox = mailbox.lower()
        return mailbox in self.recipients or f"*@{mailbox.partition('@')[2]}" in self.recipients


class SmtpRequest(Request):
    to: tuple[str, ...] = Field(min_length=1)
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    subject: str = Field(max_length=SUBJECT_CHARS_MAX)
    text: str = Field(max_length=TEXT_CHARS_MAX)
    html: str = Field(default="", max_length=TEXT_CHARS_MAX)
    reply_to: str = ""

    @field_validator("to", "cc", "bcc")
    @classmethod
    def _are_mailboxes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_mailbox(text) for text in value)

    @field_validator("subject", "reply_to")
    @classmethod
    def _is_one_line(cls, value: str) -> str:
        if not value.isprintable():  # Also what Unicode calls a line's end: some servers do as well.
            raise ValueError("one line of printable text")
        return value

    @model_validator(mode="after")
    def _is_bounded(self) -> SmtpRequest:
        if self.reply_to:
            check_mailbox(self.reply_to)
        if len(self.everybody) > RECIPIENTS_MAX:
            raise ValueError(f"at most {RECIPIENTS_MAX} recipients")
        return self

    @property
    def everybody(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.to, *self.cc, *self.bcc)))


class SmtpConnector:
    kind: ClassVar[str] = "smtp"

    def __init__(self, config: SmtpConfig, vault: Vault) -> None:
        self.config = config
        self._vault = vault

    def check(self, request: Any) -> SmtpRequest:
        wish: SmtpRequest = SmtpRequest.of(request)
        if strangers := [mailbox for mailbox in wish.everybody if not self.config.allows(mailbox)]:
            raise NotAllowed(f"not among the recipients of this connector: {', '.join(strangers[:5])}")
        return wish

    def describe(self, wish: SmtpRequest) -> str:
        return f"send mail to {', '.join(wish.everybody)}: {wish.subject}"

    async def prepare(self, wish: SmtpRequest, key: str, now: float) -> Prepared:
        message = self._message(wish, key, now)
        password = self._vault.open(self.config.password) if self.config.password else ""
        delivery = _Delivery(self.config, wish.everybody, message, password)
        try:
            await asyncio.to_thread(delivery.open)
        except BaseException:
            delivery.close()
            raise
        return delivery

    def _message(self, wish: SmtpRequest, key: str, now: float) -> EmailMessage:
        message = EmailMessage(policy=SMTP)
        message["From"] = self.config.sender
        message["To"] = ", ".join(wish.to)
        if wish.cc:
            message["Cc"] = ", ".join(wish.cc)
        if wish.reply_to:
            message["Reply-To"] = wish.reply_to
        message["Subject"] = wish.subject
        message["Date"] = formatdate(now)
        message["Message-ID"] = f"<{key}@{self.config.sender.partition('@')[2]}>"
        message.set_content(wish.text)
        if wish.html:
            message.add_alternative(wish.html, subtype="html")
        return message


class _Delivery:
    """One message on one connection, up to its dot. `smtplib` blocks, so all but the dot runs in a thread."""

    def __init__(
        self, config: SmtpConfig, recipients: tuple[str, ...], message: EmailMessage, password: str
    ) -> None:
        self._config = config
        self._recipients = recipients
        self._message = message
        self._password = password
        self._closed = False
        self._smtp = _Session(config, self._trust())

    def _trust(self) -> ssl.SSLContext | None:
        if self._config.tls == "none":
            return None
        return ssl.create_default_context(cafile=self._config.ca_file or None)

    def open(self) -> None:
        config, smtp = self._config, self._smtp
        where = f"{config.host}:{config.port}"
        try:
            smtp.connect(config.host, config.port)
            smtp.ehlo_or_helo_if_needed()
            if config.tls == "starttls":
                smtp.starttls(context=smtp.trust)
                smtp.ehlo_or_helo_if_needed()
            if config.user:
                smtp.login(config.user, self._password)
            self._address()
            _expect(smtp.docmd("DATA"), 354, "the message")
            smtp.send(_quoted(self._message.as_bytes()))
        except ssl.SSLError as error:
            raise EffectFailed(f"{where}: TLS failed: {error.reason or error}") from None
        except smtplib.SMTPNotSupportedError:
            raise EffectFailed(
                f"{where} offers no {'STARTTLS' if not config.user else 'STARTTLS or log-in'}"
            ) from None
        except smtplib.SMTPResponseException as error:
            raise EffectFailed(f"{where} said {error.smtp_code}: {_words(error.smtp_error)}") from None
        except (smtplib.SMTPException, OSError) as error:
            raise EffectFailed(f"{where}: {error}") from None
        finally:
            if self._closed:
                self.close()  # Whoever waited has gone meanwhile, and could not close what was not open yet.

    def _address(self) -> None:
        _expect(self._smtp.mail(self._config.sender), 250, "the sender")
        for mailbox in self._recipients:
            _expect(self._smtp.rcpt(mailbox), 250, mailbox)

    def commit(self) -> None:
        connection = self._smtp.sock
        if connection is None:
            raise EffectFailed("the server closed the connection before the end of the message")
        connection.settimeout(COMMIT_S)
        connection.sendall(_DOT)

    async def result(self) -> dict[str, Any]:
        code, words = await asyncio.to_thread(self._answer)
        if code != 250:
            raise EffectFailed(f"the server refused the message: {code}: {_words(words)}")
        return {"accepted": list(self._recipients), "id": str(self._message["Message-ID"])}

    def _answer(self) -> tuple[int, bytes]:
        if self._smtp.sock is not None:
            self._smtp.sock.settimeout(self._config.timeout_s)
        return self._smtp.getreply()

    async def discard(self) -> None:
        self.close()

    def close(self) -> None:
        """From any thread: one that waits for the server wakes up."""
        self._closed = True
        connection = self._smtp.sock
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._smtp.close()


class _Session(smtplib.SMTP):
    """`smtplib`'s client, with TLS from the first byte where that is configured."""

    def __init__(self, config: SmtpConfig, trust: ssl.SSLContext | None) -> None:
        super().__init__(local_hostname=config.hello, timeout=config.timeout_s)
        self.trust = trust
        self._implicit = config.tls == "implicit"
        self._host: str = config.host  # What `starttls` checks the certificate against.

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain = socket.create_connection((host, port), timeout)
        if self._implicit and self.trust is not None:
            return self.trust.wrap_socket(plain, server_hostname=host)
        return plain


def _quoted(message: bytes) -> bytes:
    """Lines end in CRLF and none that begins with a dot ends the message (RFC 5321, 4.5.2); the end itself is not here."""
    lines = re.sub(rb"\r\n|\r|\n", b"\r\n", message)
    doubled = re.sub(rb"(?m)^\.", b"..", lines)
    return doubled if doubled.endswith(b"\r\n") else doubled + b"\r\n"


def _expect(answer: tuple[int, bytes], code: int, what: str) -> None:
    if answer[0] != code and not (code == 250 and answer[0] == 251):
        raise EffectFailed(f"the server does not take {what}: {answer[0]}: {_words(answer[1])}")


def _words(answer: bytes | str) -> str:
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    return " ".join(text.split())[:300]
