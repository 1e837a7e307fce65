"""Retention drops whole old segments that a checkpoint covers, from the beginning on, and keeps six months unless told."""

from __future__ import annotations

import pytest

from aip.errors import UsageError
from aip.governance.retention import DAY_S, KEEP_DAYS_MIN, Kept, Retention, dropped_before

NOW = 1_000 * DAY_S
SEGMENTS = [
    Kept(n * 10, n * 10 + 10, (n + 1) * 100 * DAY_S) for n in range(5)
]  # The last ended 500 days ago.


@pytest.mark.parametrize(
    ("keep_days", "signed", "end"),
    [
        (1_000, 50, 0),
        (901, 50, 0),
        (900, 50, 10),
        (700, 50, 30),
        (183, 50, 50),
        (183, 49, 40),
        (183, 0, 0),
    ],
)
def test_what_is_old_enough_and_signed_for_goes(keep_days, signed, end):
    assert dropped_before(SEGMENTS, Retention(keep_days), NOW, signed) == end


def test_nothing_goes_from_behind_something_that_stays():
    young_first = [Kept(0, 10, NOW), *SEGMENTS[1:]]
    assert dropped_before(young_first, Retention(183), NOW, 50) == 0


def test_less_than_six_months_has_to_be_said():
    with pytest.raises(UsageError, match="keep_days"):
        Retention(KEEP_DAYS_MIN - 1)
    with pytest.raises(UsageError):
        Retention(-1, short=True)
    assert dropped_before(SEGMENTS, Retention(0, short=True), NOW, 50) == 50
