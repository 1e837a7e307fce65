"""`Sandboxed`: an untrusted agent as its cell sees it. The agent's code runs in a sandbox; this class is all of it that is here.

    types    {"stranger.…@…": "actors.sandboxed:Sandboxed"}      whatever the plan's `use:` says
    configs  {"stranger.…@…": {entry, code_root, config, manifest, limits, demand}}

`wrapped` makes them of what a plan says; `contains` is what tells whoever must rely on it that a pool has nothing else.

The cell never imports the agent's module, nor has its folder on its path. Mail, guard, mailbox, deadline, budget and audit are
the cell's as for any agent; a turn that has passed them goes into the sandbox, and what the agent asks for there comes back as
questions of that turn (`aip/compute/sandbox/errands.py`).

    the sandbox                        this agent
    cannot be closed on this machine   does not start: `MeansMissing` to whoever sent mail
    dies, or is ended                  calls in flight: `SandboxLost`; the next message starts it from its last checkpoint
    dies more than 5 times a minute    `SandboxDown` until the minute has passed
    is not needed for a while          passivation stops it, the next message starts it

A capability's cost and time limit are those of the manifest, and charged and held here. What the manifest says is the stranger's
own word; that it was found out in a sandbox too is for who deploys it to see to (`inspect_sandboxed`).
"""

from __future__ import annotations

import asyncio
import os
import random
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, field_validator

from aip.agent import Agent, Context
from aip.compute.sandbox import Demand, Means, Sandbox, SandboxLimits, SandboxLost, probe
from aip.errors import DeadlineExceeded, Unavailable, UnknownCapability

from .pool_spec import PoolSpec

LOSSES_MAX = 5  # Within the window; then it is a crash loop that costs a start of 0.2 s each time.
LOSS_WINDOW_S = 60.0
CAPABILITIES_MAX = 1_000


class SandboxDown(Unavailable):
    """The sandbox of this agent died again and again and is not started for now."""

    code = "user.unavailable.sandbox_down"


class KnownCapability(BaseModel):
    """What the cell itself needs to know of one."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    kind: Literal["async", "sync", "stream"]
    cost: dict[str, NonNegativeInt] = Field(default_factory=dict, max_length=64)
    timeout_s: PositiveFloat | None = None


class KnownManifest(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)

    open_ended: bool = False
    capabilities: dict[str, KnownCapability] = Field(max_length=CAPABILITIES_MAX)


class SandboxedConfig(BaseModel):
    """What a deployment says of an untrusted agent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    entry: str = Field(pattern=r"^[\w.]+:\w+$")
    code_root: str
    manifest: dict[str, Any]
    config: dict[str, Any] = Field(default_factory=dict)
    limits: dict[str, int] = Field(default_factory=dict)
    demand: list[str] | None = None  # None: `aip.compute.sandbox.DEFAULT`.

    @field_validator("limits")
    @classmethod
    def _are_limits(cls, value: dict[str, int]) -> dict[str, int]:
        try:
            problems = msgspec.convert(value, SandboxLimits).problems()
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None
        if problems:
            raise ValueError("; ".join(problems))
        return value


@cache
def means_here() -> Means:
    """Tried once in the life of a process: a kernel does not change under it."""
    return probe()


