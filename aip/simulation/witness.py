"""Who watches: it sees what agents, callers and the outside see, and holds it against docs/semantics.md.

The witness knows nothing of the runtime's insides. It is told by the agents themselves what they were handed and when, by
callers what came back, by the shard what it accepted, by the outside what was done to it; it keeps its own, much simpler model
of each promise and names the row that was broken. What happens in a process that is dead is not heard: it reached nobody.

    row        is held against
    D1         every outcome, and at the end every call without one
    D2 D4      every start of a turn: each envelope once; tells that were neither started nor accounted for
    D3         every stream at its reader
    D5         calls into a process that died, half a second after their caller was told
    O1 O2      every start of a turn
    O3         mailboxes and stall queues, ten times a second; neighbours of a flooded agent, at the end
    O4 O5      circles and cancellations, at the end, in fair weather
    B3         every refusal at a border: nobody lies here, so there is none
    A2 A3 A5   every activation, every checkpoint and effect that the shard accepts
    A4         in seeds where nothing fails, every call and tell across a hand-over
    E1-E4      every start of an effect's action
    J1 R1-R3   every event of the run's journal, every dispatch
    K1 K4      every start of a turn and of an action; orders after a restart
    alive      two generations of one name at a time
    settled    the guard's permits: each given back exactly once
    leak       what cells still hold when nothing goes on any more
    live       every agent answers once the weather has cleared
    internal   exceptions that nobody caught
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol

from ..errors import AgentLost
from ..ids import base_type, type_of
from ..runtime.envelope import Envelope, Kind

LATE_S = 0.05  # Scheduling between a deadline and the caller that hears of it.
TAIL_EVENTS = 60
VIOLATIONS_MAX = 20  # The first one matters; more only show how far it went.

DELIVERY = ("D1", "D2", "D3", "D4", "D5", "O1", "O2", "O3", "O4", "O5")
STATE = ("B3", "A2", "A3", "A4", "A5", "E1", "E2", "E3", "E4", "J1", "R1", "R2", "R3", "K1", "K4")
ROWS = (*DELIVERY, *STATE, "alive", "settled", "leak", "live", "internal")


class Place(Protocol):
    """A process, as far as the witness cares."""

    name: str
    generation: int
    alive: bool


@dataclass(frozen=True, slots=True)
class Violation:
    row: str
    text: str
    at_s: float


@dataclass(slots=True)
class Out:
    """A call that is out."""

    uid: str
    caller: Place
    deadline: float
    served_by: Place | None = None


@dataclass(slots=True)
class Tell:
    """A tell, from the guard's yes to its start."""

    uid: str
    sender: Place
    recipient: str


@dataclass(slots=True)
class Effect:
    """One piece of outside work: what the outside saw of it."""

    starts: int = 0
    open: int = 0
    raised: int = 0
    done: int = 0


@dataclass(slots=True)
class Life:
    """What is known of one agent over all its activations."""

    granted: int = 0
    unused: dict[int, tuple[str, int]] = field(
        default_factory=dict
    )  # incarnation -> cell, state acknowledged then
    acknowledged: int = 0
    attempted: int = 0
    running: dict[int, list[tuple[str, Place]]] = field(default_factory=dict)  # incarnation -> turns


