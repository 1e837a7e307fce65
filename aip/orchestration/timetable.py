"""Schedules: which runs of a plan the clock owes, and what became of the times that nobody was there for.

A schedule names its times with a cron expression of five fields (minute, hour, day of month, month, day of week; once a minute
at most) in a time zone. A *planned time* is the identity of a run: whatever wakes, restarts or repeats, one time is one run.
Nothing here reads a clock or starts anything. `decide` moves a frontier (`upto`) over the times that came and says of each
what follows; the shell journals that first, then starts what is `startable` and journals that it has `begun`.

Every time that comes, on time or late, has exactly one end:

    when it is seen                     becomes
    on time                             owed, or skipped where `overlap` says so
    more than LATE_S late               owed or missed, as `catch_up` says: none of them, the newest one, all (the newest ten)
    while the schedule is paused        nothing: `resume` moves the frontier to now

    overlap   a time that comes while an earlier run has not ended       what is owed starts
    skip      is skipped                                                 one at a time
    queue     waits; at most WAITING_MAX do, more are skipped            one at a time
    allow     starts, up to RUNNING_MAX at once, more are skipped        at once

What is caught up was missed already once and is not skipped again: it waits its turn under `skip` too.

Daylight saving. An expression that names hours (`30 2 * * *`, `0 */6 * * *`) means times on the wall: one that the clock jumps
over comes once, at the end of the gap; one that comes twice counts once, the first time. An expression that leaves the hour open
(`*/10 * * * *`) means an interval: it goes on evenly, through the hour that comes twice as well. (Vixie cron, too, treats fixed
times and wildcards apart.)

`jitter` delays the start of a run by an amount that follows from the schedule's name and the time: the same after a restart.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from math import inf
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim, CronSimError

from ..errors import UsageError
from ..ids import new_id

SCHEDULES_MAX = 1_000  # The root looks after all of them, beside everything else.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
CRON_CHARS_MAX = (
    200  # Five fields with lists; longer expressions are made by programs, and never end in sense.
)
LATE_S = 60.0  # Times are a minute apart or more: one that is seen later than this was slept through.
CATCH_UP_MAX = 10  # After a week away nobody wants ten thousand runs at once.
WAITING_MAX = (
    10  # A run that takes longer than its schedule's interval falls behind for ever: the queue ends here.
)
RUNNING_MAX = 20  # Each run is a process; a plan that never ends must not fill the machine.
JITTER_MAX_S = 3_600.0
AHEAD_MAX_S = 10 * 366 * 86_400.0  # A start or an end further away is a typing mistake.
LOOK_BACK_MAX = 100  # Times of an absence that are counted one by one; of a longer one the newest are.
WINDOW_S = 3_600.0
SCHEDULED_AT = "scheduled_at"  # The input of a plan that is given the planned time.


class Overlap(StrEnum):
    SKIP = "skip"
    QUEUE = "queue"
    ALLOW = "allow"


class CatchUp(StrEnum):
    NONE = "none"
    ONE = "one"
    ALL = "all"


class Schedule(msgspec.Struct, frozen=True):
    """What was declared; it never changes. `template` names the prepared run that every run of it is made from."""

    name: str
    cron: str
    created_at: float
    template: str = ""
    plan: str = ""
    by: str = ""
    timezone: str = "UTC"
    overlap: Overlap = Overlap.SKIP
    catch_up: CatchUp = CatchUp.ONE
    starts_at: float | None = None
    ends_at: float | None = None
    jitter_s: float = 0.0


class Progress(msgspec.Struct, frozen=True):
    """How far it came. Every planned time up to `upto` is decided; `owed` ones are still to be started, oldest first."""

    upto: float
    paused: bool = False
    owed: tuple[float, ...] = ()
    running: tuple[str, ...] = ()
    last_at: float | None = None
    last_run: str = ""
    started: int = 0
    missed: int = 0
    skipped: int = 0
    trouble: str = ""  # Why the last time could not be started.


# Declaring ----------------------------------------------------------------------------------------------------------


def checked(schedule: Schedule) -> Schedule:
    """The schedule itself. Raises `UsageError` that names the field and the fix."""
    if not NAME.match(schedule.name):
        raise UsageError(
            f"name: {schedule.name[:80]!r} is no name",
            hint="lower case letters, digits, . _ and -; at most 63",
        )
    zone(schedule.timezone)
    if len(schedule.cron) > CRON_CHARS_MAX or len(schedule.cron.split()) != 5:
        raise UsageError(
            f"cron: {schedule.cron[:80]!r} has not five fields",
            hint='minute hour day month weekday, such as "0 9 * * 1-5"',
        )
    try:
        CronSim(schedule.cron, datetime.fromtimestamp(schedule.created_at, UTC))
    except CronSimError as error:
        field = str(error).removeprefix("Bad ")
        raise UsageError(f"cron: the {field} of {schedule.cron!r} cannot be read", hint=_FORMS) from None
    if not 0 <= schedule.jitter_s <= JITTER_MAX_S:
        raise UsageError(f"jitter: {schedule.jitter_s} s is more than {JITTER_MAX_S:.0f} s", hint="give less")
    for field, at in (("starts", schedule.starts_at), ("ends", schedule.ends_at)):
        if at is not None and abs(at - schedule.created_at) > AHEAD_MAX_S:
            raise UsageError(f"{field}: more than ten years away", hint="leave it out if it has no end")
    if next(times(schedule, schedule.created_at), None) is None:
        raise UsageError(f"cron: {schedule.cron!r} never comes", hint="look at the day, --starts and --ends")
    return schedule


_FORMS = (
    "a field is *, a number, a range 1-5, a list 1,3,5 or a step */10; days and months have English names too"
)


@lru_cache(64)
def zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise UsageError(
            f"timezone: {name[:80]!r} is not known", hint="names are like Europe/Zurich or UTC"
        ) from None


def moment(text: str, timezone: str, field: str) -> float:
    """A date, or a date and time; in the schedule's own zone where it names none."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{field}: {text[:80]!r} is no date", hint="such as 2027-01-31 or 2027-01-31T09:00"
        ) from None
    return (read if read.tzinfo else read.replace(tzinfo=zone(timezone))).timestamp()


