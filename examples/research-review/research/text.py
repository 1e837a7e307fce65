"""Words and sentences of English prose, well enough to compare them."""

from __future__ import annotations

import re

SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'])")
WORD = re.compile(r"[a-z0-9]+")
# fmt: off
STOPWORDS = frozenset({
    "a", "about", "after", "all", "also", "an", "and", "any", "are", "as", "at", "be", "been", "before",
    "but", "by", "can", "could", "did", "do", "does", "for", "from", "had", "has", "have", "he", "her",
    "his", "how", "i", "if", "in", "into", "is", "it", "its", "may", "more", "most", "much", "no", "not",
    "of", "off", "on", "one", "only", "or", "other", "our", "out", "she", "so", "some", "such", "than",
    "that", "the", "their", "them", "then", "there", "these", "they", "this", "those", "to", "under", "up",
    "was", "we", "were", "what", "when", "where", "which", "while", "who", "whoever", "why", "will", "with",
    "would", "you",
})
# fmt: on
SUFFIXES = ("ations", "ation", "ings", "ing", "ies", "ied", "ers", "er", "ed", "es", "s", "y", "e")
STEM_CHARS_MIN = 4  # Shorter ones mean too many things.


def sentences(document: str) -> list[str]:
    """The sentences of its paragraphs, in order; headings are none."""
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n", document):
        lines = [line for line in paragraph.splitlines() if not line.startswith("#")]
        prose = " ".join(" ".join(lines).split())
        found += [sentence for sentence in SENTENCE_END.split(prose) if sentence]
    return found


def title(document: str) -> str:
    return next((line.lstrip("# ").strip() for line in document.splitlines() if line.startswith("#")), "")


def words(prose: str) -> list[str]:
    return WORD.findall(prose.lower())


def terms(prose: str) -> list[str]:
    """Its words that mean something, cut to a stem: `navigators` and `navigator` are one term."""
    return [stem(word) for word in words(prose) if word not in STOPWORDS]


def stem(word: str) -> str:
    for suffix in SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= STEM_CHARS_MIN:
            return word[: -len(suffix)]
    return word
