"""The ladder of the kill switch: seven levels, and what each does to what it covers.

`LADDER` is the definition; the guard, the cells and docs/semantics.md read it. From rung to rung no column ever gets milder
(`Fate` is ordered from mild to strict, and a test holds the table to it), so of several orders that cover a message the one with
the highest level says all there is to say, and raising can only ever make things stricter.

What the levels do not do: none of them takes back what was done, and none reaches a thread or a process that acts outside AIP
before its process is ended (terminate and above, `actors/node_agent.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum, IntEnum
from functools import total_ordering


@total_ordering
class Level(Enum):
    """Ordered as written: each is stricter than the one before."""

    THROTTLE = "throttle"
    PAUSE = "pause"
    QUARANTINE = "quarantine"
    DRAIN = "drain"
    TERMINATE = "terminate"
    REVOKE = "revoke"
    LOCKDOWN = "lockdown"

    rank: int

    def __init__(self, word: str) -> None:
        self.rank = len(type(self).__members__)

    def __lt__(self, other: object) -> bool:
        return self.rank < other.rank if isinstance(other, Level) else NotImplemented

    def __str__(self) -> str:
        return str(self.value)


class Fate(IntEnum):
    """What happens to a thing under an order, from mild to strict."""

    GOES_ON = 0
    METERED = 1
    WAITS = 2
    REFUSED = 3
    STOPPED = 4
    VOID = 5

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS = {
    Fate.GOES_ON: "goes on",
    Fate.METERED: "at the order's rate",
    Fate.WAITS: "waits",
    Fate.REFUSED: "refused",
    Fate.STOPPED: "stopped",
    Fate.VOID: "void",
}


@dataclass(frozen=True, slots=True)
class Conduct:
    """One rung. A message that waits does so in its receiver's mailbox, until the order is lowered or its deadline passes."""

    messages: Fate  # New ones, to, from and on behalf of the target.
    waiting: Fate  # Those that stand in a mailbox already.
    turns: Fate  # Running ones.
    effects: Fate  # Those that have not begun; one that has is never cut in two.
    new_agents: Fate  # Activations and spawns.
    credentials: Fate  # Tokens and leases that the target holds.
    processes: Fate  # Cells and runs that would be started for the target.


_GO, _RATE, _WAIT, _NO = Fate.GOES_ON, Fate.METERED, Fate.WAITS, Fate.REFUSED

#                                    messages waiting turns         effects new agents credentials processes
LADDER: dict[Level, Conduct] = {
    Level.THROTTLE: Conduct(_RATE, _RATE, _GO, _GO, _RATE, _GO, _GO),
    Level.PAUSE: Conduct(_WAIT, _WAIT, _GO, _GO, _WAIT, _GO, _GO),
    Level.QUARANTINE: Conduct(_WAIT, _WAIT, _GO, _NO, _WAIT, _GO, _GO),
    Level.DRAIN: Conduct(_NO, _NO, _GO, _NO, _NO, _GO, _GO),
    Level.TERMINATE: Conduct(_NO, _NO, Fate.STOPPED, _NO, _NO, _GO, _GO),
    Level.REVOKE: Conduct(_NO, _NO, Fate.STOPPED, _NO, _NO, Fate.VOID, _GO),
    Level.LOCKDOWN: Conduct(_NO, _NO, Fate.STOPPED, _NO, _NO, Fate.VOID, _NO),
}
FREE = Conduct(_GO, _GO, _GO, _GO, _GO, _GO, _GO)

ENDING = Level.TERMINATE  # From here on running turns are stopped, and runs end as killed.


def table() -> list[str]:
    """The ladder as docs/semantics.md shows it."""
    columns = [field.name.replace("_", " ") for field in fields(Conduct)]
    lines = [f"| level | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for level, conduct in LADDER.items():
        fates = [getattr(conduct, field.name).words for field in fields(Conduct)]
        lines.append(f"| {level} | {' | '.join(fates)} |")
    return lines
