"""The agents of a cell: activated by their first mail, served one message at a time, handed over, passivated.

The one rule that carries the rest: *an activation acts only under an incarnation that its checkpoint shard gave it* (A2). Asking
for one also tells who holds the agent now; if that is another living cell, it is asked to hand over first (A4). Whatever mail an
activation has when it ends - failed start, hand-over, a newer incarnation elsewhere - is answered or sent on, never dropped.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from ..agent import Agent, Capability, unknown_capability
from ..errors import (
    AgentFailed,
    AIPError,
    Cancelled,
    DeadlineExceeded,
    Fenced,
    Killed,
    NotFound,
    PlatformUnavailable,
    UserError,
)
from ..ids import type_of
from . import codec
from .activation import Activation, AgentType, State
from .envelope import Cancel, Claim, Envelope, HandOver, Kind, Part, Taken
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
        self._paying: Counter[str] = Counter()  # account -> running turns of this cell that work on it
        self._starts: dict[str, deque[float]] = {}  # address -> times of failed starts
        self._awaited: dict[
            str, tuple[str, asyncio.Future[HandOver]]
        ] = {}  # agent -> its holder, what it hands over
        self.threads: dict[CellTurn, None] = {}  # Whose code is in a thread, which may outlive the turn (O5).
        self._held: set[str] = set()  # Agents whose mail a kill order held back when it was last looked at.

    # Mail -----------------------------------------------------------------------------------------------------------

    def offer(self, envelope: Envelope) -> Offer:
        """Into the agent's mailbox, creating its record if this is its first mail."""
        activation = self.agents.get(envelope.recipient)
        if activation is None:
            if self._cell.closing:
                return (
                    Offer.FULL
                )  # It waits with its sender until the membership says who comes after this cell.
            kind = self.types.get(type_of(envelope.recipient))
            if kind is None:
                error = NotFound(f"no agent type {type_of(envelope.recipient)!r} in this cell")
                self._cell.answer(envelope, error=error)
                return Offer.TAKEN
            activation = self._record(envelope.recipient, kind, envelope.run)
        offer = activation.mailbox.offer(envelope)
        if offer is Offer.TAKEN and activation.server is None:
            activation.server = self._cell.start_task(self._serve(activation))
        return offer

    def _record(self, address: str, kind: AgentType, run: str) -> Activation:
        limits = self._cell.limits
        mailbox = Mailbox(limits.mailbox_max, limits.pairs_max)
        activation = self.agents[address] = Activation(address, kind, mailbox, self._cell.clock())
        activation.run = run
        return activation

    async def _serve(self, activation: Activation) -> None:
        """Start the agent if need be, then work through its mailbox; ends when it is empty or the agent is gone."""
        try:
            if activation.state is State.NEW and not (
                self._may_start(activation) and await self._start(activation)
            ):
                return
            while activation.state is State.ACTIVE and (envelope := self._next(activation)) is not None:
                self._begin(activation, envelope)
                turn = CellTurn(self._cell, activation, envelope)
                activation.turns[turn] = None
                self.turns[envelope.id] = turn
                if envelope.budget:
                    self._paying[envelope.budget] += 1
                if activation.reentrant:
                    turn.task = self._cell.start_task(self._turn(turn))
                else:
                    turn.task = activation.server
                    await self._turn(turn)
            activation.last_used = self._cell.clock()
        finally:
            activation.server = None
            if activation.mailbox.queue and activation.state in (State.NEW, State.ACTIVE):
                self._held.add(activation.address)

    def _next(self, activation: Activation) -> Envelope | None:
        """The first message that no kill order holds back; one behind a held one of its sender waits too (O1)."""
        fence, queue = self._cell.guard.fence, activation.mailbox.queue
        if not queue or not fence.holds():
            return queue[0] if queue else None
        now, held = self._cell.clock(), set()
        for envelope in queue:
            if envelope.sender not in held and not fence.waits(envelope, now):
                return envelope
            held.add(envelope.sender)
        return None

    def _begin(self, activation: Activation, envelope: Envelope) -> None:
        """Out of the mailbox, for good."""
        queue = activation.mailbox.queue
        if queue[0] is envelope:
            queue.popleft()
        else:
            queue.remove(envelope)
        self._cell.guard.fence.take(envelope, self._cell.clock())
        self._cell.has_room(activation.address)

    def _may_start(self, activation: Activation) -> bool:
        """Whether there is mail for which this agent may come to life. What a kill order refuses is told so now."""
        while (envelope := self._next(activation)) is not None:
            refusal = self._cell.guard.fence.enters(envelope, self._cell.clock())
            if refusal is None:
                return True
            activation.mailbox.queue.remove(envelope)
            self._refused(envelope, refusal)
            self._cell.answer(envelope, error=refusal)
        if not activation.mailbox.queue:
            self._gone(activation)
        return False

    def _refused(self, envelope: Envelope, refusal: AIPError) -> None:
        detail = {"code": refusal.code, "id": envelope.id, "run": envelope.run}
        self._cell.audit.note("message.refused", envelope.recipient, detail)

    # A turn ---------------------------------------------------------------------------------------------------------

    async def _turn(self, turn: CellTurn) -> None:
        cell, activation, envelope = self._cell, turn.activation, turn.envelope
        CURRENT.set(turn)
        payload: bytes | None = None
        error: AIPError | None = None
        failure: Exception | None = None
        turn.begun = True
        try:
            payload = await self._perform(turn)
        except asyncio.CancelledError as cut:
            task = asyncio.current_task()
            if turn.stopped is None and task is not None and task.cancelling():
                self._ended(turn)
                raise  # This cell itself is ending.
            error = turn.stopped or agent_error(cut, activation.kind.code_root)
        except Exception as raised:  # noqa: BLE001 - whatever an agent raises is its caller's to see
            error = turn.stopped or agent_error(raised, activation.kind.code_root)
            if turn.stopped is None and activation.instance is not None and not isinstance(raised, UserError):
                failure = raised
        # From here on nobody can stop this turn: its answer goes out.
        self.turns.pop(envelope.id, None)
        if turn.stopped is not None:
            _uncancel()
        for account in turn.parts:
            if not self._paying[account]:
                await cell.settle_account(account)
        if envelope.budget and (envelope.origin != cell.name or self._paying[envelope.budget] == 1):
            # Asked from this cell, its asker works on the same account here and settles with its own end.
            await cell.settle_account(envelope.budget)
        cell.answer(envelope, payload=payload, error=error)
        if failure is not None:
            await self._tell_failure(turn, failure)
        self._ended(turn)

    def _ended(self, turn: CellTurn) -> None:
        self.turns.pop(turn.envelope.id, None)
        account = turn.envelope.budget
        if turn.activation.turns.pop(turn, 0) is None and account:
            self._paying[account] -= 1
            if not self._paying[account]:
                del self._paying[account]

    async def _perform(self, turn: CellTurn) -> bytes:
        cell, activation, envelope = self._cell, turn.activation, turn.envelope
        if turn.stopped is not None:
            raise turn.stopped
        now = cell.clock()
        refusal = cell.guard.fence.enters(envelope, now)
        if refusal is not None:
            self._refused(envelope, refusal)
            raise refusal
        if envelope.deadline and now >= envelope.deadline:
            raise DeadlineExceeded(f"waited in the mailbox of {envelope.recipient} until its deadline")
        if envelope.capability == "aip.start":
            return self._whole(turn, activation.incarnation)
        instance = activation.instance
        assert instance is not None
        if envelope.capability == "aip.describe":
            return self._whole(turn, instance.describe())
        given = codec.decode(envelope.payload)
        spec = type(instance).capabilities.get(envelope.capability)
        if spec is None:
            if not instance.open_ended:
                raise unknown_capability(type(instance), envelope.capability)
            if envelope.kind == Kind.STREAM:
                parts = instance.handle_stream(envelope.capability, given, turn.context)
                return await self._stream(turn, _as_it_is, parts)
            return self._whole(turn, await instance.handle(envelope.capability, given, turn.context))
        if spec.cost:
            await cell.spend(envelope.budget, spec.cost)
        if spec.timeout_s is None:
            return await self._invoke(turn, instance, spec, given)
        try:
            async with asyncio.timeout(spec.timeout_s) as time:
                return await self._invoke(turn, instance, spec, given)
        except TimeoutError:
            if not time.expired():
                raise  # The agent's own.
            raise DeadlineExceeded(
                f"{envelope.recipient} was still at {spec.name} after its {spec.timeout_s:g} s"
            ) from None

    async def _invoke(self, turn: CellTurn, instance: Agent, spec: Capability, given: Any) -> bytes:
        cell = self._cell
        arguments = spec.bind(given)
        if spec.context_parameter is not None:
            arguments[spec.context_parameter] = turn.context
        method = getattr(instance, spec.method)
        if spec.kind == "stream":
            return await self._stream(turn, spec.promised, method(**arguments))
        if spec.kind == "async":
            result = await method(**arguments)
        else:
            result = await cell.in_thread(lambda: self._call_checked(turn, method, arguments))
        return self._whole(turn, spec.promised(result))

    def _whole(self, turn: CellTurn, answer: Any) -> bytes:
        """The reply with this answer; for who reads a stream it is the only part of it."""
        data = codec.encode(answer, self._cell.limits)
        if turn.envelope.kind != Kind.STREAM:
            return data
        self._cell.post(turn.envelope.origin, Part(turn.envelope.id, 0, data))
        return codec.encode(1)

    def _call_checked(self, turn: CellTurn, method: Any, arguments: Any) -> Any:
        """In a thread, that may have been waited for: an order or an end that came meanwhile still comes in time (K1)."""
        refusal = turn.stopped or self._cell.guard.fence.peek(turn.envelope, self._cell.clock())
        if refusal is not None:
            raise refusal
        self.threads[turn] = None
        try:
            return method(**arguments)
        finally:
            del self.threads[turn]

    async def _stream(self, turn: CellTurn, promised: Callable[[Any], Any], parts: Any) -> bytes:
        """Send parts as they come, at most a window ahead of the reader; the reply tells how many there were."""
        cell, envelope = self._cell, turn.envelope
        number = 0
        turn.wake = asyncio.Event()
        async with aclosing(parts):  # What the agent's generator still has to clean up belongs to this turn.
            async for part in parts:
                if envelope.kind == Kind.STREAM:
                    while number - turn.credited >= cell.limits.stream_window:
                        turn.wake.clear()
                        await turn.wake.wait()
                    data = codec.encode(promised(part), cell.limits)
                    cell.post(envelope.origin, Part(envelope.id, number, data))
                number += 1
        return codec.encode(number)

    async def _tell_failure(self, turn: CellTurn, raised: Exception) -> None:
        instance = turn.activation.instance
        assert instance is not None
        try:
            async with asyncio.timeout(self._cell.limits.call_timeout_s):
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
            self._bequeath(activation, later=True)
            return False
        except Exception as raised:  # noqa: BLE001 - an agent that cannot start is its callers' to know
            error = agent_error(raised, activation.kind.code_root)
            self._start_failed(activation, error)
            return False
        activation.state = State.ACTIVE
        _release(activation.started)
        self._cell.audit.note("agent.started", activation.address, {"incarnation": activation.incarnation})
        return True

    async def _incarnate(self, activation: Activation) -> None:
        """Incarnation, mail of the old owner, instance, `on_start`."""
        cell, address = self._cell, activation.address
        activation.kind.load()
        granted = await cell.checkpoints.activate(address, cell.name, cell.locator.epoch, False)
        while granted.held_by:
            # A membership older than its holder's would not show that holder, living as it is.
            await cell.reached(granted.epoch, HAND_OVER_WAIT_S)
            if cell.locator.epoch < granted.epoch:
                raise PlatformUnavailable(
                    f"{cell.name} waits for a membership that shows who holds {address}"
                )
            await self._claim(activation, granted.held_by)
            owner = cell.locator.locate(address)
            if owner is not None and owner != cell.name:
                raise Fenced(f"{address} belongs to {owner} by now")  # Its mail goes there, in order.
            granted = await cell.checkpoints.activate(address, cell.name, cell.locator.epoch, True)
        activation.incarnation = granted.incarnation
        activation.instance = instance = activation.kind.make()
        cause = activation.mailbox.queue[0] if activation.mailbox.queue else None
        turn = CellTurn(cell, activation, _lifecycle(activation, cell.name, cell.clock(), cause))
        if granted.state is not None:
            turn.restored = codec.decode(granted.state)
        if granted.incarnation == 1 and cause is not None and cause.capability == "aip.start":
            cell.guard.fence.born(cause.sender, address)
        refusal = cell.guard.fence.enters(turn.envelope, cell.clock())
        if refusal is not None:
            raise refusal  # The agent itself is under an order, or what gave birth to it.
        if type(instance).on_start is not Agent.on_start:
            await self._on_start(turn, instance)

    async def _on_start(self, turn: CellTurn, instance: Agent) -> None:
        """Like a turn, so that a kill order reaches it."""
        turn.task, turn.begun = asyncio.current_task(), True
        self.turns[turn.envelope.id] = turn
        try:
            async with asyncio.timeout(self._cell.limits.call_timeout_s):
                await instance.on_start(turn.context)
        except asyncio.CancelledError:
            if turn.stopped is None:
                raise
            _uncancel()
            raise turn.stopped from None
        finally:
            self.turns.pop(turn.envelope.id, None)

    async def _claim(self, activation: Activation, holder: str) -> None:
        """Ask the living holder to hand over, and take its mail; if it is gone or does not answer, the fence decides."""
        cell = self._cell
        if holder == cell.name or cell.locator.generation(holder) is None:
            return
        future: asyncio.Future[HandOver] = asyncio.get_running_loop().create_future()
        self._awaited[activation.address] = holder, future
        cell.post(holder, Claim(activation.address, cell.name, cell.locator.epoch))
        try:
            async with asyncio.timeout(HAND_OVER_WAIT_S):
                given = await future
            self._take_over(activation, given)
        except TimeoutError:
            cell.audit.note("agent.hand_over_timeout", activation.address, {"holder": holder})
        finally:
            self._awaited.pop(activation.address, None)

    def moved(self, gone: list[str]) -> None:
        """A new membership: who lives elsewhere now goes, and nobody waits for a dead holder or for an agent of others."""
        cell = self._cell
        for activation in list(self.agents.values()):
            owner = cell.locator.locate(activation.address)
            if owner is not None and owner != cell.name:
                cell.start_task(self.stop(activation))
        for agent, (holder, future) in self._awaited.items():
            if not future.done() and (holder in gone or cell.locator.locate(agent) not in (None, cell.name)):
                future.set_result(HandOver(agent, 0, (), {}))

    def claimed(self, claim: Claim) -> None:
        """Another cell owns this agent now: finish, checkpoint, hand over (A4)."""
        activation = self.agents.get(claim.agent)
        if activation is None:
            self._cell.post(claim.claimant, HandOver(claim.agent, 0, (), {}))
            return
        activation.heir = claim.claimant
        if activation.state is State.NEW:
            self._gone(activation)
            self._bequeath(activation)
        else:
            self._cell.start_task(self.stop(activation))

    def handed(self, given: HandOver) -> None:
        """An old owner's mail: to whoever waits for it, or to an agent that has not begun; else it is ordinary mail."""
        _, future = self._awaited.get(given.agent, ("", None))
        if future is not None and not future.done():
            future.set_result(given)
            return
        activation = self.agents.get(given.agent)
        if activation is not None and 0 < activation.incarnation < given.incarnation:
            # It went on elsewhere, under a membership that did not have this cell: what is here is behind (A2).
            newer = f"{given.agent} went on as incarnation {given.incarnation} in another cell"
            self._cell.fenced(activation, Fenced(newer))
            activation = self.agents.get(given.agent)
        kind = self.types.get(type_of(given.agent))
        mine = (
            given.mail
            and self._cell.locator.locate(given.agent) == self._cell.name
            and not self._cell.closing
        )
        if activation is None and mine and kind is not None:
            activation = self._record(given.agent, kind, given.mail[0].run)
        if (
            activation is None
            or activation.state not in (State.NEW, State.STARTING)
            or activation.incarnation
        ):
            for envelope in given.mail:
                self._cell.route(envelope)
            return
        self._take_over(activation, given)
        if activation.server is None and activation.mailbox.queue:
            activation.server = self._cell.start_task(self._serve(activation))

    def _take_over(self, activation: Activation, given: HandOver) -> None:
        for envelope in activation.mailbox.restore(given.mail, given.seen):
            self._cell.overtaken(envelope)
        for envelope in given.mail:
            if envelope.kind != Kind.TELL:
                self._cell.post(envelope.origin, Taken(envelope.id))

    async def stop(self, activation: Activation) -> None:
        """Running turns finish, `on_stop`, and the waiting mail goes on: to the heir, or where the agent lives then."""
        if activation.state is State.NEW and activation.server is None:
            self._gone(activation)  # A kill order kept it from starting.
            self._bequeath(activation)
            return
        if activation.state in (State.NEW, State.STARTING):
            activation.started = activation.started or asyncio.get_running_loop().create_future()
            await asyncio.wait([activation.started])
        if activation.state is State.STOPPING:
            activation.gone = activation.gone or asyncio.get_running_loop().create_future()
            await asyncio.wait([activation.gone])
        if activation.state is not State.ACTIVE:
            return
        cell = self._cell
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
            if not self._heir(activation):
                # With an heir the agent stays held, so that the heir asks for its mail before it starts (A4).
                await cell.checkpoints.release(activation.address, activation.incarnation)
        except Exception as raised:  # noqa: BLE001 - an agent that cannot stop well still stops
            cell.audit.note(
                "agent.stop_failed", activation.address, {"error": f"{type(raised).__name__}: {raised}"}
            )
        if activation.state is State.GONE:
            return  # Fenced meanwhile.
        self._gone(activation)
        self._bequeath(activation)

    def _heir(self, activation: Activation) -> str:
        """The cell that is to have this agent after this one; "" where that is this cell itself, or nobody."""
        owner = self._cell.locator.locate(activation.address)
        return activation.heir or (owner if owner is not None and owner != self._cell.name else "")

    def _bequeath(self, activation: Activation, later: bool = False) -> None:
        """What an ended activation leaves: its waiting mail, and how far it has heard whom."""
        cell, mailbox, heir = self._cell, activation.mailbox, self._heir(activation)
        mail = tuple(mailbox.queue)
        mailbox.queue.clear()
        if heir:
            cell.post(heir, HandOver(activation.address, activation.incarnation, mail, dict(mailbox.seen)))
        else:
            for envelope in mail:
                cell.route(envelope, later)

    def drop(self, activation: Activation, error: AIPError) -> None:
        """A newer incarnation exists: this one ends at once, and its mail goes where the newer one is."""
        if activation.state is State.GONE:
            return
        self._gone(activation)
        for turn in list(activation.turns):
            if turn.envelope.id in self.turns:
                turn.stop(error)
        self._bequeath(activation, later=True)

    def _gone(self, activation: Activation) -> None:
        activation.state = State.GONE
        _release(activation.started)
        _release(activation.gone)
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
        # A shard that cannot be asked is no fault of the agent.
        # Nor is it to blame for an order.
        blameless = isinstance(error, PlatformUnavailable | Killed)
        if error.details.get("type") != "restart_intensity" and not blameless:
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
        if activation.heir:
            self._bequeath(activation)

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
        elif (owner := self._cell.locator.locate(recipient)) is not None and owner != self._cell.name:
            self._cell.post(owner, Cancel(call_id, recipient, reason))  # It went on to there.

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
        for address in list(self._held):
            self._held.discard(address)
            activation = self.agents.get(address)
            if activation is not None and activation.mailbox.queue and activation.server is None:
                activation.server = self._cell.start_task(self._serve(activation))

    def overrun(self, now: float) -> list[str]:
        """Agents that still work though an order stopped them: in a turn that does not yield, or in a thread."""
        fence = self._cell.guard.fence
        working = [*self.turns.values(), *self.threads]
        return sorted({turn.agent for turn in working if fence.peek(turn.envelope, now) is not None})

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


def _as_it_is(part: Any) -> Any:
    """A part of a capability that is not declared, and so promised nothing."""
    return part


def _release(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


def _uncancel() -> None:
    """This task was cancelled for the sake of one turn, which is over."""
    task = asyncio.current_task()
    while task is not None and task.uncancel() > 0:
        continue


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
