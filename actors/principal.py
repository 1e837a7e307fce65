"""The guard's second check: who speaks.

A message names its sender. Inside one platform the cell that a message leaves is the authority on who speaks through it: its
own agents, or the one principal (a run, a client) that its process is. What is left to check is the form: a sender and a tenant
that are well-formed, and no capability out of the reserved `aip.` names except those that start an agent and tell what it can
do. The identity issue puts credentials behind this place.
"""

from __future__ import annotations

from aip.errors import Denied
from aip.ids import KEY, TYPE
from aip.runtime.envelope import Envelope

RESERVED = "aip."
OPEN = frozenset({"aip.start", "aip.describe"})


class PrincipalCheck:
    name = "principal"

    def __init__(self) -> None:
        self._known: set[str] = set()

    def peek(self, envelope: Envelope, now: float) -> Denied | None:
        sender = envelope.sender
        if sender not in self._known:
            kind, _, key = sender.partition("/")
            if not TYPE.match(kind) or not KEY.match(key):
                return Denied(f"the sender {sender!r} is no principal")
            if len(self._known) > 100_000:
                self._known.clear()
            self._known.add(sender)
        if envelope.capability.startswith(RESERVED) and envelope.capability not in OPEN:
            return Denied(f"{envelope.capability} is not for agents to call")
        return None
