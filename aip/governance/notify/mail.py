"""Tell people by mail: one message of plain text for all of a receiver's addresses. `Message-ID` is the event's id."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Callable
from email.message import EmailMessage
from email.utils import formatdate
from typing import Any

import msgspec

from .event import sentence
from .failure import NotTold
from .outbox import Parcel
from .settings import Smtp


def message_of(parcel: Parcel, smtp: Smtp) -> EmailMessage:
    event: dict[str, Any] = msgspec.json.decode(parcel.body)
    message = EmailMessage()
    message["From"] = smtp.sender
    message["To"] = ", ".join(smtp.to)
    message["Subject"] = f"[AIP kill] {' '.join(sentence(event).split())}"
    message["Date"] = formatdate(parcel.queued_at)
    message["Message-ID"] = f"<{parcel.id}@{smtp.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office replies.
    lines = [f"{name}: {value}" for name, value in event["data"].items()]
    message.set_content("\n".join([*lines, f"time: {event['time']}", f"id: {event['id']}", ""]))
    return message


async def tell(parcel: Parcel, smtp: Smtp, resolve: Callable[[str], str]) -> None:
    """Raises `NotTold`."""
    password = "" if smtp.password is None else resolve(smtp.password)
    try:
        await asyncio.to_thread(_send, message_of(parcel, smtp), smtp, password)
    except (smtplib.SMTPException, OSError) as error:
        raise NotTold(f"{type(error).__name__}: {error}") from None


def _send(message: EmailMessage, smtp: Smtp, password: str) -> None:
    context = ssl.create_default_context()
    if smtp.tls == "implicit":
        server: smtplib.SMTP = smtplib.SMTP_SSL(smtp.host, smtp.port, timeout=smtp.timeout_s, context=context)
    else:
        server = smtplib.SMTP(smtp.host, smtp.port, timeout=smtp.timeout_s)
    with server:
        if smtp.tls == "starttls":
            server.starttls(context=context)
        if password:
            server.login(smtp.user, password)
        server.send_message(message)
