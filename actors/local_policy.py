"""The policy in one process: asked by its guard for every message, swapped when another version comes into force.

    AIP_HOME/policy/versions.json   looked at ten times a second (one `stat`); what is new is prepared in a thread, then swapped

What a decision obliges to is met here or the message is refused:

    label           the session has seen data with these labels, from now on and for good (`session_labels.py`)
    isolation       the target's must be at least that: it was in the input, so the decision holds it
    record_before   the effect gateway's order has it anyway
    notice          words for people; nothing to do

Without a policy in force nothing passes. A version that cannot be prepared leaves the one before in force, and is said.
"""

from __future__ import annotations

import asyncio
import getpass
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aip.errors import AIPError, Corrupt, PlatformUnavailable
from aip.governance.policy import rollout, store
from aip.governance.policy.check import PolicyCheck, words
from aip.governance.policy.engine import Decision, PolicyError
from aip.governance.policy.input import Input, Principal, Session, Subject, Target, of_envelope
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
PERSONS = frozenset({"run", "client"})  # Kinds of senders that a person stands behind.

Isolation = Literal["cell", "process", "container"]
Note = Callable[[str, str, Mapping[str, Any]], None]


class UnknownObligation(PolicyError):
    code = "policy.obligation"
    default_hint = "this version of AIP cannot meet what the policy obliges it to"


class LocalPolicy:
    """`check` is the guard's; `follow` is a task."""

    def __init__(self, home: Home, note: Note, isolation: Callable[[str], Isolation]) -> None:
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
        self.number = -1
        self.check = PolicyCheck(self._serving, self._oblige, self._describe)

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
                self.number = versions.number
        except (AIPError, OSError) as error:
            self._note("policy.not_taken", str(rollout.folder(self._home)), {"error": str(error)[:1_000]})
        self._stamp = stamp

    def _prepared(self, version: store.Version) -> Prepared:
        bundle, certificate = store.get(rollout.folder(self._home), version, rollout.trusted(self._home))
        # Engines were compared when the version was activated, and the outcome is its certificate: a cell compares nothing.
        return prepare(bundle, certificate, try_out=lambda *_: Trial())

    # For the guard ---------------------------------------------------------------------------------------------------

    def _describe(self, envelope: Envelope, now: float) -> Input:
        spoken = envelope.sender.partition("/")[0] in PERSONS
        return of_envelope(
            envelope,
            principal=self._operator if spoken else self._owner,
            session=Session(labels=self._labels.seen(session_of(envelope))),
            isolation=self._isolation(envelope.recipient),
        )

    async def rule(self, proposal: Proposal) -> Ruling:
        """The ruling on an effect, for the gateway. What is obliged to and met here is left out of it."""
        from aip.governance.effects.gateway import (
            Ruling,  # The gateway's process has it anyway; a cell need not.
        )

        envelope, agent = proposal.stamp.told(), proposal.stamp.agent
        input = of_envelope(
            envelope,
            kind="effect",
            subject=Subject(address=agent, type=base_type(agent), tenant=envelope.tenant),
            target=Target(address=proposal.connector, type=proposal.kind, tenant=envelope.tenant),
            capability=action_of(proposal.request),
            principal=self._owner,
            session=Session(labels=self._labels.seen(session_of(envelope))),
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

    def _oblige(self, envelope: Envelope, decision: Decision) -> None:
        for duty in decision.obligations:
            kind = duty.get("kind")
            if kind == "label":
                self.saw(session_of(envelope), tuple(duty["labels"]))
            elif kind not in MET:
                raise UnknownObligation(f"the policy obliges to {kind!r}")

    def saw(self, session: str, labels: tuple[str, ...]) -> None:
        try:
            self._labels.add(session, labels, time.time())
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


def _stamp_of(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino
