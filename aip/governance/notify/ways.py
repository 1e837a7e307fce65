"""From the settings to the ways of telling: one for each receiver."""

from __future__ import annotations

from collections.abc import Callable

from . import mail, webhook
from .courier import Tell
from .outbox import Parcel
from .settings import NotifySettings, Receiver


def ways(
    settings: NotifySettings, resolve: Callable[[str], str], clock: Callable[[], float]
) -> dict[str, Tell]:
    return {name: _way(receiver, resolve, clock) for name, receiver in settings.receivers.items()}


def _way(receiver: Receiver, resolve: Callable[[str], str], clock: Callable[[], float]) -> Tell:
    async def tell(parcel: Parcel) -> None:
        if receiver.webhook is not None:
            await webhook.tell(parcel, receiver.webhook, resolve, clock())
        elif receiver.smtp is not None:
            await mail.tell(parcel, receiver.smtp, resolve)

    return tell
