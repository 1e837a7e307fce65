"""Who may raise what. Raising is for anyone authorised, alone: what is asked here is only whether it is his to stop.

    a person, a trigger, the platform    anything
    an agent                             itself, and what descends from it

Lowering is `reset.py`'s, for everybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...errors import Denied, UsageError
from .ladder import Level
from .orders import KillOrder
from .pace import RATE_MAX, RATE_MIN
from .target import check_target

FREE = ("user:", "trigger:", "aip:")  # Whose orders are taken as they come.
REASON_CHARS_MAX = 2_000


def checked(
    target: str, by: str, reason: str, now: float, level: Level = Level.TERMINATE, rate: float = 0.0
) -> KillOrder:
    """A new order, its fields checked. Raises `UsageError`."""
    if level is Level.THROTTLE and not RATE_MIN <= rate <= RATE_MAX:
        raise UsageError(
            f"a throttle needs a rate from {RATE_MIN:g} to {RATE_MAX:g} turns a second, not {rate:g}",
            hint="aip kill TARGET --level throttle --rate 5",
        )
    if level is not Level.THROTTLE and rate:
        raise UsageError(f"only a throttle has a rate, not {level}")
    return KillOrder(check_target(target), now, by, reason[:REASON_CHARS_MAX], level=level, rate=rate)


def check_raise(by: str, target: str, born: Mapping[str, Iterable[str]]) -> None:
    """Raises `Denied` where `by` may not stop `target`. `born` tells the children of each parent."""
    if by.startswith(FREE) or by == target:
        return
    left, seen = [by], {by}
    while left:
        for child in born.get(left.pop(), ()):
            if child == target:
                return
            if child not in seen:
                seen.add(child)
                left.append(child)
    raise Denied(
        f"{by} may stop itself and its descendants, and {target} is neither",
        hint="an operator: `aip kill TARGET`",
        target=target,
    )
