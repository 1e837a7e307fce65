"""A cell: the place where agents live and where the road runs.

    Context.call ──► ask ──► guard ──► route ─┬─ owned here ──► host.offer ──► mailbox ──► turn ──► answer
                                              └─ elsewhere ───► post ──► frame ──► the other cell's `deliver`

A cell is plain asyncio. Time, randomness, threads, transport, checkpoints and audit are handed in (`ports.py`), so the same code
runs inside a Ray actor, in one process in a test, and on a virtual clock in the simulator.

Guarantees (docs/semantics.md): every `ask` ends in one outcome (D1) because `OpenCalls` gives outcomes once and three things
watch every call - its deadline, the life of the cell it went to, and its caller's task. Order per pair (O1) because a pair's
messages take one path at a time: the mailbox, else the stall queue, else one outbox. It does not know whether a message that was
lost with its receiver was handled; nothing can.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import Executor
from typing import Any, TypeVar

import msgspec

from ..errors import (
    AgentLost,
    AIPError,
    BudgetExceeded,
    Cancelled,
    DeadlineExceeded,
    Deadlock,
    InvalidPayload,
    MailboxFull,
    Undelivered,
    UsageError,
    from_record,
    to_record,
)
from ..ids import type_of
from ..settings import DEFAULT_LIMITS, Limits
from . import codec
from .activation import Activation, AgentType
from .border import Border, Misspoken
from .calls import Call, Listener, OpenCalls
from .envelope import (
    Cancel,
    Claim,
    Credit,
    Envelope,
    HandOver,
    Item,
    Kind,
    Part,
    Probe,
    Progress,
    Reply,
    Taken,
    decode_frame,
    encode,
)
from .guard import Guard
from .host import Host
from .mailbox import Offer
from .ports import Audit, Checkpoints, Clock, Effects, Locator, Purses, Resolver, Transport
from .post import Post
from .speaker import SPEAKER, Speaker

T = TypeVar("T")

SWEEP_S = 0.1  # How soon a deadline or a kill order reaches a turn that is already running.
# What a refusal says of the policy that made it, for the audit.
RULED = ("reasons", "revision", "decision", "input")
PASSIVATE_EVERY = 50  # Sweeps between two looks for idle agents.
PROBE_AFTER_S = 1.0  # A call that waits this long asks whether it waits in a circle.
LATER_S = 0.01  # Pause before mail is routed again that this cell could not serve: the membership is about to change.


class Overtaken(Undelivered):
    """A later message of the same sender was taken first, so this one may not start any more (semantics O1)."""

    code = "undelivered.overtaken"
    retryable = True


class Cell:
    def __init__(
        self,
        name: str,
        generation: int,
        *,
        types: Mapping[str, AgentType],
        locator: Locator,
        transport: Transport,
        checkpoints: Checkpoints,
        audit: Audit,
        guard: Guard,
        clock: Clock,
        rng: random.Random,
        executor: Executor | None = None,
        resolver: Resolver | None = None,
        purses: Purses | None = None,
        effects: Effects | None = None,
        homeless: Callable[[str], None] | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.name = name
        self.generation = generation
        self.locator = locator
        self.checkpoints = checkpoints
        self.audit = audit
        self.guard = guard
        self.clock = clock
        self.limits = limits
        self.host = Host(self, dict(types))
        self.calls = OpenCalls()
        self.border = Border(locator)
        self.post_office = Post(self, transport)
        self._rng = rng
        self._executor = executor
        self._resolver = resolver
        self._purses = purses
        self._effects = effects
        self._wanted = homeless
        self._tasks: dict[asyncio.Task[Any], None] = {}  # In order of their start.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._room: dict[str, list[asyncio.Future[None]]] = {}
        self._behind: list[asyncio.Future[None]] = []  # Those who wait for the next membership.
        self.closing = False  # No agent is activated here any more.
        self._count = 0
        self._salt = f"{rng.getrandbits(40):010x}"
        self._sweeps = 0

    # Life -----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to watch deadlines; call once, on the loop the cell runs on."""
        self._loop = asyncio.get_running_loop()
        self.start_task(self._watch())

    async def stop(self) -> None:
        """Let every agent finish its turn, checkpoint and go, and what they leave go out; then end what is left."""
        self.closing = True
        stopping = [self.host.stop(activation) for activation in list(self.host.agents.values())]
        if stopping:
            await asyncio.gather(*stopping)
        for call in self.calls:
            self.calls.fail(call.envelope.id, Cancelled("this cell is stopping"))
        for recipient in list(self.post_office.stalls):
            for envelope in self.post_office.stalls.release(recipient):
                self._answer_lost(envelope, self.name)
            self.unstall(recipient)
        await self.post_office.flush()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def start_task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task that this cell owns: kept alive, ended with it, its failure never silent."""
        task = asyncio.ensure_future(work)
        self._tasks[task] = None
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.audit.note(
                "cell.task_failed", self.name, {"error": f"{type(error).__name__}: {error}"[:2000]}
            )
            if self._loop is not None:
                self._loop.call_exception_handler(
                    {"message": "a task of the cell failed", "exception": error}
                )

    def from_any_thread(self, action: Callable[..., None], *arguments: Any) -> None:
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop or self._loop is None:
            action(*arguments)
        else:
            self._loop.call_soon_threadsafe(action, *arguments)

    async def in_thread(self, action: Callable[[], T]) -> T:
        context = contextvars.copy_context()  # So that what the thread logs is still this turn's.
        return await asyncio.get_running_loop().run_in_executor(self._executor, context.run, action)

    def new_id(self) -> str:
        self._count += 1
        return f"{self.name}.{self.generation}.{self._salt}.{self._count:x}"

    # Asking ---------------------------------------------------------------------------------------------------------

    async def ask(self, envelope: Envelope, listener: Listener | None = None) -> bytes | None:
        """A call from its guard to its one outcome: the payload of the answer, or a typed error raised."""
        call = await self._open(envelope)
        envelope = call.envelope
        call.listener = listener
        loop = self._loop or asyncio.get_running_loop()
        timer = loop.call_later(max(0.0, envelope.deadline - self.clock()), self._expired, envelope)
        error: AIPError | None = None
        try:
            self.route(envelope)
            return await call.future
        except AIPError as raised:
            error = raised
            raise
        except asyncio.CancelledError:
            error = Cancelled("the caller was cancelled")
            self._cancel(call, "the caller was cancelled")
            raise
        finally:
            timer.cancel()
            self.calls.close(envelope.id)
            now = self.clock()
            self.guard.settle(envelope, now, now - call.started, error)
            if envelope.run:
                self.audit.settled(envelope, call.started, now, error.code if error is not None else "")

    async def send(self, envelope: Envelope) -> None:
        """A tell: returns when the message is on its way, waiting for room where the receiver is behind (O3)."""
        envelope = await self._admit(envelope)
        error: AIPError | None = None
        started = self.clock()
        try:
            refusal = self.route(envelope)
            if refusal is not None:
                raise refusal
            if self.post_office.stalls.last(envelope.recipient) is envelope:
                await self._wait_for_room(envelope)
        except AIPError as raised:
            error = raised
            raise
        finally:
            now = self.clock()
            self.guard.settle(envelope, now, now - started, error)

    async def read(self, envelope: Envelope) -> AsyncIterator[bytes]:
        """A stream, part by part. Leaving the iteration early cancels it at its source."""
        call = await self._open(envelope)
        envelope = call.envelope
        call.parts, call.wake = deque(), asyncio.Event()
        loop = self._loop or asyncio.get_running_loop()
        timer = loop.call_later(max(0.0, envelope.deadline - self.clock()), self._expired, envelope)
        error: AIPError | None = None
        ended = False
        try:
            self.route(envelope)
            while True:
                while call.parts:
                    part = call.parts.popleft()
                    call.read += 1
                    if call.read % (self.limits.stream_window // 2 or 1) == 0 and call.cell:
                        self.post(call.cell, Credit(envelope.id, call.read))
                    yield part
                if call.future.done():
                    call.future.result()
                    ended = True
                    return
                call.wake.clear()
                await call.wake.wait()
        except AIPError as raised:
            error, ended = raised, True
            raise
        finally:
            timer.cancel()
            if not ended:
                self._cancel(call, "the reader left")
            self.calls.close(envelope.id)
            if call.future.done() and not call.future.cancelled():
                call.future.exception()
            now = self.clock()
            self.guard.settle(envelope, now, now - call.started, error)
            if envelope.run:
                self.audit.settled(envelope, call.started, now, error.code if error is not None else "")

    async def _admit(self, envelope: Envelope) -> Envelope:
        """The guard's word. A refusal is raised to the caller and is an audit entry of its own.

        Returns the envelope as it may leave: one that waited here was passed by later ones of its sender, and is numbered anew
        where it really leaves (O1).
        """
        if len(envelope.chain) > self.limits.call_depth_max:
            raise Deadlock(
                f"a chain of {len(envelope.chain)} calls is too deep",
                cycle=list(envelope.chain[-5:]),
                depth=True,
            )
        waited = False
        refusal = self.guard.admit(envelope, self.clock())
        while refusal is not None and refusal.code == "refused.budget_not_drawn" and self._purses is not None:
            waited = True
            # Not a verdict: the purse is drawn from the account's ledger, which has the last word.
            try:
                await self._purses.fill(envelope.budget, refusal.details["needed"])
            except BudgetExceeded as exceeded:
                refusal = exceeded
            else:
                refusal = self.guard.admit(envelope, self.clock())
        if refusal is not None:
            self._note_refusal(envelope, refusal)
            raise refusal
        sender = self.host.agents.get(envelope.sender) if waited else None
        if sender is not None:
            envelope = msgspec.structs.replace(envelope, sequence=sender.next_sequence())
        self.audit.admitted(envelope)
        return envelope

    def _note_refusal(self, envelope: Envelope, refusal: AIPError, **more: str) -> None:
        detail = {
            "sender": envelope.sender,
            "capability": envelope.capability,
            "code": refusal.code,
            "run": envelope.run,
            **({"tenant": envelope.tenant} if envelope.tenant else {}),
            **{key: refusal.details[key] for key in RULED if key in refusal.details},
            **more,
        }
        self.audit.note("message.refused", envelope.recipient, detail)

    async def _open(self, envelope: Envelope) -> Call:
        envelope = await self._admit(envelope)
        call = Call(envelope, self.clock(), asyncio.get_running_loop().create_future())
        self.calls.open(call)
        return call

    def _expired(self, envelope: Envelope) -> None:
        call = self.calls.get(envelope.id)
        if call is not None:
            seconds = self.clock() - call.started
            error = DeadlineExceeded(
                f"{envelope.recipient} did not answer {envelope.capability} within {seconds:.3g} s"
            )
            self._cancel(call, "its deadline passed")
            self.calls.fail(envelope.id, error)

    def _cancel(self, call: Call, reason: str) -> None:
        if call.cell:
            self.post(call.cell, Cancel(call.envelope.id, call.envelope.recipient, reason))

    # Routing --------------------------------------------------------------------------------------------------------

    def route(self, envelope: Envelope, later: bool = False) -> AIPError | None:
        """Towards the agent's mailbox: here, or in the cell that owns it. `later` after a pause, when ownership is moving.

        An error says that the message goes nowhere; whoever waits for its outcome has been told already.
        """
        if later:
            asyncio.get_running_loop().call_later(LATER_S, self.route, envelope)
            return None
        if envelope.deadline and self.clock() >= envelope.deadline:
            return None  # Its caller has its outcome already.
        owner = self.locator.locate(envelope.recipient)
        if owner is None:
            return self._homeless(envelope)
        if envelope.recipient in self.post_office.stalls:
            return self._stall_one(envelope)
        if owner != self.name:
            self._dispatch(owner, envelope)
        elif not self._accept(envelope):
            return self._stall_one(envelope)
        return None

    def _dispatch(self, owner: str, envelope: Envelope) -> None:
        self.calls.placed(envelope.id, owner)
        self.post_office.put(owner, envelope)

    def _homeless(self, envelope: Envelope) -> AIPError | None:
        """Nobody owns the receiver. Where its pool is between two cells, mail waits in order; else its sender is told."""
        error = self.locator.absent(envelope.recipient)
        if error.retryable:
            if self._wanted is not None:
                self._wanted(envelope.recipient)
            return self._stall_one(envelope)
        self.answer(envelope, error=error)
        return error

    def _accept(self, envelope: Envelope) -> bool:
        """A message for an agent of this cell. False: no room."""
        cycle = self._cycle(envelope)
        if cycle:
            self.answer(envelope, error=Deadlock(f"calls wait in a circle: {' → '.join(cycle)}", cycle=cycle))
            return True
        offer = self.host.offer(envelope)
        if offer is Offer.TAKEN:
            self.calls.placed(envelope.id, self.name)
        elif offer is Offer.LATE:
            self.overtaken(envelope)
        return offer is not Offer.FULL

    def overtaken(self, envelope: Envelope) -> None:
        self.answer(envelope, error=Overtaken(f"a later message of {envelope.sender} was taken first"))

    def _cycle(self, envelope: Envelope) -> list[str]:
        """The circle that this call closes, if its receiver waits for it (O4)."""
        if envelope.recipient not in envelope.chain:
            return []
        kind = self.host.types.get(type_of(envelope.recipient))
        if kind is None or (kind.cls is not None and kind.cls.reentrant):
            return []
        start = envelope.chain.index(envelope.recipient)
        return [*envelope.chain[start:], envelope.recipient]

    def answer(self, envelope: Envelope, payload: bytes | None = None, error: AIPError | None = None) -> None:
        """The outcome of a message, to whoever waits for it. A failed tell has nobody: it is noted."""
        if envelope.kind == Kind.TELL:
            if error is not None:
                detail = {"id": envelope.id, "sender": envelope.sender, "capability": envelope.capability}
                detail |= {"code": error.code, "error": error.message[:500]}
                self.audit.note("tell.failed", envelope.recipient, detail)
            return
        record = None if error is None else to_record(error)
        self.post(envelope.origin, Reply(envelope.id, payload, record))

    def post(self, destination: str, item: Item) -> None:
        if destination == self.name:
            self.receive(destination, item)
        else:
            self.post_office.put(destination, item)

    # Back-pressure --------------------------------------------------------------------------------------------------

    def _stall_one(self, envelope: Envelope) -> AIPError | None:
        stalls = self.post_office.stalls
        if not stalls.room:
            error = self._no_room(envelope.recipient)
            self.answer(envelope, error=error)
            return error
        fresh = envelope.recipient not in stalls
        stalls.append(envelope)
        if fresh:
            self.stall(envelope.recipient, [])
        return None

    def _no_room(self, recipient: str) -> MailboxFull:
        waiting = self.post_office.stalls.size
        return MailboxFull(f"{recipient} is behind, and {waiting} messages wait in {self.name}")

    def stall(self, recipient: str, envelopes: list[Envelope]) -> None:
        """Refused for want of room: wait in order, and offer again after a pause."""
        due = self.post_office.stalls.put_back(recipient, envelopes, self.clock())
        for envelope in self.post_office.stalls.overflow(recipient):
            self.answer(envelope, error=self._no_room(recipient))
        for envelope in envelopes:
            self.calls.placed(envelope.id, "")
        asyncio.get_running_loop().call_later(max(0.0, due - self.clock()), self._offer_again, recipient)

    def _offer_again(self, recipient: str) -> None:
        now = self.clock()
        owner = self.locator.locate(recipient)
        waiting = [
            envelope
            for envelope in self.post_office.stalls.release(recipient)
            if not envelope.deadline or (envelope.deadline > now and self._still_wanted(envelope))
        ]
        if owner is None and waiting and self.locator.absent(recipient).retryable:
            self.stall(recipient, waiting)
        elif owner is None or not waiting:
            self.unstall(recipient)
            for envelope in waiting:
                self.route(envelope)
        elif owner != self.name:
            for envelope in waiting:
                self._dispatch(owner, envelope)
        else:
            for index, envelope in enumerate(waiting):
                if not self._accept(envelope):
                    self.stall(recipient, waiting[index:])
                    return
            self.unstall(recipient)

    def _still_wanted(self, envelope: Envelope) -> bool:
        return envelope.origin != self.name or self.calls.get(envelope.id) is not None

    def unstall(self, recipient: str) -> None:
        """Its mailbox took everything: later messages go straight again, and whoever waited for room goes on."""
        if self.post_office.stalls.clear(recipient):
            for future in self._room.pop(recipient, ()):
                if not future.done():
                    future.set_result(None)
        else:
            self._offer_again(recipient)

    def has_room(self, address: str) -> None:
        """An agent of this cell took a message from its mailbox."""
        if address in self.post_office.stalls and self.locator.locate(address) == self.name:
            asyncio.get_running_loop().call_soon(self._offer_again, address)

    async def _wait_for_room(self, envelope: Envelope) -> None:
        """A tell in the stall queue holds its sender until the receiver has caught up with it."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._room.setdefault(envelope.recipient, [])
        waiting.append(future)
        try:
            async with asyncio.timeout(self.limits.call_timeout_s):
                await future
        except TimeoutError:
            if self.post_office.stalls.withdraw(envelope):
                raise MailboxFull(f"no room in the mailbox of {envelope.recipient}") from None
        except asyncio.CancelledError:
            self.post_office.stalls.withdraw(envelope)
            raise
        finally:
            if future in waiting:
                waiting.remove(future)
            if not waiting and self._room.get(envelope.recipient) is waiting:
                del self._room[envelope.recipient]

    # Receiving ------------------------------------------------------------------------------------------------------

    async def deliver(self, data: bytes) -> bytes:
        """A frame from another cell; returns the encoded ack."""
        return encode(await self.post_office.take(decode_frame(data), self.receive, SPEAKER.get()))

    def receive(self, source: str, item: Item) -> bool:
        """One item, from another cell or from this one. False only for an envelope that found no room."""
        match item:
            case Envelope():
                return self._arrived(source, item)
            case Reply():
                if (call := self._told_of(source, item.id)) is not None:
                    self._replied(call, item)
            case Part():
                if (call := self._told_of(source, item.id)) is not None:
                    call.cell = source
                    call.take_part(item)
            case Taken():
                if (call := self._told_of(source, item.id)) is not None:
                    call.cell = source
            case Progress():
                call = self._told_of(source, item.id)
                if call is not None and call.listener is not None:
                    call.listener(item.fraction, item.text)
            case Credit():
                self.host.credit(item.id, item.number)
            case Cancel():
                self.host.cancel(item.id, item.recipient, item.reason)
            case Probe():
                self._probed(item)
            case Claim():
                self.host.claimed(item)
            case HandOver():
                self.host.handed(item)
        return True

    def _arrived(self, source: str, envelope: Envelope) -> bool:
        if self.serves(envelope.recipient):
            if source != self.name and (refusal := self.guard.arrives(envelope, self.clock())) is not None:
                self._note_refusal(envelope, refusal, cell=source)
                self.answer(envelope, error=refusal)
                return True
            accepted = self._accept(envelope)
            if accepted and source != envelope.origin and envelope.kind != Kind.TELL:
                self.post(envelope.origin, Taken(envelope.id))
            return accepted
        self.route(envelope, later=self.locator.locate(envelope.recipient) is None)
        return True

    def _told_of(self, source: str, call_id: str) -> Call | None:
        """The open call that a cell tells of, if it is that cell's to tell."""
        call = self.calls.get(call_id)
        if (
            call is None
            or source == self.name
            or self.border.answers(source, call.cell, call.envelope.recipient)
        ):
            return call
        self.misspoken(
            source, f"{source} tells of a call to {call.envelope.recipient}, which never was there"
        )
        return None

    def misspoken(self, speaker: Speaker | str, why: str) -> None:
        """Something said by a process whose it is not to say. Refused already; this is for the audit."""
        self.audit.note("border.refused", str(speaker), {"code": Misspoken.code, "why": why, "at": self.name})

    def _replied(self, call: Call, reply: Reply) -> None:
        if reply.error is not None:
            self.calls.fail(reply.id, from_record(reply.error))
        elif call.parts is not None and call.arrived < codec.decode(reply.payload or b"\x00"):
            # Parts and the end take one way in order: what is missing now will never come.
            self.calls.fail(
                reply.id, AgentLost(f"parts of the stream from {call.envelope.recipient} were lost")
            )
        else:
            self.calls.answer(reply.id, reply.payload)

    # Membership -----------------------------------------------------------------------------------------------------

    def moved(self, gone: list[str]) -> None:
        """The locator has a new epoch. `gone` are cells (or generations of cells) that live no more."""
        behind, self._behind = self._behind, []
        for future in behind:
            if not future.done():
                future.set_result(None)
        for cell in gone:
            self.post_office.forget(cell)
            self._fail_calls_to(cell)
            for turn in list(self.host.turns.values()):
                if turn.envelope.origin == cell and self._orphaned(turn.envelope):
                    turn.stop(Cancelled("the caller's process ended"))
        self.host.moved(gone)

    async def reached(self, epoch: int, timeout_s: float) -> None:
        """Return when this cell knows that membership or a later one, or when the time is up."""
        deadline = self.clock() + timeout_s
        while self.locator.epoch < epoch and (left_s := deadline - self.clock()) > 0:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._behind.append(future)
            await asyncio.wait([future], timeout=left_s)

    def serves(self, address: str) -> bool:
        return address in self.host.agents or self.locator.locate(address) == self.name

    def _orphaned(self, envelope: Envelope) -> bool:
        """Whether somebody waited for this message and is gone. An id begins with its cell and that cell's generation."""
        living = self.locator.generation(envelope.origin)
        return envelope.kind != Kind.TELL and not envelope.id.startswith(f"{envelope.origin}.{living}.")

    def lost(self, cell: str, items: list[Item], *, again: bool = True) -> None:
        """What became of a frame to this cell is not known. Messages are not repeated; what may come twice is (`again`)."""
        for item in items:
            match item:
                case Envelope():
                    self._answer_lost(item, cell)
                case HandOver():
                    for envelope in item.mail:
                        self._answer_lost(envelope, cell)
                    if again:
                        self.post(cell, HandOver(item.agent, item.incarnation, (), item.seen))
                case Reply() | Cancel() | Credit() | Claim() | Taken() if again:
                    self.post(cell, item)
                case _:
                    pass  # A part ends its stream by its absence; progress and probes may be lost.

    def unheard(self, cell: str, items: list[Item], refusal: AIPError) -> None:
        """A cell does not let this one speak: its calls end in that refusal, and the rest is dropped and noted."""
        self.audit.note(
            "border.unheard", self.name, {"by": cell, "code": refusal.code, "why": refusal.message}
        )
        for item in items:
            for envelope in item.mail if isinstance(item, HandOver) else (item,):
                if isinstance(envelope, Envelope):
                    self.answer(envelope, error=refusal)

    def _answer_lost(self, envelope: Envelope, cell: str) -> None:
        if envelope.kind == Kind.TELL:
            detail = {"id": envelope.id, "cell": cell, "sender": envelope.sender}
            self.audit.note("tell.lost", envelope.recipient, detail)
        else:
            self.answer(envelope, error=self._loss(envelope.recipient, cell))

    def _fail_calls_to(self, cell: str) -> None:
        """What still waits in a stall queue of ours was not sent: it is nowhere, and goes to the new owner."""
        for call in self.calls.sent_to(cell):
            self.calls.fail(call.envelope.id, self._loss(call.envelope.recipient, cell))

    @staticmethod
    def _loss(recipient: str, cell: str) -> AgentLost:
        return AgentLost(f"the process of {recipient} ({cell}) ended before it answered", cell=cell)

    def fenced(self, activation: Activation, error: AIPError) -> None:
        self.audit.note("agent.fenced", activation.address, {"incarnation": activation.incarnation})
        self.host.drop(activation, error)

    # Watching -------------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now = self.clock()
            self.host.enforce(now)
            self._enforce_fence(now)
            self._probe(now)
            for recipient in self.post_office.stalls.overdue(now):
                self._offer_again(recipient)
            self._sweeps += 1
            if self._sweeps % PASSIVATE_EVERY == 0:
                self.host.passivate_idle(now)

    def _enforce_fence(self, now: float) -> None:
        """Calls that are out on behalf of something killed end here, whatever their receiver does (K3)."""
        for call in self.calls:
            refusal = self.guard.fence.peek(call.envelope, now)
            if refusal is not None:
                self._cancel(call, "killed")
                self.calls.fail(call.envelope.id, refusal)

    def _probe(self, now: float) -> None:
        for call in self.calls:
            if now - call.probed >= PROBE_AFTER_S and call.envelope.chain:
                call.probed = now
                path = (call.envelope.sender, call.envelope.recipient)
                self._send_probe(call, Probe(call.envelope.id, self.name, path, call.envelope.recipient))

    def _send_probe(self, call: Call, probe: Probe) -> None:
        """To where the call is, or will be once there is room for it."""
        cell = call.cell or self.locator.locate(call.envelope.recipient)
        if cell is not None:
            self.post(cell, probe)

    def _probed(self, probe: Probe) -> None:
        """Follow the calls that the running turn of `probe.recipient` waits for; a call back into the path is the circle."""
        activation = self.host.agents.get(probe.recipient)
        if activation is None or not activation.turns or activation.reentrant:
            return
        for call in self.calls.of_sender(probe.recipient):
            target = call.envelope.recipient
            if target in probe.path:
                cycle = [*probe.path[probe.path.index(target) :], target]
                self._cancel(call, "deadlock")
                error = Deadlock(f"calls wait in a circle: {' → '.join(cycle)}", cycle=cycle)
                self.calls.fail(call.envelope.id, error)
            elif len(probe.path) <= self.limits.call_depth_max:
                self._send_probe(call, Probe(probe.call_id, probe.origin, (*probe.path, target), target))

    # For turns and principals ---------------------------------------------------------------------------------------

    async def resolve(self, capability: str) -> str:
        if self._resolver is None:
            raise UsageError("this cell has no registry: name the agent to call")
        return await self._resolver.resolve(capability)

    async def named(self, run: str, name: str) -> str:
        """The address of an agent by its name in the plan of `run`."""
        if not run or self._resolver is None:
            raise UsageError(
                f"{name!r} is not an address, and this turn works for no run whose plan could name it",
                hint="an address is type/key, such as greeter/ada",
            )
        return await self._resolver.named(run, name)

    async def add_tasks(self, run: str, attempt: str, tasks: Mapping[str, Any]) -> None:
        if not run or not attempt or self._resolver is None:
            raise UsageError(
                "this turn works for no task of a run: there is nothing to add tasks to",
                hint="run it by a plan",
            )
        await self._resolver.add_tasks(run, attempt, tasks)

    async def spend(self, account: str, amounts: Mapping[str, int]) -> None:
        if not account:
            return  # Nobody set a budget for this work.
        if self._purses is None:
            raise BudgetExceeded(f"the account {account} cannot be reached from here")
        await self._purses.spend(account, amounts)

    async def hold(self, account: str, amounts: Mapping[str, int]) -> None:
        if not account:
            return
        if self._purses is None:
            raise BudgetExceeded(f"the account {account} cannot be reached from here")
        await self._purses.hold(account, amounts)

    def unhold(self, account: str, held: Mapping[str, int], spent: Mapping[str, int]) -> None:
        if account and self._purses is not None:
            self._purses.unhold(account, held, spent)

    @property
    def effects(self) -> Effects:
        if self._effects is None:
            raise UsageError(
                "there is no effect gateway here",
                hint="hand ctx.effect a function to do the effect in the agent",
            )
        return self._effects

    async def split(self, account: str, part: str, limits: Mapping[str, int]) -> None:
        if self._purses is None:
            raise BudgetExceeded(f"the account {account} cannot be reached from here")
        await self._purses.split(account, part, limits)

    async def settle_account(self, account: str) -> None:
        """Tell the account's ledger what was spent. If it cannot be reached the turn's answer still goes out."""
        if self._purses is not None:
            try:
                await self._purses.close(account)
            except AIPError as error:
                self.audit.note("budget.not_settled", account, {"error": error.message[:500]})

    def request(
        self,
        sender: str,
        sequence: int,
        recipient: str,
        capability: str,
        arguments: Any,
        *,
        kind: Kind = Kind.CALL,
        timeout_s: float | None = None,
        **fields: Any,
    ) -> Envelope:
        """An envelope of a principal that is not an agent: a run, a client, a gateway."""
        limit = self.limits.call_timeout_s if timeout_s is None else timeout_s
        if not capability:
            raise InvalidPayload("which capability?")
        return Envelope(
            id=self.new_id(),
            kind=kind,
            sender=sender,
            recipient=recipient,
            capability=capability,
            payload=codec.encode(arguments, self.limits),
            sequence=sequence,
            deadline=0.0 if kind is Kind.TELL else self.clock() + limit,
            origin=self.name,
            **fields,
        )
