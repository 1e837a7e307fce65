"""Supervision: what to do when a child starts, ends or fails. OTP's decisions, and no process or clock.

`Supervisor.step(event, now)` returns the commands that follow; a shell carries them out and reports what
came of them. The shell promises two things: every `Start` is answered by `ChildStarted`, `StartFailed` or
`ChildExited` of the same generation, and every `Stop` by `ChildExited` - where a process cannot be asked
any more (its node is lost), once it is known that it can no longer act. `wake_s` says when the next `Timer`
is due.

What it guarantees
  - A generation is used once and the next is greater, also over restarts of the supervisor
    (`first_generation`).
  - A child is started again only after its former generation is known to have ended: never two at once.
  - More than `restarts_max` restarts within `window_s` are never commanded: all children are stopped, then
    `Escalate`.
  - Every desired child ends up running, finished by its own restart rule, or escalated.
What it does not guarantee: that a child which runs is healthy; a child that hangs must be ended by its
watchdog.

States of a child
    state      means                                      may become
    DOWN       not there; is started when its turn comes  STARTING, FINISHED
    STARTING   Start commanded                            RUNNING, STOPPING, DOWN, FINISHED
    RUNNING    ChildStarted came                          STOPPING, DOWN, FINISHED
    STOPPING   Stop commanded, its end not known yet      DOWN, FINISHED
    FINISHED   not started again by itself                DOWN (with its group)
States of the supervisor
    RUNNING    holds its children to the desired set      STOPPING, ESCALATING
    STOPPING   asked to stop, or a significant child      ENDED (Stopped)
               ended; children stop in reverse order
    ESCALATING too many restarts; children stop likewise  STOPPING (asked to stop), ENDED (Escalate)
    ENDED      nothing is commanded any more

What a child's own end means                 permanent    transient    temporary
    normal, shutdown                         restart      finished     finished
    abnormal, failed start                   restart      restart      finished
Whom a restart concerns                      one_for_one: itself
                                             one_for_all: all; the others are stopped first, in reverse order
                                             rest_for_one: itself and those that stand after it, likewise
A temporary child that is stopped for its neighbours' sake is finished; a transient one that had finished
starts again with the others. A restart of many counts once.

Where this leaves OTP, and why
  - A failed first start is a failed start like any other (OTP: the supervisor gives up at once). A start
    here asks a cluster for room, and room may come a second later.
  - From the second restart within the window on, restarts wait: exponential backoff with jitter. OTP
    restarts at once.
  - Where the order does not matter (`ordered=False`, one_for_one only: a pool of equal cells), children
    start and stop all at once, as OTP does for simple_one_for_one: a hundred processes of 0.4 s each must
    not queue.
  - A start has a time limit, since an actor may be pending for ever.

Source: Erlang/OTP, "Supervisor Behaviour" (Design Principles) and the reference of `supervisor`, OTP 24 and
later.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from ..errors import UsageError

CHILDREN_MAX = 2_000  # A step looks at every child; a tree that needs more wants one more level.
REASON_CHARS_MAX = 2_000  # A traceback's last lines; more belongs in the log.


class Strategy(StrEnum):
    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"


class Restart(StrEnum):
    PERMANENT = "permanent"
    TRANSIENT = "transient"
    TEMPORARY = "temporary"


class AutoShutdown(StrEnum):
    """Whether the supervisor stops when significant children have ended by themselves."""

    NEVER = "never"
    ANY_SIGNIFICANT = "any_significant"
    ALL_SIGNIFICANT = "all_significant"


class Exit(StrEnum):
    NORMAL = "normal"
    SHUTDOWN = "shutdown"
    ABNORMAL = "abnormal"


class ChildState(StrEnum):
    DOWN = "down"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    FINISHED = "finished"


class Phase(StrEnum):
    RUNNING = "running"
    STOPPING = "stopping"
    ESCALATING = "escalating"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class ChildSpec:
    child: str
    restart: Restart = Restart.PERMANENT
    shutdown_s: float | None = 5.0  # From Stop to Stop(kill=True). 0: killed at once; None: never killed.
    significant: bool = False
    start_s: float | None = (
        120.0  # From the start of a child to ChildStarted; longer is a failed start. None: no limit.
    )


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays of one child's restarts. The first is immediate; a delay d is drawn from d * [1 ± jitter]."""

    initial_s: float = 0.1
    factor: float = 2.0
    max_s: float = 30.0
    jitter: float = 0.2


