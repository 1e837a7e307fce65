"""What feeds each parameter of a capability: the *forward* half of planning, where a step meets what is there before it.

    first that fits                                      told as
    what the method's step says under `with`             the method
    an input of that name                                the input
    an earlier step of that name, or a member of that    its name
    name of an earlier answer
    the item, in a for_each                              the item
    the answer just before, if its type fits             the type
    each item of it, if it is a list of what fits        the type; the task becomes a for_each. Only where the words speak
                                                         of several: "each page", "them", "pages"
    a list of it alone, if a list of such is asked       the type
    what the goal says (texts for texts, numbers …)      the goal
    its default, if it has one                           -
    an input that the plan gets for it                   nothing else; it is asked for at submit

A parameter that none of these can feed is why a capability cannot be used here: its schema cannot be an input of a plan.
By type alone only the answer just before counts, and only once: a plan that feeds any text to any text parameter says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..parse.vocabulary import INPUT_TYPES, KNOWN
from .draft import Draft, Result
from .lexicon import PREPOSITIONS, STEM_CHARS_MIN, STOP_WORDS, stem, words
from .method import inert
from .offer import Offer
from .phrase import Piece, PieceKind
from .wiring import Match, items_of, list_of, match, members_of, with_definitions

EDGES = STOP_WORDS | PREPOSITIONS  # Words that no piece of data begins or ends with, unless it is quoted.
SEVERAL = frozenset({"each", "every", "all", "both", "them", "these", "those"})
ANY_TEXT = "?"  # Under `with`: for whichever text parameter nothing else feeds by name.


@dataclass(frozen=True, slots=True)
class Mention:
    """The phrase speaks of this input."""

    name: str


@dataclass(slots=True)
class Feed:
    """The arguments in the making, and how each came about."""

    offer: Offer
    draft: Draft
    results: Mapping[str, Result]
    said: list[Any]
    given: Mapping[str, Any]
    several: bool = True  # Whether it may become a for_each of its own accord.
    arguments: dict[str, Any] = field(default_factory=dict)
    for_each: str | None = None
    item: Any = None
    read: list[Result] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    _spent: set[str] = field(default_factory=set)

    def wire(self, written: Mapping[str, Any]) -> str:
        """Feed every parameter that needs it; why it cannot be done, or nothing."""
        said = [written[ANY_TEXT]] if ANY_TEXT in written else []
        self.said = [*said, *self.said]
        self.arguments = {name: value for name, value in written.items() if name != ANY_TEXT}
        unknown = self.arguments.keys() - self.offer.parameters.keys()
        if unknown and self.offer.takes.get("additionalProperties") is False:
            return f"{self.offer.capability} takes no {', '.join(sorted(unknown))}"
        open_names = [name for name in self.offer.parameters if name not in self.arguments]
        for name in open_names:
            self._by_name(name)
        for name in [name for name in self.offer.required if name not in self.arguments]:
            if not (self._by_type(name) or self._by_goal(name) or self._by_asking(name)):
                return f"nothing can feed {name} of {self.offer.capability}"
        order = [*self.offer.parameters, *self.arguments]
        self.arguments = {
            name: self.arguments[name] for name in dict.fromkeys(order) if name in self.arguments
        }
        return ""

    @property
    def unused(self) -> list[str]:
        """What the goal says and no parameter took."""
        return [value.name if isinstance(value, Mention) else str(value) for value in self.said]

    def _schema(self, name: str) -> Any:
        return with_definitions(self.offer.parameters.get(name, True), self.offer.takes)

    def _take(self, name: str, value: Any, why: str, result: Result | None = None) -> bool:
        self.arguments[name] = value
        self.comments.append(f"{name}: {why}")
        if result is not None:
            self.read.append(result)
            self._spent.add(result.expression)
        return True

    def _by_name(self, name: str) -> bool:
        schema = self._schema(name)
        if name in self.given or name in self.draft.inputs:
            told = self.draft.inputs.get(name) or schema_of(self.given[name])
            if match(told, schema) is not Match.NEVER:
                if name not in self.draft.inputs:
                    self.draft = self.draft.with_input(name, {**told, "default": self.given[name]})
                return self._take(name, f"${{{{ inputs.{name} }}}}", f"the input {name}")
        result = self.results.get(name)
        if result is not None and match(result.gives, schema) is not Match.NEVER:
            return self._take(name, result.whole, f"what {result.task} gave, by its name", result)
        if self.for_each is not None and name == "item" and match(self.item, schema) is not Match.NEVER:
            return self._take(name, "${{ item }}", "each item, by its name")
        for result in self._before():
            member = members_of(result.gives).get(name)
            if member is not None and match(member, schema) is Match.ALWAYS:
                path = f"{result.expression}.{name}" if "?" not in result.expression else None
                if path is not None:
                    return self._take(
                        name, f"${{{{ {path} }}}}", f"{name} of what {result.task} gave", result
                    )
        return False

    def _by_type(self, name: str) -> bool:
        schema = self._schema(name)
        if self.for_each is not None:
            if "item" not in self._spent and match(self.item, schema) is not Match.NEVER:
                self._spent.add("item")
                return self._take(name, "${{ item }}", "each item")
            return False
        for result in self._before():
            if result.expression in self._spent:
                continue
            if match(result.gives, schema) is not Match.NEVER:
                return self._take(name, result.whole, f"what {result.task} gave, by its type", result)
            item = items_of(result.gives)
            if self.several and item is not None and match(item, schema) is Match.ALWAYS:
                self.for_each, self.item = result.whole, item
                self._spent.add("item")
                return self._take(
                    name, "${{ item }}", f"each item of the list that {result.task} gave", result
                )
            if items_of(schema) is not None and match(list_of(result.gives), schema) is Match.ALWAYS:
                return self._take(name, [result.whole], f"what {result.task} gave, as a list of one", result)
        return False

    def _before(self) -> Iterator[Result]:
        """The answer just before, then those of the same method's other steps, latest first."""
        last = self.draft.last
        if last is not None:
            yield last
        for result in reversed(list(self.results.values())):
            if last is None or result.expression != last.expression:
                yield result

    def _by_goal(self, name: str) -> bool:
        schema = self._schema(name)
        for index, value in enumerate(self.said):
            if isinstance(value, Mention):
                told = schema_of(self.given[value.name])
                if match(told, schema) is Match.NEVER:
                    continue
                self.draft = self.draft.with_input(value.name, {**told, "default": self.given[value.name]})
                del self.said[index]
                return self._take(name, f"${{{{ inputs.{value.name} }}}}", f"the input {value.name}")
            if match(schema_of(value), schema) is not Match.NEVER:
                del self.said[index]
                shown = inert(value) if isinstance(value, str) else value
                return self._take(name, shown, "what the goal says")
        return False

    def _by_asking(self, name: str) -> bool:
        asked = as_input(self._schema(name))
        if asked is None:
            return False
        self.draft = self.draft.with_input(name, asked)
        return self._take(
            name, f"${{{{ inputs.{name} }}}}", f"the goal does not say it: give it with -i {name}=…"
        )