# Times --------------------------------------------------------------------------------------------------------------


def times(schedule: Schedule, after: float) -> Iterator[int]:
    """The planned times later than `after`, in order, each once."""
    place = zone(schedule.timezone)
    begin = max(after, (schedule.starts_at or 0.0) - 1.0)
    local = datetime.fromtimestamp(begin, place)
    on_the_wall = schedule.cron.split()[1] != "*"
    last = after
    for found in CronSim(schedule.cron, local.replace(tzinfo=None, fold=0) if on_the_wall else local):
        at = _instant(found, place) if on_the_wall else int(found.timestamp())
        if schedule.ends_at is not None and at > schedule.ends_at:
            return
        if at > last and at >= (schedule.starts_at or 0.0):
            last = at
            yield at


def _instant(wall: datetime, place: ZoneInfo) -> int:
    """When a clock on the wall first shows this; the end of the gap where it never does."""
    while True:
        at = wall.replace(tzinfo=place, fold=0).timestamp()
        if datetime.fromtimestamp(at, place).replace(tzinfo=None, fold=0) == wall:
            return int(at)
        wall += timedelta(minutes=1)


def passed(schedule: Schedule, after: float, now: float) -> list[int]:
    """The planned times in (after, now]: all of them, or about the newest LOOK_BACK_MAX of a long absence."""
    found = list(islice(_until(schedule, after, now), LOOK_BACK_MAX + 1))
    window_s = WINDOW_S
    while len(found) > LOOK_BACK_MAX:
        # Away for long: looked at from its end, in a window that grows until it holds enough.
        newest = list(_until(schedule, max(after, now - window_s), now))
        if len(newest) >= CATCH_UP_MAX:
            return newest[-LOOK_BACK_MAX:]
        window_s *= 2
    return found


def _until(schedule: Schedule, after: float, now: float) -> Iterator[int]:
    for at in times(schedule, after):
        if at > now:
            return
        yield at


def due_at(schedule: Schedule, at: float) -> float:
    """When the run of a planned time is to start."""
    digest = hashlib.sha256(f"{schedule.name}\0{stamp(at)}".encode()).digest()
    return at + schedule.jitter_s * int.from_bytes(digest[:4], "big") / 2**32


def wake_at(schedule: Schedule, progress: Progress) -> float:
    """When to look at it again although nothing happened; never (inf) where it is paused or at its end."""
    if progress.paused:
        return inf
    following = next(times(schedule, progress.upto), None)
    return inf if following is None else due_at(schedule, following)


# Deciding -----------------------------------------------------------------------------------------------------------


def decide(schedule: Schedule, progress: Progress, now: float) -> Progress:
    """What became of the times that have come since: owed, skipped or missed. Unchanged where none has."""
    if progress.paused:
        return progress
    late: list[int] = []
    punctual: list[int] = []
    ready_at = 0.0
    for at in passed(schedule, progress.upto, now):
        # In order: a time never overtakes an earlier one that jitter holds back, and is not late for having waited for it.
        ready_at = max(ready_at, due_at(schedule, at))
        if ready_at > now:
            break
        (late if now - ready_at > LATE_S else punctual).append(at)
    if not late and not punctual:
        return progress
    room = WAITING_MAX + CATCH_UP_MAX - len(progress.owed)
    caught_up = _caught_up(schedule.catch_up, late, bool(punctual))[-room:] if room > 0 else []
    progress = msgspec.structs.replace(
        progress,
        upto=[*late, *punctual][-1],
        owed=(*progress.owed, *caught_up),
        missed=progress.missed + len(late) - len(caught_up),
    )
    for at in punctual:
        if _fits(schedule.overlap, progress):
            progress = msgspec.structs.replace(progress, owed=(*progress.owed, at))
        else:
            progress = msgspec.structs.replace(progress, skipped=progress.skipped + 1)
    return progress


