"""The shell of a supervisor: performs on Ray what `aip.runtime.supervision` decides, and tells it what happened.

Supervisors are objects inside the root's process, one per room of the tree: a supervisor has no state worth a process of its own
(50 MB, half a second), and the root's own restart rebuilds them all by taking the living children back as they are.

A child is a named, detached Ray actor. To start one is: take the living actor of that name if there is one, else create it; then
`open()`. To watch one is a `watch()` call that never returns: its failure is the obituary.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray

from aip.runtime.supervision import (
    ChildExited,
    ChildSpec,
    ChildStarted,
    Command,
    Desired,
    Escalate,
    Event,
    Exit,
    Start,
    StartFailed,
    Stop,
    Stopped,
    StopRequested,
    Supervisor,
    SupervisorSpec,
    Timer,
)

from .peers import NAMESPACE
from .process import Process, spawn
from .site import Site

ADOPT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Child:
    """A child to be: what OTP calls its specification, and how it is made here."""

    spec: ChildSpec
    kind: type[Process]
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Living:
    """A running child: its Ray handle, its supervisor's generation, and what it said of itself when it opened."""

    handle: Any
    generation: int
    info: dict[str, Any]
    started_at: float
    leaving: bool = False


Notice = Callable[[str, Living | None, str], Awaitable[None]]


