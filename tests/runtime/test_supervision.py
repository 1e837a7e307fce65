"""Supervision: OTP's documented behaviour by table, and what must hold whatever happens by hypothesis."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aip.errors import UsageError
from aip.runtime.supervision import (
    AutoShutdown,
    Backoff,
    ChildExited,
    ChildSpec,
    ChildStarted,
    ChildState,
    Command,
    Desired,
    Escalate,
    Event,
    Exit,
    Phase,
    Restart,
    Start,
    StartFailed,
    Stop,
    Stopped,
    StopRequested,
    Strategy,
    Supervisor,
    SupervisorSpec,
    Timer,
)

ONE, ALL, REST = Strategy.ONE_FOR_ONE, Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE
PERMANENT, TRANSIENT, TEMPORARY = Restart.PERMANENT, Restart.TRANSIENT, Restart.TEMPORARY


@dataclass
class Shell:
    """Carries commands out as the Ray shell would, at once, and keeps a script of them: `+a` start, `-a` stop, `!a` kill."""

    supervisor: Supervisor
    now: float = 0.0
    live: dict[str, int] = field(default_factory=dict)
    script: list[str] = field(default_factory=list)
    delays_s: list[float] = field(default_factory=list)
    stubborn: set[str] = field(default_factory=set)  # These do not heed a polite stop.
    broken: set[str] = field(default_factory=set)  # These fail to start.
    slow: set[str] = field(default_factory=set)  # These neither start nor fail to.

    def tell(self, event: Event) -> str:
        """One event with all that follows from it; returns what was newly commanded."""
        before = len(self.script)
        pending = [event]
        while pending:
            for command in self.supervisor.step(pending.pop(0), self.now):
                pending += self.carry_out(command)
        return " ".join(self.script[before:])

    def carry_out(self, command: Command) -> Iterable[Event]:
        match command:
            case Start(name, generation, delay_s):
                assert name not in self.live
                self.script.append(f"+{name}")
                self.delays_s.append(delay_s)
                if name in self.broken:
                    return [StartFailed(name, generation, "no room")]
                self.live[name] = generation
                return [] if name in self.slow else [ChildStarted(name, generation)]
            case Stop(name, generation, kill):
                assert self.live[name] == generation
                self.script.append(f"{'!' if kill else '-'}{name}")
                if name in self.stubborn and not kill:
                    return []
                del self.live[name]
                return [ChildExited(name, generation, Exit.SHUTDOWN)]
            case Escalate():
                self.script.append("escalate")
            case Stopped():
                self.script.append("stopped")
        return []

    def exits(self, name: str, exit_: Exit = Exit.ABNORMAL) -> str:
        return self.tell(ChildExited(name, self.live.pop(name), exit_, "boom"))


def shell(spec: SupervisorSpec, *children: ChildSpec, seed: int = 0, first_generation: int = 1) -> Shell:
    return Shell(Supervisor(spec, children, random.Random(seed), first_generation))


def started(spec: SupervisorSpec, *children: ChildSpec) -> Shell:
    running = shell(spec, *children)
    running.tell(Timer())
    return running


def children(names: str, restart: Restart = PERMANENT) -> list[ChildSpec]:
    return [ChildSpec(name, restart) for name in names]


# Starting and stopping


def test_children_start_in_order_and_stop_in_reverse() -> None:
    tree = shell(SupervisorSpec(), *children("abc"))
    assert tree.tell(Timer()) == "+a +b +c"
    assert tree.tell(StopRequested()) == "-c -b -a stopped"
    assert tree.supervisor.phase is Phase.ENDED
    assert tree.tell(Timer()) == ""


def test_a_child_starts_when_the_one_before_it_has_started() -> None:
    tree = shell(SupervisorSpec(), *children("abc"))
    tree.slow = {"b"}
    assert tree.tell(Timer()) == "+a +b"
    assert tree.tell(ChildStarted("b", tree.live["b"])) == "+c"


def test_equal_children_start_and_stop_all_at_once() -> None:
    tree = shell(SupervisorSpec(ordered=False), *children("abc"))
    tree.slow, tree.stubborn = {"a", "b", "c"}, {"a", "b", "c"}
    assert tree.tell(Timer()) == "+a +b +c"
    assert tree.tell(StopRequested()) == "-c -b -a"


def test_a_child_is_killed_when_its_shutdown_time_is_over() -> None:
    tree = started(SupervisorSpec(), ChildSpec("a", shutdown_s=5.0), ChildSpec("b", shutdown_s=2.0))
    tree.stubborn = {"a", "b"}
    assert tree.tell(StopRequested()) == "-b"
    assert tree.supervisor.wake_s == 2.0
    tree.now = 1.9
    assert tree.tell(Timer()) == ""
    tree.now = 2.0
    assert tree.tell(Timer()) == "!b -a"
    tree.now = 7.0
    assert tree.tell(Timer()) == "!a stopped"


@pytest.mark.parametrize(
    ("shutdown_s", "commanded", "wake_s"), [(0.0, "!a stopped", None), (None, "-a", None)]
)
def test_brutal_kill_kills_at_once_and_infinity_waits(
    shutdown_s: float | None, commanded: str, wake_s: float | None
) -> None:
    tree = started(SupervisorSpec(), ChildSpec("a", shutdown_s=shutdown_s))
    tree.stubborn = {"a"}
    assert tree.tell(StopRequested()) == commanded
    assert tree.supervisor.wake_s == wake_s


def test_a_stop_that_meets_a_start_on_its_way_cancels_it() -> None:
    tree = shell(SupervisorSpec(), *children("ab"))
    tree.slow = {"a"}
    assert tree.tell(Timer()) == "+a"
    assert tree.tell(StopRequested()) == "-a stopped"


def test_a_supervisor_without_children_stops_at_once() -> None:
    assert shell(SupervisorSpec()).tell(StopRequested()) == "stopped"


# Whom a restart concerns ("Restart Strategy")


@pytest.mark.parametrize(
    ("strategy", "crashed", "commanded"),
    [
        (ONE, "b", "+b"),
        (ALL, "b", "-d -c -a +a +b +c +d"),
        (REST, "b", "-d -c +b +c +d"),
        (REST, "a", "-d -c -b +a +b +c +d"),
        (REST, "d", "+d"),
    ],
)
def test_restart_strategies(strategy: Strategy, crashed: str, commanded: str) -> None:
    tree = started(SupervisorSpec(strategy), *children("abcd"))
    assert tree.exits(crashed) == commanded
    assert set(tree.live) == set("abcd")


@pytest.mark.parametrize(
    ("strategy", "commanded"),
    [(ONE, "+b"), (ALL, "-d -c -a +a +b +d"), (REST, "-d -c +b +d")],
)
def test_a_temporary_child_ended_for_its_neighbours_sake_is_not_started_again(
    strategy: Strategy, commanded: str
) -> None:
    specs = [ChildSpec("a"), ChildSpec("b"), ChildSpec("c", TEMPORARY), ChildSpec("d")]
    assert started(SupervisorSpec(strategy), *specs).exits("b") == commanded


@pytest.mark.parametrize(
    ("strategy", "crashed", "commanded"),
    [(ONE, "c", "+c"), (ALL, "c", "-b +b +a +c"), (REST, "c", "+c"), (REST, "b", "-c +b +a +c")],
)
def test_a_finished_transient_child_starts_again_with_its_group(
    strategy: Strategy, crashed: str, commanded: str
) -> None:
    tree = started(SupervisorSpec(strategy), ChildSpec("b"), ChildSpec("a", TRANSIENT), ChildSpec("c"))
    assert tree.exits("a", Exit.NORMAL) == ""
    assert tree.exits(crashed) == commanded


def test_a_neighbour_that_crashes_while_its_group_stops_counts_no_restart_of_its_own() -> None:
    tree = started(SupervisorSpec(ALL, restarts_max=1), *children("abc"))
    tree.stubborn = {"c"}
    assert tree.exits("a") == "-c"
    assert tree.exits("b") == ""
    assert tree.exits("c", Exit.SHUTDOWN) == "+a +b +c"
    assert tree.supervisor.phase is Phase.RUNNING


def test_independent_children_do_not_wait_for_one_that_restarts() -> None:
    tree = started(SupervisorSpec(ONE), *children("abc"))
    tree.slow = {"a"}
    assert tree.exits("a") == "+a"
    assert tree.exits("c") == "+c"


def test_dependent_children_wait_for_the_one_before_them() -> None:
    tree = started(SupervisorSpec(REST), *children("abc"))
    tree.slow = {"b"}
    assert tree.exits("a") == "-c -b +a +b"
    assert tree.tell(ChildStarted("b", tree.live["b"])) == "+c"


# Who is restarted ("Child Specification", restart)


@pytest.mark.parametrize(
    ("restart", "exit_", "restarted"),
    [
        (PERMANENT, Exit.NORMAL, True),
        (PERMANENT, Exit.SHUTDOWN, True),
        (PERMANENT, Exit.ABNORMAL, True),
        (TRANSIENT, Exit.NORMAL, False),
        (TRANSIENT, Exit.SHUTDOWN, False),
        (TRANSIENT, Exit.ABNORMAL, True),
        (TEMPORARY, Exit.NORMAL, False),
        (TEMPORARY, Exit.SHUTDOWN, False),
        (TEMPORARY, Exit.ABNORMAL, False),
    ],
)
@pytest.mark.parametrize("strategy", Strategy)
def test_restart_types(strategy: Strategy, restart: Restart, exit_: Exit, restarted: bool) -> None:
    tree = started(SupervisorSpec(strategy), ChildSpec("a", restart))
    assert tree.exits("a", exit_) == ("+a" if restarted else "")
    state, _ = tree.supervisor.states()["a"]
    assert state is (ChildState.RUNNING if restarted else ChildState.FINISHED)


@pytest.mark.parametrize(
    ("restart", "state"),
    [(PERMANENT, "starting"), (TRANSIENT, "starting"), (TEMPORARY, "finished")],
)
def test_a_failed_start_is_tried_again_unless_the_child_is_temporary(restart: Restart, state: str) -> None:
    tree = shell(SupervisorSpec(), ChildSpec("a", restart))
    tree.supervisor.step(Timer(), 0.0)
    commands = tree.supervisor.step(StartFailed("a", 1, "no room"), 1.0)
    assert [type(command) for command in commands] == ([Start] if state == "starting" else [])
    assert tree.supervisor.states()["a"][0] == state


def test_a_start_that_takes_too_long_is_killed_and_tried_again() -> None:
    tree = shell(SupervisorSpec(), ChildSpec("a", TRANSIENT, start_s=10.0))
    tree.slow = {"a"}
    tree.tell(Timer())
    assert tree.supervisor.wake_s == 10.0
    tree.now = 10.0
    assert tree.tell(Timer()) == "!a +a"
    assert tree.supervisor.wake_s == 20.0


# Restart intensity ("Maximum Restart Intensity")


def test_more_restarts_than_allowed_within_the_window_end_in_escalation() -> None:
    tree = started(SupervisorSpec(ONE, restarts_max=2, window_s=10.0), *children("abc"))
    assert tree.exits("b") == "+b"
    assert tree.exits("b") == "+b"
    assert tree.exits("b") == "-c -a escalate"


def test_an_escalation_names_the_limit_and_the_last_reason() -> None:
    supervisor = Supervisor(SupervisorSpec(restarts_max=0), children("a"), random.Random(0))
    supervisor.step(Timer(), 0.0)
    commands = supervisor.step(ChildExited("a", 1, Exit.ABNORMAL, "ValueError: 7"), 1.0)
    assert commands == [Escalate("more than 0 restarts in 60 s; the last was a: ValueError: 7")]


@pytest.mark.parametrize(("gap_s", "commanded"), [(5.0, "escalate"), (5.1, "+a")])
def test_a_restart_counts_until_the_window_has_passed(gap_s: float, commanded: str) -> None:
    tree = started(SupervisorSpec(restarts_max=2, window_s=10.0), *children("a"))
    for _ in range(2):
        assert tree.exits("a") == "+a"
        tree.now += gap_s
    assert tree.exits("a") == commanded


def test_a_restart_of_a_whole_group_counts_once() -> None:
    tree = started(SupervisorSpec(ALL, restarts_max=1), *children("abcdef"))
    assert tree.exits("c").endswith("+a +b +c +d +e +f")
    assert tree.exits("d") == "-f -e -c -b -a escalate"


def test_a_child_that_never_starts_ends_in_escalation() -> None:
    tree = shell(SupervisorSpec(restarts_max=3), *children("abc"))
    tree.broken = {"b"}
    assert tree.tell(Timer()) == "+a +b +b +b +b -a escalate"


def test_a_stop_that_is_asked_for_during_an_escalation_ends_as_a_stop() -> None:
    tree = started(SupervisorSpec(restarts_max=0), *children("ab"))
    tree.stubborn = {"b"}
    assert tree.exits("a") == "-b"
    assert tree.tell(StopRequested()) == ""
    assert tree.exits("b") == "stopped"


# Backoff


@pytest.mark.parametrize("strategy", Strategy)
def test_the_first_restart_is_immediate_and_later_ones_wait_longer_and_longer(strategy: Strategy) -> None:
    backoff = Backoff(initial_s=1.0, factor=3.0, max_s=20.0, jitter=0.0)
    tree = started(SupervisorSpec(strategy, restarts_max=9, backoff=backoff), *children("a"))
    for _ in range(6):
        tree.exits("a")
    assert tree.delays_s == [0.0, 0.0, 1.0, 3.0, 9.0, 20.0, 20.0]


def test_a_child_that_held_out_for_a_window_begins_its_backoff_anew() -> None:
    backoff = Backoff(jitter=0.0)
    tree = started(SupervisorSpec(window_s=10.0, backoff=backoff), *children("a"))
    tree.exits("a")
    tree.exits("a")
    tree.now = 11.0
    tree.exits("a")
    assert tree.delays_s == [0.0, 0.0, 0.1, 0.0]


@given(seed=st.integers(0, 1_000))
def test_jitter_stays_in_its_bounds_and_comes_from_the_seed(seed: int) -> None:
    runs = []
    for _ in range(2):
        spec = SupervisorSpec(restarts_max=9, backoff=Backoff(initial_s=1.0, factor=1.0, jitter=0.2))
        tree = shell(spec, *children("a"), seed=seed)
        tree.tell(Timer())
        for _ in range(5):
            tree.exits("a")
        runs.append(tree.delays_s)
    assert all(0.8 <= delay_s <= 1.2 for delay_s in runs[0][2:])
    assert runs[0] == runs[1]


def test_time_spent_on_stopping_a_group_is_taken_off_its_delay() -> None:
    backoff = Backoff(initial_s=3.0, jitter=0.0)
    tree = started(SupervisorSpec(ALL, backoff=backoff), *children("ab"))
    tree.exits("a")
    tree.stubborn = {"b"}
    assert tree.exits("a") == "-b"
    tree.now = 2.0
    tree.exits("b", Exit.SHUTDOWN)
    assert tree.delays_s[-2:] == [1.0, 1.0]


def test_an_endless_backoff_does_not_overflow() -> None:
    tree = started(SupervisorSpec(restarts_max=5_000, backoff=Backoff(factor=1e6)), *children("a"))
    for _ in range(2_000):
        tree.exits("a")
    assert max(tree.delays_s) <= 36.0


# Automatic shutdown ("Automatic Shutdown", significant)


@pytest.mark.parametrize(
    ("auto", "restart", "ends", "commanded"),
    [
        (AutoShutdown.ANY_SIGNIFICANT, TRANSIENT, [("a", Exit.NORMAL)], "-c -b stopped"),
        (AutoShutdown.ANY_SIGNIFICANT, TRANSIENT, [("a", Exit.ABNORMAL)], "+a"),
        (AutoShutdown.ANY_SIGNIFICANT, TEMPORARY, [("a", Exit.ABNORMAL)], "-c -b stopped"),
        (AutoShutdown.ANY_SIGNIFICANT, TRANSIENT, [("c", Exit.NORMAL)], ""),
        (AutoShutdown.ALL_SIGNIFICANT, TRANSIENT, [("a", Exit.NORMAL)], ""),
        (AutoShutdown.ALL_SIGNIFICANT, TRANSIENT, [("a", Exit.NORMAL), ("b", Exit.NORMAL)], "-c stopped"),
    ],
)
def test_significant_children_can_end_their_supervisor(
    auto: AutoShutdown, restart: Restart, ends: list[tuple[str, Exit]], commanded: str
) -> None:
    specs = [ChildSpec(name, restart, significant=True) for name in "ab"]
    tree = started(SupervisorSpec(auto_shutdown=auto), *specs, ChildSpec("c", TRANSIENT))
    for name, exit_ in ends[:-1]:
        tree.exits(name, exit_)
    assert tree.exits(*ends[-1]) == commanded


def test_a_significant_child_that_its_supervisor_stopped_ends_nothing() -> None:
    spec = SupervisorSpec(ALL, auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)
    tree = started(spec, ChildSpec("a"), ChildSpec("b", TRANSIENT, significant=True))
    assert tree.exits("a") == "-b +a +b"


# The desired set


def test_a_new_desired_set_starts_who_is_new_and_stops_who_is_missing() -> None:
    tree = started(SupervisorSpec(), *children("abc"))
    assert tree.tell(Desired(tuple(children("acde")))) == "-b +d +e"
    assert list(tree.supervisor.states()) == list("acde")


def test_a_child_that_leaves_disturbs_no_neighbour_under_any_strategy() -> None:
    for strategy in Strategy:
        tree = started(SupervisorSpec(strategy), *children("abc"))
        assert tree.tell(Desired(tuple(children("bc")))) == "-a"


@pytest.mark.parametrize("restart", Restart)
def test_a_child_that_is_desired_again_while_it_stops_is_started_again(restart: Restart) -> None:
    tree = started(SupervisorSpec(), *children("ab", restart))
    tree.stubborn = {"b"}
    assert tree.tell(Desired(tuple(children("a", restart)))) == "-b"
    assert tree.tell(Desired(tuple(children("ab", restart)))) == ""
    assert tree.exits("b", Exit.SHUTDOWN) == "+b"


def test_a_finished_child_that_was_dropped_and_is_desired_anew_starts_anew() -> None:
    tree = started(SupervisorSpec(), *children("a", TEMPORARY))
    tree.exits("a", Exit.NORMAL)
    assert tree.tell(Desired(tuple(children("a", TEMPORARY)))) == ""
    assert tree.tell(Desired(())) == ""
    assert tree.tell(Desired(tuple(children("a", TEMPORARY)))) == "+a"


# Fencing


def test_what_an_older_generation_reports_is_ignored() -> None:
    tree = started(SupervisorSpec(), *children("a"))
    old = tree.live["a"]
    tree.exits("a")
    assert tree.live["a"] == old + 1
    for event in (ChildExited("a", old, Exit.ABNORMAL), StartFailed("a", old, ""), ChildStarted("a", old)):
        assert tree.tell(event) == ""
    assert tree.supervisor.states()["a"] == (ChildState.RUNNING, old + 1)


def test_generations_go_on_where_a_former_supervisor_left_off() -> None:
    tree = shell(SupervisorSpec(), *children("ab"), first_generation=41)
    tree.tell(Timer())
    assert tree.live == {"a": 41, "b": 42}
    assert tree.supervisor.next_generation == 43


@pytest.mark.parametrize(
    ("spec", "specs"),
    [
        (SupervisorSpec(), children("aa")),
        (SupervisorSpec(restarts_max=-1), []),
        (SupervisorSpec(window_s=0.0), []),
        (SupervisorSpec(REST, ordered=False), []),
        (SupervisorSpec(), [ChildSpec("a", TRANSIENT, significant=True)]),
        (
            SupervisorSpec(auto_shutdown=AutoShutdown.ANY_SIGNIFICANT),
            [ChildSpec("a", PERMANENT, significant=True)],
        ),
    ],
    ids=["same name", "negative intensity", "no window", "unordered rest", "auto never", "permanent"],
)
def test_a_specification_that_cannot_be_meant_is_refused(
    spec: SupervisorSpec, specs: list[ChildSpec]
) -> None:
    with pytest.raises(UsageError):
        Supervisor(spec, specs, random.Random(0))


# Whatever happens


@dataclass
class World:
    """A shell in which anything may happen next, in any order, told late or twice. It checks the promises as it goes."""

    supervisor: Supervisor
    spec: SupervisorSpec
    now: float = 0.0
    live: dict[str, int] = field(default_factory=dict)  # Commanded to start and not known to have ended.
    starting: set[str] = field(default_factory=set)
    stopping: set[str] = field(default_factory=set)
    greatest: int = 0
    restarts_s: list[float] = field(default_factory=list)
    last: list[Command] = field(default_factory=list)
    told: list[Event] = field(default_factory=list)

    def tell(self, event: Event) -> None:
        self.told.append(event)
        commands = self.supervisor.step(event, self.now)
        for command in commands:
            assert not any(isinstance(end, Escalate | Stopped) for end in self.last), (
                "a command after the end"
            )
            match command:
                case Start(name, generation, delay_s):
                    assert name not in self.live, "two generations at once"
                    assert generation > self.greatest, "a generation used twice"
                    assert delay_s >= 0
                    self.greatest, self.live[name] = generation, generation
                    self.starting.add(name)
                case Stop(name, generation):
                    assert self.live[name] == generation, "a stop of somebody who is not there"
                    self.stopping.add(name)
                case Escalate() | Stopped():
                    assert not self.live, "an end with children alive"
            self.last.append(command)

    def exits(self, name: str, exit_: Exit) -> None:
        generation = self.live.pop(name)
        self.starting.discard(name)
        self.stopping.discard(name)
        self.tell(ChildExited(name, generation, exit_))

    def starts(self, name: str) -> None:
        self.starting.discard(name)
        self.tell(ChildStarted(name, self.live[name]))

    def settle(self) -> None:
        """From here on everything goes well: starts succeed, stops are heeded, time passes."""
        for _ in range(500):
            if self.stopping:
                self.exits(min(self.stopping), Exit.SHUTDOWN)
            elif self.starting:
                self.starts(min(self.starting))
            else:
                return
        raise AssertionError("it does not come to rest")


@st.composite
def worlds(draw: st.DrawFn) -> tuple[World, list[tuple[str, int, float]]]:
    strategy = draw(st.sampled_from(Strategy))
    spec = SupervisorSpec(
        strategy,
        restarts_max=draw(st.integers(0, 6)),
        window_s=draw(st.sampled_from([1.0, 10.0])),
        auto_shutdown=draw(st.sampled_from([AutoShutdown.NEVER, AutoShutdown.ALL_SIGNIFICANT])),
        ordered=strategy is not ONE or draw(st.booleans()),
    )
    specs = tuple(draw_child(draw, name, spec) for name in "abcde"[: draw(st.integers(1, 5))])
    supervisor = Supervisor(spec, specs, random.Random(draw(st.integers(0, 99))))
    kinds = ["exit", "exit", "crash", "crash", "start", "start", "start", "again", "timer", "desire"]
    kinds += ["stop"] if draw(st.booleans()) else []
    steps = st.tuples(st.sampled_from(kinds), st.integers(0, 99), st.sampled_from([0.0, 0.1, 3.0, 200.0]))
    return World(supervisor, spec), draw(st.lists(steps, max_size=60))


def draw_child(draw: st.DrawFn, name: str, spec: SupervisorSpec) -> ChildSpec:
    restart = draw(st.sampled_from(Restart))
    significant = (
        spec.auto_shutdown is not AutoShutdown.NEVER and restart is not PERMANENT and draw(st.booleans())
    )
    return ChildSpec(name, restart, draw(st.sampled_from([0.0, 1.0, None])), significant)


def play(world: World, steps: list[tuple[str, int, float]]) -> None:
    world.tell(Timer())
    for kind, pick, pause_s in steps:
        world.now += pause_s
        alive, starting = sorted(world.live), sorted(world.starting)
        if kind in ("exit", "crash") and alive:
            world.exits(alive[pick % len(alive)], Exit.NORMAL if kind == "exit" else Exit.ABNORMAL)
        elif kind == "start" and starting:
            world.starts(starting[pick % len(starting)])
        elif kind == "again":
            world.tell(world.told[pick % len(world.told)])
        elif kind == "desire":
            world.tell(Desired(tuple(ChildSpec(name) for name in "edcba" if pick & 1 << "abcde".index(name))))
        elif kind == "stop":
            world.tell(StopRequested())
        else:
            world.tell(Timer())


@given(worlds())
@settings(max_examples=400, deadline=None)
def test_never_two_generations_at_once_and_everybody_ends_up_running_finished_or_escalated(
    drawn: tuple[World, list[tuple[str, int, float]]],
) -> None:
    world, steps = drawn
    # A repeated Desired or StopRequested is an order of its own; what children report must not count twice.
    play(world, steps)
    world.settle()
    supervisor = world.supervisor
    if supervisor.phase is Phase.ENDED:
        assert not world.live
        assert isinstance(world.last[-1], Escalate | Stopped)
    else:
        states = supervisor.states()
        assert supervisor.phase is Phase.RUNNING
        assert {state for state, _ in states.values()} <= {ChildState.RUNNING, ChildState.FINISHED}
        assert {
            name: generation for name, (state, generation) in states.items() if state == "running"
        } == world.live


@given(
    strategy=st.sampled_from(Strategy),
    restarts_max=st.integers(0, 5),
    gaps_s=st.lists(st.floats(0.0, 8.0), min_size=1, max_size=40),
    picks=st.lists(st.integers(0, 9), min_size=40, max_size=40),
)
@settings(deadline=None)
def test_the_restart_intensity_is_never_exceeded(
    strategy: Strategy, restarts_max: int, gaps_s: list[float], picks: list[int]
) -> None:
    spec = SupervisorSpec(strategy, restarts_max=restarts_max, window_s=10.0)
    tree = started(spec, *children("abc"))
    crashes_s: list[float] = []
    for gap_s, pick in zip(gaps_s, picks, strict=False):
        tree.now += gap_s
        recent = [at for at in crashes_s if tree.now - at <= 10.0]
        commanded = tree.exits("abc"[pick % 3])
        if len(recent) == restarts_max:
            assert commanded.endswith("escalate")
            assert "+" not in commanded
            assert not tree.live
            return
        assert "+" in commanded
        assert len(tree.live) == 3
        crashes_s.append(tree.now)