@dataclass(frozen=True, slots=True)
class SupervisorSpec:
    strategy: Strategy = Strategy.ONE_FOR_ONE
    restarts_max: int = 5
    window_s: float = 60.0
    backoff: Backoff = Backoff()
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER
    ordered: bool = True  # Children start one after the other and stop in reverse.


# Events


@dataclass(frozen=True, slots=True)
class Desired:
    """The whole desired set in start order: new children start, missing ones stop, changed specs apply."""

    children: tuple[ChildSpec, ...]


@dataclass(frozen=True, slots=True)
class ChildStarted:
    child: str
    generation: int


@dataclass(frozen=True, slots=True)
class StartFailed:
    child: str
    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class ChildExited:
    child: str
    generation: int
    exit: Exit
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Timer:
    pass


@dataclass(frozen=True, slots=True)
class StopRequested:
    pass


Event = Desired | ChildStarted | StartFailed | ChildExited | Timer | StopRequested


# Commands


@dataclass(frozen=True, slots=True)
class Start:
    """Start the child after `delay_s`. A Stop that comes first cancels it, and is answered as ever."""

    child: str
    generation: int
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Stop:
    """End the child: politely, or (`kill`) at once. One with `kill` may follow one without."""

    child: str
    generation: int
    kill: bool = False


