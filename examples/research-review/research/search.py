"""Which of some texts speak about a question: BM25 (Robertson and Zaragoza, 2009), over terms."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from . import text

K1, B = 1.2, 0.75  # The usual values: how soon repetition stops counting, how much length does.


def ranked(question: str, texts: Mapping[str, str]) -> list[tuple[str, float]]:
    """Names with a score above 0, the best first; equal ones by name."""
    bodies = {name: text.terms(body) for name, body in texts.items()}
    scores = scored(text.terms(question), list(bodies.values()))
    found = [(name, score) for name, score in zip(bodies, scores, strict=True) if score > 0]
    return sorted(found, key=lambda one: (-one[1], one[0]))


def scored(query: Sequence[str], bodies: Sequence[Sequence[str]]) -> list[float]:
    mean = sum(map(len, bodies)) / len(bodies) if bodies else 0.0
    counts = [Counter(body) for body in bodies]
    having = {term: sum(term in count for count in counts) for term in set(query)}
    scores = []
    for body, count in zip(bodies, counts, strict=True):
        length = 1 - B + B * len(body) / mean if mean else 1.0
        score = 0.0
        for term in dict.fromkeys(query):
            rarity = math.log(1 + (len(bodies) - having[term] + 0.5) / (having[term] + 0.5))
            score += rarity * count[term] * (K1 + 1) / (count[term] + K1 * length)
        scores.append(score)
    return scores
