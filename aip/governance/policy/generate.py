"""Inputs that a policy has not seen: generated from what it mentions, so that they fall on both sides of its conditions.

Pure chance would never guess a role's name. So values come from the literals of the sources and of the data (and from their
neighbours: a number and what lies beside it, a pattern `billing.*` and a name that it matches), and go to the paths that the
rules read and the document's schema has. A field gets mostly what the data has under a name like its own: `roles` what stands in
tables called roles, `target.type` what stands in lists called types. And most documents are calm, with most facts at rest: a
policy that denies for any of a dozen reasons would else deny nearly all of them, and comparing engines would say nothing of what
they allow.
Some documents lack a field or have one of a wrong type: engines must agree there, too.

The same bundle and the same seed give the same inputs.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, get_args

from . import input as schema
from .bundle import Bundle
from .source import Kind, references, tokens

LITERALS_MAX = (
    5_000  # Of the data's: ten thousand agents' names add nothing that the first thousands do not show.
)
VARIED_SHARE = 0.15
DAMAGED_SHARE = 0.1  # Of the documents: a field missing or of a wrong type. The others are whole.
CALM_SHARE = 0.9
REST_SHARE = 0.94  # Of the facts of a calm document: at rest.
FITTING_SHARE = 0.9  # Of the texts: out of the data under a name like the field's, where there is one.
WORDS = (
    "",
    "ada",
    "user:ada",
    "service:x",
    "run/r-1",
    "billing",
    "billing.pay",
    "ünïcode ☂",
    'quote " \\ %v',
    "*",
)
NUMBERS = (0, 1, -1, 2, 10, 0.5, 1000, 10**9)
WRONG: tuple[Any, ...] = (None, True, False, "10", 7, [], {}, [1], {"a": "b"}, ["secret", 3])


@dataclass(frozen=True, slots=True)
class Pool:
    """What a bundle mentions."""

    texts: tuple[str, ...]
    numbers: tuple[float, ...]
    paths: tuple[tuple[str, ...], ...]
    fitting: Mapping[str, tuple[str, ...]]  # Stem of a field's name -> texts of the data under names like it.

    def text(self, field: str, rng: random.Random) -> str:
        fitting = self.fitting.get(_stem(field))
        return rng.choice(fitting if fitting and rng.random() < FITTING_SHARE else self.texts)

    def some(self, field: str, rng: random.Random) -> tuple[str, ...]:
        return tuple(self.text(field, rng) for _ in range(rng.choice((0, 1, 2, 2, 3))))

    @classmethod
    def of(cls, bundle: Bundle) -> Pool:
        texts, numbers, paths = set(WORDS), set(NUMBERS), set()
        fitting: dict[str, set[str]] = {}
        for module in bundle.served:
            for token in tokens(module.text, module.path):
                if token.kind is Kind.STRING:
                    texts.add(token.text)
                elif token.kind is Kind.NUMBER:
                    numbers.add(float(token.text))
            for path in references(module.text, "input"):
                known = tuple(part for part in path[1 : path.index(None) if None in path else None] if part)
                paths.add(known)
        for table, leaf in islice(_leaves(bundle.data), LITERALS_MAX):
            if isinstance(leaf, str):
                texts.add(leaf)
                for word in table.split("_"):
                    fitting.setdefault(_stem(word), set()).update((leaf, leaf.replace("*", "x")))
            elif isinstance(leaf, int | float) and not isinstance(leaf, bool):
                numbers.add(leaf)
        texts |= {text.replace("*", "x") for text in texts if "*" in text}
        near = {number + step for number in numbers for step in (0, -1, 1)}
        return cls(
            tuple(sorted(text for text in texts if len(text) <= 128)),
            tuple(sorted(_whole(number) for number in near)),
            tuple(sorted(path for path in paths if path)),
            {word: tuple(sorted(found)) for word, found in fitting.items()},
        )


def generate(
    bundle: Bundle, seed: int, examples: Sequence[Mapping[str, Any]] = ()
) -> Iterator[dict[str, Any]]:
    """Input documents without end: the examples, then variations of them in turn with documents of chance."""
    yield from map(copy.deepcopy, map(dict, examples))
    pool = Pool.of(bundle)
    rng = random.Random(f"{bundle.digest} {seed}")
    known = set(_paths(schema.plain(_whole_input(pool, rng))))
    beyond = [path for path in pool.paths if path not in known and not _reaches(path, known)]
    while True:
        document = schema.plain(_whole_input(pool, rng))
        if examples and rng.random() < VARIED_SHARE:
            document = _vary(dict(rng.choice(examples)), document, rng)
        for path in beyond:
            _put(document, path, _any(pool, rng))
        if rng.random() < DAMAGED_SHARE:
            for path in rng.sample(_paths(document), rng.choice((1, 1, 2))):
                if rng.random() < 0.5:
                    _drop(document, path)
                else:
                    _put(document, path, copy.deepcopy(rng.choice(WRONG)))
        yield document


def _vary(example: Mapping[str, Any], other: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
    """The example, with some of its fields taken from another document."""
    varied = copy.deepcopy(dict(example))
    for path in rng.sample(_paths(other), rng.randrange(4)):
        value: Any = other
        for part in path:
            value = value[part]
        _put(varied, path, copy.deepcopy(value))
    return varied


def _whole_input(pool: Pool, rng: random.Random) -> schema.Input:
    text, some = partial(pool.text, rng=rng), partial(pool.some, rng=rng)
    rest = REST_SHARE if rng.random() < CALM_SHARE else 0.0
    tenant = text("tenant")
    facts: dict[str, Callable[[], Any]] = {
        "labels": lambda: some("labels"),
        "session": lambda: schema.Session(labels=some("labels")),
        "isolation": lambda: rng.choice(get_args(schema.Isolation)),
        "budget": lambda: _amounts(pool, "budget", rng),
        "rates": lambda: _amounts(pool, "rates", rng),
        "reputation": lambda: rng.choice((0, 0.1, 0.25, 0.5, 0.75, 1)),
        "kill": lambda: schema.Kill(level=rng.choice(get_args(schema.Level))),
        "now_s": lambda: 1_750_000_000,
    }
    family = {"depth": rng.randrange(40), "children": _count(pool, rng)}
    return schema.Input(
        kind=rng.choice(get_args(schema.Kind)),
        subject=schema.Subject(
            address=f"{text('subject')}/a",
            type=text("type"),
            tenant=tenant,
            **({} if rng.random() < rest else family),
        ),
        target=schema.Target(
            address=f"{text('target')}/b",
            type=text("type"),
            tenant=tenant if rng.random() < max(rest, 0.7) else text("tenant"),
        ),
        capability=text("capability"),
        run=rng.choice(("", "r-1")),
        principal=schema.Principal(
            id=text("principal"),
            roles=some("roles"),
            attributes={text("attributes"): text("attributes") for _ in range(rng.randrange(3))},
        ),
        tags={text("tags"): text("tags") for _ in range(rng.randrange(2))},
        **{name: make() for name, make in facts.items() if rng.random() >= rest},
    )


def _count(pool: Pool, rng: random.Random) -> int:
    return max(0, int(rng.choice(pool.numbers)))


def _amounts(pool: Pool, field: str, rng: random.Random) -> dict[str, float]:
    return {pool.text(field, rng): rng.choice(pool.numbers) for _ in range(rng.choice((0, 1, 2)))}


def _any(pool: Pool, rng: random.Random) -> Any:
    value: Any = rng.choice(
        (rng.choice(pool.texts), rng.choice(pool.numbers), copy.deepcopy(rng.choice(WRONG)))
    )
    if rng.random() < 0.3:
        value = rng.choice(([value], {rng.choice(pool.texts): value}))
    return value


def _whole(number: float) -> float:
    """As an integer where it is one: engines print `1.0` and `1` differently in texts, JSON does not tell them apart."""
    return int(number) if float(number).is_integer() else number


def _leaves(value: Any, table: str = "") -> Iterator[tuple[str, Any]]:
    """Keys and leaves of the data, each with the key under which it stands."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield table, key
            yield from _leaves(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, table)
    else:
        yield table, value


def _stem(word: str) -> str:
    """What singular and plural have in common."""
    return word.removesuffix("s").removesuffix("ie").removesuffix("y")


def _paths(document: Mapping[str, Any], before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for key, item in document.items():
        found.append((*before, key))
        if isinstance(item, dict):
            found += _paths(item, (*before, key))
    return found


def _reaches(path: tuple[str, ...], known: set[tuple[str, ...]]) -> bool:
    return any(one[: len(path)] == path for one in known)


def _put(document: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    place: Any = document
    for part in path[:-1]:
        if not isinstance(place, dict):
            return  # Damaged above already.
        place = place.setdefault(part, {})
    if isinstance(place, dict):
        place[path[-1]] = value


def _drop(document: dict[str, Any], path: tuple[str, ...]) -> None:
    place: Any = document
    for part in path[:-1]:
        place = place.get(part) if isinstance(place, dict) else None
    if isinstance(place, dict):
        place.pop(path[-1], None)
