"""What a document says about a question: its own sentences, chosen and numbered, never rewritten."""

from __future__ import annotations

from typing import Any

from . import search, text

SENTENCES_MAX = 3  # Of one document: a report is shorter than its sources.


def take(name: str, document: str, question: str, sentences_max: int = SENTENCES_MAX) -> dict[str, Any]:
    """`{document, title, quotes: [{sentence, quote}]}`; sentences count from 1 and stand in their own order."""
    prose = text.sentences(document)
    scores = search.scored(text.terms(question), [text.terms(sentence) for sentence in prose])
    # Of equal ones the earlier: what a text says first it says for a reader who knows nothing yet.
    best = sorted(range(len(prose)), key=lambda place: (-scores[place], place))[:sentences_max]
    chosen = sorted(place for place in best if scores[place] > 0)
    quotes = [{"sentence": place + 1, "quote": prose[place]} for place in chosen]
    return {"document": name, "title": text.title(document), "quotes": quotes}
