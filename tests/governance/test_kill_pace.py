"""A throttle keeps its rate, however many processes and messages there are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from kill_kit import Board, envelope, order

from aip.governance.kill import Level
from aip.governance.kill.pace import EARLY_S, Pace


def started(pace: Pace, throttle, until_s: float, step_s: float) -> int:
    """How many turns begin if more wait than may, looked at every `step_s`."""
    now, count = 1_000.0, 0
    while now < 1_000.0 + until_s:
        while pace.due(throttle, now) <= now:
            pace.take(throttle, now)
            count += 1
        now += step_s
    return count


@given(st.sampled_from([0.1, 0.5, 1.0, 3.0, 10.0, 250.0]), st.sampled_from([0.01, 0.1]))
def test_as_many_begin_as_the_rate_says_and_no_more_than_its_head_start(rate, step_s):
    throttle = order("greeter", Level.THROTTLE, rate=rate, epoch=7)
    count = started(Pace([0] * 16), throttle, 20.0, step_s)
    assert rate * (20.0 - step_s) - 1 <= count <= rate * (20.0 + EARLY_S) + 1


def test_the_processes_of_a_node_share_one_rate():
    words = [0] * 16
    throttle = order("greeter", Level.THROTTLE, rate=1.0, epoch=1)
    one, other = Pace(words), Pace(words)
    one.take(throttle, 1_000.0)
    assert other.due(throttle, 1_000.5) > 1_000.5
    assert other.due(throttle, 1_000.8) <= 1_000.8


def test_a_clock_that_is_set_back_does_not_hold_mail_for_ever():
    throttle = order("greeter", Level.THROTTLE, rate=1.0, epoch=1)
    pace = Pace([0] * 16)
    pace.take(throttle, 9_000.0)
    assert pace.due(throttle, 1_000.0) <= 1_000.0


def test_a_message_counts_against_every_throttle_that_covers_it():
    slow = order("platform", Level.THROTTLE, rate=0.5)
    check = Board(slow, order("greeter", Level.THROTTLE, rate=100.0)).check()
    assert not check.waits(envelope(), 1_000.0)
    check.take(envelope(), 1_000.0)
    assert check.waits(envelope(), 1_001.0)
    assert check.waits(envelope(recipient="writer@0123456789ab/1"), 1_001.0)
    assert not check.waits(envelope(), 1_002.0)
