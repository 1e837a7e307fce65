"""What is told of an order: a CloudEvent (CloudEvents 1.0.2, JSON event format), and the same as a Server-Sent Event.

`id` is the order's place in the history of its fence, so the same order has the same id from whoever tells it and however often:
a receiver that remembers ids hears it once.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from ..kill.ladder import LADDER
from ..kill.orders import KillOrder
from ..kill.target import DRILL

RAISED, LOWERED = "dev.aip.kill.raised", "dev.aip.kill.lowered"
CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"


def event_of(order: KillOrder, fence: str) -> dict[str, Any]:
    data: dict[str, Any] = {
        "target": order.target,
        "level": str(order.remains or "none") if order.lifted else str(order.level),
        "by": order.by,
        "reason": order.reason,
        "epoch": order.epoch,
        "drill": order.target == DRILL,
    }
    if order.rate:
        data["rate"] = order.rate
    if order.lifted:
        data["signers"] = list(order.signers)
    else:
        conduct = LADDER[order.level]
        data |= {"turns": conduct.turns.words, "effects": conduct.effects.words}
    return {
        "specversion": "1.0",
        "id": f"{fence}-{order.epoch}",
        "source": f"urn:aip:fence:{fence}",
        "type": LOWERED if order.lifted else RAISED,
        "subject": order.target,
        "time": datetime.fromtimestamp(order.at, UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": data,
    }


def encode(event: dict[str, Any]) -> bytes:
    return msgspec.json.encode(event)


def server_sent(event: dict[str, Any]) -> bytes:
    """One message of an event stream (WHATWG HTML, 9.2). JSON of ours holds no line break, so its data is one line."""
    head = f"id: {event['id']}\nevent: {event['type']}\ndata: ".encode()
    return head + encode(event) + b"\n\n"


def sentence(event: dict[str, Any]) -> str:
    """One line for a person: the subject of a mail. What somebody wrote as a reason is not in it."""
    data = event["data"]
    if event["type"] == LOWERED:
        words = f"{data['target']}: lowered to {data['level']} by {data['by']}"
    else:
        words = f"{data['target']}: {data['level']} by {data['by']}"
    return f"{'DRILL ' if data['drill'] else ''}{words}"
