"""The policy in one process: asked by its guard for every message, swapped when another version comes into force.

    AIP_HOME/policy/versions.json   looked at ten times a second (one `stat`); what is new is prepared in a thread, then swapped

What a decision obliges to is met here or the message is refused:

    label           the session has seen data with these labels, from now on and for good (`session_labels.py`)
    isolation       the target's must be at least that: it was in the input, so the decision holds it
    record_before   the effect gateway's order has it anyway
    notice          words for people; nothing to do

Facts that change are told where the rules in force read them, and cost nothing where they do not:

    rates           what this process has counted of the sender, in this second (`governance/policy/rate.py`)
    budget          what is left on the message's account, as far as `budget` knows
    kill.level      the strictest order that covers the message and lets it pass
    now_s           the second
    subject         of a spawn: how deep in its family, and how many children (`governance/policy/descent.py`)

Rates and budgets are told in steps (`governance/policy/steps.py`), so that messages which differ in nothing else are decided
once. Nothing tells of reputation yet: it is 1.

Without a policy in force nothing passes. A version that cannot be prepared leaves the one before in force, and is said.
"""

from __future__ import annotations

import asyncio
import getpass
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from aip.errors import AIPError, Corrupt, PlatformUnavailable
from aip.governance.policy import rollout, steps, store
from aip.governance.policy.check import PolicyCheck, words
from aip.governance.policy.descent import Descent
from aip.governance.policy.engine import Decision, PolicyError
from aip.governance.policy.input import (
    KINDS,
    Input,
    Kill,
    Kind,
    Level,
    Principal,
    Session,
    Subject,
    Target,
    of_envelope,
)
from aip.governance.policy.rate import RateMeter
from aip.governance.policy.rego import Prepared, prepare
from aip.governance.policy.serving import Serving
from aip.governance.policy.trial import Trial
from aip.governance.session_labels import SessionLabels
from aip.ids import base_type
from aip.runtime.envelope import Envelope
from aip.settings import Home

if TYPE_CHECKING:
    from aip.governance.effects.gateway import Proposal, Ruling

LOOK_EVERY_S = 0.1
FIRST_S = 60.0  # So long a process waits for the first policy of a new home: engines may have to be compared.
MET = frozenset({"isolation", "record_before", "notice"})  # By what was decided on, or by the road itself.
BIRTH = "aip.start"  # What an agent asks of one that it spawns; a person's agents are not its children.
PERSONS = frozenset({"run", "client"})  # Kinds of senders that a person stands behind.

Isolation = Literal["cell", "process", "container"]
Note = Callable[[str, str, Mapping[str, Any]], None]
Budget = Callable[[str], Mapping[str, int]]  # Account -> unit -> what is left.
Covered = Callable[[Envelope], str]  # The level of the strictest order on a message, or `none`.


class UnknownObligation(PolicyError):
    code = "policy.obligation"
    default_hint = "this version of AIP cannot meet what the policy obliges it to"


class Facts(NamedTuple):
    """What the input of a message is made of: two messages with equal facts have equal inputs."""

    kind: Kind
    sender: str  # Of sender and recipient the address where the rules read addresses; else the type.
    recipient: str
    capability: str
    run: str
    tenant: str
    tags: tuple[tuple[str, str], ...]
    seen: tuple[str, ...]
    isolation: Isolation
    rate: int
    budget: tuple[tuple[str, int], ...]
    level: str
    second: int
    depth: int
    children: int


def nothing_left_to_tell(account: str) -> Mapping[str, int]:
    """A budget that nobody here knows of."""
    return {}


def nothing_stands(envelope: Envelope) -> str:
    return "none"


