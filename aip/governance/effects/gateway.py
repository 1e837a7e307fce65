"""The order of an effect: one procedure, with everything it touches handed in.

    step      what happens                                                           where it ends here
    stamp     who asks: the cell's MAC, once, fresh                                  refused, nothing recorded but the refusal
    request   the connector's model and allow-lists; a description for people        refused
    fence     a look at the kill orders, before any work                             refused
    grant     the connector is among those that the plan gives this agent            refused
    policy    the decision, asked for with what is to be done                        refused; also where nobody decides
    room      rate and places of the connector                                       refused, retryable
    intent    the ledger's record: incarnation current, key unused; fsynced          fenced, answered again, or in doubt
    audit     `effect.begun`, fsynced; without it nothing happens                    failed
    prepare   what can be taken back, and the first that the outside could notice    failed
    commit    the fence's revision and orders, then the irreversible call: ONE STEP  killed: failed, nothing was done
    outcome   what came of it: done, failed or unknown                               done, failed, or in doubt
    record    the outcome in the ledger, fsynced; its audit entry                    in doubt where it could not be recorded

"Failed" means that nothing happened and the same key may be tried again. Steps before `intent` leave no trace in the ledger.

The one step. `commit` does not wait and does not yield: it reads the revision, asks the orders, reads the revision again and
begins anew if it moved; the last thing before the connector's call is that read of one word. So:
    raised before that read            nothing is committed
    raised between read and return     the word has moved when the call returns: the effect stands, and is recorded as `raced`
    raised after the return            the effect was before the order
`raced` is the whole of what a second process can slip into: some microseconds, or as long as the kernel takes this process off
the processor. `barrier.py` lets whoever raises an order wait for exactly that, so that nothing is committed after `aip kill`
returns; that holds where the raiser calls it.

At most once for each key of an agent: a key whose outcome is known is answered with it and the request is not looked at by the
connector; the same key with another request is refused; a key whose outcome is unknown is `EffectInDoubt`, unless its connector
says that the outside tells repeats apart (`repeat_in_doubt`).

What is not promised: that an effect in doubt is ever found out, that the outside keeps its own word, or anything for processes
that do not come here. Sources: Gray, Reuter, "Transaction Processing" (1993), 11.3 "real" actions, for record before effect;
Kleppmann, "How to do distributed locking" (2016), for the token that the resource itself checks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from ...errors import (
    AIPError,
    DeadlineExceeded,
    Denied,
    EffectInDoubt,
    InvalidPayload,
    NotFound,
    PlatformUnavailable,
    Refused,
    from_record,
    to_record,
)
from ...runtime.envelope import Envelope
from ...runtime.ports import EffectGrant
from .connector import Connector, Prepared, line
from .failure import EffectFailed
from .quota import Quota
from .stamp import Stamp, Stamps, request_digest
from .vault import Vault

REQUEST_BYTES_MAX = 8 * 2**20  # The platform's payload_bytes_max: what is larger belongs in an artifact.
RESULT_BYTES_MAX = 8 * 2**20  # It is journaled by the ledger and travels back in one frame.
COMMIT_TRIES_MAX = 16  # Orders raised one after the other while we look; then the effect is refused.


class Step(StrEnum):
    STAMP = "stamp"
    REQUEST = "request"
    FENCE = "fence"
    GRANT = "grant"
    POLICY = "policy"
    ROOM = "room"
    INTENT = "intent"
    AUDIT = "audit"
    PREPARE = "prepare"
    COMMIT = "commit"
    OUTCOME = "outcome"
    RECORD = "record"


BEFORE_RECORD = frozenset(
    {Step.STAMP, Step.REQUEST, Step.FENCE, Step.GRANT, Step.POLICY, Step.ROOM, Step.INTENT}
)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What policy is asked about. `description` is what a person would be shown for an approval."""

    connector: str
    kind: str
    request: Any
    description: str
    key: str
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Ruling:
    """The policy's answer. An obligation that the gateway does not know is one that nobody would meet: it refuses."""

    allow: bool
    reasons: tuple[str, ...] = ()
    revision: str = ""
    id: str = ""
    obligations: tuple[Mapping[str, Any], ...] = ()


class Grants(Protocol):
    async def check(self, stamp: Stamp) -> None:
        """Raises `NotGranted` (`grant.py`)."""
        ...


class Policy(Protocol):
    async def rule(self, proposal: Proposal) -> Ruling: ...


