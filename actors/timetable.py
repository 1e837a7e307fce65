"""The root's clock: schedules as its journal has them, and the runs that they owe.

`aip.orchestration.timetable` decides; this keeps what it decided and starts what it says. The order makes a planned time one run,
whenever the root dies:

    1  append `Progress` with the time in `owed`       died before: the time is found again, as it has not been decided
    2  submit under the key `schedule/NAME/TIME`       died before: it is still owed
    3  append `Progress` without it                    died before: submitted again, and the key answers with the same run

All of it is in the root's one journal, where a record is never durable before those in front of it. A run's end is not entered:
a root that comes back sees it from the run's last view.

What a schedule submits was parsed, checked and packed when it was created. That `RunSpec` lies in a home of its own, since it is
no run; each run is made from it with an id that follows from the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from math import inf
from typing import Any

import msgspec

from aip.errors import AIPError, Corrupt, NotFound, UsageError, UserError
from aip.orchestration import timetable as core
from aip.orchestration.timetable import Progress, Schedule
from aip.runtime.journal import Journal
from aip.settings import Home

from .run_spec import RunSpec, folder, read_spec, renamed, write_spec
from .sub_run import ENDED, VIEW_FILE

LOOK_S = 5.0  # A clock that is set, or a laptop that slept, is noticed this late at most.
UPCOMING_SHOWN = 5

_SCHEDULE, _PROGRESS, _REMOVED = 21, 22, 23  # Kinds of records in the root's journal; its own are below 20.
_encode = msgspec.msgpack.Encoder().encode

Submit = Callable[[dict[str, Any]], Awaitable[str]]
Note = Callable[[str, str, dict[str, Any]], None]


@dataclass(slots=True)
class Entry:
    """A schedule and how far it came. `look_at` is when it needs to be looked at next (0: now)."""

    schedule: Schedule
    progress: Progress
    look_at: float = 0.0


class Timetable:
    def __init__(
        self,
        home: Home,
        journal: Journal,
        durable: Callable[[], Awaitable[Any]],
        *,
        submit: Submit,
        is_active: Callable[[str], bool],
        note: Note,
    ) -> None:
        self._home = home
        self._shelf = Home(home.state / "schedules")
        self._journal = journal
        self._durable = durable
        self._submit = submit
        self._is_active = is_active
        self._note = note
        self._entries: dict[str, Entry] = {}
        self._resting: set[str] = set()  # Runs without a process that have not ended: they wait for a person.
        self._lock = asyncio.Lock()
        self._news = asyncio.Event()
        self.methods: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
            "schedule_create": self._create,
            "schedules": self._list,
            "schedule_show": self._show,
            "schedule_pause": self._pause,
            "schedule_resume": self._resume,
            "schedule_remove": self._remove,
            "schedule_run": self._run,
        }

    def fold(self, kind: int, payload: bytes) -> None:
        """One record of the journal, as the root replays it."""
        match kind:
            case 21:
                schedule = msgspec.msgpack.decode(payload, type=Schedule)
                self._entries[schedule.name] = Entry(schedule, Progress(schedule.created_at))
            case 22:
                name, progress = msgspec.msgpack.decode(payload, type=tuple[str, Progress])
                self._entries[name].progress = progress
            case 23:
                self._entries.pop(payload.decode(), None)

    @property
    def active(self) -> bool:
        """Whether a schedule still has a time to come, or a run to start: a platform with one stays up."""
        return any(
            entry.look_at < inf or (entry.progress.owed and not entry.progress.paused)
            for entry in self._entries.values()
        )

    def run_ended(self, run: str) -> None:
        self._resting.discard(run)
        for entry in self._entries.values():
            if run in entry.progress.running:
                entry.look_at = 0.0
                self._news.set()

    # Keeping time ---------------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Start what is due, for as long as the root lives."""
        while True:
            self._news.clear()
            for entry in list(self._entries.values()):
                if entry.look_at <= time.time():
                    async with self._lock:
                        await self._serve(entry)
                    await asyncio.sleep(0)  # The root has other things to do between a thousand of them.
            earliest = min((entry.look_at for entry in self._entries.values()), default=inf)
            wait_s = min(LOOK_S, max(0.0, earliest - time.time()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s if self._entries else None):
                    await self._news.wait()

    async def _serve(self, entry: Entry) -> None:
        schedule = entry.schedule
        if self._entries.get(schedule.name) is not entry:
            return  # Removed while others were served.
        entry.look_at = inf  # A run that ends meanwhile sets it to now, and that stands.
        try:
            over = await self._over(entry.progress)
            entry.progress = core.ended(entry.progress, over)
            self._keep(entry, core.decide(schedule, entry.progress, time.time()))
            for at in core.startable(schedule, entry.progress):
                await self._start(entry, at)
            wake_at = core.wake_at(schedule, entry.progress)
            if entry.progress.owed:
                wake_at = min(
                    wake_at, time.time() + LOOK_S
                )  # It waits for a run's end; no news of that is needed.
            entry.look_at = min(entry.look_at, wake_at)
        except (AIPError, OSError) as error:
            # Nothing is lost: what was not started is owed, and asked for again.
            self._note("schedule.trouble", schedule.name, {"error": str(error)[:1000]})
            entry.look_at = time.time() + LOOK_S

    async def _over(self, progress: Progress) -> set[str]:
        """The runs that have ended. One without a process may only rest: its last view tells."""
        over = set()
        for run in progress.running:
            if self._is_active(run):
                self._resting.discard(run)
            elif run not in self._resting:
                if await asyncio.to_thread(self._has_ended, run):
                    over.add(run)
                else:
                    self._resting.add(run)
        return over

    def _has_ended(self, run: str) -> bool:
        try:
            state = json.loads((folder(self._home, run) / VIEW_FILE).read_text())["state"]
        except FileNotFoundError:
            return True  # It left without a view: deleted by hand.
        return state in ENDED

    async def _start(self, entry: Entry, at: float) -> str:
        """Submit the run of one time. A time that never can be is given up; an error that may pass is raised."""
        schedule = entry.schedule
        try:
            template = await asyncio.to_thread(read_spec, self._shelf, schedule.template)
            spec = made(template, schedule, at, time.time())
            run = await self._submit(msgspec.to_builtins(spec, builtin_types=(bytes,)))
        except (UserError, Corrupt) as error:
            self._keep(entry, core.refused(entry.progress, at, error.message))
            self._note(
                "schedule.not_started", schedule.name, {"at": core.stamp(at), "error": error.message[:1000]}
            )
            return ""
        self._keep(entry, core.begun(entry.progress, at, run))
        self._note("schedule.started", schedule.name, {"at": core.stamp(at), "run": run})
        return run

    def _keep(self, entry: Entry, progress: Progress) -> None:
        if progress != entry.progress:
            self._journal.append(_PROGRESS, _encode((entry.schedule.name, progress)))
            entry.progress = progress

    # What people ask ------------------------------------------------------------------------------------------------

    def _entry(self, name: str) -> Entry:
        entry = self._entries.get(name)
        if entry is None:
            raise NotFound(f"there is no schedule {name[:80]!r}", hint="see `aip schedule list`")
        return entry

    async def _create(self, schedule: dict[str, Any], template: dict[str, Any]) -> dict[str, Any]:
        """Durable when this answers. The same request again is the same schedule."""
        made = core.checked(msgspec.convert(schedule, Schedule))
        async with self._lock:
            known = self._entries.get(made.name)
            if known is None:
                if len(self._entries) >= core.SCHEDULES_MAX:
                    raise UsageError(
                        f"there are {core.SCHEDULES_MAX} schedules already", hint="aip schedule rm NAME"
                    )
                await asyncio.to_thread(write_spec, self._shelf, msgspec.convert(template, RunSpec))
                self._journal.append(_SCHEDULE, _encode(made))
                self._entries[made.name] = Entry(made, Progress(made.created_at))
                await self._settled()
            elif known.schedule != made:
                raise UsageError(
                    f"name: there is a schedule {made.name!r} already",
                    hint=f"give another --name, or end it: aip schedule rm {made.name}",
                )
        return await self._show(made.name)

    async def _list(self) -> list[dict[str, Any]]:
        now = time.time()
        return [core.view(one.schedule, one.progress, now) for _, one in sorted(self._entries.items())]

    async def _show(self, name: str) -> dict[str, Any]:
        entry = self._entry(name)
        return core.view(entry.schedule, entry.progress, time.time(), UPCOMING_SHOWN)

    async def _pause(self, name: str) -> dict[str, Any]:
        async with self._lock:
            entry = self._entry(name)
            await self._change(entry, core.paused(entry.progress))
        return await self._show(name)

    async def _resume(self, name: str) -> dict[str, Any]:
        async with self._lock:
            entry = self._entry(name)
            await self._change(entry, core.resumed(entry.progress, time.time()))
        return await self._show(name)

    async def _remove(self, name: str) -> dict[str, Any]:
        """No run of it starts any more; those at work go on."""
        async with self._lock:
            entry = self._entry(name)
            self._journal.append(_REMOVED, name.encode())
            del self._entries[name]
            await self._settled()
            await asyncio.to_thread(shutil.rmtree, folder(self._shelf, entry.schedule.template), True)
        return core.view(entry.schedule, core.paused(entry.progress), time.time())

    async def _run(self, name: str, at: float) -> str:
        """One run beside the clock, whatever `overlap` says. `at` is its identity: the same request again is the same run."""
        async with self._lock:
            entry = self._entry(name)
            if entry.progress.last_run == core.run_of(entry.schedule, at):
                return entry.progress.last_run
            run = await self._start(entry, at)
            if not run:
                raise UsageError(
                    f"no run of {name!r} can be started: {entry.progress.trouble}",
                    hint=f"create it again: aip schedule rm {name}",
                )
        return run

    async def _change(self, entry: Entry, progress: Progress) -> None:
        self._keep(entry, progress)
        entry.look_at = 0.0
        await self._settled()

    async def _settled(self) -> None:
        await self._durable()
        self._news.set()


def made(template: RunSpec, schedule: Schedule, at: float, now: float) -> RunSpec:
    """The run of one planned time: the prepared one under its own id, with the time where the plan asks for it."""
    run = core.run_of(schedule, at)
    inputs = msgspec.msgpack.decode(template.inputs)
    if core.SCHEDULED_AT in inputs:
        inputs[core.SCHEDULED_AT] = core.stamp(at, schedule.timezone)
    return msgspec.structs.replace(
        template,
        run=run,
        inputs=_encode(inputs),
        pools=[renamed(use, template.run, run) for use in template.pools],
        submitted_by=f"schedule/{schedule.name}",
        submitted_at=now,
        idempotency_key=core.key_of(schedule, at),
    )
