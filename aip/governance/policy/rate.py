"""How many messages a second each agent sends, kind by kind, for policies that limit it.

Counted in windows of `WINDOW_S` that all agents of a process share: a message's rate is how many its sender has sent of its kind
in this window, itself among them, refused ones too. So a limit of N lets N pass in each window; two windows meet, and across
their border up to twice N may pass within a second. An agent lives in one cell, which sees all that it sends; where it moved,
the count begins again. Rates are told in steps (`steps.py`), rounded up.

A count costs one look into a dictionary: it stands on the road of every message. Beyond `SENDERS_MAX` in one window the rest are
counted together: bounded, and never less than what each of them sent.
"""

from __future__ import annotations

from . import steps

WINDOW_S = 1  # Rates are per second, and policies write them so.
SENDERS_MAX = (
    100_000  # Pairs of sender and kind: more than one process can host agents that speak within a second.
)
REST = ""  # Who is counted together.


class RateMeter:
    __slots__ = ("_begin_s", "_counts", "_end_s")

    def __init__(self) -> None:
        self._begin_s = self._end_s = 0
        self._counts: dict[
            str, dict[str, list[int]]
        ] = {}  # Kind -> sender -> how many, and what was told of it.

    def count(self, sender: str, kind: str, now: float) -> int:
        """One more message. How many that makes in this window, as a step."""
        if not self._begin_s <= now < self._end_s:
            self._begin_s = int(now) // WINDOW_S * WINDOW_S
            self._end_s = self._begin_s + WINDOW_S
            self._counts = {}
        senders = self._counts.get(kind)
        if senders is None:
            senders = self._counts[kind] = {}
        counted = senders.get(sender)
        if counted is None:
            counted = senders.setdefault(sender if len(senders) < SENDERS_MAX else REST, [0, 0])
        counted[0] += 1
        if counted[0] > counted[1]:
            counted[1] = steps.up(counted[0])
        return counted[1]