class Ledger(Protocol):
    """Intents and outcomes by agent and key, durable when answered. `cell` must hold the agent, or it is `Fenced`."""

    async def begin_effect(
        self, agent: str, incarnation: int, key: str, idempotent: bool, cell: str
    ) -> EffectGrant: ...
    async def end_effect(self, agent: str, incarnation: int, key: str, result: bytes | None) -> None: ...


class Audit(Protocol):
    def note(self, kind: str, subject: str, detail: Mapping[str, Any]) -> None: ...
    async def record(self, kind: str, subject: str, detail: Mapping[str, Any]) -> None: ...


class Fence(Protocol):
    def revision(self) -> int: ...
    def against(self, envelope: Envelope, now: float) -> AIPError | None: ...


@dataclass(slots=True)
class _Effect:
    """One effect on its way through the steps."""

    stamp: Stamp
    request: bytes
    envelope: Envelope
    step: Step = Step.STAMP
    connector: Connector | None = None
    asked: Any = None  # The request, decoded.
    wish: Any = None
    says: str = ""
    ruling: Ruling = field(default_factory=lambda: Ruling(False))
    committed: bool = False
    raced: bool = False
    revision: int = 0
    time: asyncio.Timeout | None = None

    @property
    def ledger_key(self) -> str:
        return f"{self.stamp.connector}:{self.stamp.key}"


class _Done(msgspec.Struct, frozen=True, array_like=True):
    """What the ledger keeps of a known outcome: whose request it answered, and the answer."""

    request: bytes
    result: Any


_done = msgspec.msgpack.Decoder(_Done)
_encode = msgspec.msgpack.Encoder().encode
_request = msgspec.msgpack.Decoder()


