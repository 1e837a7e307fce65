"""A sandbox with an agent in it: turns go in, questions come out, and what breaks the rules is ended.

    the child                                      what happens
    answers                                        the turn has its outcome
    asks                                           done in that turn (`errands.py`)
    sends no frame, or more than it may            killed; its turns fail with `SandboxLost`
    does not read what it is sent                  killed, once `UNSENT_BYTES_MAX` wait
    does not end a turn that was ended             (cancel, deadline, kill order) killed `CANCEL_S` later
    dies                                           its turns fail with `SandboxLost`; an effect it was at is in doubt
    talks without pause                            is read more slowly (`wire.Pace`)

Values that come out are plain values within the bounds of any message. That they fit the agent's contract is checked in the child
and so not to be trusted: the schemas are the child's own, and a matcher run on a stranger's pattern may never end. Who receives a
value from an untrusted agent looks at it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from ...agent import Context
from ...errors import InvalidPayload, to_record
from ...runtime import codec
from . import wire
from .errands import Errands, believed
from .limits import (
    CANCEL_S,
    FRAME_BYTES_MAX,
    MANIFEST_BYTES_MAX,
    START_S,
    STREAM_WINDOW,
    UNSENT_BYTES_MAX,
    SandboxLimits,
)
from .means import Demand, Means
from .process import SandboxLost, SandboxProcess

_Outcome = wire.Part | wire.Done


class _Turn:
    """One turn in the child: its errands, and what has come of it and was not taken yet."""

    def __init__(self, number: int, ctx: Context, errands: Errands) -> None:
        self.number = number
        self.ctx = ctx
        self.errands = errands
        self.outcomes: asyncio.Queue[_Outcome | SandboxLost] = asyncio.Queue()
        self.untaken = 0  # Parts that lie in the queue.
        self.over = False  # The child has ended it, or was ended itself.


class Sandbox:
    """One sandboxed process that hosts one agent. Made by `open`."""

    def __init__(
        self, process: SandboxProcess, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._turns: dict[int, _Turn] = {}
        self._numbers = itertools.count(1)
        self._loaded: asyncio.Future[wire.Loaded] = asyncio.get_running_loop().create_future()
        self._lost: SandboxLost | None = None
        self._ending: asyncio.Task[SandboxLost] | None = None
        self._saved: Callable[[Any], None] = lambda state: None
        self._serving = asyncio.ensure_future(self._serve())

    @classmethod
    async def open(
        cls,
        means: Means,
        demand: Demand,
        limits: SandboxLimits,
        code_root: str,
        rng: random.Random,
        saved: Callable[[Any], None] | None = None,
    ) -> Sandbox:
        """`saved` hears of the state of each checkpoint that is durable. Raises `MeansMissing`, `SandboxLost`."""
        process = await SandboxProcess.start(means, demand, limits, code_root, rng)
        try:
            reader, writer = await asyncio.open_unix_connection(sock=process.talk, limit=FRAME_BYTES_MAX)
        except BaseException:
            process.kill()
            raise
        sandbox = cls(process, reader, writer)
        if saved is not None:
            sandbox._saved = saved
        return sandbox

    @property
    def alive(self) -> bool:
        return self._lost is None and self._ending is None

    async def load(self, entry: str, config: dict[str, Any] | None) -> dict[str, Any]:
        """Import the agent's class, and make it where it is given a configuration; what it says it can do."""
        await self._send(wire.Load(entry, config))
        try:
            async with asyncio.timeout(START_S):
                loaded = await asyncio.shield(self._loaded)
        except TimeoutError:
            raise SandboxLost(f"importing {entry} did not end within {START_S:g} s") from None
        self._loaded = asyncio.get_running_loop().create_future()
        if loaded.error is not None:
            raise believed(loaded.error)
        if len(loaded.manifest or b"") > MANIFEST_BYTES_MAX:
            raise InvalidPayload(f"{entry} describes itself in more than {MANIFEST_BYTES_MAX} bytes")
        described = codec.decode(loaded.manifest or b"\xc0")
        if not isinstance(described, dict):
            raise InvalidPayload(f"{entry} described itself as {type(described).__name__}, not a map")
        return described

    async def turn(
        self,
        ctx: Context,
        what: str,
        capability: str = "",
        arguments: Any = None,
        *,
        restored: Any = None,
        error: Exception | None = None,
    ) -> Any:
        """One turn from begin to end: its value, or its error raised."""
        async with self._running(ctx, what, capability, arguments, restored, error) as turn:
            outcome = await self._outcome(turn)
            if isinstance(outcome, wire.Part):
                raise await self._end(wire.BrokenFrame("a turn that is no stream had a part"))
            return codec.decode(outcome.value or b"\xc0")

    async def stream(self, ctx: Context, capability: str, arguments: Any) -> AsyncGenerator[Any, None]:
        """The parts of a streaming capability, at most `STREAM_WINDOW` ahead of who reads them."""
        async with self._running(ctx, "stream", capability, arguments, None, None) as turn:
            while isinstance(outcome := await self._outcome(turn), wire.Part):
                yield codec.decode(outcome.value)
                await self._send(wire.More(turn.number))

    async def close(self) -> None:
        """The agent's process is gone when this returns."""
        self._serving.cancel()
        self._tell(SandboxLost("its sandbox was closed"))
        await self._process.close()

    def abandon(self) -> None:
        """Kill it, without waiting and from anywhere."""
        self._process.kill()

    # Turns ----------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _running(
        self, ctx: Context, what: str, capability: str, arguments: Any, restored: Any, error: Exception | None
    ) -> AsyncIterator[_Turn]:
        begin = wire.Begin(
            next(self._numbers),
            what,
            _about(ctx, restored),
            capability,
            codec.encode(arguments),
            to_record(error) if error is not None else None,
        )
        turn = self._turns[begin.turn] = _Turn(begin.turn, ctx, Errands(ctx, self._send, self._saved))
        try:
            await self._send(begin)
            yield turn
        finally:
            if not turn.over:
                await self._cut(turn)
            del self._turns[turn.number]
            await turn.errands.close()

    async def _outcome(self, turn: _Turn) -> _Outcome:
        outcome = await turn.outcomes.get()
        if isinstance(outcome, wire.Part):
            turn.untaken -= 1
            return outcome
        turn.over = True
        if isinstance(outcome, SandboxLost):
            raise outcome
        if outcome.error is not None:
            raise turn.errands.believed(outcome.error)
        return outcome

    async def _cut(self, turn: _Turn) -> None:
        """The turn is over for its caller: the child ends it too, or is ended."""
        try:
            await self._send(wire.Cancel(turn.number))
            async with asyncio.timeout(CANCEL_S):
                while isinstance(await turn.outcomes.get(), wire.Part):
                    await self._send(wire.More(turn.number))
        except TimeoutError:
            await self._end(wire.BrokenFrame(f"the turn was over and did not end within {CANCEL_S:g} s"))
        except SandboxLost:
            return  # It ended all the same.

    # Frames ---------------------------------------------------------------------------------------------------------

    async def _send(self, frame: wire.ToChild) -> None:
        if self._lost is not None:
            raise self._lost
        try:
            self._writer.write(wire.packed(frame))
            if self._writer.transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
                raise await self._end(wire.BrokenFrame("it does not read what it is sent"))
        except (ConnectionError, RuntimeError):
            raise await self._end(None) from None

    async def _serve(self) -> None:
        """Read frames until there are no more or one is wrong."""
        loop = asyncio.get_running_loop()
        pace = wire.Pace(loop.time())
        broken: wire.BrokenFrame | None = None
        try:
            while True:
                size = wire.length_of(await self._reader.readexactly(wire.HEADER_BYTES))
                self._take(wire.from_child(await self._reader.readexactly(size)))
                # Always a pause, be it none: frames that are here already would keep the loop from everybody else.
                await asyncio.sleep(pace.took(size, loop.time()))
        except wire.BrokenFrame as error:
            broken = error
        except (asyncio.IncompleteReadError, ConnectionError):
            broken = None
        except Exception as error:  # noqa: BLE001 - a frame that we stumble over ends its sender; its turns must not wait for ever
            broken = wire.BrokenFrame(f"a frame could not be handled: {type(error).__name__}: {error}")
        await self._end(broken)

    def _take(self, frame: wire.ToParent) -> None:
        if isinstance(frame, wire.Loaded):
            if not self._loaded.done():
                self._loaded.set_result(frame)
            return
        if isinstance(frame, wire.Drop | wire.Next | wire.Acted):
            for turn in self._turns.values():
                _to_errands(turn.errands, frame)
            return
        running = self._turns.get(frame.turn)
        if running is None:
            return  # It had ended when this was written.
        match frame:
            case wire.Ask():
                running.errands.ask(frame)
            case wire.Progress(fraction=fraction, text=text):
                running.ctx.progress(fraction, wire.line(text))
            case wire.Log(level=level, text=text):
                running.ctx.log.log(min(level, logging.ERROR), "%s", wire.line(text))
            case wire.Part():
                running.untaken += 1
                if running.untaken > STREAM_WINDOW:
                    raise wire.BrokenFrame(f"more than {STREAM_WINDOW} parts ahead of their reader")
                running.outcomes.put_nowait(frame)
            case wire.Done():
                running.outcomes.put_nowait(frame)

    async def _end(self, broken: wire.BrokenFrame | None) -> SandboxLost:
        """The child is over, or must be. The first to find out says why; everybody who waits for it is told."""
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._finish(broken))
        return await asyncio.shield(self._ending)

    async def _finish(self, broken: wire.BrokenFrame | None) -> SandboxLost:
        lost = await self._process.ended()
        if broken is not None:
            lost = SandboxLost(f"its sandbox was ended: {broken.message}", **lost.details)
        self._tell(lost)
        return lost

    def _tell(self, lost: SandboxLost) -> None:
        self._lost = self._lost or lost
        self._writer.transport.abort()
        if not self._loaded.done():
            self._loaded.set_exception(lost)
            self._loaded.exception()  # It may be that nobody waits for it.
        for turn in self._turns.values():
            turn.errands.lost()
            turn.outcomes.put_nowait(lost)


def _to_errands(errands: Errands, frame: wire.Drop | wire.Next | wire.Acted) -> None:
    """Asks are numbered across turns; those of other turns are not known here, and so nothing happens."""
    match frame:
        case wire.Drop(ask=number):
            errands.drop(number)
        case wire.Next(ask=number):
            errands.next(number)
        case wire.Acted():
            errands.acted(frame)


def _about(ctx: Context, restored: Any) -> wire.About:
    left_s = ctx.remaining_s
    return wire.About(
        ctx.agent,
        ctx.sender,
        ctx.run,
        ctx.idempotency_key,
        dict(ctx.labels),
        None if left_s == float("inf") else left_s,
        None if restored is None else codec.encode(restored),
    )
