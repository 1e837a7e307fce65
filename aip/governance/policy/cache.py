"""Decisions that were made before, on the very same facts.

The load gate proves that a bundle's decision is a function of its input. So a decision may be used again exactly when everything
that the rules can read is equal: the key of an entry is those fields of the input, in full, found from the references in the
sources. Fields that no rule mentions are not in it; a rule that mentions the whole `input` puts everything in.

Facts that change (`input.CHANGING`) are not cached. Where the rules read one of them, a decision is kept and found only while
that fact is at rest: no order standing, nothing seen in the session. An input with such a fact in it goes to the
engine every time. A fact that no rule reads stands in nobody's way.

Invalidated by revision: a cache belongs to one bundle and goes with it (`serving.py`). Bounded: the oldest half goes when full.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import msgspec

from .bundle import Bundle
from .engine import Decision
from .input import CHANGING, Input
from .source import references

ENTRIES_MAX = 16_384  # At some 2 KB each: 32 MB of a cell, pairs of agents that talk with each other often.
_key = msgspec.msgpack.Encoder()


class DecisionCache:
    """For one bundle, in one thread."""

    __slots__ = ("_at_rest", "_decisions", "_fields", "hits", "misses", "reads")

    def __init__(self, bundle: Bundle) -> None:
        self.reads = fields_read(bundle)
        changing = [path for path in CHANGING if path in self.reads]
        fixed = sorted(path for path in self.reads if path not in CHANGING)
        self._fields = _getter(fixed)
        self._at_rest = _rest(changing)
        self._decisions: dict[bytes, Decision] = {}
        self.hits = self.misses = 0

    def key(self, input: Input) -> bytes | None:
        """What the decision on this input depends on. None: a changing fact is in it."""
        if not self._at_rest(input):
            return None
        return _key.encode(self._fields(input))

    def get(self, key: bytes) -> Decision | None:
        decision = self._decisions.get(key)
        if decision is None:
            self.misses += 1
        else:
            self.hits += 1
        return decision

    def put(self, key: bytes, decision: Decision) -> None:
        decisions = self._decisions
        if len(decisions) >= ENTRIES_MAX:
            for old in list(decisions)[: ENTRIES_MAX // 2]:
                del decisions[old]
        decisions[key] = decision


def fields_read(bundle: Bundle) -> frozenset[tuple[str, ...]]:
    """Fields of `Input`, down to its leaves, that the rules of this bundle may read."""
    leaves = _leaves(Input)
    read: set[tuple[str, ...]] = set()
    for module in bundle.served:
        for path in references(module.text, "input"):
            known = path[1 : path.index(None)] if None in path else path[1:]
            read |= {leaf for leaf in leaves if _overlap(leaf, known)}
    return frozenset(read)


def _leaves(struct: type[msgspec.Struct], before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for field in msgspec.structs.fields(struct):
        path = (*before, field.name)
        inner = field.type
        deeper = isinstance(inner, type) and issubclass(inner, msgspec.Struct)
        found += _leaves(inner, path) if deeper else [path]
    return found


def _overlap(leaf: tuple[str, ...], read: tuple[str | None, ...]) -> bool:
    """Whether one is the beginning of the other: who reads `input.subject` reads its type, who reads `labels[0]` the labels."""
    return all(one == other for one, other in zip(leaf, read, strict=False))


def _getter(paths: list[tuple[str, ...]]) -> Callable[[Input], Any]:
    if not paths:
        return lambda _: ()
    return attrgetter(*(".".join(path) for path in paths))


def _rest(paths: list[tuple[str, ...]]) -> Callable[[Input], bool]:
    """Whether all of these facts are at rest."""
    values = tuple(CHANGING[path] for path in paths)
    found = _getter(paths)
    expected = values[0] if len(values) == 1 else values
    return lambda input: bool(found(input) == expected)
