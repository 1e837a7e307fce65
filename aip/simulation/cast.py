"""The agents of the simulated world: they do what their messages say, and tell the witness what they were handed.

A message carries a *script*: a list of steps, made by `script.py` from the seed.

    ["sleep", seconds]  ["stubborn", seconds]       the second swallows its cancellation
    ["call", to, script, timeout_s]  ["tell", to, script]  ["stream", to, count, take, timeout_s]  ["compute", to, timeout_s]
    ["both", script, script]                        two branches at once
    ["count"]                                       one more, checkpointed
    ["effect", key, how, idempotent]                how: async, sync, raises, slow
    ["spawn", key]  ["raise"]  ["cancelled"]        the last one: a cancellation of the agent's own making escapes it
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

from ..agent import Agent, Context, capability
from ..errors import AIPError
from ..runtime.turn import CellTurn
from .witness import Place, Witness

if TYPE_CHECKING:
    from .cell_process import CellProcess
    from .world import World

WORLD: ContextVar[World] = ContextVar("world")

CALL_TIMEOUT_S = 6.0
EFFECT_PAUSE_S = 0.01


class Mischief(Exception):
    """What an agent raises when its script says so."""


class Subject(Agent):
    """Handles one message at a time."""

    def __init__(self) -> None:
        self.count = 0

    async def on_start(self, ctx: Context) -> None:
        turn, witness = _turn(ctx), WORLD.get().witness
        self.count = ctx.restored or 0
        witness.activated(_place(turn), ctx.agent, turn.activation.incarnation, self.count)

    async def on_stop(self, ctx: Context) -> None:
        await self._checkpoint(ctx)

    @capability
    async def work(self, uid: str, script: list[Any], ctx: Context) -> str:
        with self._handed(ctx, uid):
            await self._perform(script, ctx, uid)
        return uid

    @capability
    def compute(self, uid: str, ctx: Context) -> str:
        with self._handed(ctx, uid):
            return uid

    @capability
    async def parts(self, uid: str, count: int, ctx: Context) -> AsyncIterator[int]:
        with self._handed(ctx, uid):
            for number in range(count):
                if number % 3 == 0:
                    await asyncio.sleep(0.001)
                yield number

    def _handed(self, ctx: Context, uid: str) -> Any:
        turn = _turn(ctx)
        return WORLD.get().witness.turn(
            _place(turn), turn.envelope, turn.activation.incarnation, uid, reentrant=type(self).reentrant
        )

    # Steps ------------------------------------------------------------------------------------------------------------

    async def _perform(self, script: list[Any], ctx: Context, uid: str) -> None:
        for number, step in enumerate(script):
            await getattr(self, f"_{step[0]}")(ctx, f"{uid}.{number}", *step[1:])

    async def _sleep(self, ctx: Context, uid: str, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _stubborn(self, ctx: Context, uid: str, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)

    async def _call(self, ctx: Context, uid: str, to: str, script: list[Any], timeout_s: float) -> None:
        arguments = {"uid": uid, "script": script}
        await _watched(ctx, uid, timeout_s, lambda: ctx.call(to, "work", arguments, timeout_s=timeout_s))

    async def _compute(self, ctx: Context, uid: str, to: str, timeout_s: float) -> None:
        await _watched(
            ctx, uid, timeout_s, lambda: ctx.call(to, "compute", {"uid": uid}, timeout_s=timeout_s)
        )

    async def _stream(self, ctx: Context, uid: str, to: str, count: int, take: int, timeout_s: float) -> None:
        async def read() -> str:
            parts = ctx.stream(to, "parts", {"uid": uid, "count": count}, timeout_s=timeout_s)
            await read_stream(WORLD.get().witness, uid, cast(AsyncIterator[int], parts), count, take)
            return uid

        await _watched(ctx, uid, timeout_s, read)

    async def _tell(self, ctx: Context, uid: str, to: str, script: list[Any]) -> None:
        witness = WORLD.get().witness
        witness.told(uid, _place(_turn(ctx)), to)
        try:
            await ctx.tell(to, "work", {"uid": uid, "script": script})
        except AIPError as error:
            witness.untold(uid, error.code)
        except asyncio.CancelledError:
            witness.untold(uid, "cancelled")
            raise

    async def _both(self, ctx: Context, uid: str, one: list[Any], other: list[Any]) -> None:
        await asyncio.gather(self._perform(one, ctx, f"{uid}a"), self._perform(other, ctx, f"{uid}b"))

    async def _count(self, ctx: Context, uid: str) -> None:
        self.count += 1
        await self._checkpoint(ctx)

    async def _checkpoint(self, ctx: Context) -> None:
        witness, place = WORLD.get().witness, _place(_turn(ctx))
        if place.alive:
            witness.saving(ctx.agent, self.count)
        value = self.count
        await ctx.checkpoint(value)
        witness.saved(place, ctx.agent, value)

    async def _effect(self, ctx: Context, uid: str, key: str, how: str, idempotent: bool) -> None:
        turn, world = _turn(ctx), WORLD.get()

        def begin() -> Callable[[str], None]:
            durable = world.last_shard.begun_durably(ctx.agent, f"outside:{key}")
            return world.witness.action(
                _place(turn), ctx.agent, key, turn.envelope, idempotent=idempotent, durable=durable
            )

        def at_once() -> str:
            begin()("done")
            return uid

        async def slowly() -> str:
            ended = begin()
            await asyncio.sleep(EFFECT_PAUSE_S * (50 if how == "slow" else 1))
            ended("raised" if how == "raises" else "done")
            if how == "raises":
                raise Mischief(key)
            return uid

        await ctx.effect("outside", at_once if how == "sync" else slowly, key=key, idempotent=idempotent)

    async def _spawn(self, ctx: Context, uid: str, key: str) -> None:
        await ctx.spawn("subject", key)

    async def _raise(self, ctx: Context, uid: str) -> None:
        raise Mischief(uid)

    async def _cancelled(self, ctx: Context, uid: str) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future


class Open(Subject):
    """The same, several messages at a time. It keeps no count: its turns would race for it."""

    reentrant = True

    async def _count(self, ctx: Context, uid: str) -> None:
        await asyncio.sleep(0)


KINDS: tuple[type[Agent], ...] = (Subject, Open)


def _turn(ctx: Context) -> CellTurn:
    return cast(CellTurn, ctx._turn)


def _place(turn: CellTurn) -> CellProcess:
    return WORLD.get().process_of(turn.cell)


async def _watched(ctx: Context, uid: str, timeout_s: float, ask: Callable[[], Awaitable[Any]]) -> None:
    """A call from inside a turn. Its errors are its own, so that one lost branch does not end the whole script."""
    turn, world = _turn(ctx), WORLD.get()
    deadline = world.clock() + timeout_s
    if turn.envelope.deadline:
        deadline = min(deadline, turn.envelope.deadline)
    await watched(world.witness, uid, _place(turn), deadline, ask)


async def watched(
    witness: Witness, uid: str, place: Place, deadline: float, ask: Callable[[], Awaitable[Any]]
) -> str:
    """Make a call under the witness's eyes; how it ended. Raises nothing but a cancellation of the caller."""
    witness.called(uid, place, deadline)
    try:
        value = await ask()
    except AIPError as error:
        witness.outcome(uid, place, error.code)
        return error.code
    except asyncio.CancelledError:
        witness.outcome(uid, place, "cancelled")
        raise
    witness.outcome(uid, place, "ok", value)
    return "ok"


async def read_stream(witness: Witness, uid: str, parts: AsyncIterator[int], count: int, take: int) -> None:
    """Read up to `take` of `count` parts and leave."""
    read = 0
    async with aclosing(cast(Any, parts)) as stream:
        async for part in stream:
            witness.hold("D3", part == read, f"{uid}: part {part} came where {read} was due")
            read += 1
            if read >= take:
                return
    witness.hold("D3", read == count, f"{uid} ended well after {read} of {count} parts")
