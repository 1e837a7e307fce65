"""Frames between parent and child: what is well made comes through as it was, anything else is refused before it costs much."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.compute.sandbox import wire
from aip.compute.sandbox.errands import believed
from aip.compute.sandbox.limits import FRAME_BYTES_MAX, LOG_CHARS_MAX
from aip.errors import AgentFailed, BudgetExceeded, ErrorRecord, InvalidPayload, Killed

numbers = st.integers(0, 2**48)
records = st.none() | st.builds(ErrorRecord, st.text(max_size=20), st.text(max_size=20))
of_child = st.one_of(
    st.builds(wire.Ask, numbers, numbers, numbers, st.text(max_size=20), st.binary()),
    st.builds(wire.Drop, numbers),
    st.builds(wire.Next, numbers),
    st.builds(wire.Acted, numbers, st.none() | st.binary(), records),
    st.builds(wire.Progress, numbers, st.none() | st.floats(0, 1), st.text(max_size=20)),
    st.builds(wire.Log, numbers, st.integers(0, 50), st.text(max_size=20)),
    st.builds(wire.Part, numbers, st.binary()),
    st.builds(wire.Done, numbers, st.none() | st.binary(), records),
)


@given(of_child)
def test_a_frame_comes_through_as_it_was(frame):
    data = wire.packed(frame)
    assert wire.length_of(data[: wire.HEADER_BYTES]) == len(data) - wire.HEADER_BYTES
    assert wire.from_child(data[wire.HEADER_BYTES :]) == frame


@given(st.binary(max_size=200))
def test_bytes_are_a_frame_or_are_refused(data):
    try:
        wire.from_child(data)
    except wire.BrokenFrame:
        return


@given(of_child, st.data())
def test_a_cut_frame_is_refused(frame, data):
    body = wire.packed(frame)[wire.HEADER_BYTES :]
    with pytest.raises(wire.BrokenFrame):
        wire.from_child(body[: data.draw(st.integers(0, len(body) - 1))])


@pytest.mark.parametrize(
    "frame",
    [wire.Load("m:A", {}), wire.Cancel(1), wire.More(1), wire.Act(1), wire.Answer(1)],
)
def test_what_only_a_parent_says_is_refused_from_a_child(frame):
    with pytest.raises(wire.BrokenFrame):
        wire.from_child(wire.packed(frame)[wire.HEADER_BYTES :])


@pytest.mark.parametrize(
    "frame",
    [
        wire.Drop(-1),
        wire.Drop(2**60),
        wire.Log(1, 99, "x"),
        wire.Log(1, 20, "x" * (LOG_CHARS_MAX + 1)),
        wire.Ask(1, 1, 0, "v" * 300, b""),
    ],
)
def test_numbers_and_texts_have_bounds(frame):
    with pytest.raises(wire.BrokenFrame):
        wire.from_child(wire.packed(frame)[wire.HEADER_BYTES :])


@given(st.integers(0, 2**32 - 1))
def test_a_length_is_within_its_bounds_or_refused(length):
    header = length.to_bytes(4, "big")
    if 0 < length <= FRAME_BYTES_MAX:
        assert wire.length_of(header) == length
    else:
        with pytest.raises(wire.BrokenFrame):
            wire.length_of(header)


def test_a_second_of_talk_is_read_at_once_and_more_of_it_slowly():
    pace = wire.Pace(0.0, count_per_s=100, bytes_per_s=1e9)
    assert all(pace.took(1, 0.0) == 0 for _ in range(99))
    waits = [pace.took(1, 0.0) for _ in range(101)]
    assert waits[-1] == pytest.approx(1.0, rel=0.02)
    assert pace.took(1, 10.0) == 0


def test_many_bytes_wait_as_many_frames_do():
    pace = wire.Pace(0.0, count_per_s=1e9, bytes_per_s=1_000)
    assert pace.took(1_000, 0.0) == pytest.approx(0.0, abs=1e-6)
    assert pace.took(1_000, 0.0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("code", "given_codes", "expected"),
    [
        ("agent.failed", (), AgentFailed),
        ("payload.invalid", (), InvalidPayload),
        ("refused.killed", (), AgentFailed),
        ("refused.killed", ("refused.killed",), Killed),
        ("refused.budget", ("refused.killed",), AgentFailed),
        ("refused.budget", ("refused.budget",), BudgetExceeded),
        ("undelivered.fenced", (), AgentFailed),
        ("refused.never_heard_of", (), AgentFailed),
        ("", (), AgentFailed),
    ],
)
def test_a_child_hands_errors_of_the_platform_on_and_does_not_invent_them(code, given_codes, expected):
    error = believed(ErrorRecord(code, "m", details={}), given_codes)
    assert type(error) is expected


def nested(levels):
    value = "x"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("details", [{"x": "y" * 100_000}, {"x": nested(500)}])
def test_details_that_are_no_value_are_left_out(details):
    assert "x" not in believed(ErrorRecord("agent.failed", "m", details=details)).details


def test_a_text_of_a_child_is_one_line_and_steers_no_terminal():
    assert "\n" not in wire.line("all is well\n2026-01-01 ERROR forged")
    assert "\x1b" not in wire.line("\x1b]0;title\x07")
    assert wire.line("grüße, 世界") == "grüße, 世界"


def test_a_bare_word_for_a_type_is_the_platforms_own():
    error = believed(ErrorRecord("agent.failed", "m", details={"type": "restart_intensity"}))
    assert error.details["type"] == "sandboxed.restart_intensity"
