"""From texts to a report: found by what they say, quoted word for word, judged on three kinds of evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from research import notes, report, review, search, shelf, text
from research.report import Report
from research_kit import DOCUMENTS, QUESTION, TORN

from aip.errors import InvalidPayload, UsageError

READABLE = [name for name in shelf.names(DOCUMENTS) if name != TORN]
TEXTS = {name: shelf.text_of(DOCUMENTS, name) for name in READABLE}
NOTES = [notes.take(name, TEXTS[name], QUESTION) for name in READABLE]
DRAFT = report.compose(QUESTION, NOTES)


def changed(**fields: Any) -> Report:
    """The draft with its first statement changed."""
    plain = DRAFT.model_dump(mode="json")
    plain["sections"][0]["statements"][0].update(fields)
    return Report.model_validate(plain)


@pytest.mark.parametrize(
    ("question", "first"),
    [
        ("Who was John Harrison?", "chronometers.md"),
        ("What did Galileo see at Jupiter?", "jupiter-moons.md"),
        ("How did a lighthouse help the navigator?", "lighthouses.md"),
        ("What is the error of lunar distances?", "lunar-distances.md"),
        ("When did the Eiffel Tower send time by radio?", "radio-time.md"),
    ],
)
def test_the_document_that_speaks_most_about_a_question_is_found_first(question: str, first: str) -> None:
    assert search.ranked(question, TEXTS)[0][0] == first


def test_what_says_nothing_about_a_question_is_not_found() -> None:
    assert search.ranked("quantum chromodynamics", TEXTS) == []
    assert search.ranked("", TEXTS) == []
    assert search.ranked("longitude", {}) == []


@pytest.mark.parametrize(
    ("prose", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("# A heading\n\nA line\nthat goes on. And ends.", ["A line that goes on.", "And ends."]),
        ("It cost 3.5 pounds. No more.", ["It cost 3.5 pounds.", "No more."]),
        ("", []),
    ],
)
def test_sentences_are_told_apart(prose: str, expected: list[str]) -> None:
    assert text.sentences(prose) == expected


def test_a_plural_is_the_same_term() -> None:
    assert text.terms("the navigators") == text.terms("a navigator")


@given(st.text(alphabet="abc de.A#\n", max_size=300), st.text(alphabet="abcde ", max_size=30))
def test_every_quote_stands_where_the_note_says(document: str, question: str) -> None:
    prose = text.sentences(document)
    for one in notes.take("x.md", document, question)["quotes"]:
        assert prose[one["sentence"] - 1] == one["quote"]


def test_a_draft_of_quotes_passes_every_reviewer() -> None:
    assert review.citations(DRAFT, TEXTS) == {"vote": "publish", "reasons": []}
    assert review.coverage(DRAFT, QUESTION, NOTES) == {"vote": "publish", "reasons": []}
    assert review.tone(DRAFT) == {"vote": "publish", "reasons": []}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"quote": "Longitude is easy."}, "it does not say"),
        ({"sentence": 99}, "it does not say"),
        ({"document": "invented.md"}, "no such document"),
        ({"document": TORN}, "cannot be read"),
        ({"text": "Whales sing below the ice of Greenland."}, "is not what it says"),
    ],
)
def test_a_citation_that_does_not_hold_is_found(fields: dict[str, Any], reason: str) -> None:
    opinion = review.citations(changed(**fields), TEXTS)
    assert opinion["vote"] == "revise"
    assert reason in opinion["reasons"][0]


def test_a_report_that_passes_a_source_over_or_misses_the_question_does_not_cover_it() -> None:
    plain = DRAFT.model_dump(mode="json")
    shorter = Report.model_validate({**plain, "sections": plain["sections"][1:]})
    assert "is not used" in review.coverage(shorter, QUESTION, NOTES)["reasons"][0]
    assert review.coverage(DRAFT, "What do whales eat in winter?", [])["vote"] == "revise"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("An amazing clock.", "“amazing” judges"),
        ("Word " * 60 + ".", "a sentence of 60 words"),
        ("Short. " * 250, ""),
    ],
)
def test_advertising_and_endless_sentences_are_sent_back(words: str, reason: str) -> None:
    opinion = review.tone(changed(text=words))
    assert any(reason in one for one in opinion["reasons"]) if reason else opinion["vote"] == "publish"


def test_a_report_that_says_nothing_is_too_short() -> None:
    tiny = {"heading": "h", "statements": [{"text": "No.", "document": "x", "sentence": 1, "quote": "No."}]}
    assert "words" in review.tone(Report.model_validate({"title": "t", "sections": [tiny]}))["reasons"][0]


def test_the_page_numbers_each_source_once_and_says_what_was_not_read() -> None:
    page = report.render(DRAFT, [TORN])
    assert page.count("[1]") == 1
    assert f"Not read: {TORN}." in page
    assert all(f"“{one.quote}”" in page for one in DRAFT.statements)


def test_a_torn_page_can_be_found_but_not_quoted() -> None:
    assert "longitude" in shelf.gist_of(DOCUMENTS, TORN)
    with pytest.raises(shelf.Unreadable, match="not UTF-8") as caught:
        shelf.text_of(DOCUMENTS, TORN)
    assert not caught.value.retryable
    assert caught.value.code == InvalidPayload.code


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "", ".hidden", "a/b.md", "x" * 200])
def test_a_name_is_never_a_way_out_of_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="not the name of a file"):
        shelf.text_of(tmp_path, name)
    with pytest.raises(UsageError):
        shelf.discard(tmp_path, name)


def test_a_folder_without_texts_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no \.md or \.txt"):
        shelf.names(tmp_path)
    with pytest.raises(UsageError, match="not a folder"):
        shelf.names(tmp_path / "nowhere")
