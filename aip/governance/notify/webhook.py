"""Tell a webhook: one POST of the event, signed as Standard Webhooks 1.0 says (HMAC-SHA256 over `id.timestamp.body`).

The secret is looked up for each attempt, so a new value holds from the next one on.
"""

from __future__ import annotations

from collections.abc import Callable

import httpx2

from ..effects.webhook import signature, signing_key
from .event import CONTENT_TYPE
from .failure import GIVEN_UP, NotTold
from .outbox import Parcel
from .settings import Webhook


async def tell(parcel: Parcel, webhook: Webhook, resolve: Callable[[str], str], now: float) -> None:
    """Raises `NotTold`."""
    key = signing_key(resolve(webhook.secret))
    headers = {
        "content-type": CONTENT_TYPE,
        "webhook-id": parcel.id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": signature(key, parcel.id, int(now), parcel.body),
    }
    try:
        async with (
            httpx2.AsyncClient(timeout=webhook.timeout_s, follow_redirects=False, trust_env=False) as client,
            client.stream("POST", webhook.url, content=parcel.body, headers=headers) as answer,
        ):
            status = answer.status_code
    except httpx2.HTTPError as error:
        raise NotTold(f"{type(error).__name__}: {error}") from None
    if not 200 <= status < 300:
        raise NotTold(f"HTTP {status}", final=status in GIVEN_UP)
