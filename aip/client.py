"""What programs and the command line hold: `connect()` to a platform, submit plans, call agents, look.

    with aip.connect(start=True) as platform:
        run = platform.submit(Path("plan.yaml"), {"name": "Ada"})
        for view in platform.watch(run):
            print(view["state"])

The methods are synchronous; a loop in a thread of its own does the talking, over the platform's Unix sockets: a client does not
import Ray. `call` puts this process on the road as a principal (`client/…`): its messages pass the same guard as an agent's.

Finished runs are read from their files and need no platform (`aip.records`).
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from actors import boot, launch, owned, platform_record, ray_head
from actors.audience import Audience
from actors.link import Endpoint, Line
from actors.run_spec import RunSpec

from .compute.inspection import inspect_code
from .deployment import inspect_contained, prepare, prepare_schedule, read_plan, single
from .errors import AIPError, NotFound, PlatformUnavailable, UsageError
from .governance.kill import Fence, KillOrder, Level, desk
from .orchestration.plan import Isolation
from .orchestration.timetable import Schedule
from .records import log_lines, stored_events, stored_logs, stored_run, stored_runs
from .runtime.ports import CellLost, NotSent
from .settings import Home

T = TypeVar("T")

LONG_POLL_S = 10.0
LINE_TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 120.0  # No request of a client works longer; calls to agents go over the road, with deadlines of their own.
FOLLOW_EVERY_S = 0.2
TERMINAL = frozenset({"succeeded", "failed", "cancelled", "killed"})
WAITING = frozenset({"held", "paused"})  # For a person; after a while such a run has no process either.

_encode = msgspec.msgpack.Encoder().encode


def connect(
    home: Home | None = None,
    *,
    start: bool = False,
    on_progress: Callable[[str], None] | None = None,
    options: ray_head.LaunchOptions | None = None,
    idle_stop_s: float = boot.IDLE_STOP_S,
) -> Platform:
    """The platform of this home; started first, if `start` and there is none. Raises `PlatformUnavailable`."""
    home = home or Home.find()
    say = on_progress or launch.silent
    home.make()
    record = launch.find(home)
    if record is None:
        if not start:
            raise PlatformUnavailable(f"no platform runs in {home.root}")
        record = launch.start(home, options, say)
    platform = Platform(home, record)
    if not platform.answers():
        say("starting the actors")
        boot.boot(home, record, idle_stop_s)
    return platform


class Platform:
    """A running platform. Use it as a context manager, or `close()` it; the platform itself stays up."""

    def __init__(self, home: Home, record: platform_record.Platform) -> None:
        self.home = home
        self.record = record
        self._sockets = boot.sockets_of(record)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="aip-client", daemon=True)
        self._thread.start()
        self._lines: dict[str, Line] = {}
        self._audience: Audience | None = None
        self._endpoint: Endpoint | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._loop.is_running():
            self._wait(self._leave())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5.0)
            self._loop.close()

    async def _leave(self) -> None:
        if self._audience is not None:
            await self._audience.leave()
        for line in self._lines.values():
            line.close()

    # Talking --------------------------------------------------------------------------------------------------------

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _ask(
        self, name: str, method: str, arguments: Mapping[str, Any], timeout_s: float = LINE_TIMEOUT_S
    ) -> Any:
        """One request to an actor, tried again while its supervisor brings it back."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                line = self._lines.get(name)
                if line is None or line.closed:
                    line = self._lines[name] = await Line.connect(self._sockets / f"{name}.s")
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    return msgspec.msgpack.decode(await line.call(method, _encode(arguments)) or b"\xc0")
            except TimeoutError:
                raise PlatformUnavailable(f"{name} took the request and did not answer {method}") from None
            except (NotSent, CellLost) as error:
                if time.monotonic() > deadline or launch.find(self.home) is None:
                    raise PlatformUnavailable(
                        f"{name} of the platform in {self.home.root} does not answer"
                    ) from error
            await asyncio.sleep(0.1)

    def ask(self, name: str, method: str, timeout_s: float = LINE_TIMEOUT_S, /, **arguments: Any) -> Any:
        return self._wait(self._ask(name, method, arguments, timeout_s))

    def answers(self) -> bool:
        """Whether the root is there."""
        try:
            self.ask("orchestrator", "ping", 0.0)
        except PlatformUnavailable:
            return False
        return True

    # Looking --------------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.ask("orchestrator", "status")
        counts: dict[str, int] = {}
        for run in self.runs():
            counts[run["state"]] = counts.get(run["state"], 0) + 1
        processes = [
            {
                "role": use.role,
                "pid": use.pid,
                "rss_bytes": use.rss_bytes,
                "cpu_s": use.cpu_s,
                "ray": use.is_ray,
            }
            for use in owned.processes(self.home)
        ]
        record = self.record
        return {
            **status,
            "address": record.address,
            "dashboard_url": record.dashboard_url,
            "processes": processes,
            "runs": counts,
        }

    def agents(self, run: str | None = None) -> list[dict[str, Any]]:
        return [agent for found in self._each_cell("agents", run=run or "") for agent in found]

    def agent(self, address: str) -> dict[str, Any]:
        for found in self._each_cell("agent", address=self._full(address)):
            if found is not None:
                answer: dict[str, Any] = found
                return answer
        raise NotFound(
            f"{address} is not active", hint="an agent wakes with its first message; see `aip agents list`"
        )

    def _each_cell(self, method: str, **arguments: Any) -> Iterator[Any]:
        membership = self.ask("orchestrator", "membership")
        for pool in membership["pools"].values():
            for cell in pool:
                with contextlib.suppress(PlatformUnavailable):
                    yield self.ask(cell["cell_id"], method, 2.0, **arguments)

    def breakers(self) -> list[dict[str, Any]]:
        """Every circuit that is not closed, in the cell that guards by it."""
        return [circuit for found in self._each_cell("breakers") for circuit in found]

    def types(self) -> list[dict[str, Any]]:
        """Every deployed agent type and what it can do."""
        types: list[dict[str, Any]] = self.ask("registry", "types")
        return types

    # Runs -----------------------------------------------------------------------------------------------------------

    def submit(
        self,
        plan_path: Path,
        inputs: dict[str, Any],
        *,
        idempotency_key: str = "",
        by: str = "",
        rank_by: str = "measured",
    ) -> str:
        """Check a plan, ship its code, start it; the run's id. Raises `PlanInvalid`, `UsageError`."""
        folder = plan_path.resolve().parent
        source = read_plan(plan_path)
        spec = prepare(
            self.home,
            source,
            str(plan_path),
            folder,
            inputs,
            idempotency_key=idempotency_key,
            by=by or whoami(),
            rank_by=rank_by,
        )
        return self.submit_spec(spec)

    def submit_spec(self, spec: RunSpec) -> str:
        run: str = self.ask("orchestrator", "submit", spec=msgspec.to_builtins(spec, builtin_types=(bytes,)))
        return run

    def run(self, run_id: str) -> dict[str, Any]:
        view = self._live(run_id, -1, 0.0)
        return stored_run(self.home, run_id) if view is None else view

    def _live(self, run_id: str, after: int, wait_s: float) -> dict[str, Any] | None:
        """The view from the run's own process; None where it has none (any more)."""
        try:
            view: dict[str, Any] = self.ask(f"run-{run_id}", "view", 0.0, after=after, wait_s=wait_s)
        except PlatformUnavailable:
            return None
        return view

    def runs(self) -> list[dict[str, Any]]:
        """Short views, newest first; a run that is at work answers for itself."""
        active = set(self.ask("orchestrator", "status")["active_runs"])
        found = []
        for stored in stored_runs(self.home):
            live = self._live(stored["run"], -1, 0.0) if stored["run"] in active else None
            found.append(
                stored if live is None else {**stored, "state": live["state"], "reason": live["reason"]}
            )
        return found

    def watch(self, run_id: str) -> Iterator[dict[str, Any]]:
        """A new view whenever something changed; ends with the run, or when it is held for a person."""
        version, waiting_since = -1, time.monotonic()
        while True:
            view = self._live(run_id, version, LONG_POLL_S)
            if view is None:
                stored = stored_run(self.home, run_id)
                if stored["state"] in TERMINAL | WAITING:
                    yield stored
                    return
                if time.monotonic() - waiting_since > LINE_TIMEOUT_S * 2:
                    raise PlatformUnavailable(f"the process of run {run_id} does not come back")
                time.sleep(0.1)
                continue
            waiting_since = time.monotonic()
            if view["version"] != version:
                version = view["version"]
                yield view
            if view["state"] in TERMINAL | WAITING:
                return
            time.sleep(0.05)  # At most about ten views a second, whatever happens in between.

    def events(self, run_id: str, after: int = 0, follow: bool = False) -> Iterator[dict[str, Any]]:
        while True:
            last = after
            for event in stored_events(self.home, run_id, after):
                after = event["index"]
                yield event
            if not follow or (after == last and self.run(run_id)["state"] in TERMINAL):
                return
            time.sleep(FOLLOW_EVERY_S)

    def logs(self, run_id: str, task: str | None = None, follow: bool = False) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            ended = follow and self.run(run_id)["state"] in TERMINAL
            for end, line in log_lines(self.home, run_id, offset):
                offset = end
                if task is None or line["task"] == task:
                    yield line
            if not follow or ended:
                return
            time.sleep(FOLLOW_EVERY_S)

    def cancel(self, run_id: str, reason: str = "") -> None:
        self._act(run_id, "cancel", reason=reason)

    def pause(self, run_id: str) -> None:
        self._act(run_id, "pause")

    def resume(self, run_id: str, budget: dict[str, int] | None = None) -> None:
        self._act(run_id, "resume", budget=budget or {})

    def decide(self, run_id: str, task: str, approve: bool, by: str = "", comment: str = "") -> None:
        self._act(run_id, "decide", by=by, task=task, approve=approve, comment=comment)

    def retry(self, run_id: str, task: str) -> None:
        self._act(run_id, "retry", task=task)

    def _act(self, run_id: str, verb: str, by: str = "", **details: Any) -> None:
        """A person's act on a run; one that has ended comes back first, so that the machine itself can say no."""
        stored_run(self.home, run_id)  # Raises `NotFound`.
        state = self.run(run_id)["state"]
        if state in TERMINAL and verb != "retry":
            raise UsageError(
                f"run {run_id} has ended: {state}", hint=f"aip retry {run_id}/TASK goes on from a task"
            )
        self.ask("orchestrator", "revive", run=run_id)
        self.ask(f"run-{run_id}", "act", verb=verb, by=by or whoami(), **details)

    # Schedules ------------------------------------------------------------------------------------------------------

    def create_schedule(
        self, plan_path: Path, inputs: dict[str, Any], schedule: Schedule, *, by: str = ""
    ) -> dict[str, Any]:
        """Check a plan and ship its code, now; the clock submits it. Raises `PlanInvalid`, `UsageError`."""
        spec, declared = prepare_schedule(self.home, plan_path, inputs, schedule, by or whoami())
        return self._schedule(
            "create",
            schedule=msgspec.to_builtins(declared),
            template=msgspec.to_builtins(spec, builtin_types=(bytes,)),
        )

    def schedules(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("orchestrator", "schedules")
        return found

    def schedule(self, name: str) -> dict[str, Any]:
        return self._schedule("show", name=name)

    def pause_schedule(self, name: str) -> dict[str, Any]:
        return self._schedule("pause", name=name)

    def resume_schedule(self, name: str) -> dict[str, Any]:
        return self._schedule("resume", name=name)

    def remove_schedule(self, name: str) -> dict[str, Any]:
        return self._schedule("remove", name=name)

    def run_schedule(self, name: str) -> str:
        """One run of it now, beside the clock; the run's id. Asked again after a lost answer it is still one run."""
        run: str = self.ask("orchestrator", "schedule_run", name=name, at=round(time.time(), 3))
        return run

    def _schedule(self, verb: str, **arguments: Any) -> dict[str, Any]:
        shown: dict[str, Any] = self.ask("orchestrator", f"schedule_{verb}", **arguments)
        return shown

    # Agents ---------------------------------------------------------------------------------------------------------

    def call(
        self,
        target: str,
        capability: str,
        arguments: dict[str, Any] | None = None,
        *,
        timeout_s: float = 60.0,
    ) -> Any:
        """Call an agent: `type/key`, or `module:Class[/key]` beside the current folder, which is deployed first."""
        if ":" in target.partition("/")[0]:
            target = self.deploy(Path.cwd(), target)
        return self._wait(self._call(self._full(target), capability, arguments or {}, timeout_s))

    async def _call(
        self, target: str, capability: str, arguments: Mapping[str, Any], timeout_s: float
    ) -> Any:
        if self._audience is None:
            name = f"client-{os.getpid()}-{random.getrandbits(24):06x}"
            self._audience = Audience(self._sockets, name, Fence(self.home.state / "kill"))
            await self._audience.join()
        return await self._audience.call(target, capability, arguments, timeout_s)

    def deploy(self, folder: Path, target: str, isolation: Isolation = Isolation.CELL) -> str:
        """Make `module:Class` of this folder reachable; an address of it."""
        entry, _, key = target.partition("/")
        spec, manifests = single(self.home, folder, entry, isolation)
        self.ask("orchestrator", "declare_pool", spec=msgspec.to_builtins(spec), manifests=manifests)
        return f"{next(iter(spec.types))}/{key or 'any'}"

    def _full(self, address: str) -> str:
        """An address with its code digest; the newest version of a type, where it was left out."""
        kind, _, key = address.partition("/")
        if "@" in kind or not key:
            return address
        named = [known["type"] for known in self.types() if known["type"].partition("@")[0] == kind]
        if not named:
            raise NotFound(f"no agent type {kind!r} is deployed", hint="see `aip agents list`")
        return f"{named[-1]}/{key}"

    # Governance -----------------------------------------------------------------------------------------------------

    def kill(
        self, target: str, reason: str = "", by: str = "", level: Level = Level.TERMINATE, rate: float = 0.0
    ) -> dict[str, Any]:
        """Durable and in force when this returns, whether or not an actor is alive."""
        order = desk.raise_order(self.home, target, reason, by or whoami(), time.time(), level, rate)
        return plain_order(order)

    def lift(self, target: str, by: str = "") -> dict[str, Any]:
        """Lower an order where one signature is enough. Raises `ResetRefused` where it takes several people."""
        operator = (by or whoami()).removeprefix("user:")
        return plain_order(desk.lift_alone(self.home, target, "lifted", operator, time.time()))

    def orders(self) -> list[dict[str, Any]]:
        return standing_orders(self.home)


def whoami() -> str:
    """Who acts, as far as a laptop knows: the account's name."""
    return f"user:{getpass.getuser()}"


def plain_order(order: KillOrder) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(order)
    return plain


def standing_orders(home: Home) -> list[dict[str, Any]]:
    return [plain_order(order) for order in desk.fence_of(home).orders().standing.values()]


__all__ = [
    "AIPError",
    "Platform",
    "connect",
    "inspect_code",
    "inspect_contained",
    "stored_events",
    "stored_logs",
    "stored_run",
    "stored_runs",
]
