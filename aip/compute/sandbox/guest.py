"""The agent inside its sandbox: its class, its turns, and a `Turn` whose every act is a question to the parent.

It runs after the last step of `confine.py`, so nothing here guards anything: the parent takes each of its frames as a stranger's.
It is the same for the agent's author as a cell: `async def` on the loop, `def` in a thread, an async generator in parts that wait
for their reader; typed arguments, typed errors with the author's own file:line. What differs is what the sandbox holds:
`subprocess`, sockets and files beyond /code and /tmp raise `PermissionError` or are not there.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import logging
import resource
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

from ...agent import Agent, Capability, Context, manifest, unknown_capability
from ...errors import AgentFailed, Cancelled, ErrorRecord, from_record, to_record
from ...runtime import codec
from ...runtime.activation import AgentType
from ...runtime.turn import agent_error
from . import wire
from .limits import ASKS_MAX, EFFECTS_MAX, ERROR_BYTES_MAX, LOG_CHARS_MAX, STREAM_WINDOW
from .order import CODE

_CURRENT: ContextVar[GuestTurn | None] = ContextVar("aip_guest_turn", default=None)


def run(descriptor: int) -> None:
    """Serve the parent until it closes the socket."""
    asyncio.run(_run(descriptor))


async def _run(descriptor: int) -> None:
    threads = max(1, (resource.getrlimit(resource.RLIMIT_NPROC)[0] - 1) // 2)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(threads, "capability"))
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=descriptor))
    guest = Guest(reader, writer)
    handler = _Forward(guest)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    await guest.serve()


class Guest:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[wire.Answer]] = {}
        self._actions: dict[int, Callable[[], Any]] = {}
        self._turns: dict[int, GuestTurn] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking = asyncio.Semaphore(ASKS_MAX - EFFECTS_MAX)
        self._effecting = asyncio.Semaphore(EFFECTS_MAX)
        self._kind: AgentType | None = None
        self._agent: Agent | None = None

    async def serve(self) -> None:
        while True:
            try:
                header = await self._reader.readexactly(wire.HEADER_BYTES)
                body = await self._reader.readexactly(wire.length_of(header))
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            self._take(wire.from_parent(body))

    def send(self, frame: wire.Frame) -> None:
        self._writer.write(wire.packed(frame))

    def from_any_thread(self, frame: wire.Frame) -> None:
        if threading.get_ident() == self._thread:
            self.send(frame)  # At once: what a turn says comes before its end.
        else:
            self._loop.call_soon_threadsafe(self.send, frame)

    def _take(self, frame: wire.ToChild) -> None:
        match frame:
            case wire.Load():
                self._load(frame)
            case wire.Begin():
                turn = self._turns[frame.turn] = GuestTurn(self, frame)
                turn.task = self._start(self._turn(turn, frame))
            case wire.Cancel(turn=number):
                if (running := self._turns.get(number)) is not None and running.task is not None:
                    running.task.cancel()
            case wire.More(turn=number):
                if (running := self._turns.get(number)) is not None:
                    running.room.release()
            case wire.Answer(ask=number):
                future = self._answers.get(number)
                if future is not None and not future.done():
                    future.set_result(frame)
            case wire.Act(ask=number):
                self._start(self._act(number))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _load(self, frame: wire.Load) -> None:
        try:
            self._kind = AgentType("", frame.entry, CODE, config=frame.config or {})
            described = codec.encode(manifest(self._kind.load()))
            if frame.config is not None:
                self._agent = self._kind.make()
        except Exception as error:  # noqa: BLE001 - whatever the author's module raises is the answer
            self.send(wire.Loaded(error=_record(error)))
        else:
            self.send(wire.Loaded(described))

    # Turns ----------------------------------------------------------------------------------------------------------

    async def _turn(self, turn: GuestTurn, begin: wire.Begin) -> None:
        _CURRENT.set(turn)
        value: bytes | None = None
        failed: ErrorRecord | None = None
        try:
            value = codec.encode(await self._perform(turn, begin))
        except asyncio.CancelledError:
            failed = to_record(Cancelled("the turn was ended"))
        except Exception as error:  # noqa: BLE001 - whatever an agent raises is its caller's to see
            failed = _record(error)
        self._turns.pop(begin.turn, None)
        self.send(wire.Done(begin.turn, value, failed))

    async def _perform(self, turn: GuestTurn, begin: wire.Begin) -> Any:
        agent = self._agent
        assert agent is not None
        match begin.what:
            case "start":
                return await agent.on_start(turn.context)
            case "stop":
                return await agent.on_stop(turn.context)
            case "failure":
                error = from_record(begin.error) if begin.error else AgentFailed("unknown")
                return await agent.on_failure(turn.context, error)
        spec = type(agent).capabilities.get(begin.capability)
        given = codec.decode(begin.arguments)
        if spec is not None:
            return await self._invoke(turn, agent, spec, given, begin.what == "stream")
        if not agent.open_ended:
            raise unknown_capability(type(agent), begin.capability)
        if begin.what == "stream":
            parts = agent.handle_stream(begin.capability, given, turn.context)
            return await self._stream(turn, _as_it_is, parts, True)
        return await agent.handle(begin.capability, given, turn.context)

    async def _invoke(
        self, turn: GuestTurn, agent: Agent, spec: Capability, given: Any, streaming: bool
    ) -> Any:
        arguments = spec.bind(given)
        if spec.context_parameter is not None:
            arguments[spec.context_parameter] = turn.context
        method = getattr(agent, spec.method)
        if spec.kind == "stream":
            return await self._stream(turn, spec.promised, method(**arguments), streaming)
        if spec.kind == "async":
            answer = spec.promised(await method(**arguments))
        else:
            answer = spec.promised(await asyncio.to_thread(method, **arguments))
        return await self._stream(turn, _as_it_is, _only(answer), True) if streaming else answer

    async def _stream(
        self, turn: GuestTurn, promise: Callable[[Any], Any], parts: Any, streaming: bool
    ) -> int:
        number = 0
        async with contextlib.aclosing(parts):
            async for part in parts:
                promised = promise(part)
                if streaming:
                    await turn.room.acquire()
                    self.send(wire.Part(turn.number, codec.encode(promised)))
                number += 1
        return number

    # Questions to the parent ----------------------------------------------------------------------------------------

    async def ask(
        self, turn: GuestTurn, verb: str, arguments: Any, action: Callable[[], Any] | None = None
    ) -> Any:
        slots = self._asking if action is None else self._effecting
        async with slots:
            number = next(self._numbers)
            if action is not None:
                self._actions[number] = action
            self.send(wire.Ask(turn.number, number, turn.part, verb, codec.encode(arguments)))
            try:
                return await self._answer(number)
            finally:
                self._actions.pop(number, None)

    async def _answer(self, number: int) -> Any:
        answer = await self._frame(number)
        return codec.decode(answer.value or b"\xc0")

    async def _frame(self, number: int) -> wire.Answer:
        future = self._answers[number] = self._loop.create_future()
        try:
            answer: wire.Answer = await future
        except asyncio.CancelledError:
            self.send(wire.Drop(number))
            raise
        finally:
            self._answers.pop(number, None)
        if answer.error is not None:
            raise from_record(answer.error)
        return answer

    async def parts(self, turn: GuestTurn, arguments: Any) -> AsyncIterator[Any]:
        async with self._asking:
            number = next(self._numbers)
            self.send(wire.Ask(turn.number, number, turn.part, "stream", codec.encode(arguments)))
            try:
                while not (answer := await self._frame(number)).last:
                    yield codec.decode(answer.value or b"\xc0")
                    self.send(wire.Next(number))
            except GeneratorExit:
                self.send(wire.Drop(number))
                raise

    async def _act(self, number: int) -> None:
        action = self._actions.get(number)
        if action is None:
            return
        try:
            if inspect.iscoroutinefunction(action):
                result = await action()
            else:
                result = await asyncio.to_thread(action)
                result = await result if inspect.isawaitable(result) else result
            self.send(wire.Acted(number, codec.encode(result)))
        except Exception as error:  # noqa: BLE001 - whatever an action raises is its effect's outcome
            self.send(wire.Acted(number, error=_record(error)))


def _record(error: BaseException) -> ErrorRecord:
    record = to_record(agent_error(error, CODE))
    if len(codec.encode(record.details)) <= ERROR_BYTES_MAX:
        return record
    return ErrorRecord(record.code, record.message, record.retryable, record.hint)


async def _only(answer: Any) -> AsyncIterator[Any]:
    """For who reads it as a stream."""
    yield answer


def _as_it_is(part: Any) -> Any:
    """A part of a capability that is not declared, and so promised nothing."""
    return part


class _Settled:
    """What `ctx.progress` gives: it may be awaited and is over already."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