class Gateway:
    """One procedure over its ports. Belongs to one event loop."""

    def __init__(
        self,
        connectors: Mapping[str, Connector],
        *,
        stamps: Stamps,
        grants: Grants,
        policy: Policy,
        fence: Fence,
        ledger: Ledger,
        audit: Audit,
        vault: Vault,
        clock: Callable[[], float],
        step: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._stamps = stamps
        self._grants = grants
        self._policy = policy
        self._fence = fence
        self._ledger = ledger
        self._audit = audit
        self._vault = vault
        self._clock = clock
        self._step = step
        self._connectors: Mapping[str, Connector] = {}
        self._quotas: dict[str, Quota] = {}
        self.under_way = 0
        self.replace(connectors)

    def replace(self, connectors: Mapping[str, Connector]) -> None:
        """Other connectors from now on; effects under way end with those they began with."""
        now = self._clock()
        quotas = {}
        for name, connector in connectors.items():
            config, before = connector.config, self._connectors.get(name)
            if before is not None and before.config == config:
                quotas[name] = self._quotas[name]
            else:
                quotas[name] = Quota(name, config.concurrency, config.rate_per_s, config.burst, now)
        self._connectors, self._quotas = dict(connectors), quotas

    async def perform(self, stamp: Stamp, request: bytes) -> Any:
        """The effect's result, a plain value; or one typed error of the table above."""
        effect = _Effect(stamp, request, stamp.told())
        self.under_way += 1
        try:
            return self._vault.hide(await self._perform(effect))
        except AIPError as error:
            raise self._told(error) from None
        finally:
            self.under_way -= 1

    async def describe(self, connector: str, request: Any) -> str:
        """What the connector would do, for people. Nothing is done, and a request that would be refused is."""
        found = self._find(connector)
        return str(self._vault.hide(line(found.describe(found.check(request)))))

    # The steps ------------------------------------------------------------------------------------------------------

    async def _perform(self, effect: _Effect) -> Any:
        try:
            connector = self._admit(effect)
            left_s = min(effect.stamp.deadline - self._clock(), connector.config.timeout_s)
            async with asyncio.timeout(left_s) as effect.time:
                effect.step = Step.GRANT
                await self._grants.check(effect.stamp)
                await self._rule(effect, connector)
                effect.step = Step.ROOM
                async with self._quotas[effect.stamp.connector].place(self._clock()):
                    return await self._once(effect, connector)
        except AIPError as error:
            if effect.step in BEFORE_RECORD:
                self._note(effect, "effect.refused", code=error.code, why=error.message)
            raise
        except TimeoutError:
            if effect.committed:
                raise self._doubt(effect, "its time ended") from None
            raise DeadlineExceeded(f"not done: its time ended at step {effect.step.value}") from None

    def _admit(self, effect: _Effect) -> Connector:
        """Steps that need nobody else: stamp, request, fence."""
        stamp = effect.stamp
        if len(effect.request) > REQUEST_BYTES_MAX:
            raise InvalidPayload(f"a request of {len(effect.request)} bytes exceeds {REQUEST_BYTES_MAX}")
        self._stamps.verify(stamp, effect.request, self._clock())
        effect.step = Step.REQUEST
        connector = effect.connector = self._find(stamp.connector)
        effect.asked = _decode(effect.request)
        effect.wish = connector.check(effect.asked)
        effect.says = str(self._vault.hide(line(connector.describe(effect.wish))))
        effect.step = Step.FENCE
        if (refusal := self._fence.against(effect.envelope, self._clock())) is not None:
            raise refusal
        effect.step = Step.ROOM
        self._quotas[
            stamp.connector
        ].refuse_full()  # Before policy is asked: that costs more than all else here.
        return connector

    async def _rule(self, effect: _Effect, connector: Connector) -> None:
        effect.step = Step.POLICY
        stamp = effect.stamp
        proposal = Proposal(stamp.connector, connector.kind, effect.asked, effect.says, stamp.key, stamp)
        try:
            ruling = effect.ruling = await self._policy.rule(proposal)
        except AIPError:
            raise
        except Exception as error:  # noqa: BLE001 - an engine that breaks has not allowed anything
            raise Denied(f"policy could not decide on {effect.says}: {_reason(error)}") from None
        if not ruling.allow:
            reasons = "; ".join(ruling.reasons) or "no rule allows it"
            raise Denied(
                f"policy denies: {effect.says}: {reasons}", revision=ruling.revision, decision=ruling.id
            )
        if ruling.obligations:
            names = sorted({str(duty.get("kind", duty)) for duty in ruling.obligations})
            raise Denied(
                f"policy allows {effect.says} under obligations that the effect gateway cannot meet: {', '.join(names)}",
                decision=ruling.id,
            )

    async def _once(self, effect: _Effect, connector: Connector) -> Any:
        effect.step = Step.INTENT
        stamp = effect.stamp
        grant = await self._ledger.begin_effect(
            stamp.agent,
            stamp.incarnation,
            effect.ledger_key,
            connector.config.repeat_in_doubt,
            stamp.cell,
        )
        if grant.status == "done":
            return self._again(effect, grant.result or b"")
        if grant.status == "doubt":
            raise self._doubt(effect, "an earlier attempt did not end")
        try:
            result = await self._through(effect, connector)
        except BaseException as error:  # noqa: BLE001 - also a cancellation ends an effect one way or the other
            raise await self._ended(effect, error) from None
        return await self._keep(effect, result)

    async def _through(self, effect: _Effect, connector: Connector) -> Any:
        """From the durable record to the outcome."""
        effect.step = Step.AUDIT
        await self._audit.record("effect.begun", effect.stamp.agent, self._detail(effect))
        effect.step = Step.PREPARE
        prepared = await connector.prepare(effect.wish, self._outer_key(effect), self._clock())
        try:
            self._commit(effect, prepared)
            effect.step = Step.OUTCOME
            return await prepared.result()
        finally:
            await prepared.discard()

    def _commit(self, effect: _Effect, prepared: Prepared) -> None:
        """Read the fence and commit: no `await` from the first line to the last."""
        effect.step = Step.COMMIT
        with self._step():
            for _ in range(COMMIT_TRIES_MAX):
                revision = self._fence.revision()
                if (refusal := self._fence.against(effect.envelope, self._clock())) is not None:
                    raise refusal
                if self._fence.revision() == revision:
                    break
            else:
                raise PlatformUnavailable("kill orders were raised faster than they could be read")
            effect.revision = revision
            effect.committed = True
            prepared.commit()
            effect.raced = self._fence.revision() != revision

    # What is said and kept of it --------------------------------------------------------------------------------------

    async def _keep(self, effect: _Effect, result: Any) -> Any:
        """Done: the result is durable before anybody has it."""
        effect.step = Step.RECORD
        if effect.time is not None and not effect.time.expired():
            effect.time.reschedule(None)  # The effect kept its time; its record must not be lost to it.
        result = self._vault.hide(result)
        data = _encode(_Done(request_digest(effect.request), result))
        try:
            if len(data) > RESULT_BYTES_MAX:
                raise InvalidPayload(f"its result of {len(data)} bytes exceeds {RESULT_BYTES_MAX}")
            await self._end(effect, data)
        except AIPError as error:
            why = f"it was done, and that could not be recorded: {error.message}"
            self._note(effect, "effect.unknown", why=why)
            raise self._doubt(effect, why) from None
        self._note(effect, "effect.done", raced=effect.raced)
        return result

    async def _ended(self, effect: _Effect, error: BaseException) -> BaseException:
        """How an effect that has an intent and no result ends; what its caller is told."""
        why = _reason(error)
        if effect.committed and not isinstance(error, EffectFailed):
            self._note(effect, "effect.unknown", why=why, raced=effect.raced)
            return self._doubt(effect, why) if isinstance(error, Exception) else error
        kind = "effect.refused" if isinstance(error, Refused) else "effect.failed"
        self._note(effect, kind, why=why, code=getattr(error, "code", ""))
        try:
            await self._end(effect, None)
        except AIPError as lost:
            # Nothing happened, and the ledger holds it for begun: in doubt, which is the safe side of wrong.
            self._note(effect, "effect.unrecorded", why=lost.message)
        if isinstance(error, AIPError) or not isinstance(error, Exception):
            return error
        return EffectFailed(f"{effect.says}: {why}", step=effect.step.value)

    async def _end(self, effect: _Effect, result: bytes | None) -> None:
        """Whoever is cancelled here leaves; the record goes on."""
        stamp = effect.stamp
        await asyncio.shield(
            self._ledger.end_effect(stamp.agent, stamp.incarnation, effect.ledger_key, result)
        )

    @staticmethod
    def _doubt(effect: _Effect, why: str) -> EffectInDoubt:
        key = effect.ledger_key
        return EffectInDoubt(f"effect {key!r} was begun and its outcome is not known: {why}", key=key)

    def _again(self, effect: _Effect, kept: bytes) -> Any:
        """The recorded result of the same request."""
        done = _done.decode(kept)
        if done.request != request_digest(effect.request):
            raise InvalidPayload(
                f"the key {effect.stamp.key!r} was used for another request of {effect.stamp.connector}",
                hint="one key names one piece of work: give this request a key of its own",
            )
        return done.result

    def _find(self, name: str) -> Connector:
        found = self._connectors.get(name)
        if found is None:
            known = ", ".join(sorted(self._connectors)) or "none"
            raise NotFound(f"there is no connector {name!r}", hint=f"effects.yaml has: {known}")
        return found

    @staticmethod
    def _outer_key(effect: _Effect) -> str:
        """The key as the outside sees it: the same for every attempt, different for every agent, and telling nothing."""
        named = f"{effect.stamp.agent}\x00{effect.ledger_key}".encode()
        return request_digest(named).hex()

    def _detail(self, effect: _Effect) -> dict[str, Any]:
        stamp = effect.stamp
        return {
            "effect": stamp.connector,
            "kind": effect.connector.kind if effect.connector else "",
            "key": effect.ledger_key,
            "run": stamp.run,
            "says": effect.says,
            "request": request_digest(effect.request).hex(),
            "cell": f"{stamp.cell}#{stamp.generation}",
            "incarnation": stamp.incarnation,
            "envelope": stamp.envelope,
            "policy": effect.ruling.revision,
            "decision": effect.ruling.id,
        }

    def _note(self, effect: _Effect, kind: str, **more: Any) -> None:
        stamp = effect.stamp
        # What never began says so by another name: who looks for open effects goes by `key`.
        key = "asked" if effect.step in BEFORE_RECORD else "key"
        detail = {"effect": stamp.connector, key: effect.ledger_key, "run": stamp.run}
        if effect.committed:
            detail["fence"] = str(effect.revision)
        told = {**detail, "step": effect.step.value, **more}
        self._audit.note(kind, stamp.agent, self._vault.hide(told))

    def _told(self, error: AIPError) -> AIPError:
        """The error without secrets: the outside may have put one into its own words."""
        record = to_record(error)
        hidden = msgspec.structs.replace(
            record, message=self._vault.hide(record.message), details=self._vault.hide(record.details)
        )
        return error if hidden == record else from_record(hidden)


def _decode(request: bytes) -> Any:
    try:
        return _request.decode(request)
    except msgspec.DecodeError as error:
        raise InvalidPayload(f"the request is no MessagePack: {error}") from None


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError | asyncio.CancelledError):
        return "its time ended, or it was cancelled"
    return error.message if isinstance(error, AIPError) else f"{type(error).__name__}: {error}"[:2_000]
