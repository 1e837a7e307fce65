"""When a failed request is tried again: after what the endpoint says, else after an exponential pause with full jitter.

Full jitter (a uniform draw from nothing to the pause) spreads a crowd that was refused together over the whole interval
(M. Brooker, "Exponential Backoff and Jitter", 2015). What the endpoint says is a floor, and jitter comes on top of it.
"""

from __future__ import annotations

import random
from email.utils import parsedate_to_datetime

INITIAL_S = 0.5
FACTOR = 2.0
PAUSE_S_MAX = 60.0  # An endpoint that asks for a longer pause is asked again by whoever retries the task, not by this call.
HEARD_JITTER = 0.1  # Of a pause that the endpoint named: all who were refused were told the same moment.


def pause_s(attempt: int, after_s: float | None, rng: random.Random) -> float:
    """Seconds until the next attempt, where `attempt` of them have failed (1, 2, …)."""
    if after_s is not None:
        return after_s * (1 + HEARD_JITTER * rng.random())
    ceiling: float = min(INITIAL_S * FACTOR ** (attempt - 1), PAUSE_S_MAX)
    return ceiling * rng.random()


def retry_after_s(header: str | None, now_s: float) -> float | None:
    """`Retry-After` (RFC 9110, 10.2.3): seconds, or a date. None where there is none that can be understood."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - now_s
        except ValueError:
            return None
    return max(0.0, seconds) if seconds < float("inf") else None
