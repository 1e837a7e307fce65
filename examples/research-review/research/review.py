"""Three reviewers of a report, each with evidence of its own. Pure: what they look at is handed in.

citations   the documents                 each quote stands where it is said to stand, and bears what is said
coverage    the question and the notes    what was asked is spoken about, and every document that was read is used
tone        the text itself               not too short or too long, sentences a person can follow, no advertising
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import text
from .report import Report

WORDS_MIN, WORDS_MAX = 30, 1_500  # Below, nothing was said; above, nobody reads it.
SENTENCE_WORDS_MAX = 45
SUPPORT_MIN = 0.5  # Of a statement's terms, in its quote: a paraphrase keeps its nouns.
COVERAGE_MIN = (
    0.6  # Of the question's terms, in the report: questions have words that answers need not repeat.
)
REASONS_MAX = 20
# fmt: off
LOADED = frozenset({
    "amazing", "astonishing", "awesome", "best", "breathtaking", "clearly", "fantastic", "greatest",
    "incredible", "miraculous", "obviously", "perfect", "revolutionary", "spectacular", "stunning",
    "terrible", "unbelievable", "undoubtedly", "unique", "wonderful", "worst",
})
# fmt: on


def opinion(reasons: Sequence[str]) -> dict[str, Any]:
    return {"vote": "revise" if reasons else "publish", "reasons": list(reasons[:REASONS_MAX])}


def citations(report: Report, documents: Mapping[str, str]) -> dict[str, Any]:
    """`documents`: the texts of those that could be read, as they are now."""
    reasons = []
    for one in report.statements:
        where = f"{one.document}, sentence {one.sentence}"
        prose = text.sentences(documents.get(one.document, ""))
        if one.document not in documents:
            reasons.append(f"{where}: there is no such document, or it cannot be read")
        elif one.sentence > len(prose) or prose[one.sentence - 1] != one.quote:
            reasons.append(f"{where}: it does not say “{one.quote[:80]}”")
        elif support(one.text, one.quote) < SUPPORT_MIN:
            reasons.append(f"{where}: “{one.text[:80]}” is not what it says")
    return opinion(reasons)


def support(statement: str, quote: str) -> float:
    said, known = set(text.terms(statement)), set(text.terms(quote))
    return len(said & known) / len(said) if said else 0.0


def coverage(report: Report, question: str, notes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    said = {term for one in report.statements for term in text.terms(one.text)}
    asked = dict.fromkeys(text.terms(question))
    missing = [term for term in asked if term not in said]
    reasons = []
    if asked and 1 - len(missing) / len(asked) < COVERAGE_MIN:
        reasons.append(f"the question's {', '.join(missing)} are not spoken about")
    used = {one.document for one in report.statements}
    for note in notes:
        if note["quotes"] and note["document"] not in used:
            reasons.append(f"{note['document']} was read and is not used")
    return opinion(reasons)


def tone(report: Report) -> dict[str, Any]:
    reasons = []
    length = sum(len(text.words(one.text)) for one in report.statements)
    if not WORDS_MIN <= length <= WORDS_MAX:
        reasons.append(f"{length} words, and a report has {WORDS_MIN} to {WORDS_MAX}")
    for one in report.statements:
        for sentence in text.sentences(one.text):
            if (count := len(text.words(sentence))) > SENTENCE_WORDS_MAX:
                reasons.append(f"a sentence of {count} words: “{sentence[:60]}”")
        for word in sorted(LOADED & set(text.words(one.text))):
            reasons.append(f"“{word}” judges instead of telling")
    return opinion(reasons)
