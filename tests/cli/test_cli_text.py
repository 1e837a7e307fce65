"""Text of strangers on our terminal."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.cli import measure, text

# Whatever characters, with those that act on terminals far more often than chance has them.
HOSTILE = st.text(
    st.one_of(
        st.sampled_from("\x1b[]()0;?mPX^_\\\x07\x9b\x9d\x9c\x90\r\n\t\u202e\u2066\ud800"), st.characters()
    )
)
ACTING = {"Cc", "Cs"}


def acts(char: str) -> bool:
    return (
        unicodedata.category(char) in ACTING
        or char in "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )


@given(HOSTILE)
def test_no_character_of_a_line_acts_on_a_terminal(stranger: str) -> None:
    assert not [char for char in text.line(stranger) if acts(char)]


@given(HOSTILE)
def test_a_block_keeps_its_lines_and_nothing_else_that_acts(stranger: str) -> None:
    assert not [char for char in text.block(stranger) if acts(char) and char != "\n"]


@given(HOSTILE, st.integers(1, 50))
def test_text_is_bounded(stranger: str, chars_max: int) -> None:
    assert len(text.block(stranger, chars_max)) <= chars_max


@given(st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=200))
def test_harmless_text_is_left_alone(words: str) -> None:
    assert text.block(words) == words


@pytest.mark.parametrize(
    ("stranger", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;my title\x07done", "done"),
        ("\x1b]52;c;ZXZpbA==\x1b\\done", "done"),
        ("\x9b2Jdone", "done"),
        ("\x1bPq…\x1b\\done", "done"),
        ("\x1bcdone", "done"),
        ("\x1b", ""),
        ("50%\r100%", "50%␍100%"),
        ("bell\x07", "bell␇"),
        ("del\x7f", "del␡"),
        ("a\r\nb\tc", "a b c"),
        ("\u202egpj.exe", "\N{REPLACEMENT CHARACTER}gpj.exe"),
        ("[bold]not markup[/bold]", "[bold]not markup[/bold]"),
        ("émile 日本 👍", "émile 日本 👍"),
    ],
)
def test_a_line_shows_what_was_meant_and_drops_what_acts(stranger: str, shown: str) -> None:
    assert text.line(stranger) == shown


def test_an_escape_sequence_without_end_hides_no_following_line() -> None:
    assert text.block("\x1b]0;title\nnext line") == "\nnext line"


@given(st.dictionaries(HOSTILE, HOSTILE, max_size=4))
def test_json_is_exact_for_a_program_and_still_safe_on_a_terminal(value: dict[str, str]) -> None:
    for document in (text.compact_json(value), text.pretty_json(value)):
        assert json.loads(document) == value
        assert not [char for char in document if acts(char) and char != "\n"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, ""),
        (-1, "0 ms"),
        (0.0421, "42 ms"),
        (0.9999, "1.0 s"),
        (4.24, "4.2 s"),
        (9.96, "10 s"),
        (59.6, "1:00"),
        (125, "2:05"),
        (3725, "1:02:05"),
    ],
)
def test_durations_read_like_a_clock(seconds: float | None, shown: str) -> None:
    assert measure.duration(seconds) == shown


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (640 * 2**20, "640 MiB"), (2**31, "2.0 GiB")],
)
def test_sizes_have_binary_units(size_bytes: int, shown: str) -> None:
    assert measure.size(size_bytes) == shown


@pytest.mark.parametrize(
    ("unit", "value", "shown"),
    [
        ("tokens", 12_000, "12,000"),
        ("usd_micro", 4_250_000, "4.25"),
        ("usd_micro", 1, "0.000001"),
        ("usd_micro", -5, "-0.000005"),
    ],
)
def test_money_is_shown_whole_and_exact(unit: str, value: int, shown: str) -> None:
    assert measure.amount(unit, value) == shown