class GuestTurn:
    """The `Turn` of `aip.agent` in a sandbox."""

    def __init__(self, guest: Guest, begin: wire.Begin, part: int = 0) -> None:
        about = begin.about
        self._guest = guest
        self._begin = begin
        self.number = begin.turn
        self.part = part
        self.agent = about.agent
        self.sender = about.sender
        self.run = about.run
        self.idempotency_key = about.idempotency_key
        self.labels: Mapping[str, str] = about.labels
        self.restored = codec.decode(about.restored) if about.restored is not None else None
        self.context = Context(self)
        self.room = asyncio.Semaphore(STREAM_WINDOW)
        self.task: asyncio.Task[None] | None = None
        self._until = float("inf") if about.remaining_s is None else time.monotonic() + about.remaining_s
        self._held: list[tuple[dict[str, int], int]] = []

    def remaining_s(self) -> float:
        return max(0.0, self._until - time.monotonic())

    def _ask(self, verb: str, *arguments: Any) -> Awaitable[Any]:
        return self._guest.ask(self, verb, arguments)

    async def call(
        self,
        target: str | None,
        capability: str,
        arguments: Mapping[str, Any],
        timeout_s: float | None,
        key: str,
    ) -> Any:
        return await self._ask("call", target, capability, dict(arguments), timeout_s, key)

    async def tell(self, target: str, capability: str, arguments: Mapping[str, Any]) -> None:
        await self._ask("tell", target, capability, dict(arguments))

    def stream(
        self, target: str | None, capability: str, arguments: Mapping[str, Any], timeout_s: float | None
    ) -> AsyncIterator[Any]:
        return self._guest.parts(self, (target, capability, dict(arguments), timeout_s))

    def progress(self, fraction: float | None, text: str) -> Awaitable[None]:
        self._guest.from_any_thread(wire.Progress(self.number, fraction, text[:LOG_CHARS_MAX]))
        return _Settled()

    async def spawn(self, kind: str, key: str | None) -> str:
        return str(await self._ask("spawn", kind, key))

    async def kill(self, target: str, reason: str) -> None:
        await self._ask("kill", target, reason)

    async def checkpoint(self, state: Any) -> None:
        await self._ask("checkpoint", state)

    async def effect(
        self, name: str, action: Callable[[], Any], key: str | None, idempotent: bool, timeout_s: float | None
    ) -> Any:
        return await self._guest.ask(self, "effect", (name, key, idempotent, timeout_s), action)

    async def ask_effect(self, connector: str, request: Any, key: str | None, timeout_s: float | None) -> Any:
        return await self._ask("ask_effect", connector, request, key, timeout_s)

    async def spend(self, amounts: Mapping[str, int]) -> None:
        await self._ask("spend", dict(amounts))

    async def hold(self, amounts: Mapping[str, int]) -> None:
        number = await self._ask("hold", dict(amounts))
        self._held.append((dict(amounts), number))

    async def unhold(self, held: Mapping[str, int], spent: Mapping[str, int]) -> None:
        place = next(index for index, (amounts, _) in enumerate(self._held) if amounts == held)
        _, number = self._held.pop(place)
        await self._ask("unhold", number, dict(spent))

    async def split(self, name: str, amounts: Mapping[str, int]) -> GuestTurn:
        return GuestTurn(self._guest, self._begin, await self._ask("split", name, dict(amounts)))

    async def add_tasks(self, tasks: Mapping[str, Any]) -> None:
        await self._ask("add_tasks", dict(tasks))


class _Forward(logging.Handler):
    """Log lines of the turn that works here, to the parent's log."""

    def __init__(self, guest: Guest) -> None:
        super().__init__()
        self._guest = guest

    def emit(self, record: logging.LogRecord) -> None:
        turn = _CURRENT.get()
        if turn is not None:
            text = record.getMessage()[:LOG_CHARS_MAX]
            self._guest.from_any_thread(wire.Log(turn.number, min(record.levelno, logging.CRITICAL), text))