def said_in(pieces: list[Piece], offer: Offer) -> list[Any]:
    """What a phrase says beside naming the work: quoted pieces, numbers, inputs, runs of words that the offer does not know."""
    known = {stem(word) for word in words(f"{offer.capability} {offer.doc} {' '.join(offer.parameters)}")}
    found: list[Any] = []
    run: list[str] = []
    for piece in [*pieces, Piece("", PieceKind.END)]:
        is_word = piece.kind is PieceKind.WORD
        if is_word and not piece.text.isdigit() and stem(piece.text) not in known:
            run.append(piece.text)
            continue
        while run and run[0].lower() in EDGES:
            del run[0]
        while run and run[-1] in EDGES:  # With a capital it is a name.
            del run[-1]
        if run:
            found.append(" ".join(run))
        run = []
        match piece.kind:
            case PieceKind.QUOTED:
                found.append(piece.text)
            case PieceKind.INPUT:
                found.append(Mention(piece.text))
            case PieceKind.WORD if piece.text.isdigit():
                found.append(int(piece.text))
            case _:
                pass
    return found


def speaks_of_several(phrase: str) -> bool:
    """Whether the words mean more than one thing: `each`, `them`, or a noun in the plural behind the verb."""
    found = [word.lower() for word in re.findall(r"[A-Za-z]+", phrase)]
    plural = any(len(word) > STEM_CHARS_MIN and re.search(r"[^s]s$", word) for word in found[1:])
    return plural or not SEVERAL.isdisjoint(found)


def schema_of(value: Any) -> dict[str, Any]:
    """The schema of a value that was given, as an input of a plan says it."""
    match value:
        case None:
            return {"type": "null"}
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer"}
        case float():
            return {"type": "number"}
        case str():
            return {"type": "string"}
        case list():
            kinds = {repr(schema_of(item)): schema_of(item) for item in value}
            return {"type": "array"} | ({"items": next(iter(kinds.values()))} if len(kinds) == 1 else {})
        case _:
            return {"type": "object"}


def as_input(schema: Any) -> dict[str, Any] | None:
    """A parameter's schema as that of a plan's input, or None where an input cannot be of that kind."""
    if not isinstance(schema, Mapping):
        return None
    branches = [one for one in schema.get("anyOf") or () if one != {"type": "null"}]
    if len(branches) == 1:
        return as_input(branches[0])
    if schema.get("type") not in INPUT_TYPES:
        return None
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("items", "additionalProperties") and isinstance(value, Mapping):
            below = as_input(value)
            if below is not None:
                kept[key] = below
        elif key == "properties":
            below_each = {name: as_input(one) for name, one in value.items()}
            kept[key] = {name: one for name, one in below_each.items() if one is not None}
        elif key in KNOWN["input"]:
            kept[key] = value
    return kept