def _caught_up(rule: CatchUp, late: list[int], followed: bool) -> list[int]:
    """The late times that are still run. The newest one is enough under `one`, and none where a punctual one follows."""
    match rule:
        case CatchUp.NONE:
            return []
        case CatchUp.ONE:
            return [] if followed else late[-1:]
        case CatchUp.ALL:
            return late[-CATCH_UP_MAX:]


def _fits(overlap: Overlap, progress: Progress) -> bool:
    match overlap:
        case Overlap.SKIP:
            return not progress.running and not progress.owed
        case Overlap.QUEUE:
            return len(progress.owed) < WAITING_MAX
        case Overlap.ALLOW:
            return len(progress.running) + len(progress.owed) < RUNNING_MAX


def startable(schedule: Schedule, progress: Progress) -> tuple[float, ...]:
    """What is owed and may start now."""
    at_once = RUNNING_MAX if schedule.overlap is Overlap.ALLOW else 1
    return () if progress.paused else progress.owed[: max(0, at_once - len(progress.running))]


def begun(progress: Progress, at: float, run: str) -> Progress:
    """The run of this time is in the root's journal."""
    running = progress.running if run in progress.running else (*progress.running, run)
    return msgspec.structs.replace(
        progress,
        owed=_without(progress.owed, at),
        running=running,
        last_at=at,
        last_run=run,
        started=progress.started + 1,
        trouble="",
    )


def refused(progress: Progress, at: float, why: str) -> Progress:
    """The run of this time cannot be started, now or later."""
    return msgspec.structs.replace(
        progress, owed=_without(progress.owed, at), missed=progress.missed + 1, trouble=why[:1_000]
    )


def ended(progress: Progress, runs: Collection[str]) -> Progress:
    """These runs are over."""
    left = tuple(run for run in progress.running if run not in runs)
    return progress if left == progress.running else msgspec.structs.replace(progress, running=left)


def paused(progress: Progress) -> Progress:
    """Nothing starts any more; what waits for its turn is given up."""
    skipped = progress.skipped + len(progress.owed)
    return msgspec.structs.replace(progress, paused=True, owed=(), skipped=skipped)


def resumed(progress: Progress, now: float) -> Progress:
    """It goes on with the next time: those of the pause were not wanted."""
    if not progress.paused:
        return progress
    return msgspec.structs.replace(progress, paused=False, upto=max(progress.upto, now))


def _without(owed: tuple[float, ...], at: float) -> tuple[float, ...]:
    return tuple(one for one in owed if one != at)


# Names --------------------------------------------------------------------------------------------------------------


def stamp(at: float, timezone: str = "UTC") -> str:
    """A time as text (RFC 3339): `2026-11-23T09:00:00+01:00`, with `Z` for UTC."""
    text = datetime.fromtimestamp(at, zone(timezone)).isoformat(
        timespec="milliseconds" if at % 1 else "seconds"
    )
    return text.removesuffix("+00:00") + "Z" if timezone == "UTC" else text


def key_of(schedule: Schedule, at: float) -> str:
    """The idempotency key of the run of a time."""
    return f"schedule/{schedule.name}/{stamp(at)}"


def run_of(schedule: Schedule, at: float) -> str:
    """Its id: sorted by the planned time, and the same however often it is asked."""
    return new_id("r", at, random.Random(key_of(schedule, at)))


# Showing ------------------------------------------------------------------------------------------------------------


def view(schedule: Schedule, progress: Progress, now: float, upcoming: int = 1) -> dict[str, Any]:
    """Plain JSON for people and programs."""
    following = [] if progress.paused else list(islice(times(schedule, max(now, progress.upto)), upcoming))
    state = "paused" if progress.paused else "active" if following or progress.owed else "ended"
    declared = msgspec.to_builtins(schedule)
    return {
        "name": schedule.name,
        "plan": schedule.plan,
        "state": state,
        **{key: declared[key] for key in ("cron", "timezone", "overlap", "catch_up", "jitter_s")},
        "created_at_s": schedule.created_at,
        "created_by": schedule.by,
        "starts_at_s": schedule.starts_at,
        "ends_at_s": schedule.ends_at,
        "next": [{"at_s": at, "at": stamp(at, schedule.timezone)} for at in following],
        "waiting": [stamp(at, schedule.timezone) for at in progress.owed],
        "running": list(progress.running),
        "last_run": progress.last_run,
        "last_at_s": progress.last_at,
        **{key: getattr(progress, key) for key in ("started", "missed", "skipped", "trouble")},
    }
