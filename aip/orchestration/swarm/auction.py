"""A sealed-bid auction at second price, turned round: the lowest bid wins the work. Pure: bids in, award out.

The winner is paid what the next bidder asked, or the highest price that the plan allows where there is no next one (Vickrey,
"Counterspeculation, auctions, and competitive sealed tenders", Journal of Finance 16(1), 1961). What a bidder is paid does not
depend on its own bid, so that no bid serves it better than its true cost: asking more can only lose the work, asking less can
only win it below cost. That holds for bidders who do not agree with each other beforehand, and for one piece of work at a time.

A valid bid is a whole number of credits, not negative and at most the highest price. Everything else is no bid.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass

from ..budget import AMOUNT_MAX


@dataclass(frozen=True, slots=True)
class Award:
    """Who does the work, and what it is paid."""

    winner: str
    price: int


def valid_bid(answer: object, max_price: int) -> int | None:
    """The price in a bidder's answer, `{"price": 7}` or 7; None where it makes no valid bid."""
    price = answer.get("price") if isinstance(answer, dict) else answer
    if isinstance(price, bool) or not isinstance(price, int):
        return None
    return price if 0 <= price <= min(max_price, AMOUNT_MAX) else None


def award(bids: Mapping[str, int], max_price: int, draw: str) -> Award | None:
    """The award among valid bids; None where there are none. `draw` names the occasion: it decides between equal bids.

    The same bids on the same occasion give the same award: a run that starts again after a crash awards as it did before.
    """
    if not bids:
        return None
    lowest = min(bids.values())
    winner = drawn(sorted(name for name, price in bids.items() if price == lowest), draw)
    others = [price for name, price in bids.items() if name != winner]
    return Award(winner, min(others, default=max_price))


def drawn(names: list[str], occasion: str) -> str:
    """One of the names, each as likely as any other; always the same one on the same occasion."""
    seed = int.from_bytes(hashlib.sha256(occasion.encode()).digest())
    return random.Random(seed).choice(names)
