"""One turn: one agent handling one message, and everything its `Context` lets it do.

A turn ends in exactly one outcome for its caller. It may be ended from outside - the caller cancelled or is gone, the deadline
passed, a kill order - and then `stopped` holds the error that says so; the agent sees an ordinary `CancelledError` at its next
await and may clean up.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import os
import re
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import msgspec

from ..agent import Context
from ..errors import AgentFailed, AIPError, EffectInDoubt, Fenced, InvalidPayload, UsageError, plain
from ..ids import check_address, type_of
from . import codec
from .envelope import Envelope, Kind, Progress

if TYPE_CHECKING:
    from .activation import Activation
    from .cell import Cell

CURRENT: ContextVar[CellTurn | None] = ContextVar("aip_turn", default=None)  # Whose log lines these are.

PART = re.compile(r"[a-z][a-z0-9_-]{0,31}\Z")
PARTS_MAX = 256  # Of one turn. More is a loop that forgot that a part can be used again.
FRAMES_MAX = 20  # Lines of a traceback that travel with an error.


class _Done:
    """Something that may be awaited and is over already: `ctx.progress` works with and without `await`."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


_DONE = _Done()


class CellTurn:
    """The `Turn` of `aip.agent` in a cell."""

    __slots__ = (
        "activation",
        "agent",
        "begun",
        "cell",
        "context",
        "credited",
        "envelope",
        "parts",
        "restored",
        "started",
        "stopped",
        "task",
        "wake",
    )

    def __init__(self, cell: Cell, activation: Activation, envelope: Envelope) -> None:
        self.cell = cell
        self.activation = activation
        self.envelope = envelope
        self.agent = activation.address
        self.context = Context(self)
        self.restored: Any = None
        self.started = cell.clock()
        self.stopped: AIPError | None = None
        self.begun = False
        self.task: asyncio.Task[Any] | None = None
        self.credited = 0
        self.wake: asyncio.Event | None = None
        self.parts: dict[str, PartTurn] = {}  # By account: what was split off the turn's own.

    @property
    def sender(self) -> str:
        return self.envelope.sender

    @property
    def run(self) -> str:
        return self.envelope.run or self.activation.run

    @property
    def idempotency_key(self) -> str:
        return self.envelope.idempotency_key or self.envelope.id

    @property
    def labels(self) -> Mapping[str, str]:
        return dict(self.envelope.labels)

    @property
    def deadline(self) -> float:
        return self.envelope.deadline

    def remaining_s(self) -> float:
        if not self.envelope.deadline:
            return float("inf")
        return max(0.0, self.envelope.deadline - self.cell.clock())

    def stop(self, error: AIPError) -> None:
        """End this turn from outside with `error` as its outcome."""
        if self.stopped is None:
            self.stopped = error
            # A turn that has not begun ends when it does. One that ends itself (it was fenced) is told by what is raised next.
            if self.begun and self.task is not None and self.task is not asyncio.current_task():
                self.task.cancel()

    # What an agent may do -------------------------------------------------------------------------------------------

    async def call(
        self,
        target: str | None,
        capability: str,
        arguments: Mapping[str, Any],
        timeout_s: float | None,
        key: str,
    ) -> Any:
        envelope = await self._envelope(Kind.CALL, target, capability, arguments, timeout_s, key)
        return codec.decode(await self.cell.ask(envelope) or b"\xc0")

    async def tell(self, target: str, capability: str, arguments: Mapping[str, Any]) -> None:
        await self.cell.send(await self._envelope(Kind.TELL, target, capability, arguments, None, ""))

    async def stream(
        self, target: str | None, capability: str, arguments: Mapping[str, Any], timeout_s: float | None
    ) -> AsyncIterator[Any]:
        envelope = await self._envelope(Kind.STREAM, target, capability, arguments, timeout_s, "")
        async for part in self.cell.read(envelope):
            yield codec.decode(part)

    def progress(self, fraction: float | None, text: str) -> Awaitable[None]:
        if self.envelope.kind != Kind.TELL:
            item = Progress(self.envelope.id, fraction, text[:500])
            self.cell.from_any_thread(self.cell.post, self.envelope.origin, item)
        return _DONE

    async def spawn(self, kind: str, key: str | None) -> str:
        activation = self.activation
        name = (
            kind
            if "@" in kind
            else kind + activation.kind.name[len(activation.kind.name.partition("@")[0]) :]
        )
        if activation.spawned >= self.cell.limits.spawn_per_agent_max:
            raise UsageError(
                f"{self.agent} has spawned {activation.spawned} agents, the limit",
                hint="spawn fewer and give each more work, or let children spawn theirs",
            )
        activation.spawned += 1
        own_key = self.agent.partition("/")[2]
        address = check_address(f"{name}/{key or f'{own_key}.{activation.incarnation}-{activation.spawned}'}")
        await self.call(address, "aip.start", {}, None, "")
        return address

    async def kill(self, target: str, reason: str) -> None:
        if "/" in target:
            target = self._sister(target)
        fence, now = self.cell.guard.fence, self.cell.clock()
        await self.cell.in_thread(lambda: fence.stop(self.agent, target, reason, now))

    def _sister(self, target: str) -> str:
        """An agent names its sisters without their digest: same code, same digest."""
        if "@" in target or self.cell.locator.locate(target) is not None:
            return target
        own = self.activation.kind.name
        return f"{type_of(target)}{own[len(own.partition('@')[0]) :]}/{target.partition('/')[2]}"

    async def checkpoint(self, state: Any) -> None:
        data = codec.encode(state, self.cell.limits)
        if len(data) > self.cell.limits.checkpoint_bytes_max:
            raise InvalidPayload(f"checkpoint of {len(data)} bytes exceeds the limit")
        activation = self.activation
        activation.saving = activation.saving or asyncio.Lock()
        try:
            # One after the other: of two at once the later one must not be overwritten by the earlier (A5).
            async with activation.saving:
                await self.cell.checkpoints.save(self.agent, activation.incarnation, data)
        except Fenced as error:
            self.cell.fenced(activation, error)
            raise

    async def ask_effect(self, connector: str, request: Any, key: str | None, timeout_s: float | None) -> Any:
        """An effect through the gateway, which asks fence, policy, shard and audit itself, in its order."""
        if self.stopped is not None:
            raise self.stopped
        until = self.cell.clock() + (self.cell.limits.call_timeout_s if timeout_s is None else timeout_s)
        if self.envelope.deadline:
            until = min(until, self.envelope.deadline)
        activation = self.activation
        try:
            return await self.cell.effects.perform(
                self.envelope,
                self.agent,
                activation.incarnation,
                connector,
                request,
                key or self.idempotency_key,
                until,
            )
        except Fenced as error:
            self.cell.fenced(activation, error)
            raise

    async def effect(
        self, name: str, action: Callable[[], Any], key: str | None, idempotent: bool, timeout_s: float | None
    ) -> Any:
        cell, incarnation = self.cell, self.activation.incarnation
        key = f"{name}:{key or self.idempotency_key}"
        refusal = cell.guard.fence.effect(self.envelope, cell.clock())
        if refusal is not None:
            cell.audit.note(
                "effect.refused", self.agent, {"effect": name, "code": refusal.code, "run": self.run}
            )
            raise refusal
        try:
            grant = await cell.checkpoints.begin_effect(self.agent, incarnation, key, name, idempotent)
        except Fenced as error:
            cell.fenced(self.activation, error)
            raise
        if grant.status == "done":
            return codec.decode(grant.result or b"\xc0")
        if grant.status == "doubt":
            raise EffectInDoubt(
                f"{self.agent} began effect {key!r} before and its outcome is not known", key=key
            )
        await cell.audit.record("effect.begun", self.agent, {"effect": name, "key": key, "run": self.run})
        refusal = cell.guard.fence.effect(self.envelope, cell.clock())
        if refusal is not None:
            # The order came while the intent was being written. Nothing was done, and that is what the record says.
            await cell.checkpoints.end_effect(self.agent, incarnation, key, None)
            detail = {"effect": name, "key": key, "code": refusal.code, "run": self.run}
            cell.audit.note("effect.refused", self.agent, detail)
            raise refusal
        try:
            result = await self._perform(action, timeout_s, key)
        except EffectInDoubt:
            raise
        except Exception as error:
            await cell.checkpoints.end_effect(self.agent, incarnation, key, None)
            cell.audit.note(
                "effect.failed",
                self.agent,
                {"effect": name, "key": key, "run": self.run, "error": plain(str(error))},
            )
            raise
        data = codec.encode(result, cell.limits)
        await cell.checkpoints.end_effect(self.agent, incarnation, key, data)
        cell.audit.note("effect.done", self.agent, {"effect": name, "key": key, "run": self.run})
        return codec.decode(data)

    async def _perform(self, action: Callable[[], Any], timeout_s: float | None, key: str) -> Any:
        def checked() -> Any:
            # Threads may be busy for a while; an order that came meanwhile still comes in time (K1).
            if (refusal := self.cell.guard.fence.effect(self.envelope, self.cell.clock())) is not None:
                raise refusal
            return action()

        try:
            async with asyncio.timeout(
                min(self.remaining_s(), 1e9) if timeout_s is None else timeout_s
            ) as time:
                if inspect.iscoroutinefunction(action):
                    return await action()
                result = await self.cell.in_thread(checked)
                return await result if inspect.isawaitable(result) else result
        except TimeoutError:
            if not time.expired():
                raise  # The action's own, so it has ended (E4).
            raise EffectInDoubt(
                f"effect {key!r} was cut off after its time; its outcome is not known", key=key
            ) from None

    async def spend(self, amounts: Mapping[str, int]) -> None:
        await self.cell.spend(self.envelope.budget, amounts)

    async def hold(self, amounts: Mapping[str, int]) -> None:
        await self.cell.hold(self.envelope.budget, amounts)

    async def unhold(self, held: Mapping[str, int], spent: Mapping[str, int]) -> None:
        self.cell.unhold(self.envelope.budget, held, spent)

    async def add_tasks(self, tasks: Mapping[str, Any]) -> None:
        if self.stopped is not None:
            raise self.stopped
        await self.cell.add_tasks(self.run, self.labels.get("attempt", ""), tasks)

    async def split(self, name: str, amounts: Mapping[str, int]) -> PartTurn:
        return await self._split(self, name, amounts)

    async def _split(self, whole: CellTurn, name: str, amounts: Mapping[str, int]) -> PartTurn:
        if not PART.match(name):
            raise UsageError(f"split({name!r}): a part has a short name", hint="such as draft or web-search")
        if not amounts:
            raise UsageError(f"split({name!r}): how much?", hint="such as tokens=20_000")
        account = self.envelope.budget or self._unpaid_account()
        # Of the piece of work, not of the attempt: what one attempt has spent the next one has not got again.
        work = hashlib.sha256(f"{self.agent}\0{self.idempotency_key}".encode()).hexdigest()[:12]
        part = f"{account}/{name}.{work}"
        if part not in whole.parts and len(whole.parts) >= PARTS_MAX:
            raise UsageError(f"{self.agent} has split its budget {PARTS_MAX} times in one turn, the limit")
        await self.cell.split(account, part, amounts)
        return whole.parts.setdefault(part, PartTurn(whole, part))

    def _unpaid_account(self) -> str:
        """Of work whose plan sets no budget: nothing limits it, but what is split off it is limited."""
        task = self.labels.get("task")
        if not self.run or not task:
            raise UsageError("this work has no account: there is no budget to split", hint="run it by a plan")
        return f"{self.run}/{task}"

    # ----------------------------------------------------------------------------------------------------------------

    async def _envelope(
        self,
        kind: Kind,
        target: str | None,
        capability: str,
        arguments: Mapping[str, Any],
        timeout_s: float | None,
        key: str,
    ) -> Envelope:
        if self.stopped is not None:
            raise self.stopped
        if not capability:
            raise UsageError("which capability? `ctx.call(address, 'capability', {...})`")
        cause = self.envelope
        if target is None:
            target = await self.cell.resolve(capability)
        elif "/" not in target:
            target = await self.cell.named(self.run, target)
        else:
            target = self._sister(target)
        cell = self.cell
        now = cell.clock()
        limit = cell.limits.call_timeout_s if timeout_s is None else timeout_s
        deadline = 0.0
        if kind is not Kind.TELL:
            deadline = min(now + limit, cause.deadline) if cause.deadline else now + limit
        return Envelope(
            id=cell.new_id(),
            kind=kind,
            sender=self.agent,
            recipient=target,
            capability=capability,
            payload=codec.encode(arguments, cell.limits),
            sequence=self.activation.next_sequence(),
            deadline=deadline,
            origin=cell.name,
            run=self.run,
            budget=cause.budget,
            idempotency_key=key,
            conversation=cause.conversation,
            causation=cause.id,
            trace=cause.trace,
            tenant=cause.tenant,
            chain=() if kind is Kind.TELL else (*cause.chain, self.agent),
            labels=cause.labels,
            incarnation=self.activation.incarnation,
        )


