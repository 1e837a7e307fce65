"""What the log shows of a stretch of time, counted in one pass: the numbers that a compliance report stands on.

Counted, not judged: `compliance.py` says which clause a number bears on, and what it does not show. Lists are bounded and say
what they left out; counts are exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from . import fact
from .export import Tally
from .fact import Entry
from .proof_file import Revision
from .selection import Selection

LISTED_MAX = (
    200  # Stop orders and decisions of one report: what a person reads; the counts beside them are exact.
)
OPEN_MAX = 100_000  # Gates and effects that are remembered until they end, some 20 MB.
ANY_TIME = Selection()
KINDS_MAX = 500  # Different kinds that are counted apart. Producers have some 40.


@dataclass(frozen=True, slots=True)
class StopOrder:
    """A kill order, as recorded."""

    at: float
    target: str
    by: str
    reason: str
    level: str
    """How far it goes: throttle to lockdown (docs/semantics.md)."""
    lifted: bool
    recorded_after_s: float | None
    """From the order to its entry; the order was in force before (docs/semantics.md, K1)."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided at a gate."""

    at: float
    run: str
    task: str
    by: str
    decision: str
    waited_s: float | None


@dataclass(slots=True)
class RecordFacts:
    tally: Tally = field(default_factory=Tally)
    kinds: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    persons: Counter[str] = field(default_factory=Counter)
    """Acts of people by kind."""
    calls: int = 0
    admitted: int = 0
    agents: set[str] = field(default_factory=set)
    """Types of agents, without their keys."""
    stop_orders: list[StopOrder] = field(default_factory=list)
    stop_orders_total: int = 0
    lifted_total: int = 0
    decisions: list[Decision] = field(default_factory=list)
    decisions_total: int = 0
    effects_open: int = 0
    """Begun, and no end recorded in this time: still running, or their outcome is unknown."""
    longest_silence_s: float = 0.0
    revision_before: Revision | None = None
    _gates: dict[tuple[str, str], float] = field(default_factory=dict)
    _effects: set[tuple[str, str]] = field(default_factory=set)
    _latest: float | None = None

    def count(self, entry: Entry) -> None:
        kind, at = str(entry["kind"]), float(entry["at"])
        self.tally.entry(entry)
        self.kinds[kind if kind in self.kinds or len(self.kinds) < KINDS_MAX else "(other kinds)"] += 1
        if self._latest is not None:
            self.longest_silence_s = max(self.longest_silence_s, at - self._latest)
        self._latest = at if self._latest is None else max(self._latest, at)
        for address in fact.agents_of(entry):
            if len(self.agents) < OPEN_MAX:
                self.agents.add(address.partition("/")[0].partition("@")[0])
        if fact.is_refusal(entry):
            self.refusals[fact.code_of(entry) or kind] += 1
        self.calls += sum(1 for _ in fact.rows_of(entry))
        admitted = fact.detail_of(entry).get("admitted")
        self.admitted += admitted if kind == "flush" and isinstance(admitted, int) else 0
        if fact.person_of(entry):
            self.persons[kind] += 1
        self._effect(entry, kind)
        self._oversight(entry, kind, at)

    def _effect(self, entry: Entry, kind: str) -> None:
        if not kind.startswith("effect."):
            return
        key = (str(entry["subject"]), fact.text_of(entry, "key"))
        if kind == "effect.begun" and len(self._effects) < OPEN_MAX:
            self._effects.add(key)
        elif kind in ("effect.done", "effect.failed") or (kind == "effect.refused" and key[1]):
            self._effects.discard(key)
        elif kind == "effect.refused":
            # Refused by a cell behind its intent: such an entry names the effect, not the key.
            name = fact.text_of(entry, "effect")
            self._effects -= {
                one for one in self._effects if one[0] == key[0] and one[1].startswith(f"{name}:")
            }
        self.effects_open = len(self._effects)

    def _oversight(self, entry: Entry, kind: str, at: float) -> None:
        run, task, by = fact.run_of(entry), fact.text_of(entry, "task"), fact.person_of(entry)
        if kind == "gate.opened" and len(self._gates) < OPEN_MAX:
            self._gates[(run, task)] = at
        elif kind == "run.decide":
            opened = self._gates.pop((run, task), None)
            self.decisions_total += 1
            if len(self.decisions) < LISTED_MAX:
                said = fact.text_of(entry, "decision") or "decided"
                self.decisions.append(
                    Decision(at, run, task, by, said, None if opened is None else at - opened)
                )
        elif kind in ("kill", "kill.lifted"):
            lifted = kind == "kill.lifted"
            self.lifted_total += lifted
            self.stop_orders_total += not lifted
            if len(self.stop_orders) < LISTED_MAX:
                ordered = fact.detail_of(entry).get("ordered_at")
                after = at - ordered if isinstance(ordered, int | float) else None
                level = (
                    fact.text_of(entry, "level") or "terminate"
                )  # What orders meant before there were levels.
                why = fact.reason_of(entry)
                self.stop_orders.append(StopOrder(at, str(entry["subject"]), by, why, level, lifted, after))


def gather(entries: Iterable[Entry], selection: Selection = ANY_TIME) -> RecordFacts:
    """The facts of a time, with the policy revision that was in force when it began."""
    facts = RecordFacts()
    for entry in entries:
        if selection.in_time(entry):
            facts.count(entry)
        elif not facts.tally.entries and (revision := fact.revision_of(entry)):
            facts.revision_before = Revision(int(entry["index"]), float(entry["at"]), revision)
    return facts
