"""A sender's messages are counted second by second, each kind for itself, and told in steps."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.governance.policy import rate, steps
from aip.governance.policy.rate import RateMeter

SENT = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["call", "tell"]), st.floats(0, 5)), max_size=60
)


@given(SENT)
def test_what_is_told_is_the_step_above_what_was_sent(sent: list[tuple[str, str, float]]) -> None:
    meter, counted = RateMeter(), Counter[tuple[str, str, int]]()
    for sender, kind, now in sorted(sent, key=lambda one: one[2]):
        counted[sender, kind, int(now)] += 1
        assert meter.count(sender, kind, now) == steps.up(counted[sender, kind, int(now)])


def test_a_second_begins_at_nothing_also_where_the_clock_goes_back() -> None:
    meter = RateMeter()
    assert [meter.count("a", "call", now) for now in (10.0, 10.9, 11.0, 10.0)] == [1, 2, 1, 1]


def test_senders_beyond_the_limit_are_counted_together_and_the_others_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate, "SENDERS_MAX", 2)
    meter = RateMeter()
    assert [meter.count(sender, "call", 0.0) for sender in "abcda"] == [1, 1, 1, 2, 2]