@dataclass(frozen=True, slots=True)
class Escalate:
    """All children have ended; it is for the parent to decide."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """All children have ended, as was asked (or as a significant child's end meant)."""

    reason: str


Command = Start | Stop | Escalate | Stopped


@dataclass(slots=True)
class _Child:
    spec: ChildSpec
    state: ChildState = ChildState.DOWN
    generation: int = 0
    started_once: bool = False
    desired: bool = True
    must_stop: bool = False  # For its neighbours' sake, because it is not desired, or because all stop.
    anew: bool = False  # Desired again before its stop was over.
    start_not_before_s: float = 0.0
    deadline_s: float | None = None  # Of the start or of the stop that is under way.
    backoff_s: float = 0.0  # Of the last restart, before jitter.
    restarted_s: float = float("-inf")

    @property
    def alive(self) -> bool:
        return self.state in (ChildState.STARTING, ChildState.RUNNING, ChildState.STOPPING)


class Supervisor:
    """One supervisor's decisions. Feed it every event in the order in which they happened."""

    def __init__(
        self,
        spec: SupervisorSpec,
        children: Iterable[ChildSpec],
        rng: random.Random,
        first_generation: int = 1,
    ) -> None:
        if spec.restarts_max < 0 or spec.window_s <= 0:
            raise UsageError("restarts_max must be 0 or more and window_s above 0")
        if not spec.ordered and spec.strategy is not Strategy.ONE_FOR_ONE:
            raise UsageError(
                f"{spec.strategy} lives by the order of its children; ordered=False is for one_for_one"
            )
        self.spec = spec
        self.phase = Phase.RUNNING
        self._rng = rng
        self._next_generation = first_generation
        self._reason = ""
        self._restarts_s: deque[float] = deque()
        specs = tuple(children)
        self._check_specs(specs)
        self._children: dict[str, _Child] = {child.child: _Child(child) for child in specs}

    # What a shell reads

    @property
    def next_generation(self) -> int:
        """Greater than every generation commanded so far. A supervisor that is restarted begins here."""
        return self._next_generation

    @property
    def wake_s(self) -> float | None:
        """When the next `Timer` is due; None where nothing waits for time."""
        deadlines = [child.deadline_s for child in self._children.values() if child.deadline_s is not None]
        return min(deadlines, default=None)

    def states(self) -> dict[str, tuple[ChildState, int]]:
        """State and newest generation of every child, in start order."""
        return {name: (child.state, child.generation) for name, child in self._children.items()}

    # Deciding

    def step(self, event: Event, now: float) -> list[Command]:
        """What follows from this event. `Timer` at the beginning gets everything going."""
        if self.phase is Phase.ENDED:
            return []
        match event:
            case Desired(children):
                self._declare(children)
            case ChildStarted(name, generation):
                self._started(name, generation)
            case StartFailed(name, generation, reason):
                self._ended(name, generation, Exit.ABNORMAL, f"failed to start: {reason}", now)
            case ChildExited(name, generation, exit_, reason):
                self._ended(name, generation, exit_, reason, now)
            case StopRequested():
                self._finish(Phase.STOPPING, "requested")
            case Timer():
                pass
        return [*self._overdue(now), *self._stops(now), *self._starts(now), *self._end()]

    def _declare(self, specs: tuple[ChildSpec, ...]) -> None:
        if self.phase is not Phase.RUNNING:
            return
        self._check_specs(specs)
        old = self._children
        wanted = {spec.child: old.get(spec.child) or _Child(spec) for spec in specs}
        for spec in specs:
            child = wanted[spec.child]
            if not child.desired:
                child.desired = child.anew = True
            child.spec = spec
        leaving = {name: child for name, child in old.items() if name not in wanted and child.alive}
        for child in leaving.values():
            child.desired, child.must_stop = False, True
        # Who leaves stands last: nobody who stays waits for it, and it is among the first to stop.
        self._children = wanted | leaving

    def _started(self, name: str, generation: int) -> None:
        child = self._children.get(name)
        if child is None or child.generation != generation or child.state is not ChildState.STARTING:
            return
        child.state, child.started_once, child.deadline_s = ChildState.RUNNING, True, None

    def _ended(self, name: str, generation: int, exit_: Exit, reason: str, now: float) -> None:
        child = self._children.get(name)
        if child is None or child.generation != generation or not child.alive:
            return  # An older generation, or told twice.
        if child.state is ChildState.STOPPING and not child.must_stop:
            exit_, reason = Exit.ABNORMAL, f"did not start within {child.spec.start_s} s"
        on_its_own = not child.must_stop
        child.state, child.must_stop, child.deadline_s = ChildState.DOWN, False, None
        if not child.desired:
            del self._children[name]
        elif not on_its_own:
            if child.spec.restart is Restart.TEMPORARY and not child.anew:
                child.state = ChildState.FINISHED
        elif _restarts(child.spec.restart, exit_):
            self._restart(child, f"{name}: {reason or exit_}", now)
        else:
            child.state = ChildState.FINISHED
            self._after_finished(child)

    def _restart(self, child: _Child, reason: str, now: float) -> None:
        while self._restarts_s and now - self._restarts_s[0] > self.spec.window_s:
            self._restarts_s.popleft()
        if len(self._restarts_s) >= self.spec.restarts_max:
            limit = f"more than {self.spec.restarts_max} restarts in {self.spec.window_s:g} s"
            self._finish(Phase.ESCALATING, f"{limit}; the last was {reason}"[:REASON_CHARS_MAX])
            return
        self._restarts_s.append(now)
        delay_s = self._backoff_s(child, now)
        for other in self._concerned(child):
            other.start_not_before_s = now + delay_s
            other.must_stop = other.must_stop or other.alive
            if other.state is ChildState.FINISHED and other.spec.restart is Restart.TRANSIENT:
                other.state = ChildState.DOWN

    def _backoff_s(self, child: _Child, now: float) -> float:
        backoff = self.spec.backoff
        if now - child.restarted_s > self.spec.window_s:
            child.backoff_s = 0.0
        else:
            child.backoff_s = min(backoff.max_s, child.backoff_s * backoff.factor or backoff.initial_s)
        delay_s = child.backoff_s * self._rng.uniform(1 - backoff.jitter, 1 + backoff.jitter)
        child.restarted_s = now + delay_s
        return delay_s

    def _concerned(self, child: _Child) -> list[_Child]:
        everyone = list(self._children.values())
        match self.spec.strategy:
            case Strategy.ONE_FOR_ONE:
                return [child]
            case Strategy.ONE_FOR_ALL:
                return everyone
            case Strategy.REST_FOR_ONE:
                return everyone[everyone.index(child) :]

    def _after_finished(self, child: _Child) -> None:
        """OTP's automatic shutdown: only a child's own end counts, never one its supervisor brought about."""
        if not child.spec.significant:
            return
        significant = [each for each in self._children.values() if each.spec.significant]
        finished = [each for each in significant if each.state is ChildState.FINISHED]
        any_ = self.spec.auto_shutdown is AutoShutdown.ANY_SIGNIFICANT
        if any_ or (
            self.spec.auto_shutdown is AutoShutdown.ALL_SIGNIFICANT and len(finished) == len(significant)
        ):
            self._finish(Phase.STOPPING, f"significant child {child.spec.child} ended")

    def _finish(self, phase: Phase, reason: str) -> None:
        self.phase, self._reason = phase, reason
        for child in self._children.values():
            child.must_stop = child.alive

    # Commanding

    def _overdue(self, now: float) -> list[Command]:
        """Starts that took too long, and stops that were not heeded: both end by force."""
        commands: list[Command] = []
        for name, child in self._children.items():
            if child.deadline_s is not None and now >= child.deadline_s:
                child.state, child.deadline_s = ChildState.STOPPING, None
                commands.append(Stop(name, child.generation, kill=True))
        return commands

    def _stops(self, now: float) -> list[Command]:
        commands: list[Command] = []
        for name, child in reversed(self._children.items()):
            if child.must_stop and child.state is not ChildState.STOPPING:
                shutdown_s = child.spec.shutdown_s
                child.deadline_s = now + shutdown_s if shutdown_s else None
                child.state = ChildState.STOPPING
                commands.append(Stop(name, child.generation, kill=shutdown_s == 0))
            in_turn = child.desired or self.phase is not Phase.RUNNING
            if child.must_stop and in_turn and self.spec.ordered:
                break  # The next one stops when this one has ended.
        return commands

    def _starts(self, now: float) -> list[Command]:
        commands: list[Command] = []
        if self.phase is not Phase.RUNNING:
            return commands
        group_stops = self.spec.strategy is not Strategy.ONE_FOR_ONE and any(
            child.must_stop and child.desired for child in self._children.values()
        )
        if group_stops:
            return commands
        for name, child in self._children.items():
            if child.state is ChildState.DOWN and child.desired:
                commands.append(self._start(name, child, now))
            if self.spec.ordered and not self._may_pass(child):
                break
        return commands

    def _start(self, name: str, child: _Child, now: float) -> Start:
        delay_s = max(0.0, child.start_not_before_s - now)
        child.generation = self._next_generation
        self._next_generation += 1
        child.state, child.anew = ChildState.STARTING, False
        child.deadline_s = None if child.spec.start_s is None else now + delay_s + child.spec.start_s
        return Start(name, child.generation, delay_s)

    def _may_pass(self, child: _Child) -> bool:
        """Whether children after this one may start. Independent ones wait for its first start only."""
        if child.state in (ChildState.RUNNING, ChildState.FINISHED) or not child.desired:
            return True
        return child.started_once and self.spec.strategy is Strategy.ONE_FOR_ONE

    def _end(self) -> list[Command]:
        if self.phase is Phase.RUNNING or any(child.alive for child in self._children.values()):
            return []
        escalates = self.phase is Phase.ESCALATING
        self.phase = Phase.ENDED
        return [Escalate(self._reason) if escalates else Stopped(self._reason)]

    def _check_specs(self, specs: tuple[ChildSpec, ...]) -> None:
        if len({spec.child for spec in specs}) != len(specs):
            raise UsageError("two children have the same name")
        if len(specs) > CHILDREN_MAX:
            raise UsageError(f"{len(specs)} children; one supervisor holds at most {CHILDREN_MAX}")
        for spec in specs:
            if spec.significant and spec.restart is Restart.PERMANENT:
                raise UsageError(
                    f"{spec.child}: a permanent child never ends for good, so it cannot be significant"
                )
            if spec.significant and self.spec.auto_shutdown is AutoShutdown.NEVER:
                raise UsageError(f"{spec.child} is significant, and auto_shutdown is never")


def _restarts(restart: Restart, exit_: Exit) -> bool:
    return restart is Restart.PERMANENT or (restart is Restart.TRANSIENT and exit_ is Exit.ABNORMAL)