class Losses:
    """How often a sandbox was lost lately. Pure."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=LOSSES_MAX + 1)

    def note(self, now_s: float) -> None:
        self._times.append(now_s)

    def too_many(self, now_s: float) -> bool:
        while self._times and self._times[0] <= now_s - LOSS_WINDOW_S:
            self._times.popleft()
        return len(self._times) > LOSSES_MAX


class Sandboxed(Agent):
    """An agent in a sandbox: one message at a time."""

    Config = SandboxedConfig
    config: SandboxedConfig
    open_ended: ClassVar[bool] = True

    async def on_start(self, ctx: Context) -> None:
        self._known = KnownManifest.model_validate(self.config.manifest)
        self._losses = Losses()
        self._starting = asyncio.Lock()
        self._saved: Any = ctx.restored
        self._sandbox = await self._open(ctx)

    async def on_stop(self, ctx: Context) -> None:
        self._last_will.detach()
        try:
            if self._sandbox.alive:
                await self._sandbox.turn(ctx, "stop")
        finally:
            await self._sandbox.close()

    async def on_failure(self, ctx: Context, error: Exception) -> None:
        if self._sandbox.alive and not isinstance(error, SandboxLost):
            await self._sandbox.turn(ctx, "failure", error=error)

    def describe(self) -> Mapping[str, Any]:
        return self.config.manifest

    async def handle(self, capability: str, arguments: dict[str, Any], ctx: Context) -> Any:
        known = await self._admit(capability, ctx)
        sandbox = await self._living(ctx)
        try:
            async with asyncio.timeout(known.timeout_s) as time:
                return await sandbox.turn(ctx, "call", capability, arguments)
        except TimeoutError:
            if not time.expired():
                raise
            raise _too_late(ctx, capability, known) from None

    async def handle_stream(
        self, capability: str, arguments: dict[str, Any], ctx: Context
    ) -> AsyncGenerator[Any, None]:
        """The same in parts, as a streaming capability gives them."""
        known = await self._admit(capability, ctx)
        sandbox = await self._living(ctx)
        try:
            async with asyncio.timeout(known.timeout_s) as time:
                async with aclosing(sandbox.stream(ctx, capability, arguments)) as parts:
                    async for part in parts:
                        yield part
        except TimeoutError:
            if not time.expired():
                raise
            raise _too_late(ctx, capability, known) from None

    async def _admit(self, capability: str, ctx: Context) -> KnownCapability:
        known = self._known.capabilities.get(capability)
        if known is None:
            if not self._known.open_ended:
                names = ", ".join(sorted(self._known.capabilities))
                raise UnknownCapability(
                    f"{ctx.agent} has no capability {capability!r}", hint=f"it has: {names}"
                )
            known = KnownCapability(kind="async")
        if known.cost:
            await ctx.spend(**known.cost)
        return known

    async def _living(self, ctx: Context) -> Sandbox:
        """The sandbox; a new one where it has died. One caller starts it, the others wait for that."""
        async with self._starting:
            if self._sandbox.alive:
                return self._sandbox
            clock = asyncio.get_running_loop().time
            self._losses.note(clock())
            if self._losses.too_many(clock()):
                raise SandboxDown(
                    f"the sandbox of {ctx.agent} died {LOSSES_MAX} times in {LOSS_WINDOW_S:g} s and is not started",
                    hint="see why in the details of the earlier errors; it is tried again when the minute has passed",
                )
            self._last_will.detach()
            self._sandbox = await self._open(ctx)
            return self._sandbox

    async def _open(self, ctx: Context) -> Sandbox:
        config = self.config
        means = await asyncio.to_thread(means_here)
        demand = Demand() if config.demand is None else Demand.of(config.demand)
        limits = msgspec.convert(config.limits, SandboxLimits)
        rng = random.Random(os.urandom(16))
        sandbox = await Sandbox.open(means, demand, limits, config.code_root, rng, self._keep)
        try:
            await sandbox.load(config.entry, config.config)
            await sandbox.turn(ctx, "start", restored=self._saved)
        except BaseException:
            await sandbox.close()
            raise
        # An activation that is fenced is dropped without `on_stop`; its process must not outlive it.
        self._last_will = weakref.finalize(self, sandbox.abandon)
        return sandbox

    def _keep(self, state: Any) -> None:
        self._saved = state


class SandboxedReentrant(Sandboxed):
    """The same for an agent whose manifest says that it takes several messages at a time."""

    reentrant: ClassVar[bool] = True


SANDBOXED = f"{__name__}:{Sandboxed.__name__}"
SANDBOXED_REENTRANT = f"{__name__}:{SandboxedReentrant.__name__}"


def wrapped(
    entry: str,
    code_root: Path,
    manifest: Mapping[str, Any],
    config: Mapping[str, Any],
    limits: Mapping[str, int],
) -> tuple[str, dict[str, Any]]:
    """The class that a pool's cells are to make of an untrusted agent, and its configuration."""
    given = {
        "entry": entry,
        "code_root": str(code_root),
        "manifest": dict(manifest),
        "config": dict(config),
        "limits": dict(limits),
    }
    return SANDBOXED_REENTRANT if manifest["reentrant"] else SANDBOXED, given


def contains(spec: PoolSpec) -> bool:
    """Whether every agent of the pool is in a sandbox: who declares a pool says so, and this is what makes it so."""
    ours = {SANDBOXED, SANDBOXED_REENTRANT}
    return not spec.code_root and not spec.runtime_env and ours.issuperset(spec.types.values())


def _too_late(ctx: Context, capability: str, known: KnownCapability) -> DeadlineExceeded:
    return DeadlineExceeded(f"{ctx.agent} was still at {capability} after its {known.timeout_s:g} s")