class PartTurn(CellTurn):
    """The same turn, paying from a part of its account."""

    __slots__ = ("whole",)

    def __init__(self, whole: CellTurn, account: str) -> None:
        super().__init__(
            whole.cell, whole.activation, msgspec.structs.replace(whole.envelope, budget=account)
        )
        self.whole = whole
        self.restored = whole.restored

    async def split(self, name: str, amounts: Mapping[str, int]) -> PartTurn:
        return await self._split(self.whole, name, amounts)

    async def _envelope(self, *which: Any) -> Envelope:
        if self.whole.stopped is not None:
            raise self.whole.stopped
        return await super()._envelope(*which)


def agent_error(error: BaseException, code_root: str) -> AIPError:
    """What an agent raised, as the caller will see it: typed errors as they are, others with the user's own file:line."""
    if (
        isinstance(error, AIPError)
        and not type(error).__module__.startswith("aip.")
        and "location" not in error.details
    ):
        error.details["location"] = _location(error, code_root)
    if isinstance(error, AIPError):
        return error
    kind = type(error)
    lines = traceback.format_exception(kind, error, error.__traceback__)
    return AgentFailed(
        f"{kind.__name__}: {error}",
        type=f"{kind.__module__}.{kind.__qualname__}",
        args=plain(list(error.args)),
        location=_location(error, code_root),
        traceback="".join(lines[-FRAMES_MAX:]),
    )


def _location(error: BaseException, code_root: str) -> str:
    """file:line of the innermost frame of the user's own code; failing that, of the innermost frame."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return ""
    root = os.path.join(code_root, "") if code_root else None
    own = [
        frame
        for frame in frames
        if root and os.path.realpath(frame.filename).startswith(os.path.realpath(root))
    ]
    frame = (own or list(frames))[-1]
    name = (
        os.path.relpath(os.path.realpath(frame.filename), os.path.realpath(root))
        if own and root
        else frame.filename
    )
    return f"{name}:{frame.lineno}"
