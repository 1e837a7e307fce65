"""What there is to plan with: one capability of one agent, as its manifest tells it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...errors import UsageError
from .lexicon import Fit, Lexicon

OFFERS_MAX = 2_000  # A registry larger than this is narrowed by the person first.
NAME_WEIGHT, DOC_WEIGHT, PARAMETER_WEIGHT = 3, 2, 1
DOC_CHARS_MAX = 2_000  # Of a capability's docstring: its first paragraphs say what it does.


@dataclass(frozen=True, slots=True)
class Offer:
    """`agent` is the name the plan will use, or None where the registry is to find one; `use` is where its code is."""

    agent: str | None
    use: str
    capability: str
    doc: str
    takes: Mapping[str, Any]
    gives: Any

    @property
    def key(self) -> str:
        return f"{self.agent}:{self.capability}" if self.agent else self.capability

    @property
    def parameters(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.takes.get("properties") or {}
        return found

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(self.takes.get("required") or ())

    @property
    def summary(self) -> str:
        return self.doc.strip().partition("\n")[0]


class Offers:
    """All that there is, in the order it was told, with a way to look for words."""

    def __init__(self, offers: Iterable[Offer]) -> None:
        self.by_key: dict[str, Offer] = {}
        for offer in offers:
            self.by_key.setdefault(offer.key, offer)
        if len(self.by_key) > OFFERS_MAX:
            raise UsageError(
                f"{len(self.by_key)} capabilities to plan with; the limit is {OFFERS_MAX}",
                hint="name the agents that are meant: --agents agents.py",
            )

    def __len__(self) -> int:
        return len(self.by_key)

    def __iter__(self) -> Iterator[Offer]:
        return iter(self.by_key.values())

    @property
    def capabilities(self) -> frozenset[str]:
        return frozenset(offer.capability for offer in self.by_key.values())

    def of(self, capability: str) -> list[Offer]:
        """Who offers this capability."""
        return [offer for offer in self.by_key.values() if offer.capability == capability]

    def near(self, phrase: str) -> list[tuple[Offer, Fit]]:
        """What shares words with the phrase, nearest first."""
        return [(self.by_key[fit.name], fit) for fit in self.lexicon.fits(phrase)]

    @cached_property
    def lexicon(self) -> Lexicon:
        return Lexicon({key: _texts(offer) for key, offer in self.by_key.items()})


def _texts(offer: Offer) -> list[tuple[str, int]]:
    return [
        (offer.capability, NAME_WEIGHT),
        (offer.doc[:DOC_CHARS_MAX], DOC_WEIGHT),
        (" ".join(offer.parameters), PARAMETER_WEIGHT),
        (" ".join(_described(offer.parameters)), PARAMETER_WEIGHT),
    ]


def _described(parameters: Mapping[str, Any]) -> list[str]:
    return [
        str(schema["description"])
        for schema in parameters.values()
        if isinstance(schema, Mapping) and schema.get("description")
    ]


def offers_of(manifests: Mapping[str, Mapping[str, Any]]) -> Offers:
    """The offers of agents' code, `module:Class` -> manifest. Agents of one class name are told apart by number."""
    found: list[Offer] = []
    names: set[str] = set()
    for use, manifest in manifests.items():
        name = str(manifest["type"]).partition("@")[0]
        number = 1
        while name in names:
            number += 1
            name = f"{manifest['type']}-{number}"
        names.add(name)
        found += [_offer(name, use, one, told) for one, told in manifest["capabilities"].items()]
    return Offers(found)


def offers_of_registry(types: Iterable[Mapping[str, Any]]) -> Offers:
    """The offers of a running platform: tasks name no agent, the registry finds one. The newest version of a type counts."""
    newest: dict[str, Mapping[str, Any]] = {}
    for one in types:
        newest[str(one["type"]).partition("@")[0]] = one
    return Offers(
        _offer(None, kind, name, told)
        for kind, one in newest.items()
        for name, told in (one.get("capabilities") or {}).items()
    )


def _offer(agent: str | None, use: str, capability: str, told: Mapping[str, Any]) -> Offer:
    return Offer(
        agent=agent,
        use=use,
        capability=capability,
        doc=str(told.get("doc") or ""),
        takes=told.get("input") or {},
        gives=told.get("output", True),
    )
