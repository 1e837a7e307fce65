"""A task's agent asked again, in this process.

It runs on `aip.testing`'s platform, with the code the run was submitted with, at its own address, under its own idempotency
key. Effects are answered from the checkpoint shard's record; what is not on record is refused (`NotReplayed`). The plan's other
agents are there too and answer anew; those whose code is AIP's own (models, tool servers) reach outside, and refuse. What an
agent does without `ctx.effect` it does again: this is its own code, and no sandbox.

Not brought back: the agent's memory (it starts from its last checkpoint on record, which may be later than the attempt), the
time of day, the budget, and what others answered then.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from actors.run_spec import address_of

from ... import testing
from ...agent import Agent, Context
from ...errors import AIPError, ErrorRecord, NotFound, to_record
from ...runtime.activation import AgentType
from ...runtime.checkpoint import CheckpointTable
from ...runtime.ports import Activated, Checkpoints, EffectGrant
from .debugger import Debugger
from .stored import Stored, recorded_effects
from .work import OUR_CODE, NotReplayed, Work, entries, outcome

ATTEMPT_S = 3_600.0  # For an attempt that has no timeout of its own.
DEBUG_S = 24 * 3_600.0  # A person at a debugger is in no hurry.


class Outside(Agent):
    """Stands where the run had an agent that reaches outside."""

    open_ended = True

    async def handle(self, capability: str, arguments: dict[str, Any], ctx: Context) -> Any:
        raise NotReplayed(
            f"{ctx.agent} was asked for {capability}: it reaches outside, and its answers are not recorded",
            hint="catch this where the agent asks, or give it a stand-in in a test (aip.testing)",
        )


class RecordedEffects:
    """`Checkpoints` of a replay: the state and the effects that are on record; what is done now stays in memory."""

    def __init__(self, inner: Checkpoints, recorded: CheckpointTable, aliases: Mapping[str, str]) -> None:
        self._inner = inner
        self._recorded = recorded
        self._aliases = aliases  # A plan's name for an agent -> the address it had.
        self.answered: list[str] = []
        self.refused: list[str] = []

    async def activate(self, agent: str, cell: str, epoch: int, force: bool) -> Activated:
        fresh = await self._inner.activate(agent, cell, epoch, force)
        if fresh.state is not None:
            return fresh
        return msgspec.structs.replace(fresh, state=self._recorded.state(self._aliases.get(agent, agent)))

    async def save(self, agent: str, incarnation: int, state: bytes) -> None:
        await self._inner.save(agent, incarnation, state)

    async def release(self, agent: str, incarnation: int) -> None:
        await self._inner.release(agent, incarnation)

    async def begin_effect(
        self, agent: str, incarnation: int, key: str, name: str, idempotent: bool
    ) -> EffectGrant:
        known = self._aliases.get(agent, agent)
        if last := self._recorded.incarnation(known):
            # Asked as its last incarnation would, once more: done, or begun and nobody knows.
            grant, _ = self._recorded.decide_begin(known, last, key, False)
            if grant.status != "go":
                self.answered.append(key)
                return grant
        self.refused.append(key)
        raise NotReplayed(f"effect {key!r} is not performed by a replay, and there is no record of it")

    async def end_effect(self, agent: str, incarnation: int, key: str, result: bytes | None) -> None:
        raise AssertionError("an effect of a replay has begun")


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """The run's code first on the path; what was imported from it is forgotten again, and no bytecode is left in it.

    A module of the same name that this process has from elsewhere (`agents` is a package's name too) stands aside meanwhile.
    """
    if not folder.is_dir():
        raise NotFound(
            f"the code of this run is gone: {folder}", hint="submit the plan again to have its code kept"
        )
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, str(folder))
    own = {entry.name.removesuffix(".py") for entry in folder.iterdir()}
    aside = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in own}
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = written
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(f"{folder}/"):
                del sys.modules[name]
        sys.modules.update(aside)


def hosted(stored: Stored) -> list[AgentType]:
    """The run's agents under their addresses' types, and under the names that its plan gives them."""
    configs = {kind: config for use in stored.spec.pools for kind, config in use.spec.configs.items()}
    code = entries(stored)
    called = {**{kind: kind for kind in code}, **stored.spec.types}
    return [
        AgentType(name, "", cls=Outside)
        if code[kind][0].startswith(OUR_CODE)
        else AgentType(name, code[kind][0], str(code[kind][1]), config=configs.get(kind, {}))
        for name, kind in called.items()
    ]


@dataclass(slots=True)
class Again:
    """What the same work came to this time."""

    value: Any = None
    error: ErrorRecord | None = None
    effects_answered: list[str] = field(default_factory=list)
    effects_refused: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> dict[str, Any]:
        return outcome(self.value, self.error)


async def rehearse(stored: Stored, work: Work, debugger: Debugger | None) -> Again:
    """Ask the agent again."""
    again = Again()
    kinds = hosted(stored)
    aliases = {f"{n}/any": address_of(kind, stored.run, n, 0) for n, kind in stored.spec.types.items()}
    name = f"{stored.run}/{work.task}/{work.unit}/{work.generation}.{work.attempt}"
    fields = {
        "run": stored.run,
        "conversation": stored.run,
        "idempotency_key": work.idempotency_key,
        "labels": (("task", work.task), ("attempt", name)),
    }
    timeout_s = DEBUG_S if debugger is not None else work.timeout_s or ATTEMPT_S
    async with testing.platform(*kinds) as platform:
        effects = RecordedEffects(platform.checkpoints, recorded_effects(stored.home), aliases)
        for cell in platform.cells.values():
            cell.checkpoints = effects
        if debugger is not None:
            target = next(kind for kind in kinds if kind.name == work.address.partition("/")[0])
            debugger.attach(target.load(), work.capability)
        try:
            again.value = await platform.call(
                work.address, work.capability, timeout_s=timeout_s, fields=fields, **work.arguments
            )
        except AIPError as error:
            again.error = to_record(error)
    again.effects_answered, again.effects_refused = effects.answered, effects.refused
    return again
