"""The road with one promise taken out of it at a time: what the simulator must notice, or it proves nothing.

Each mutant is a small patch of the real modules. `ROWS_OF` in `test_mutants.py` says which promises may be the first to break.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from aip.governance.kill import KillCheck
from aip.runtime.activation import Activation
from aip.runtime.cell import Cell
from aip.runtime.checkpoint import ActivationRecord, CheckpointTable, EffectRecord
from aip.runtime.envelope import Envelope, HandOver
from aip.runtime.group_commit import GroupCommit
from aip.runtime.guard import Guard, OpenFence
from aip.runtime.host import Host
from aip.runtime.mailbox import Mailbox, Offer
from aip.runtime.outbox import Stalls
from aip.runtime.placement import Placement
from aip.runtime.ports import Activated, EffectGrant
from aip.runtime.post import Post
from aip.simulation.run_process import RunProcess

Mutant = Callable[[pytest.MonkeyPatch], None]


def a_frame_is_taken_twice(patch: pytest.MonkeyPatch) -> None:
    take = Post.take

    async def mutant(self: Post, frame: Any, *rest: Any) -> Any:
        self._heard.pop(frame.source, None)
        return await take(self, frame, *rest)

    patch.setattr(Post, "take", mutant)


def a_mailbox_takes_what_comes_late(patch: pytest.MonkeyPatch) -> None:
    offer = Mailbox.offer

    def mutant(self: Mailbox, envelope: Envelope) -> Offer:
        self.seen.pop(envelope.sender, None)
        return offer(self, envelope)

    patch.setattr(Mailbox, "offer", mutant)


def a_hand_over_drops_the_mail(patch: pytest.MonkeyPatch) -> None:
    post = Cell.post

    def mutant(self: Cell, destination: str, item: Any) -> None:
        post(
            self, destination, msgspec.structs.replace(item, mail=()) if isinstance(item, HandOver) else item
        )

    patch.setattr(Cell, "post", mutant)


def an_incarnation_is_given_twice(patch: pytest.MonkeyPatch) -> None:
    decide = CheckpointTable.decide_activate

    def mutant(self: CheckpointTable, agent: str, cell: str, epoch: int, force: bool) -> Any:
        answer, record = decide(self, agent, cell, epoch, force)
        if record is None:
            return answer, record
        return Activated(1, answer.state), ActivationRecord(agent, 1, cell)

    patch.setattr(CheckpointTable, "decide_activate", mutant)


def an_activation_starts_without_its_state(patch: pytest.MonkeyPatch) -> None:
    decide = CheckpointTable.decide_activate

    def mutant(self: CheckpointTable, agent: str, cell: str, epoch: int, force: bool) -> Any:
        answer, record = decide(self, agent, cell, epoch, force)
        return msgspec.structs.replace(answer, state=None), record

    patch.setattr(CheckpointTable, "decide_activate", mutant)


def a_fenced_incarnation_still_counts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CheckpointTable, "_check", lambda self, agent, incarnation: self._agents[agent])


def an_order_is_looked_at_by_the_sender_only(patch: pytest.MonkeyPatch) -> None:
    init = Guard.__init__

    def mutant(self: Guard, fence: Any, checks: Any = ()) -> None:
        init(self, fence, checks)
        self.fence = OpenFence()

    patch.setattr(Guard, "__init__", mutant)


def an_order_is_never_read_again(patch: pytest.MonkeyPatch) -> None:
    refresh = KillCheck.refresh

    def mutant(self: KillCheck) -> None:
        if self._known < 0:
            refresh(self)
        else:
            self._known = self._revision()

    patch.setattr(KillCheck, "refresh", mutant)


def an_answer_is_given_twice(patch: pytest.MonkeyPatch) -> None:
    turn = Host._turn

    async def mutant(self: Host, one: Any) -> None:
        await turn(self, one)
        self._cell.answer(one.envelope, payload=b"\xc0")

    patch.setattr(Host, "_turn", mutant)


def a_stall_queue_loses_its_order(patch: pytest.MonkeyPatch) -> None:
    release = Stalls.release
    patch.setattr(Stalls, "release", lambda self, recipient: release(self, recipient)[::-1])


def a_full_mailbox_swallows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Cell, "_stall_one", lambda self, envelope: None)


def a_lost_frame_is_nobodys_business(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Cell, "lost", lambda self, cell, items, again=True: None)


def a_lost_frame_is_sent_again(patch: pytest.MonkeyPatch) -> None:
    def mutant(self: Cell, cell: str, items: Any, *, again: bool = True) -> None:
        for item in items:
            self.post_office.put(cell, item)

    patch.setattr(Cell, "lost", mutant)


def an_intent_is_not_waited_for(patch: pytest.MonkeyPatch) -> None:
    async def mutant(self: GroupCommit, index: int | None = None) -> None: ...

    patch.setattr(GroupCommit, "durable", mutant)


def a_done_effect_is_done_again(patch: pytest.MonkeyPatch) -> None:
    decide = CheckpointTable.decide_begin

    def mutant(self: CheckpointTable, agent: str, incarnation: int, key: str, idempotent: bool) -> Any:
        grant, record = decide(self, agent, incarnation, key, idempotent)
        return (
            (EffectGrant("go"), EffectRecord(agent, key, "begun"))
            if grant.status == "done"
            else (grant, record)
        )

    patch.setattr(CheckpointTable, "decide_begin", mutant)


def a_doubtful_effect_is_done_again(patch: pytest.MonkeyPatch) -> None:
    decide = CheckpointTable.decide_begin
    patch.setattr(
        CheckpointTable,
        "decide_begin",
        lambda self, agent, incarnation, key, _: decide(self, agent, incarnation, key, True),
    )


def a_cancellation_is_not_sent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Cell, "_cancel", lambda self, call, reason: None)


def a_deadline_is_not_watched(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Cell, "_expired", lambda self, envelope: None)


def a_death_fails_no_call(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Cell, "_fail_calls_to", lambda self, cell: None)


def two_turns_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Activation, "reentrant", property(lambda self: True))


def a_circle_of_chains_is_not_probed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Cell, "_probe", lambda self, now: None)


def a_chain_does_not_see_itself(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Cell, "_cycle", lambda self, envelope: [])


def a_stream_ends_well_with_parts_missing(patch: pytest.MonkeyPatch) -> None:
    replied = Cell._replied

    def mutant(self: Cell, call: Any, reply: Any) -> None:
        if call.parts is not None and reply.error is None:
            self.calls.answer(reply.id, reply.payload)
        else:
            replied(self, call, reply)

    patch.setattr(Cell, "_replied", mutant)


def a_permit_is_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Guard, "settle", lambda self, envelope, now, duration_s, error: None)


def an_old_membership_is_adopted(patch: pytest.MonkeyPatch) -> None:
    def mutant(self: Placement, membership: Any) -> bool:
        self._adopt(membership)
        return True

    patch.setattr(Placement, "offer", mutant)


def a_run_dispatches_before_it_writes(patch: pytest.MonkeyPatch) -> None:
    write = RunProcess._write

    def mutant(self: RunProcess, step: Any) -> None:
        import asyncio

        asyncio.get_running_loop().call_soon(write, self, step)

    patch.setattr(RunProcess, "_write", mutant)
