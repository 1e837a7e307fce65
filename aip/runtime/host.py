"""The agents of a cell: activated by their first mail, served one message at a time, handed over, passivated.

The one rule that carries the rest: *an activation acts only under an incarnation that its checkpoint shard gave it* (A2). Asking
for one also tells who holds the agent now; if that is another living cell, it is asked to hand over first (A4). Whatever mail an
activation has when it ends - failed start, hand-over, a newer incarnation elsewhere - is answered or sent on, never dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from ..agent import Agent, find_capability
from ..errors import (
    AgentFailed,
    AIPError,
    Cancelled,
    DeadlineExceeded,
    Fenced,
    NotFound,
    UserError,
)
from ..ids import type_of
from . import codec
from .activation import Activation, AgentType, State
from .envelope import Claim, Envelope, HandOver, Kind, Part
from .mailbox import Mailbox, Offer
from .turn import CURRENT, CellTurn, agent_error

if TYPE_CHECKING:
    from .cell import Cell

HAND_OVER_WAIT_S = 10.0  # Longer than any turn should run; then the fence, not courtesy, ends the old owner.
START_RETRY_S = 0.05


class Host:
    def __init__(self, cell: Cell, types: dict[str, AgentType]) -> None:
        self._cell = cell
        self.types = types
        self.agents: dict[str, Activation] = {}
        self.turns: dict[str, CellTurn] = {}  # Running ones, by the id of their message.
        self._starts: dict[str, deque[float]] = {}  # address -> times of failed starts
        self._awaited: dict[str, asyncio.Future[HandOver]] = {}

    # Mail -----------------------------------------------------------------------------------------------------------

    def offer(self, envelope: Envelope) -> Offer:
        """Into the agent's mailbox, creating its record if this is its first mail."""
        address = envelope.recipient
        activation = self.agents.get(address)
        if activation is None:
            kind = self.types.get(type_of(address))
            if kind is None:
                self._cell.answer(
                    envelope, error=NotFound(f"no agent type {type_of(address)!r} in this cell")
                )
                return Offer.TAKEN
            limits = self._cell.limits
            mailbox = Mailbox(limits.mailbox_max, limits.pairs_max)
            activation = Activation(address, kind, mailbox, self._cell.clock())
            activation.run = envelope.run
            self.agents[address] = activation
        offer = activation.mailbox.offer(envelope)
        if offer is Offer.TAKEN and activation.server is None:
            activation.server = self._cell.start_task(self._serve(activation))
        return offer

    async def _serve(self, activation: Activation) -> None:
        """Start the agent if need be, then work through its mailbox; ends when it is empty or the agent is gone."""
        try:
            if activation.state is State.NEW and not await self._start(activation):
                return
            mailbox = activation.mailbox
            while mailbox.queue and activation.state is State.ACTIVE:
                envelope = mailbox.take()
                self._cell.has_room(activation.address)
                turn = CellTurn(self._cell, activation, envelope)
                activation.turns.add(turn)
                self.turns[envelope.id] = turn
                if activation.reentrant:
                    turn.task = self._cell.start_task(self._turn(turn))
                else:
                    turn.task = activation.server
                    await self._turn(turn)
            activation.last_used = self._cell.clock()
        finally:
            activation.server = None

    # A turn ---------------------------------------------------------------------------------------------------------

    async def _turn(self, turn: CellTurn) -> None:
        cell, activation, envelope = self._cell, turn.activation, turn.envelope
        CURRENT.set(turn)
        payload: bytes | None = None
        error: AIPError | None = None
        try:
            payload = await self._perform(turn)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if turn.stopped is None:
                self._ended(turn)
                raise  # This cell itself is ending.
            if task is not None:
                while task.uncancel() > 0:
                    continue
            error = turn.stopped
        except Exception as raised:  # noqa: BLE001 - whatever an agent raises is its caller's to see
            error = turn.stopped or agent_error(raised, activation.kind.code_root)
            if turn.stopped is None and activation.instance is not None and not isinstance(raised, UserError):
                await self._tell_failure(turn, raised)
        self._ended(turn)
        if envelope.budget:
            await cell.settle_account(envelope.budget)
        cell.answer(envelope, payload=payload, error=error)

    def _ended(self, turn: CellTurn) -> None:
        turn.activation.turns.discard(turn)
        self.turns.pop(turn.envelope.id, None)

    async def _perform(self, turn: CellTurn) -> bytes:
        cell, activation, envelope = self._cell, turn.activation, turn.envelope
        now = cell.clock()
        refusal = cell.guard.fence.peek(envelope, now)
        if refusal is not None:
            cell.audit.note("message.refused", envelope.recipient, {"code": refusal.code, "id": envelope.id})
            raise refusal
        if envelope.deadline and now >= envelope.deadline:
            raise DeadlineExceeded(f"waited in the mailbox of {envelope.recipient} until its deadline")
        if envelope.capability == "aip.start":
            return codec.encode(activation.incarnation)
        instance = activation.instance
        assert instance is not None
        spec = find_capability(type(instance), envelope.capability)
        arguments = spec.bind(codec.decode(envelope.payload))
        if spec.context_parameter is not None:
            arguments[spec.context_parameter] = turn.context
        method = getattr(instance, spec.method)
        if spec.kind == "stream":
            return await self._stream(turn, spec, method(**arguments))
        if spec.kind == "async":
            result = await method(**arguments)
        else:
            result = await cell.in_thread(lambda: method(**arguments))
        return codec.encode(spec.promised(result), cell.limits)

    async def _stream(self, turn: CellTurn, spec: Any, parts: Any) -> bytes:
        """Send parts as they come, at most a window ahead of the reader; the reply tells how many there were."""
        cell, envelope = self._cell, turn.envelope
        number = 0
        turn.wake = asyncio.Event()
        async for part in parts:
            if envelope.kind == Kind.STREAM:
                while number - turn.credited >= cell.limits.stream_window:
                    turn.wake.clear()
                    await turn.wake.wait()
                data = codec.encode(spec.promised(part), cell.limits)
                cell.post(envelope.origin, Part(envelope.id, number, data))
            number += 1
        return codec.encode(number)

    async def _tell_failure(self, turn: CellTurn, raised: Exception) -> None:
        instance = turn.activation.instance
        assert instance is not None
        try:
            await instance.on_failure(turn.context, raised)
        except Exception as second:  # noqa: BLE001 - a broken handler must not take the answer with it
            self._cell.audit.note(
                "agent.on_failure_failed", turn.agent, {"error": f"{type(second).__name__}: {second}"}
            )

    # Coming and going -----------------------------------------------------------------------------------------------

    async def _start(self, activation: Activation) -> bool:
        activation.state = State.STARTING
        try:
            self._check_intensity(activation.address)
            await self._incarnate(activation)
        except Fenced:
            self._gone(activation)
            for envelope in activation.mailbox.queue:
                self._cell.route(envelope, later=True)
            return False
        except Exception as raised:  # noqa: BLE001 - an agent that cannot start is its callers' to know
            error = agent_error(raised, activation.kind.code_root)
            self._start_failed(activation, error)
            return False
        activation.state = State.ACTIVE
        self._cell.audit.note("agent.started", activation.address, {"incarnation": activation.incarnation})
        return True

    async def _incarnate(self, activation: Activation) -> None:
        """Incarnation, mail of the old owner, instance, `on_start`."""
        cell, address = self._cell, activation.address
        kind = activation.kind.load()
        granted = await cell.checkpoints.activate(address, cell.name, False)
        if granted.held_by:
            await self._claim(activation, granted.held_by)
            granted = await cell.checkpoints.activate(address, cell.name, True)
        activation.incarnation = granted.incarnation
        activation.instance = kind()
        cause = activation.mailbox.queue[0] if activation.mailbox.queue else None
        turn = CellTurn(cell, activation, _lifecycle(activation, cell.name, cell.clock(), cause))
        if granted.state is not None:
            turn.restored = codec.decode(granted.state)
        if kind.on_start is not Agent.on_start:
            async with asyncio.timeout(cell.limits.call_timeout_s):
                await activation.instance.on_start(turn.context)

    async def _claim(self, activation: Activation, holder: str) -> None:
        """Ask the living holder to hand over, and take its mail; if it is gone or does not answer, the fence decides."""
        cell = self._cell
        if holder == cell.name or cell.locator.generation(holder) is None:
            return
        future: asyncio.Future[HandOver] = asyncio.get_running_loop().create_future()
        self._awaited[activation.address] = future
        cell.post(holder, Claim(activation.address, cell.name, cell.locator.epoch))
        try:
            async with asyncio.timeout(HAND_OVER_WAIT_S):
                given = await future
            activation.mailbox.restore(given.mail, given.seen)
        except TimeoutError:
            cell.audit.note("agent.hand_over_timeout", activation.address, {"holder": holder})
        finally:
            self._awaited.pop(activation.address, None)

    def claimed(self, claim: Claim) -> None:
        """Another cell owns this agent now: finish, checkpoint, hand over (A4)."""
        activation = self.agents.get(claim.agent)
        if activation is None or activation.state in (State.NEW, State.GONE):
            mail = tuple(activation.mailbox.queue) if activation else ()
            seen = dict(activation.mailbox.seen) if activation else {}
            if activation is not None:
                self._gone(activation)
            self._cell.post(claim.claimant, HandOver(claim.agent, 0, mail, seen))
            return
        self._cell.start_task(self.stop(activation, hand_to=claim.claimant))

    def handed(self, given: HandOver) -> None:
        future = self._awaited.get(given.agent)
        if future is not None and not future.done():
            future.set_result(given)
            return
        # Nobody waits any more (the claim timed out): its mail is ordinary mail.
        for envelope in given.mail:
            self._cell.route(envelope)

    async def stop(self, activation: Activation, hand_to: str = "") -> None:
        """Running turns finish, `on_stop`, release, and the waiting mail goes on."""
        if activation.state in (State.STOPPING, State.GONE):
            return
        cell = self._cell
        while activation.state in (State.NEW, State.STARTING) and activation.server is not None:
            await asyncio.wait([activation.server])
        if activation.state is not State.ACTIVE:
            return
        activation.state = State.STOPPING
        running = {turn.task for turn in activation.turns if turn.task is not None}
        if running:
            await asyncio.wait(running, timeout=HAND_OVER_WAIT_S)
        instance = activation.instance
        assert instance is not None
        turn = CellTurn(cell, activation, _lifecycle(activation, cell.name, cell.clock(), None))
        try:
            if type(instance).on_stop is not Agent.on_stop:
                async with asyncio.timeout(HAND_OVER_WAIT_S):
                    await instance.on_stop(turn.context)
            await cell.checkpoints.release(activation.address, activation.incarnation)
        except Exception as raised:  # noqa: BLE001 - an agent that cannot stop well still stops
            cell.audit.note(
                "agent.stop_failed", activation.address, {"error": f"{type(raised).__name__}: {raised}"}
            )
        self._gone(activation)
        mail = tuple(activation.mailbox.queue)
        activation.mailbox.queue.clear()
        if hand_to:
            cell.post(
                hand_to,
                HandOver(activation.address, activation.incarnation, mail, dict(activation.mailbox.seen)),
            )
        else:
            for envelope in mail:
                cell.route(envelope)

    def drop(self, activation: Activation, error: AIPError) -> None:
        """A newer incarnation exists: this one ends at once, and its mail goes where the newer one is."""
        if activation.state is State.GONE:
            return
        self._gone(activation)
        for turn in list(activation.turns):
            turn.stop(error)
        mail = list(activation.mailbox.queue)
        activation.mailbox.queue.clear()
        for envelope in mail:
            self._cell.route(envelope, later=True)

    def _gone(self, activation: Activation) -> None:
        activation.state = State.GONE
        if self.agents.get(activation.address) is activation:
            del self.agents[activation.address]
        self._cell.has_room(activation.address)

    def _check_intensity(self, address: str) -> None:
        failed = self._starts.get(address)
        if failed is None:
            return
        limits, now = self._cell.limits, self._cell.clock()
        while failed and failed[0] < now - limits.agent_restart_window_s:
            failed.popleft()
        if len(failed) >= limits.agent_restarts_max:
            raise AgentFailed(
                f"{address} failed to start {len(failed)} times in {limits.agent_restart_window_s:g} s and is given up",
                hint="mend its on_start; it is tried again when the window has passed",
                type="restart_intensity",
            )

    def _start_failed(self, activation: Activation, error: AIPError) -> None:
        if error.details.get("type") != "restart_intensity":
            failed = self._starts.setdefault(
                activation.address, deque(maxlen=self._cell.limits.agent_restarts_max)
            )
            failed.append(self._cell.clock())
            if len(self._starts) > self._cell.limits.pairs_max:
                del self._starts[next(iter(self._starts))]
            self._cell.audit.note("agent.start_failed", activation.address, {"error": error.message[:500]})
        self._gone(activation)
        if activation.incarnation:
            self._cell.start_task(self._release(activation))
        for envelope in activation.mailbox.queue:
            self._cell.answer(envelope, error=error)
        activation.mailbox.queue.clear()

    async def _release(self, activation: Activation) -> None:
        try:
            await self._cell.checkpoints.release(activation.address, activation.incarnation)
        except AIPError as error:
            self._cell.audit.note("agent.stop_failed", activation.address, {"error": error.message[:500]})

    # From outside ---------------------------------------------------------------------------------------------------

    def cancel(self, call_id: str, recipient: str, reason: str) -> None:
        """Nobody waits for this call any more: out of the mailbox, or its turn is told (O5)."""
        turn = self.turns.get(call_id)
        if turn is not None:
            turn.stop(Cancelled(reason or "the caller no longer waits"))
        elif (activation := self.agents.get(recipient)) is not None:
            activation.mailbox.discard(call_id)

    def enforce(self, now: float) -> None:
        """Deadlines and kill orders reach running turns."""
        fence = self._cell.guard.fence
        for turn in list(self.turns.values()):
            deadline = turn.envelope.deadline
            if deadline and now >= deadline:
                turn.stop(
                    DeadlineExceeded(f"{turn.agent} was still at {turn.envelope.capability} at the deadline")
                )
            elif (refusal := fence.peek(turn.envelope, now)) is not None:
                turn.stop(refusal)

    def passivate_idle(self, now: float) -> None:
        before = now - self._cell.limits.idle_passivate_s
        for activation in list(self.agents.values()):
            idle = activation.server is None and not activation.turns and activation.last_used <= before
            if idle and activation.state is State.ACTIVE:
                self._cell.start_task(self.stop(activation))

    def credit(self, call_id: str, number: int) -> None:
        turn = self.turns.get(call_id)
        if turn is not None:
            turn.credited = max(turn.credited, number)
            if turn.wake is not None:
                turn.wake.set()


def _lifecycle(activation: Activation, cell: str, now: float, cause: Envelope | None) -> Envelope:
    """The message that `on_start` and `on_stop` handle: none, but their context needs one to work on behalf of."""
    return Envelope(
        id=f"{activation.address}#{activation.incarnation}",
        kind=Kind.TELL,
        sender=activation.address,
        recipient=activation.address,
        capability="aip.lifecycle",
        payload=b"\xc0",
        origin=cell,
        run=activation.run,
        budget=cause.budget if cause else "",
        tenant=cause.tenant if cause else "",
    )