class LocalPolicy:
    """`check` is the guard's; `follow` is a task."""

    def __init__(
        self,
        home: Home,
        note: Note,
        isolation: Callable[[str], Isolation],
        *,
        budget: Budget = nothing_left_to_tell,
        level: Covered = nothing_stands,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._home = home
        self._note = note
        self._isolation = isolation
        self._serving = Serving()
        self._labels = SessionLabels(home.state / "sessions")
        self._stamp: tuple[int, int] | None = None
        # One person's platform: all that happens on it happens for that person. Their own words have their rights, too; what
        # an agent says has those of its type only.
        self._owner = Principal(id=f"user:{getpass.getuser()}")
        self._operator = Principal(id=self._owner.id, roles=("operator",))
        self._budget = budget
        self._level = level
        self._clock = clock
        self._rates = RateMeter()
        self._descent = Descent(home.state / "kill" / "lineage")
        self.number = -1
        self._serve_with(frozenset())
        self.check = PolicyCheck(self._serving, self, self._oblige)

    def _serve_with(self, reads: frozenset[tuple[str, ...]]) -> None:
        """Which facts the rules in force ask for."""
        self._reads_addresses = ("subject", "address") in reads or ("target", "address") in reads
        self._reads_rates = ("rates",) in reads
        self._reads_budget = ("budget",) in reads
        self._reads_level = ("kill", "level") in reads
        self._reads_descent = ("subject", "depth") in reads or ("subject", "children") in reads
        self._reads_time = ("now_s",) in reads

    @property
    def revision(self) -> str:
        bundle = self._serving.bundle
        return "" if bundle is None else bundle.revision

    def decide(self, input: Input, id: str) -> Decision:
        return self._serving.decide(input, id=id)

    async def open(self) -> None:
        """Wait for the policy in force. Raises `PlatformUnavailable` where there is none."""
        deadline = time.monotonic() + FIRST_S
        while self.number < 0:
            await self._look()
            if self.number < 0:
                if time.monotonic() > deadline:
                    raise PlatformUnavailable(
                        "no policy came into force", hint="see `aip policy show`, `aip audit tail`"
                    )
                await asyncio.sleep(LOOK_EVERY_S)

    async def follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self._look()

    async def _look(self) -> None:
        stamp = _stamp_of(rollout.folder(self._home) / store.VERSIONS)
        if stamp is None or stamp == self._stamp:
            return
        try:
            versions = await asyncio.to_thread(store.load, rollout.folder(self._home))
            if versions.active is not None and versions.number > self.number:
                ready = await asyncio.to_thread(self._prepared, versions.active)
                self._serving.activate(ready.engine)
                self._serve_with(self._serving.reads)
                self.check.forget()
                self.number = versions.number
        except (AIPError, OSError) as error:
            self._note("policy.not_taken", str(rollout.folder(self._home)), {"error": str(error)[:1_000]})
        self._stamp = stamp

    def _prepared(self, version: store.Version) -> Prepared:
        bundle, certificate = store.get(rollout.folder(self._home), version, rollout.trusted(self._home))
        # Engines were compared when the version was activated, and the outcome is its certificate: a cell compares nothing.
        return prepare(bundle, certificate, try_out=lambda *_: Trial())

    # For the guard ---------------------------------------------------------------------------------------------------

    def facts(self, envelope: Envelope, now: float) -> tuple[Any, ...]:
        """The fields of `Facts`, as a bare tuple: it is made for every message, and nearly always only looked up."""
        sender, recipient, kind = envelope.sender, envelope.recipient, KINDS[envelope.kind]
        depth = children = 0
        if envelope.capability == BIRTH and sender.partition("/")[0] not in PERSONS:
            kind = "spawn"
            if self._reads_descent:
                depth, children = self._descent.of(sender)
        isolation = self._isolation(recipient)
        rate = self._rates.count(sender, kind, now) if self._reads_rates else 0
        if not self._reads_addresses:
            sender, recipient = sender.partition("/")[0], recipient.partition("/")[0]
        return (
            kind,
            sender,
            recipient,
            envelope.capability,
            envelope.run,
            envelope.tenant,
            envelope.labels,
            self._labels.seen(session_of(envelope)),
            isolation,
            rate,
            self._left(envelope.budget) if self._reads_budget and envelope.budget else (),
            self._level(envelope) if self._reads_level else "none",
            int(now) if self._reads_time else 0,
            depth,
            children,
        )

    def input(self, envelope: Envelope, facts: tuple[Any, ...]) -> Input:
        known = Facts._make(facts)
        spoken = known.sender.partition("/")[0] in PERSONS
        subject = Subject(
            address=envelope.sender,
            type=base_type(envelope.sender),
            tenant=known.tenant,
            depth=known.depth,
            children=known.children,
        )
        return of_envelope(
            envelope,
            kind=known.kind,
            capability="" if known.kind == "spawn" else known.capability,
            subject=subject,
            principal=self._operator if spoken else self._owner,
            session=Session(labels=known.seen),
            isolation=known.isolation,
            rates={known.kind: float(known.rate)} if known.rate else {},
            budget={unit: float(left) for unit, left in known.budget},
            kill=_kill(known.level),
            now_s=float(known.second),
        )

    def _left(self, account: str) -> tuple[tuple[str, int], ...]:
        return tuple((unit, steps.down(left)) for unit, left in sorted(self._budget(account).items()))

    async def rule(self, proposal: Proposal) -> Ruling:
        """The ruling on an effect, for the gateway. What is obliged to and met here is left out of it."""
        from aip.governance.effects.gateway import (
            Ruling,  # The gateway's process has it anyway; a cell need not.
        )

        envelope, agent = proposal.stamp.told(), proposal.stamp.agent
        now = self._clock()
        rate = self._rates.count(agent, "effect", now) if self._reads_rates else 0
        input = of_envelope(
            envelope,
            kind="effect",
            subject=Subject(address=agent, type=base_type(agent), tenant=envelope.tenant),
            target=Target(address=proposal.connector, type=proposal.kind, tenant=envelope.tenant),
            capability=action_of(proposal.request),
            principal=self._owner,
            session=Session(labels=self._labels.seen(session_of(envelope))),
            rates={"effect": float(rate)} if rate else {},
            kill=_kill(self._level(envelope) if self._reads_level else "none"),
            now_s=float(int(now)) if self._reads_time else 0.0,
        )
        decision = self._serving.decide(input, id=f"{envelope.id}/{proposal.key}"[:512])
        open_duties = []
        if decision.allow:
            for duty in decision.obligations:
                if duty.get("kind") == "label":
                    self.saw(session_of(envelope), tuple(duty["labels"]))
                elif duty.get("kind") not in MET:
                    open_duties.append(duty)
        reasons = tuple(words(reason) for reason in decision.reasons)
        return Ruling(decision.allow, reasons, decision.revision, decision.id, tuple(open_duties))

    def _oblige(self, envelope: Envelope, decision: Decision) -> bool:
        owes_nothing = True
        for duty in decision.obligations:
            kind = duty.get("kind")
            if kind == "label":
                self.saw(session_of(envelope), tuple(duty["labels"]))
                owes_nothing = False  # The next session must be told, too.
            elif kind not in MET:
                raise UnknownObligation(f"the policy obliges to {kind!r}")
        return owes_nothing

    def saw(self, session: str, labels: tuple[str, ...]) -> None:
        try:
            self._labels.add(session, labels, self._clock())
        except OSError as error:
            raise Corrupt(f"what {session} has seen cannot be kept: {error}") from error

    def close(self) -> None:
        self._labels.close()


def action_of(request: Any) -> str:
    """What of its connector an effect wants: an HTTP method, a file's mode, a command."""
    if isinstance(request, Mapping):
        for name in ("method", "mode", "command"):
            if isinstance(word := request.get(name), str):
                return word.lower()[:64]
    return ""


def session_of(envelope: Envelope) -> str:
    """The run; outside of runs the conversation, or what began it."""
    return envelope.run or envelope.conversation or (envelope.chain[0] if envelope.chain else envelope.sender)


def _kill(level: str) -> Kill:
    return Kill(level=cast(Level, level))  # One vocabulary: the ladder's.


def _stamp_of(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino
