"""The ladder is one table: it only ever gets stricter, and the documents show it as it is."""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest
from kill_kit import Board, envelope, order

from aip.governance.kill import LADDER, Conduct, Fate, Level
from aip.governance.kill.ladder import table

SEMANTICS = Path(__file__).parents[2] / "docs" / "semantics.md"


def test_every_level_has_a_rung_and_they_are_in_order():
    assert list(LADDER) == sorted(LADDER) == list(Level)
    assert [str(level) for level in Level] == [
        "throttle",
        "pause",
        "quarantine",
        "drain",
        "terminate",
        "revoke",
        "lockdown",
    ]


@pytest.mark.parametrize("column", [field.name for field in fields(Conduct)])
def test_no_column_ever_gets_milder_from_rung_to_rung(column):
    for lower, higher in pairwise(LADDER.values()):
        assert getattr(higher, column) >= getattr(lower, column)


def test_each_rung_is_stricter_somewhere_than_the_one_below():
    for lower, higher in pairwise(LADDER.values()):
        assert lower != higher


def test_the_semantics_page_shows_the_table_as_the_guard_reads_it():
    text = SEMANTICS.read_text(encoding="utf-8")
    for line in table():
        assert line in text


@pytest.mark.parametrize("level", Level)
def test_the_guard_does_with_each_question_what_the_table_says(level):
    board = Board(order("greeter", level, rate=1.0 if level is Level.THROTTLE else 0.0))
    check, conduct, message = board.check(), LADDER[level], envelope()
    assert (check.enters(message, 5.0) is not None) is (conduct.messages >= Fate.REFUSED)
    assert (check.peek(message, 5.0) is not None) is (conduct.turns >= Fate.STOPPED)
    assert (check.effect(message, 5.0) is not None) is (conduct.effects >= Fate.REFUSED)
    assert check.holds() is (conduct.waiting in (Fate.METERED, Fate.WAITS))
    assert check.conduct("greeter@0123456789ab/ada") is conduct
    other = envelope(recipient="writer@0123456789ab/1")
    assert [ask(other, 5.0) for ask in (check.enters, check.peek, check.effect)] == [None, None, None]
    assert not check.waits(other, 5.0)


@pytest.mark.parametrize("level", Level)
def test_a_refusal_names_its_target_its_level_and_who_ordered_it(level):
    if LADDER[level].effects is not Fate.REFUSED:
        return
    refusal = Board(order("greeter", level)).check().effect(envelope(), 0.0)
    assert refusal.details == {"target": "greeter", "level": str(level)}
    assert "user:ada" in refusal.message
