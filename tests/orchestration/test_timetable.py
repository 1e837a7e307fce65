"""Schedules: which times come, what becomes of them, and that each is one run whatever happens in between."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice, takewhile
from math import inf

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aip.errors import UsageError
from aip.orchestration import timetable as tt
from aip.orchestration.timetable import CatchUp, Overlap, Progress, Schedule

ZURICH = "Europe/Zurich"
MINUTE = 60.0
T0 = 1_800_000_000.0  # 2027-01-15 08:00 UTC
EVERY_MINUTE = Schedule("poll", "* * * * *", T0)


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def planned(cron: str, after: str, count: int, zone: str = ZURICH) -> list[str]:
    schedule = Schedule("x", cron, at(after), timezone=zone)
    return [tt.stamp(one, zone) for one in islice(tt.times(schedule, at(after)), count)]


def but(schedule: Schedule, **changes: object) -> Schedule:
    return msgspec.structs.replace(schedule, **changes)


# Times


def test_a_time_on_the_wall_follows_the_clock_of_its_zone_through_the_year() -> None:
    assert planned("0 9 * * 1-5", "2026-03-27T12:00+01:00", 3) == [
        "2026-03-30T09:00:00+02:00",  # Monday, after the clocks went forward.
        "2026-03-31T09:00:00+02:00",
        "2026-04-01T09:00:00+02:00",
    ]


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        # 2026-03-29: 02:00 becomes 03:00. What falls in the gap comes once, at its end.
        ("30 2 * * *", "2026-03-28T12:00+01:00", ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]),
        (
            "*/20 2 * * *",
            "2026-03-29T00:00+01:00",
            ["2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"],
        ),
        ("0 2,3 * * *", "2026-03-29T00:00+01:00", ["2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"]),
        # 2026-10-25: 03:00 becomes 02:00. What comes twice counts once.
        ("30 2 * * *", "2026-10-24T12:00+02:00", ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]),
        ("30 2 * * *", "2026-10-25T02:40+02:00", ["2026-10-26T02:30:00+01:00", "2026-10-27T02:30:00+01:00"]),
        ("30 2 * * *", "2026-10-25T02:10+01:00", ["2026-10-26T02:30:00+01:00", "2026-10-27T02:30:00+01:00"]),
        # An open hour is an interval: it goes on through both.
        ("30 * * * *", "2026-03-29T01:00+01:00", ["2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00"]),
        ("30 * * * *", "2026-10-25T02:00+02:00", ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"]),
    ],
)
def test_a_change_of_the_clocks_neither_loses_a_time_nor_doubles_it(
    cron: str, after: str, expected: list[str]
) -> None:
    assert planned(cron, after, 2) == expected


def test_a_day_that_a_country_left_out_has_its_runs_when_it_is_over() -> None:
    assert planned("0 12 * * *", "2011-12-29T13:00-10:00", 2, "Pacific/Apia") == [
        "2011-12-31T00:00:00+14:00",  # There was no 30th of December 2011 in Samoa.
        "2011-12-31T12:00:00+14:00",
    ]


@settings(deadline=None, max_examples=60)
@given(
    cron=st.sampled_from(["* * * * *", "*/7 * * * *", "30 2 * * *", "*/20 1-3 * * *", "0 */2 * * *"]),
    zone=st.sampled_from(["UTC", ZURICH, "America/New_York", "Australia/Lord_Howe", "America/Santiago"]),
    start=st.integers(1_767_225_600, 1_798_761_600),
    cut=st.integers(0, 30),
)
def test_times_only_go_forward_and_are_the_same_wherever_one_begins(
    cron: str, zone: str, start: int, cut: int
) -> None:
    schedule = Schedule("x", cron, start, timezone=zone)
    found = list(islice(tt.times(schedule, start), 60))
    assert all(earlier < later for earlier, later in zip([start, *found], found, strict=False))
    assert list(islice(tt.times(schedule, found[cut]), 20)) == found[cut + 1 : cut + 21]


def test_no_time_lies_before_the_start_or_after_the_end() -> None:
    bounded = but(EVERY_MINUTE, starts_at=T0 + 10 * MINUTE, ends_at=T0 + 12 * MINUTE)
    assert list(tt.times(bounded, T0)) == [T0 + 10 * MINUTE, T0 + 11 * MINUTE, T0 + 12 * MINUTE]
    assert tt.wake_at(bounded, Progress(T0 + 12 * MINUTE)) == inf


@pytest.mark.parametrize(
    ("changes", "field_named"),
    [
        ({"name": "A B"}, "name"),
        ({"cron": "* * * *"}, "cron"),
        ({"cron": "*/10 * * * * *"}, "cron"),  # Seconds: once a minute is the most.
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": "* " * 300}, "cron"),
        ({"ends_at": T0 + 1}, "cron"),
        ({"timezone": "Mars/Base"}, "timezone"),
        ({"timezone": "../etc/passwd"}, "timezone"),
        ({"jitter_s": 4_000.0}, "jitter"),
        ({"starts_at": T0 * 3}, "starts"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_with_its_field(
    changes: dict[str, object], field_named: str
) -> None:
    with pytest.raises(UsageError) as caught:
        tt.checked(but(EVERY_MINUTE, **changes))
    assert caught.value.message.startswith(f"{field_named}:")
    assert caught.value.hint


def test_a_date_without_a_zone_is_one_of_the_schedules_own() -> None:
    assert tt.moment("2027-06-01T09:00", ZURICH, "starts") == at("2027-06-01T09:00+02:00")
    assert tt.moment("2027-06-01T09:00Z", ZURICH, "starts") == at("2027-06-01T09:00+00:00")
    with pytest.raises(UsageError, match="ends:"):
        tt.moment("tomorrow", ZURICH, "ends")


# What becomes of them


@pytest.mark.parametrize(
    ("catch_up", "owed", "missed"),
    [
        (CatchUp.NONE, [], 5),
        (CatchUp.ONE, [5], 4),
        (CatchUp.ALL, [1, 2, 3, 4, 5], 0),
    ],
)
def test_times_of_an_absence_follow_catch_up(catch_up: CatchUp, owed: list[int], missed: int) -> None:
    schedule = but(EVERY_MINUTE, cron="0 * * * *", catch_up=catch_up)
    progress = tt.decide(schedule, Progress(T0), T0 + 5.5 * 3600)
    assert [(one - T0) / 3600 for one in progress.owed] == owed
    assert progress.missed == missed


def test_one_run_catches_up_where_the_next_time_is_due_as_well() -> None:
    progress = tt.decide(EVERY_MINUTE, Progress(T0), T0 + 300.0)
    assert progress.owed == (T0 + 240.0,)  # On time by a second less than LATE_S is still on time.
    assert (progress.missed, progress.skipped) == (3, 1)


def test_a_year_away_is_ten_runs_at_most_and_quickly_decided() -> None:
    schedule = but(EVERY_MINUTE, catch_up=CatchUp.ALL, overlap=Overlap.QUEUE)
    progress = tt.decide(schedule, Progress(T0), T0 + 366 * 86_400 + 30)
    assert len(progress.owed) <= tt.CATCH_UP_MAX + 1
    assert progress.upto == T0 + 366 * 86_400
    assert progress.missed >= 30


@pytest.mark.parametrize(
    ("overlap", "owed", "skipped", "starts"),
    [(Overlap.SKIP, 0, 3, 0), (Overlap.QUEUE, 3, 0, 0), (Overlap.ALLOW, 3, 0, 3)],
)
def test_a_time_that_comes_while_a_run_is_at_work_follows_overlap(
    overlap: Overlap, owed: int, skipped: int, starts: int
) -> None:
    schedule = but(EVERY_MINUTE, overlap=overlap)
    progress = Progress(T0, running=("r-1",))
    for minute in (1, 2, 3):
        progress = tt.decide(schedule, progress, T0 + minute * MINUTE)
    assert (len(progress.owed), progress.skipped) == (owed, skipped)
    assert len(tt.startable(schedule, progress)) == starts
    freed = tt.ended(progress, {"r-1"})
    assert len(tt.startable(schedule, freed)) == (1 if overlap is Overlap.QUEUE else starts)


@pytest.mark.parametrize(
    ("overlap", "most"), [(Overlap.QUEUE, tt.WAITING_MAX + 1), (Overlap.ALLOW, tt.RUNNING_MAX)]
)
def test_a_plan_that_never_ends_does_not_pile_up(overlap: Overlap, most: int) -> None:
    schedule, progress = but(EVERY_MINUTE, overlap=overlap), Progress(T0)
    for minute in range(1, 100):
        progress = tt.decide(schedule, progress, T0 + minute * MINUTE)
        for one in tt.startable(schedule, progress):
            progress = tt.begun(progress, one, tt.run_of(schedule, one))
    assert len(progress.running) + len(progress.owed) == most
    assert progress.started + len(progress.owed) + progress.skipped == 99


def test_the_times_of_a_pause_are_not_made_up_for() -> None:
    schedule = but(EVERY_MINUTE, catch_up=CatchUp.ALL)
    progress = tt.paused(tt.decide(schedule, Progress(T0), T0 + MINUTE))
    assert (progress.owed, progress.skipped) == ((), 1)
    assert tt.decide(schedule, progress, T0 + 9 * MINUTE) is progress
    assert tt.wake_at(schedule, progress) == inf
    progress = tt.resumed(progress, T0 + 9.5 * MINUTE)
    assert tt.decide(schedule, progress, T0 + 9.6 * MINUTE).owed == ()
    assert tt.decide(schedule, progress, T0 + 10 * MINUTE).owed == (T0 + 10 * MINUTE,)


def test_jitter_delays_the_start_and_not_the_time() -> None:
    schedule = but(EVERY_MINUTE, cron="0 * * * *", jitter_s=600.0)
    hour = T0 + 3600
    due = tt.due_at(schedule, hour)
    assert hour < due < hour + 600
    assert tt.wake_at(schedule, Progress(T0)) == due == tt.due_at(schedule, hour)
    assert tt.decide(schedule, Progress(T0), due - 0.01).owed == ()
    assert tt.decide(schedule, Progress(T0), due).owed == (hour,)
    assert due - hour != tt.due_at(but(schedule, name="other"), hour) - hour


def test_a_clock_that_is_set_back_repeats_nothing() -> None:
    progress = tt.decide(EVERY_MINUTE, Progress(T0), T0 + 3 * MINUTE)
    assert tt.decide(EVERY_MINUTE, progress, T0 + MINUTE) is progress


# Each time is one run


@dataclass
class Root:
    """The shell's order of steps over a journal; a life is killed after so many of them."""

    schedule: Schedule
    journal: list[Progress]
    runs: dict[str, float] = field(default_factory=dict)  # Key -> planned time.

    def live(self, now: float, steps: int) -> None:
        progress = tt.ended(self.journal[-1], self.journal[-1].running)
        decided = tt.decide(self.schedule, progress, now)
        if not steps:
            return
        self.journal.append(decided)
        while one := tt.startable(self.schedule, self.journal[-1])[:1]:
            for step in ("submit", "begun"):
                steps -= 1
                if not steps:
                    return
                if step == "submit":
                    self.runs.setdefault(tt.key_of(self.schedule, one[0]), one[0])
                else:
                    begun = tt.begun(self.journal[-1], one[0], tt.run_of(self.schedule, one[0]))
                    self.journal.append(tt.ended(begun, begun.running))


