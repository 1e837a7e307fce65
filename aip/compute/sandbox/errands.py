"""What a sandboxed agent asks for, done by its parent in the agent's own turn, so that all of it passes the guard.

    verb         arguments                                       done as
    call         target, capability, arguments, timeout_s, key   ctx.call
    tell         target, capability, arguments                   ctx.tell
    stream       target, capability, arguments, timeout_s        ctx.stream, one part for each `Next`
    spawn        kind, key                                       ctx.spawn
    kill         target, reason                                  ctx.kill
    checkpoint   state                                           ctx.checkpoint
    effect       name, key, idempotent, timeout_s                ctx.effect, whose action is done by the child
    ask_effect   connector, request, key, timeout_s              ctx.effect, done by the effect gateway
    spend        amounts                                         ctx.spend
    hold         amounts                                         ctx.reserve; gives a number
    unhold       number, spent                                   its settlement
    split        name, amounts                                   ctx.split; gives a number, the `part` of later asks
    add_tasks    tasks                                           ctx.add_tasks

Arguments are typed and bounded here; values are as in any message. Whatever a verb raises is the child's answer. What a turn has
left when it ends is ended: asks are cancelled, and budget that is held and not settled counts as spent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import aclosing
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from ...agent import Context, Reservation
from ...errors import (
    TEXT_CHARS_MAX,
    AgentFailed,
    AIPError,
    EffectInDoubt,
    ErrorRecord,
    InvalidPayload,
    MailboxFull,
    UsageError,
    UserError,
    from_record,
    to_record,
)
from ...runtime import codec
from . import wire
from .limits import ASKED_BYTES_MAX, ASKS_MAX, CODE_CHARS_MAX, EFFECTS_MAX, ERROR_BYTES_MAX, PARTS_MAX

REASON_CHARS_MAX = 2_000  # As much of it as an order keeps.
Text = Annotated[str, Meta(max_length=1_024)]  # Addresses, capabilities, keys: longer ones are no names.
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Amounts = Annotated[dict[Text, Annotated[int, Meta(ge=0, le=2**53)]], Meta(max_length=64)]
Values = dict[str, Any]


class _Arguments(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    pass


class _Call(_Arguments, frozen=True):
    target: Text | None
    capability: Text
    arguments: Values
    timeout_s: Seconds | None
    key: Text = ""


class _Tell(_Arguments, frozen=True):
    target: Text
    capability: Text
    arguments: Values


class _Spawn(_Arguments, frozen=True):
    kind: Text
    key: Text | None


class _Kill(_Arguments, frozen=True):
    target: Text
    reason: Annotated[str, Meta(max_length=REASON_CHARS_MAX)]


class _Checkpoint(_Arguments, frozen=True):
    state: Any


class _Effect(_Arguments, frozen=True):
    name: Text
    key: Text | None
    idempotent: bool
    timeout_s: Seconds | None


class _AskEffect(_Arguments, frozen=True):
    connector: Text
    request: Values
    key: Text | None
    timeout_s: Seconds | None


class _Spend(_Arguments, frozen=True):
    amounts: Amounts


class _Unhold(_Arguments, frozen=True):
    number: int
    spent: Amounts


class _Split(_Arguments, frozen=True):
    name: Text
    amounts: Amounts


class _AddTasks(_Arguments, frozen=True):
    tasks: dict[Text, Values]


A = TypeVar("A", bound=_Arguments)
Send = Callable[[wire.ToChild], Awaitable[None]]


class Errands:
    """Of one turn. `send` gives a frame to the child; `saved` hears of each checkpoint that is durable."""

    def __init__(self, ctx: Context, send: Send, saved: Callable[[Any], None]) -> None:
        self._contexts = {0: ctx}
        self._send = send
        self._saved = saved
        self._held: dict[int, Reservation] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._actions: dict[int, asyncio.Future[wire.Acted]] = {}
        self._nexts: dict[int, asyncio.Event] = {}
        self._asked_bytes = 0
        self._number = 0
        self._given: set[str] = set()  # Codes of errors that this turn's child was given.

    # Frames of the child --------------------------------------------------------------------------------------------

    def ask(self, ask: wire.Ask) -> None:
        """Raises `BrokenFrame` where the child keeps to no bounds: a well-meaning one never comes to them."""
        if ask.ask in self._tasks or len(self._tasks) >= ASKS_MAX:
            raise wire.BrokenFrame(f"ask {ask.ask}: known already, or one of more than {ASKS_MAX}")
        if ask.verb == "effect" and len(self._actions) >= EFFECTS_MAX:
            raise wire.BrokenFrame(f"more than {EFFECTS_MAX} effects at once")
        if ask.verb == "effect":
            self._actions[ask.ask] = asyncio.get_running_loop().create_future()
        self._asked_bytes += len(ask.arguments)
        task = self._tasks[ask.ask] = asyncio.ensure_future(self._serve(ask))
        task.add_done_callback(lambda _: self._served(ask))

    def _served(self, ask: wire.Ask) -> None:
        del self._tasks[ask.ask]
        self._actions.pop(ask.ask, None)
        self._nexts.pop(ask.ask, None)
        self._asked_bytes -= len(ask.arguments)

    def drop(self, number: int) -> None:
        if (task := self._tasks.get(number)) is not None:
            task.cancel()

    def next(self, number: int) -> None:
        if (event := self._nexts.get(number)) is not None:
            event.set()

    def acted(self, frame: wire.Acted) -> None:
        future = self._actions.get(frame.ask)
        if future is not None and not future.done():
            future.set_result(frame)

    def lost(self) -> None:
        """The child is gone: what it was doing for an effect is not known."""
        for future in self._actions.values():
            if not future.done():
                future.set_exception(
                    EffectInDoubt("the sandbox ended while it did this effect; its outcome is not known")
                )
                future.exception()  # It may be that nobody had begun to wait for it.

    async def close(self) -> None:
        """The turn is over, and with it all that it asked for; an effect that is cut off here stays on record as begun."""
        for task in list(self._tasks.values()):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()))
        for reservation in self._held.values():
            await reservation.__aexit__(None, None, None)

    def believed(self, record: ErrorRecord) -> AIPError:
        return believed(record, self._given)

    # Verbs ----------------------------------------------------------------------------------------------------------

    async def _serve(self, ask: wire.Ask) -> None:
        value: bytes | None = None
        failed: ErrorRecord | None = None
        try:
            value = codec.encode(await self._do(ask))
        except Exception as error:  # noqa: BLE001 - whatever the road answered is the agent's to see
            failed = to_record(error)
            self._given.add(failed.code)
        await self._send(wire.Answer(ask.ask, value, failed))

    async def _do(self, ask: wire.Ask) -> Any:
        if self._asked_bytes > ASKED_BYTES_MAX:
            raise MailboxFull(
                f"{self._asked_bytes} bytes of questions at once, the limit is {ASKED_BYTES_MAX}"
            )
        ctx = self._contexts.get(ask.part)
        if ctx is None:
            raise UsageError(f"there is no part {ask.part} of this turn's budget")
        verb = _VERBS.get(ask.verb)
        if verb is None:
            raise UsageError(f"{ask.verb!r} is nothing that a sandboxed agent can ask for")
        return await verb(self, ctx, ask)

    async def _call(self, ctx: Context, ask: wire.Ask) -> Any:
        given = _read(ask, _Call)
        return await ctx.call(
            given.target,
            given.capability,
            given.arguments,
            timeout_s=given.timeout_s,
            idempotency_key=given.key,
        )

    async def _tell(self, ctx: Context, ask: wire.Ask) -> None:
        given = _read(ask, _Tell)
        await ctx.tell(given.target, given.capability, given.arguments)

    async def _stream(self, ctx: Context, ask: wire.Ask) -> None:
        given = _read(ask, _Call)
        wanted = self._nexts[ask.ask] = asyncio.Event()
        parts: Any = ctx.stream(given.target, given.capability, given.arguments, timeout_s=given.timeout_s)
        async with aclosing(parts):
            async for part in parts:
                wanted.clear()
                await self._send(wire.Answer(ask.ask, codec.encode(part), last=False))
                await wanted.wait()

    async def _spawn(self, ctx: Context, ask: wire.Ask) -> str:
        given = _read(ask, _Spawn)
        return await ctx.spawn(given.kind, given.key)

    async def _kill(self, ctx: Context, ask: wire.Ask) -> None:
        given = _read(ask, _Kill)
        await ctx.kill(given.target, given.reason)

    async def _checkpoint(self, ctx: Context, ask: wire.Ask) -> None:
        state = _read(ask, _Checkpoint).state
        await ctx.checkpoint(state)
        self._saved(state)

    async def _effect(self, ctx: Context, ask: wire.Ask) -> Any:
        given = _read(ask, _Effect)

        async def action() -> Any:
            await self._send(wire.Act(ask.ask))
            acted = await self._actions[ask.ask]
            if acted.error is not None:
                raise self.believed(acted.error)
            return codec.decode(acted.value or b"\xc0")

        return await ctx.effect(
            given.name, action, key=given.key, idempotent=given.idempotent, timeout_s=given.timeout_s
        )

    async def _ask_effect(self, ctx: Context, ask: wire.Ask) -> Any:
        given = _read(ask, _AskEffect)
        return await ctx.effect(given.connector, given.request, key=given.key, timeout_s=given.timeout_s)

    async def _spend(self, ctx: Context, ask: wire.Ask) -> None:
        await ctx.spend(**_read(ask, _Spend).amounts)

    async def _hold(self, ctx: Context, ask: wire.Ask) -> int:
        if len(self._held) >= PARTS_MAX:
            raise UsageError(f"{PARTS_MAX} budgets are held in one turn, the limit")
        reservation = ctx.reserve(**_read(ask, _Spend).amounts)
        await reservation.__aenter__()
        self._number += 1
        self._held[self._number] = reservation
        return self._number

    async def _unhold(self, ctx: Context, ask: wire.Ask) -> None:
        given = _read(ask, _Unhold)
        reservation = self._held.pop(given.number, None)
        if reservation is None:
            raise UsageError(f"no budget is held under {given.number}")
        reservation.settle(**given.spent)
        await reservation.__aexit__(None, None, None)

    async def _split(self, ctx: Context, ask: wire.Ask) -> int:
        given = _read(ask, _Split)
        if len(self._contexts) > PARTS_MAX:
            raise UsageError(f"{PARTS_MAX} parts are split off in one turn, the limit")
        part = await ctx.split(given.name, **given.amounts)
        self._number += 1
        self._contexts[self._number] = part
        return self._number

    async def _add_tasks(self, ctx: Context, ask: wire.Ask) -> None:
        await ctx.add_tasks(_read(ask, _AddTasks).tasks)


def believed(record: ErrorRecord, given: Collection[str] = ()) -> AIPError:
    """An error that the child ended with. Of its own it may only have failed, or be told wrong.

    What stands for the platform - a kill, a budget, a fence - it may hand on (`given`) and not invent: callers act on those.
    """
    try:
        small = len(codec.encode(record.details)) <= ERROR_BYTES_MAX
    except InvalidPayload:
        small = False  # Nested as no value may be.
    hint, code = record.hint[:TEXT_CHARS_MAX], record.code[:CODE_CHARS_MAX]
    error = from_record(
        ErrorRecord(code, record.message, record.retryable, hint, record.details if small else {})
    )
    kind = error.details.get("type")
    if isinstance(error, AgentFailed) and isinstance(kind, str) and "." not in kind:
        error.details["type"] = f"sandboxed.{kind}"  # Bare words are the platform's own.
    if isinstance(error, AgentFailed | UserError) or code in given:
        return error
    return AgentFailed(record.message, hint=hint, type="sandboxed.claim", claimed=code)


def _read(ask: wire.Ask, kind: type[A]) -> A:
    try:
        return msgspec.msgpack.decode(ask.arguments, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise InvalidPayload(f"{ask.verb}: {str(error)[:200]}") from None


_VERBS: Mapping[str, Callable[[Errands, Context, wire.Ask], Awaitable[Any]]] = {
    "call": Errands._call,
    "tell": Errands._tell,
    "stream": Errands._stream,
    "spawn": Errands._spawn,
    "kill": Errands._kill,
    "checkpoint": Errands._checkpoint,
    "effect": Errands._effect,
    "ask_effect": Errands._ask_effect,
    "spend": Errands._spend,
    "hold": Errands._hold,
    "unhold": Errands._unhold,
    "split": Errands._split,
    "add_tasks": Errands._add_tasks,
}
