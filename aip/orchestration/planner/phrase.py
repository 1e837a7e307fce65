"""What a goal's words are: orders, data, and the places where another order begins.

A goal is read without a dictionary, so nothing here knows a verb from a noun. What is known is grammar's glue:

    break       where another part begins: `then`, `and`, `or`, `but`, a comma, a semicolon, the end of a sentence or a line
    row         a break that says *afterwards*: `then`, a semicolon, the end of a sentence or a line. What follows one is to be
                done and never data: what is said in a row is no one capability's
    tail        what stands behind a preposition, up to the next break: data. But in `before signing`, where a capability knows
                the word, it is an order all the same
    name        a capital in the middle: data. But for a part that begins with a word that the capabilities know
    lead        `first`, `then`, `finally`, `please` at the beginning: says when, not what

The first word of a part that is not glue says what is to be done in it. Whoever does the whole must know that word of *every*
part, so `greet one person and sign` is nobody's who only greets. `bees, wasps and ants` are three parts too: a list of data
must be in quotes. That refuses more than a person would, and a refusal says which words it was.

What stands in quotes is one piece and no break; an apostrophe within a word is no quote.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .lexicon import PREPOSITIONS, STOP_WORDS, words

ROW = frozenset({"then", ";"})
BREAKS = ROW | {",", "and", "or", "but"}
LEADS = frozenset({"first", "firstly", "afterwards", "finally", "lastly", "also", "please", *BREAKS})
ABBREVIATIONS = frozenset(  # What ends in a point in the middle of a sentence, as any single letter does.
    {"approx", "ca", "cf", "dr", "etc", "inc", "ltd", "mr", "mrs", "ms", "no", "nos", "prof", "st", "vs"}
)

_QUOTED = r"\"[^\"]*\"|'(?=\w)[^']*'(?!\w)"
_PIECE = re.compile(r"\"([^\"]*)\"|'(?=\w)([^']*)'(?!\w)|([\w][\w'’-]*)|[,;]")
_STOP = re.compile(rf"{_QUOTED}|(?P<word>\w*)(?P<stop>[.!?]+\s+|\s*\n\s*(?:[-*•]\s+|\d+[.)]\s+)?)(?=\S)")
_LEAD = re.compile(r"([\w]+|[,;])\s*")


class PieceKind(StrEnum):
    WORD = "word"
    QUOTED = "quoted"
    INPUT = "input"  # The name of an input that was given, or its value.
    BREAK = "break"
    END = "end"


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of a phrase. The text of an INPUT is the input's name."""

    text: str
    kind: PieceKind


def one_sentence(goal: str) -> str:
    """A goal of several sentences or lines as one, with semicolons where the others ended."""

    def joined(found: re.Match[str]) -> str:
        word = found["word"]
        if found["stop"] is None or ("\n" not in found["stop"] and _is_short(word)):
            return found[0]
        return f"{word}; "

    bare = re.sub(r"\A(?:[-*•]\s+|\d+[.)]\s+)", "", goal.strip())
    return " ".join(_STOP.sub(joined, bare).split())


def core(goal: str) -> str:
    """The goal without the words that only say when, and without a break at its end."""
    bare = goal.strip(" ,;")
    while (lead := _LEAD.match(bare)) and lead[1].lower() in LEADS and lead.end() < len(bare):
        bare = bare[lead.end() :]
    while (cut := re.search(r"[\s,;]+(\w+)\Z", bare)) and cut[1].lower() in BREAKS:
        bare = bare[: cut.start()]
    return bare


def pieces(phrase: str, given: Mapping[str, Any]) -> list[Piece]:
    """The words of a phrase; a quoted piece is one, an input that was given is known by its name or its value.

    Not the first word: it says what is done, also where an input happens to hold the same word.
    """
    told = {str(value).lower(): name for name, value in given.items()} | {
        name.lower(): name for name in given
    }
    found: list[Piece] = []
    for one in _PIECE.finditer(phrase):
        quoted = one[1] if one[1] is not None else one[2]
        text = (one[3] or one[0]) if quoted is None else quoted
        if quoted is None and text.lower() in BREAKS:
            found.append(Piece(text, PieceKind.BREAK))
        elif text.lower() in told and (found or quoted is not None):
            found.append(Piece(told[text.lower()], PieceKind.INPUT))
        else:
            found.append(Piece(text, PieceKind.WORD if quoted is None else PieceKind.QUOTED))
    return found


def in_a_row(phrase: str) -> bool:
    """Whether the phrase speaks of one thing after the other."""
    return any(piece.kind is PieceKind.BREAK and piece.text.lower() in ROW for piece in pieces(phrase, {}))


def in_parts(phrase: str) -> bool:
    """Whether the phrase has more than one part."""
    return any(piece.kind is PieceKind.BREAK for piece in pieces(phrase, {}))


def orders(phrase: str, given: Mapping[str, Any], knows: Callable[[str], bool]) -> list[list[str]]:
    """Of each part of the phrase the words that say what is done and to what, without data; parts that are all data left out.

    `knows` tells whether some capability knows a word.
    """
    parts: list[list[str]] = [[]]
    in_tail, before = False, ""
    for piece in pieces(phrase, given):
        lowered = piece.text.lower()
        if piece.kind is PieceKind.BREAK:
            parts.append([])
            in_tail, before = False, ""
            continue
        if before in PREPOSITIONS and lowered.endswith("ing") and in_tail and knows(piece.text):
            parts.append([])
            in_tail = False
        before = lowered
        if lowered in PREPOSITIONS and any(parts):
            in_tail = True
        is_name = any(parts) and piece.text[:1].isupper() and not (not parts[-1] and knows(piece.text))
        if piece.kind is not PieceKind.WORD or in_tail or is_name or lowered.isdigit():
            continue
        if lowered not in STOP_WORDS:
            parts[-1] += words(piece.text)
    return [part for part in parts if part]


def _is_short(word: str) -> bool:
    return len(word) == 1 or word.lower() in ABBREVIATIONS