@settings(deadline=None, max_examples=60)
@given(
    overlap=st.sampled_from(Overlap),
    jitter_s=st.sampled_from([0.0, 20.0, 300.0]),
    wakes=st.lists(st.tuples(st.floats(0.1, 250.0), st.integers(0, 9)), min_size=1, max_size=25),
)
def test_with_catch_up_all_no_time_is_lost_or_doubled_whatever_the_wake_ups_and_deaths(
    overlap: Overlap, jitter_s: float, wakes: list[tuple[float, int]]
) -> None:
    """Absences of ten times at most; each life dies after some step. Runs end at once, so that no two overlap."""
    schedule = Schedule("poll", "* * * * *", T0, overlap=overlap, catch_up=CatchUp.ALL, jitter_s=jitter_s)
    root, now = Root(schedule, [Progress(T0)]), T0
    for gap_s, steps in wakes:
        now += gap_s
        root.live(now, steps)
        root.live(now, 1_000)  # The next life comes back at once.
        assert root.journal[-1].owed == ()
    last = root.journal[-1]
    assert last.missed == 0
    assert last.started == len(root.runs) == len(set(root.runs.values()))
    came = list(takewhile(lambda one: one <= last.upto, tt.times(schedule, T0)))
    assert last.started + last.skipped == len(came)
    if overlap is not Overlap.SKIP:
        assert last.skipped == 0
        assert sorted(root.runs.values()) == came


