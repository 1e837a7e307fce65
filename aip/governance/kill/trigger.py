"""What raises orders by itself: detectors that are told what happens, and answer which orders follow. Pure.

    detector         told                              raises                        armed again
    breaker storm    a circuit opened                  on the platform               when its window is empty
    spend rate       a run spent                       on that run                   when a minute is within its rate
    audit failure    the log confirmed, or did not     on the platform               when it confirms
    lost quorum      a majority is held, or is not     on the platform               when it is held

A detector raises once and is then silent until what it watches was well again: an operator who lowers its order is not overruled
a second later by the same storm. No detector ever lowers anything. Thresholds are in `settings.py`; each can be off.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from .ladder import Level
from .orders import KillOrder
from .settings import AuditFailure, BreakerStorm, LostQuorum, SpendRate, Triggers
from .target import PLATFORM

RUNS_MAX = (
    10_000  # Whose spending is watched at the same time; the one that was silent longest is forgotten first.
)
MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class CircuitOpened:
    circuit: str


@dataclass(frozen=True, slots=True)
class Spent:
    run: str
    unit: str
    amount: int


@dataclass(frozen=True, slots=True)
class AuditAnswered:
    confirmed: bool


@dataclass(frozen=True, slots=True)
class QuorumSeen:
    held: bool


Event = CircuitOpened | Spent | AuditAnswered | QuorumSeen


class Storm:
    def __init__(self, settings: BreakerStorm) -> None:
        self._settings = settings
        self._opened: dict[str, float] = {}
        self._raised = False

    def feed(self, event: CircuitOpened, now: float) -> KillOrder | None:
        settings = self._settings
        while self._opened and next(iter(self._opened.values())) <= now - settings.window_s:
            del self._opened[next(iter(self._opened))]
        if not self._opened:
            self._raised = False
        self._opened.pop(event.circuit, None)
        self._opened[event.circuit] = now
        if self._raised or len(self._opened) < settings.circuits:
            return None
        self._raised = True
        reason = f"{len(self._opened)} circuits opened within {settings.window_s:g} s"
        return _order("breaker_storm", PLATFORM, settings, reason, now)


class Spending:
    def __init__(self, settings: SpendRate) -> None:
        self._settings = settings
        self._spent: dict[str, deque[tuple[float, str, int]]] = {}
        self._raised: set[str] = set()

    def feed(self, event: Spent, now: float) -> KillOrder | None:
        if event.unit not in self._settings.per_minute:
            return None
        minute = self._spent.pop(event.run, None) or deque()
        self._spent[event.run] = minute
        minute.append((now, event.unit, event.amount))
        while minute[0][0] <= now - MINUTE_S:
            minute.popleft()
        if len(self._spent) > RUNS_MAX:
            self._raised.discard(next(iter(self._spent)))
            del self._spent[next(iter(self._spent))]
        total = sum(amount for _, unit, amount in minute if unit == event.unit)
        limit = self._settings.per_minute[event.unit]
        if total <= limit:
            self._raised.discard(event.run)
            return None
        if event.run in self._raised:
            return None
        self._raised.add(event.run)
        reason = f"spent {total} {event.unit} within a minute; {limit} are allowed"
        return _order("spend_rate", f"run/{event.run}", self._settings, reason, now)


class Outage:
    """Something that has to hold and does not for a while."""

    def __init__(self, name: str, settings: AuditFailure | LostQuorum, words: str) -> None:
        self._name = name
        self._settings = settings
        self._words = words
        self._since: float | None = None
        self._raised = False

    def feed(self, well: bool, now: float) -> KillOrder | None:
        if well:
            self._since, self._raised = None, False
            return None
        self._since = now if self._since is None else self._since
        if self._raised or now - self._since < self._settings.after_s:
            return None
        self._raised = True
        reason = f"{self._words} for {now - self._since:.0f} s"
        return _order(self._name, PLATFORM, self._settings, reason, now)


class Detectors:
    """All that are on. `feed` answers the order that follows, if one does."""

    def __init__(self, settings: Triggers) -> None:
        self._settings = settings
        self._storm = Storm(settings.breaker_storm)
        self._spending = Spending(settings.spend_rate)
        self._audit = Outage("audit_failure", settings.audit_failure, "the audit log has confirmed nothing")
        self._quorum = Outage("lost_quorum", settings.lost_quorum, "the control state has had no majority")

    def feed(self, event: Event, now: float) -> KillOrder | None:
        on = self._settings
        match event:
            case CircuitOpened() if on.breaker_storm.enabled:
                return self._storm.feed(event, now)
            case Spent() if on.spend_rate.enabled:
                return self._spending.feed(event, now)
            case AuditAnswered(confirmed=well) if on.audit_failure.enabled:
                return self._audit.feed(well, now)
            case QuorumSeen(held=well) if on.lost_quorum.enabled:
                return self._quorum.feed(well, now)
        return None


def _order(
    name: str,
    target: str,
    settings: BreakerStorm | SpendRate | AuditFailure | LostQuorum,
    reason: str,
    now: float,
) -> KillOrder:
    level = Level(settings.level)
    rate = settings.rate if level is Level.THROTTLE else 0.0
    return KillOrder(target, now, f"trigger:{name}", reason, level=level, rate=rate)
