"""Words: how near a phrase is to what something says about itself.

Two questions, two numbers. *Which of these is nearest?* is BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework:
BM25 and Beyond", 2009) over the words of name, description and parameters, a name counting several times. *Is it near at all?*
is coverage: the part of the phrase's own words that the nearest one knows. BM25 alone has no zero point - among three
capabilities one is always nearest - and a planner that takes the nearest without asking makes chains that mean nothing.

Stemming is light: endings of English are cut until `summarise`, `summary` and `summaries` are one word. It errs on the side of
taking different words for one (`plan`, `plane`), never of a dictionary. No embedding, no language model: the same words give the
same answer everywhere, and the answer can be told in a comment.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

PHRASE_WORDS_MAX = 200  # A goal longer than a paragraph is a document; the rest of it is not read.
TEXT_WORDS_MAX = 2_000  # Of one description.
STEM_CHARS_MIN = 3  # What is shorter than this says nothing once its ending is cut.
SATURATION, LENGTH_SHARE = 1.2, 0.75  # BM25's k1 and b, at their usual values.

_WORD = re.compile(r"[A-Za-z][a-z0-9]*|[A-Z]+(?![a-z])")
_ENDINGS = (
    *("isations", "izations", "isation", "ization", "ising", "izing", "ised", "ized", "ises", "izes"),
    *("ise", "ize", "ations", "ation", "ings", "ing", "ies", "ied", "ers", "er", "ed", "es", "is"),
    *("s", "y", "e"),
)
STOP_WORDS = frozenset(
    (  # noqa: SIM905  # A list of words reads best as words.
        "a an and all any are as at be by can do each every for from get give given has have how i if in into is it "
        "its let me my of on one or our please some so that the their them then there these they this those to up us "
        "use we what when which who will with you your"
    ).split()
)
PREPOSITIONS = frozenset(
    (  # noqa: SIM905
        "about against among as at before between by concerning during for from in into of on onto over per regarding "
        "since through to toward towards under until using via with within without"
    ).split()
)


@lru_cache(maxsize=16_384)  # A vocabulary of a large registry; an entry is about 200 bytes.
def stem(word: str) -> str:
    """The word without its ending, in lower case."""
    bare = word.lower()
    for ending in _ENDINGS:
        if bare.endswith(ending) and len(bare) - len(ending) >= STEM_CHARS_MIN and not bare.endswith("ss"):
            bare = bare[: -len(ending)]
            break
    return bare[:-1] if len(bare) > STEM_CHARS_MIN and bare[-1] == bare[-2] else bare


def words(text: str, words_max: int = TEXT_WORDS_MAX) -> list[str]:
    """The words of a text or of a name (`web.fetch_page`, `fetchPage`) that mean something, as they stand in it."""
    found = [word for word in _WORD.findall(text) if word.lower() not in STOP_WORDS]
    return found[:words_max]


def stems(text: str, words_max: int = TEXT_WORDS_MAX) -> list[str]:
    return [stem(word) for word in words(text, words_max)]


@dataclass(frozen=True, slots=True)
class Fit:
    """How one entry fits a phrase. `matched` and `unknown` are the phrase's own words."""

    name: str
    score: float
    coverage: float
    matched: tuple[str, ...]
    unknown: tuple[str, ...]


class Lexicon:
    """Entries by name, each with its words and how often each counts."""

    def __init__(self, entries: Mapping[str, Iterable[tuple[str, int]]]) -> None:
        """`entries`: for each name its texts with their weights, such as (("web.search", 3), ("Find pages.", 1))."""
        self._counts: dict[str, Counter[str]] = {}
        self._with_word: Counter[str] = Counter()
        for name, texts in entries.items():
            counts: Counter[str] = Counter()
            for text, weight in texts:
                for word in stems(text):
                    counts[word] += weight
            self._counts[name] = counts
            self._with_word.update(counts.keys())
        sizes = [counts.total() for counts in self._counts.values()]
        self._size_mean = (sum(sizes) / len(sizes)) if sizes else 1.0

    def fits(self, phrase: str) -> list[Fit]:
        """Every entry that shares a word with the phrase, nearest first; by name among equals."""
        asked = words(phrase, PHRASE_WORDS_MAX)
        found = [fit for name in self._counts if (fit := self._fit(name, asked)) is not None]
        return sorted(found, key=lambda fit: (-fit.score, fit.name))

    def knows(self, word: str) -> bool:
        return stem(word) in self._with_word

    def _fit(self, name: str, asked: list[str]) -> Fit | None:
        counts = self._counts[name]
        matched = [word for word in asked if stem(word) in counts]
        if not matched:
            return None
        norm = SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * counts.total() / (self._size_mean or 1.0))
        score = 0.0
        for word in dict.fromkeys(map(stem, matched)):
            often = counts[word]
            score += self._rarity(word) * often * (SATURATION + 1) / (often + norm)
        unknown = [word for word in asked if stem(word) not in counts]
        coverage = len({stem(word) for word in matched}) / len({stem(word) for word in asked})
        return Fit(name, round(score, 6), coverage, tuple(matched), tuple(unknown))

    def _rarity(self, word: str) -> float:
        having = self._with_word[word]
        return math.log(1 + (len(self._counts) - having + 0.5) / (having + 0.5))