class Witness:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.events = 0
        self.tail: deque[tuple[float, str]] = deque(maxlen=TAIL_EVENTS)
        self._hash = blake2b(digest_size=16)
        self.violations: list[Violation] = []
        self.checked: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.out: dict[str, Out] = {}
        self.tells: dict[str, Tell] = {}
        self.tells_noted = 0
        self.strict = False  # Nothing fails in this seed: nothing may be lost.
        self.doubtful = False  # Processes die in this seed, or are believed dead.
        self.standing: dict[str, None] = {}  # Kill orders.
        self._started: dict[str, None] = {}  # Envelopes handed to agents.
        self._sequence: dict[tuple[str, str, tuple[int, int]], int] = {}  # How far a pair has come.
        self._lives: dict[str, Life] = {}
        self._effects: dict[tuple[str, str], Effect] = {}
        self._answered: Counter[tuple[str, int, str]] = Counter()

    # The record -------------------------------------------------------------------------------------------------------

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def event(self, kind: str, *fields: object) -> None:
        text = f"{kind} {' '.join(map(str, fields))}"
        now = self._clock()
        self.events += 1
        self._hash.update(f"{now:.9f} {text}\n".encode())
        self.tail.append((now, text))

    def violate(self, row: str, text: str) -> None:
        assert row in ROWS, row
        self.event("VIOLATION", row, text)
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(Violation(row, text, self._clock()))

    def hold(self, row: str, holds: bool, text: str) -> None:
        """One check of one row."""
        self.checked[row] += 1
        if not holds:
            self.violate(row, text)

    # Calls and tells, as their senders see them -----------------------------------------------------------------------

    def called(self, uid: str, caller: Place, deadline: float) -> None:
        self.event("call", uid, caller.name)
        self.out[uid] = Out(uid, caller, deadline)

    def outcome(self, uid: str, caller: Place, code: str, value: Any = None) -> None:
        """`code` is "ok", an error's code, or "cancelled" where the caller itself was."""
        out = self.out.pop(uid, None)
        if out is None or not caller.alive:
            return
        self.event("outcome", uid, code)
        self.outcomes[code] += 1
        late_s = self._clock() - out.deadline
        self.hold("D1", late_s <= LATE_S, f"{uid} ended {late_s:.3f} s after its deadline with {code}")
        if code == "ok":
            self.hold("D1", value == uid, f"{uid} was answered with {value!r}")
        if self.strict:
            self.hold("A4", code != AgentLost.code, f"{uid} ended in {code} although nothing failed")

    def told(self, uid: str, sender: Place, recipient: str) -> None:
        """Before `tell` is called: it may start before it returns."""
        self.event("tell", uid, sender.name)
        self.tells[uid] = Tell(uid, sender, recipient)

    def untold(self, uid: str, code: str) -> None:
        """`tell` raised: its sender knows."""
        self.tells.pop(uid, None)
        self.outcomes[f"tell {code}"] += 1

    def gone(self, place: Place) -> None:
        """A process died: what it was owed is void, what it ran is cut off."""
        self.event("crash", place.name, place.generation)
        for out in [out for out in self.out.values() if out.caller is place]:
            del self.out[out.uid]
        for life in self._lives.values():
            for incarnation in list(life.running):
                left = [turn for turn in life.running[incarnation] if turn[1] is not place]
                if left:
                    life.running[incarnation] = left
                else:
                    del life.running[incarnation]

    def served_by(self, place: Place) -> list[Out]:
        return [out for out in self.out.values() if out.served_by is place]

    def answered(self, place: Place, envelope: Envelope, code: str) -> None:
        """A cell gave a call its outcome. (One on its way may have before, believing it lost: its caller hears one.)"""
        if envelope.kind != Kind.TELL and code != AgentLost.code:
            self._answered[place.name, place.generation, envelope.id] += 1
            count = self._answered[place.name, place.generation, envelope.id]
            self.hold(
                "D1", count == 1, f"{place.name} answered {envelope.id} to {envelope.recipient} {count} times"
            )

    def noted(self, kind: str, message: str) -> None:
        """An audit entry. One about a tell that was started says that it failed, not that it was lost."""
        if kind in ("tell.failed", "tell.lost") and message not in self._started:
            self.tells_noted += 1

    # Turns, as agents see them ----------------------------------------------------------------------------------------

    @contextmanager
    def turn(
        self, place: Place, envelope: Envelope, incarnation: int, uid: str, *, reentrant: bool
    ) -> Iterator[None]:
        if not place.alive:
            yield
            return
        self._turn_began(place, envelope, incarnation, uid, reentrant=reentrant)
        mine = (envelope.id, place)
        running = self._life(envelope.recipient).running
        running.setdefault(incarnation, []).append(mine)
        try:
            yield
        finally:
            turns = running.get(incarnation, [])
            if mine in turns:
                turns.remove(mine)
                self.event("end", uid)
            if not turns:
                running.pop(incarnation, None)

    def _turn_began(
        self, place: Place, envelope: Envelope, incarnation: int, uid: str, *, reentrant: bool
    ) -> None:
        agent = envelope.recipient
        self.event("start", uid, agent, incarnation, place.name)
        tell = self.tells.pop(uid, None)
        row = "D4" if tell is None else "D2"
        self.hold(row, envelope.id not in self._started, f"{uid} was handed to {agent} twice")
        self._started[envelope.id] = None
        if uid in self.out:
            self.out[uid].served_by = place
        # The thread of a re-entrant agent's synchronous turn may come to it after the next turn's start.
        if not (reentrant and envelope.capability == "compute"):
            self._hold_order(envelope, incarnation)
        others = [message for message, _ in self._life(agent).running.get(incarnation, [])]
        if not reentrant:
            self.hold("O2", not others, f"{agent}#{incarnation} was handed {uid} while it was at {others}")
        self._hold_kill(envelope, f"{uid} was dispatched to {agent}")

    def _hold_order(self, envelope: Envelope, incarnation: int) -> None:
        sender, agent = envelope.sender, envelope.recipient
        # Where processes die, or are believed dead, what an agent had heard is lost with its incarnation, and an old
        # incarnation may still send: order holds between one life of the sender and one of the receiver.
        lives = (envelope.sequence >> 32, incarnation) if self.doubtful else (0, 0)
        last = self._sequence.get((sender, agent, lives), -1)
        self.hold("O1", envelope.sequence > last, f"{sender} → {agent}: {envelope.sequence:x} after {last:x}")
        self._sequence[sender, agent, lives] = max(last, envelope.sequence)

    def _hold_kill(self, envelope: Envelope, what: str) -> None:
        names = {f"run/{envelope.run}", "platform"}
        for address in (envelope.recipient, envelope.sender, *envelope.chain):
            names |= {address, type_of(address), base_type(address)}
        against = [target for target in self.standing if target in names]
        self.hold("K1", not against, f"{what} although an order against {against} stood")

    # Activations, checkpoints, effects --------------------------------------------------------------------------------

    def _life(self, agent: str) -> Life:
        return self._lives.setdefault(agent, Life())

    def granted(self, agent: str, cell: str, incarnation: int) -> None:
        life = self._life(agent)
        self.event("granted", agent, incarnation, cell)
        self.hold("A2", incarnation > life.granted, f"{agent} was given {incarnation} after {life.granted}")
        life.granted = max(life.granted, incarnation)
        life.unused[incarnation] = (cell, life.acknowledged)

    def activated(self, place: Place, agent: str, incarnation: int, restored: int) -> None:
        if not place.alive:
            return
        life = self._life(agent)
        self.event("activated", agent, incarnation, place.name, restored)
        cell, acknowledged = life.unused.pop(incarnation, ("nobody", 0))
        self.hold("A2", cell == place.name, f"{agent} acts as {incarnation} in {place.name}, given to {cell}")
        self.hold(
            "A5",
            acknowledged <= restored <= life.attempted,
            f"{agent}#{incarnation} found {restored}; {acknowledged} was acknowledged, {life.attempted} attempted",
        )

    def saving(self, agent: str, value: int) -> None:
        self.event("save", agent, value)
        life = self._life(agent)
        life.attempted = max(life.attempted, value)

    def saved(self, place: Place, agent: str, value: int) -> None:
        if place.alive:
            self.event("saved", agent, value)
            life = self._life(agent)
            life.acknowledged = max(life.acknowledged, value)

    def accepted(self, what: str, agent: str, incarnation: int) -> None:
        """The shard took a checkpoint, or granted an effect."""
        newest = self._life(agent).granted
        self.hold(
            "A3", incarnation >= newest, f"a {what} of {agent}#{incarnation} was accepted; {newest} exists"
        )

    def action(
        self, place: Place, agent: str, key: str, envelope: Envelope, *, idempotent: bool, durable: bool
    ) -> Callable[[str], None]:
        """The outside is touched. The answer takes how it went: `done` or `raised`."""
        if not place.alive:
            return lambda how: None
        self.event("effect", agent, key)
        effect = self._effects.setdefault((agent, key), Effect())
        self.hold("E1", durable, f"{agent} began {key} before its intent was on disk")
        self._hold_kill(envelope, f"effect {key} of {agent} began")
        if not idempotent:
            self.hold("E2", not effect.done, f"{agent} did {key} again, which was done")
            self.hold("E3", not effect.open, f"{agent} did {key} again, whose outcome is not known")
        effect.starts += 1
        effect.open += 1

        def ended(how: str) -> None:
            if how == "raised":
                effect.open -= 1
                effect.raised += 1
                self.checked["E4"] += 1
            elif how == "done":
                effect.open -= 1
                effect.done += 1

        return ended

    def power_cut(self, incarnations: dict[str, int], states: dict[str, int]) -> None:
        """Everything died and the disk lost what was not synced: what is left there is what counts from here on."""
        self.event("power cut")
        for agent, life in self._lives.items():
            life.granted = incarnations.get(agent, 0)
            life.unused.clear()
            life.acknowledged = states.get(agent, 0)
            # A sequence holds an incarnation. One that was never synced is given again, and its numbers with it.
        self._sequence.clear()