@settings(deadline=None, max_examples=60)
@given(
    rules=st.tuples(st.sampled_from(Overlap), st.sampled_from(CatchUp)),
    wakes=st.lists(st.floats(0.1, 5_000.0), max_size=20),
    seed=st.integers(0, 1_000),
)
def test_every_time_is_started_missed_or_skipped_and_the_counts_say_so(
    rules: tuple[Overlap, CatchUp], wakes: list[float], seed: int
) -> None:
    schedule = Schedule("poll", "* * * * *", T0, overlap=rules[0], catch_up=rules[1])
    progress, now, rng, came = Progress(T0), T0, random.Random(seed), 0
    for gap_s in wakes:
        now += gap_s
        progress = tt.ended(progress, {one for one in progress.running if rng.random() < 0.5})
        upto = progress.upto
        progress = tt.decide(schedule, progress, now)
        came += len(tt.passed(schedule, upto, progress.upto))
        for one in tt.startable(schedule, progress):
            progress = tt.begun(progress, one, tt.run_of(schedule, one))
        assert list(progress.owed) == sorted(set(progress.owed))
        assert len(progress.running) <= (1 if rules[0] is not Overlap.ALLOW else tt.RUNNING_MAX)
    assert came == progress.started + len(progress.owed) + progress.missed + progress.skipped


def test_ids_and_keys_follow_from_the_name_and_the_time_alone() -> None:
    first, second = T0 + 60, T0 + 120
    assert tt.key_of(EVERY_MINUTE, first) == "schedule/poll/2027-01-15T08:01:00Z"
    assert tt.run_of(EVERY_MINUTE, first) == tt.run_of(but(EVERY_MINUTE, cron="1 * * * *"), first)
    assert tt.run_of(EVERY_MINUTE, first) < tt.run_of(EVERY_MINUTE, second)
    assert tt.run_of(EVERY_MINUTE, first) != tt.run_of(but(EVERY_MINUTE, name="other"), first)