class SupervisorShell:
    """One supervisor of the tree. `on_change(child, living or None, reason)` is told of every start and every end."""

    def __init__(
        self,
        name: str,
        site: Site,
        spec: SupervisorSpec,
        *,
        first_generation: int,
        rng: random.Random,
        on_change: Notice,
        on_escalate: Callable[[str, str], Awaitable[None]],
        note: Callable[[str, str, Mapping[str, Any]], None],
        task: Callable[[Any], asyncio.Task[Any]],
    ) -> None:
        self.name = name
        self._site = site
        self._children: dict[str, Child] = {}
        self.living: dict[str, Living] = {}
        self.restarts: dict[str, int] = {}
        self._core = Supervisor(spec, (), rng, first_generation)
        self._on_change = on_change
        self._on_escalate = on_escalate
        self._note = note
        self._task = task
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: dict[str, list[asyncio.Future[Living]]] = {}
        self.stopped = asyncio.Event()

    # Desired state --------------------------------------------------------------------------------------------------

    def declare(self, children: Mapping[str, Child]) -> None:
        """These children and no others; what is missing starts, what is too many stops."""
        self._children = dict(children)
        self._step(Desired(tuple(child.spec for child in children.values())))

    def add(self, child: Child) -> None:
        self.declare({**self._children, child.spec.child: child})

    def remove(self, name: str) -> None:
        self.declare({key: child for key, child in self._children.items() if key != name})

    async def started(self, name: str, timeout_s: float = 60.0) -> Living:
        """Wait until the child lives. Raises TimeoutError."""
        if name in self.living:
            return self.living[name]
        future: asyncio.Future[Living] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(name, []).append(future)
        async with asyncio.timeout(timeout_s):
            return await future

    def begin(self) -> None:
        self._step(Timer())

    async def stop(self) -> None:
        self._step(StopRequested())
        await self.stopped.wait()

    def end(self, name: str, generation: int) -> bool:
        """End this generation of a child by Ray, at once; whether it was there. `_watch` reports it, as any death."""
        living = self.living.get(name)
        if living is None or living.info.get("generation") != generation:
            return False
        ray.kill(living.handle)
        return True

    @property
    def next_generation(self) -> int:
        return self._core.next_generation

    @property
    def tree_names(self) -> frozenset[str]:
        return frozenset(self._children) | frozenset(self.living)

    def tree(self) -> list[dict[str, Any]]:
        states = self._core.states()
        return [
            {
                "name": name,
                "state": str(state),
                "pid": self.living[name].info.get("pid") if name in self.living else None,
                "restarts": self.restarts.get(name, 0),
                "children": [],
            }
            for name, (state, _) in states.items()
        ]

    # Performing -----------------------------------------------------------------------------------------------------

    def _step(self, event: Event) -> None:
        for command in self._core.step(event, time.monotonic()):
            self._perform(command)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wake_s = self._core.wake_s
        if wake_s is not None:
            delay_s = max(0.0, wake_s - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._step, Timer())

    def _perform(self, command: Command) -> None:
        match command:
            case Start():
                self._task(self._start(command))
            case Stop():
                self._task(self._stop(command))
            case Escalate():
                self._note("supervisor.escalated", self.name, {"reason": command.reason})
                self._task(self._on_escalate(self.name, command.reason))
            case Stopped():
                self.stopped.set()

    async def _start(self, command: Start) -> None:
        name, generation = command.child, command.generation
        if command.delay_s:
            await asyncio.sleep(command.delay_s)
        child = self._children.get(name)
        if child is None:
            self._step(StartFailed(name, generation, "no longer wanted"))
            return
        handle = None
        try:
            handle, info = await self._adopt(name)
            if handle is None:
                options = dict(child.options)
                handle = spawn(child.kind, self._site, name, generation, *child.arguments, **options)
                info = await handle.open.remote()
        except Exception as error:  # noqa: BLE001 - whatever a start fails with is the supervisor's to judge
            if handle is not None:
                ray.kill(handle)
            self._note("process.start_failed", name, {"error": f"{type(error).__name__}: {error}"[:1000]})
            self._step(StartFailed(name, generation, f"{type(error).__name__}: {error}"[:1000]))
            return
        living = self.living[name] = Living(handle, generation, info, time.time())
        self._note("process.started", name, {"generation": info.get("generation"), "pid": info.get("pid")})
        self._task(self._watch(name, living))
        self._step(ChildStarted(name, generation))
        await self._on_change(name, living, "started")
        for future in self._waiters.pop(name, ()):
            if not future.done():
                future.set_result(living)

    async def _adopt(self, name: str) -> tuple[Any, dict[str, Any]]:
        """The living actor of this name, if there is one and it answers; a dead or deaf one is cleared away."""
        try:
            handle = ray.get_actor(name, NAMESPACE)
        except ValueError:
            return None, {}
        try:
            return handle, await asyncio.wait_for(handle.open.remote(), ADOPT_TIMEOUT_S)
        except (TimeoutError, ray.exceptions.RayError):
            ray.kill(handle)
            await self._name_is_free(name)
            return None, {}

    @staticmethod
    async def _name_is_free(name: str) -> None:
        async with asyncio.timeout(ADOPT_TIMEOUT_S):
            while True:
                try:
                    ray.get_actor(name, NAMESPACE)
                except ValueError:
                    return
                await asyncio.sleep(0.02)

    async def _watch(self, name: str, living: Living) -> None:
        try:
            await living.handle.watch.remote()
            reason, living.leaving = "left", True
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0][:500] if str(error).strip() else type(error).__name__
            if "exit_actor" in str(error) or "INTENDED" in str(error):
                living.leaving = True
        if self.living.get(name) is living:
            del self.living[name]
        exit_ = Exit.NORMAL if living.leaving else Exit.ABNORMAL
        if exit_ is Exit.ABNORMAL:
            self.restarts[name] = self.restarts.get(name, 0) + 1
        self._note("process.ended", name, {"exit": str(exit_), "reason": reason})
        # Who must know that it is gone hears it before its successor can start.
        await self._on_change(name, None, reason)
        self._step(ChildExited(name, living.generation, exit_, reason))

    async def _stop(self, command: Stop) -> None:
        living = self.living.get(command.child)
        if living is None:
            try:  # Still starting: its `_start` sees it die and says so.
                ray.kill(ray.get_actor(command.child, NAMESPACE))
            except ValueError:
                self._step(StartFailed(command.child, command.generation, "was never there"))
            return
        if command.kill:
            ray.kill(living.handle)
            return
        living.leaving = True
        try:
            await living.handle.leave.remote()
        except ray.exceptions.RayError:
            return  # Gone is what it was asked to be; `_watch` reports it.
