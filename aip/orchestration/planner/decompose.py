"""From a goal to tasks: a hierarchical task network, taken apart forward, in total order.

Source: Nau, Cao, Lotem and Muñoz-Avila, "SHOP: Simple Hierarchical Ordered Planner", IJCAI 1999. Its terms here:

    SHOP                here
    operator            a capability that some agent offers
    precondition        each parameter it requires can be fed by what is there (`feed`), and its answer fits what is asked of it
    effect              its answer is there for what comes after
    compound task       a goal: words
    method              `method.Method`: it reads a goal, and has steps
    state               the draft: tasks so far, with what each gives; the inputs

A goal is reached by a method, heaviest reading first and the user's own before the shipped ones, or by one capability that is
what the goal says. Steps are taken in the order they will be run, so that whenever a capability is considered all that can feed
it is known. What fails is taken back and the next way is tried: a search in depth, by generators.

When is a capability what the words say? Its score orders the candidates; whether there is one at all is decided by coverage: of
each part of the phrase (`phrase`) it must know the first word (what is to be *done*), and of all of them COVERAGE_MIN of the
words up to a preposition (what it is done *to*). What stands behind is data. What is said to happen in a row (`then`) is never
one capability's, and what comes later must be fed by something earlier: tasks side by side are no pipeline. This refuses more
than a person would, which is the side to err on: a refusal says which words were not understood, a wrong chain costs money.

Deterministic: equal goals, methods, offers and inputs give equal plans. Bounded: DEPTH_MAX and SEARCH_MAX, both told when they
are what ended the search.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...errors import AIPError
from ..parse.check import VOTE_OUTPUT
from ..template import Template
from .draft import Draft, DraftTask, Result, read_by, rewired
from .feed import Feed, said_in, schema_of, speaks_of_several
from .lexicon import Fit
from .method import Method, Reading, Step, StepKind, filled, name_of, read
from .offer import Offer, Offers
from .phrase import core, in_a_row, in_parts, orders, pieces
from .wiring import Match, items_of, list_of, match

DEPTH_MAX = 24  # Goals within goals. A pipeline of n phrases is n deep.
SEARCH_MAX = 5_000  # Ways tried, some seconds: a goal that needs more is ambiguous beyond repair.
TASKS_MAX = 200  # Of a plan made from a sentence.
CANDIDATES_MAX = 4  # Capabilities tried for one phrase, nearest first.
COVERAGE_MIN = 0.6


@dataclass(slots=True)
class Failures:
    """Why ways were not taken, for the person whose goal was not reached. First come, each once."""

    missing: dict[str, None] = field(default_factory=dict)
    refused: dict[str, None] = field(default_factory=dict)
    exhausted: str = ""


class Decomposer:
    """One search. `ways` yields drafts that reach the goal, best first."""

    def __init__(self, offers: Offers, methods: Sequence[Method], given: Mapping[str, Any]) -> None:
        self._offers = offers
        self._methods = methods
        self._given = given
        self._steps_left = SEARCH_MAX
        self.failures = Failures()

    def ways(self, goal: str) -> Iterator[tuple[Draft, Result]]:
        yield from self._goal(goal, Draft(), 0)

    # Goals

    def _goal(self, goal: str, draft: Draft, depth: int) -> Iterator[tuple[Draft, Result]]:
        if depth > DEPTH_MAX:
            self.failures.exhausted = f"goals within goals more than {DEPTH_MAX} deep"
            return
        for reading in self.readings(goal):
            if self._applies(reading) and self._go_on():
                yield from self._method(reading, draft, depth)
        phrase = core(goal)
        if in_a_row(phrase):
            self._refuse(f'"{phrase}": things to do in a row are no one capability')
            return
        yield from self._capability(Step("", StepKind.FIND, phrase), phrase, {}, draft)

    def readings(self, goal: str) -> list[Reading]:
        """How the methods read the goal: the user's own first, then by weight, then in the file's order."""
        found = [reading for method in self._methods if (reading := read(method, goal)) is not None]
        return sorted(found, key=lambda one: (one.method.shipped, -one.weight))

    def _applies(self, reading: Reading) -> bool:
        method = reading.method
        missing = [name for name in method.needs if name not in self._offers.capabilities]
        for name in missing:
            self.failures.missing[f"{name} (method {method.name} needs it)"] = None
        if missing or method.condition is None:
            return not missing
        try:
            holds = Template(method.condition).evaluate({"inputs": {**reading.slots, **self._given}})
        except AIPError as error:
            self._refuse(f"method {method.name}: its `if` cannot be told: {error.message}")
            return False
        if holds is not True:
            self._refuse(f"method {method.name}: its `if` does not hold")
        return holds is True

    def _go_on(self) -> bool:
        self._steps_left -= 1
        if self._steps_left <= 0:
            self.failures.exhausted = f"more than {SEARCH_MAX} ways to try"
        return self._steps_left > 0

    def _refuse(self, why: str) -> None:
        self.failures.refused[why] = None

    # Methods

    def _method(self, reading: Reading, draft: Draft, depth: int) -> Iterator[tuple[Draft, Result]]:
        method = reading.method
        for name, schema in _named(method.inputs, reading.slots).items():
            given = (
                {**schema_of(self._given[name]), "default": self._given[name]}
                if name in self._given
                else None
            )
            draft = draft.with_input(name, given or schema)
        origin = "shipped" if method.shipped else method.place
        draft = draft.with_notes(f"method {method.name} ({origin})")
        yield from self._steps(reading, 0, {}, draft, depth)

    def _steps(
        self, reading: Reading, index: int, results: Mapping[str, Result], draft: Draft, depth: int
    ) -> Iterator[tuple[Draft, Result]]:
        method = reading.method
        if index == len(method.steps):
            yield self._outcome(reading, results, draft)
            return
        step = method.steps[index]
        phrase = _phrase(step.text, reading)
        asked = replace(step, text=phrase, keys=filled(dict(step.keys), reading.slots))
        ways: Iterator[tuple[Draft, Result]]
        if step.kind is StepKind.GOAL:
            ways = self._goal(phrase, draft, depth + 1)
        elif step.kind is StepKind.GATE:
            ways = iter([self._gate(asked, results, draft)])
        else:
            ways = self._capability(asked, phrase, results, draft, method)
        for then, result in ways:
            yield from self._steps(reading, index + 1, {**results, step.name: result}, then, depth)

    def _outcome(self, reading: Reading, results: Mapping[str, Result], draft: Draft) -> tuple[Draft, Result]:
        output = filled(reading.method.output, reading.slots)
        if output in results:
            return replace(draft, last=results[output]), results[output]
        behind = read_by(output, results)
        expression = rewired(output, results).strip().removeprefix("${{").removesuffix("}}").strip()
        kinds = {repr(one.gives): one.gives for one in behind}
        gives = next(iter(kinds.values())) if len(kinds) == 1 else True
        last = behind[-1].task if behind else (draft.tasks[-1].name if draft.tasks else "")
        result = Result(" ".join(expression.split()), gives, last, when="none_failed")
        return replace(draft, last=result), result

    def _gate(self, step: Step, results: Mapping[str, Result], draft: Draft) -> tuple[Draft, Result]:
        name = draft.free_name(step.name)
        keys = rewired(dict(step.keys), results)
        if "needs" not in keys and draft.last is not None:
            keys["needs"] = [draft.last.task]
        keys["needs"] = [results[need].task if need in results else need for need in keys.get("needs", [])]
        if not keys["needs"]:
            del keys["needs"]
        decision = Result(f"tasks.{name}.output", {"type": "object"}, name)
        task = DraftTask(name, keys, ("a person decides here",))
        # A gate lets pass what was there: the next step is fed by what stood before it.
        return draft.with_task(task, draft.last or decision), decision

    # Capabilities

    def _capability(
        self,
        step: Step,
        phrase: str,
        results: Mapping[str, Result],
        draft: Draft,
        method: Method | None = None,
    ) -> Iterator[tuple[Draft, Result]]:
        """Tasks for a step that is one capability, best first."""
        if len(draft.tasks) >= TASKS_MAX:
            self.failures.exhausted = f"more than {TASKS_MAX} tasks"
            return
        if step.kind is StepKind.CAPABILITY:
            offers = self._offers.of(step.text)
            whose = f"named by method {method.name}" if method else "named"
            candidates = [(offer, whose, list[Any]()) for offer in offers]
            if not offers:
                self.failures.missing[f"{step.text} ({whose})"] = None
        else:
            candidates = self._near(phrase)
        for offer, why, said in _best_answer_first(candidates, step.gives):
            if self._go_on() and (way := self._task(step, offer, why, said, results, draft)) is not None:
                yield way

    def _near(self, phrase: str) -> list[tuple[Offer, str, list[Any]]]:
        parts = orders(phrase, self._given, self._offers.lexicon.knows)
        near = self._offers.near(" ".join(word for part in parts for word in part) or phrase)
        found: list[tuple[Offer, str, list[Any]]] = []
        for index, (offer, fit) in enumerate(near[:CANDIDATES_MAX]):
            if (unknown := misfit(parts, fit)) is None:
                other = (
                    f"; next {near[index + 1][0].capability} {near[index + 1][1].score:.1f}"
                    if near[index + 1 :]
                    else ""
                )
                known = ", ".join(dict.fromkeys(fit.matched))
                why = f'fits "{phrase}" by {known} (score {fit.score:.1f}{other})'
                found.append((offer, why, said_in(pieces(phrase, self._given), offer)))
            elif index == 0:
                self._refuse(f'"{phrase}": nearest is {offer.capability}, which does not know {unknown}')
        if not near:
            self.failures.missing[f'a capability to "{phrase}"'] = None
        elif not found:
            self.failures.missing[f'a capability to "{phrase}" (nearest: {near[0][0].capability})'] = None
        return found

    def _task(
        self,
        step: Step,
        offer: Offer,
        why: str,
        said: list[Any],
        results: Mapping[str, Result],
        draft: Draft,
    ) -> tuple[Draft, Result] | None:
        if step.gives is not None and match(offer.gives, step.gives) is Match.NEVER:
            self._refuse(f"{offer.capability} does not answer what step {step.name} asks for")
            return None
        keys = dict(step.keys)
        written = rewired(keys.pop("with", {}), results)
        read = read_by(step.keys, results)
        several = step.kind is StepKind.CAPABILITY or speaks_of_several(step.text)
        feed = Feed(offer, draft, results, list(said), self._given, several)
        if "for_each" in keys:
            feed.for_each = rewired(keys.pop("for_each"), results)
            feed.item = _item_schema(feed.for_each, results, draft)
        if problem := feed.wire(written):
            self._refuse(problem)
            return None
        if feed.unused and step.kind is StepKind.FIND and in_parts(step.text):
            # `greet Ada and Bob` is not done by greeting Ada.
            self._refuse(f"{offer.capability} takes one thing and not also {', '.join(feed.unused)}")
            return None
        if problem := _left_alone(step, feed, read, keys, draft):
            self._refuse(problem)
            return None
        name = draft.free_name(step.name or offer.capability.rpartition(".")[2])
        if draft.tasks and "gate" in draft.tasks[-1].keys and "needs" not in keys:
            keys["needs"] = [draft.tasks[-1].name]
        made = _keys(offer, feed, rewired(keys, results), [*read, *feed.read], results)
        voters = (keys.get("assign") or {}).get("voters", 1)
        grown = feed.draft
        if offer.agent is not None:
            grown = grown.with_agent(offer.agent, offer.use, voters if isinstance(voters, int) else 1)
        elif "assign" in keys:
            self._refuse(
                f"{offer.capability}: a vote needs a named agent; plan from agents, not the registry"
            )
            return None
        comments = [f"{offer.capability} {why}", *feed.comments]
        comments += [f"said and not used: {one}" for one in feed.unused]
        gives = VOTE_OUTPUT if "assign" in keys else offer.gives
        if feed.for_each is not None:
            gives = list_of(gives)
        result = Result(f"tasks.{name}.output", gives, name)
        return grown.with_task(DraftTask(name, made, tuple(comments)), result), result


def misfit(parts: Sequence[Sequence[str]], fit: Fit) -> str | None:
    """Which words of the phrase, part by part, the fit does not know, where they decide that it is none."""
    known = set(fit.matched)
    head = [word for part in parts for word in part]
    if not head:
        return "anything of it"
    missing = [word for word in head if word not in known]
    if any(part[0] not in known for part in parts) or len(missing) > (1 - COVERAGE_MIN) * len(head):
        return ", ".join(missing)
    return None


def _keys(
    offer: Offer, feed: Feed, keys: dict[str, Any], read: Sequence[Result], results: Mapping[str, Result]
) -> dict[str, Any]:
    """The task as plan.yaml has it, in the order in which people write it."""
    made: dict[str, Any] = {}
    if feed.for_each is not None:
        made["for_each"] = feed.for_each
    if offer.agent is not None:
        made["agent"] = offer.agent
    made["capability"] = offer.capability
    if feed.arguments:
        made["with"] = feed.arguments
    if "needs" in keys:
        keys["needs"] = [results[need].task if need in results else need for need in keys["needs"]]
    if "when" not in keys and any(one.when for one in read):
        keys["when"] = next(one.when for one in read if one.when)
    return made | keys


def _left_alone(step: Step, feed: Feed, read: Sequence[Result], keys: dict[str, Any], draft: Draft) -> str:
    """Why a step that words asked for, after others, would do nothing with what they did; or nothing.

    A method's author who names a capability knows why. Words in a row mean that one thing serves the next: where no answer
    feeds it, tasks side by side would look like a plan and be none.
    """
    if step.kind is not StepKind.FIND or draft.last is None or read or feed.read or "needs" in keys:
        return ""
    if feed.offer.required:
        return f"{feed.offer.capability} takes nothing of what {draft.last.task} gives"
    keys["needs"] = [draft.last.task]
    return ""


def _best_answer_first(
    candidates: Sequence[tuple[Offer, str, list[Any]]], gives: Any
) -> list[tuple[Offer, str, list[Any]]]:
    """Where a step asks for an answer, those that are sure to give it come first."""
    if gives is None:
        return list(candidates)
    return sorted(candidates, key=lambda one: -match(one[0].gives, gives))


def _item_schema(for_each: Any, results: Mapping[str, Result], draft: Draft) -> Any:
    """The schema of what a for_each goes over, as far as it is known."""
    if isinstance(for_each, list):
        kinds = {repr(schema_of(item)): schema_of(item) for item in for_each}
        return next(iter(kinds.values())) if len(kinds) == 1 else True
    for result in [*results.values(), *([draft.last] if draft.last else [])]:
        if for_each == result.whole and (item := items_of(result.gives)) is not None:
            return item
    found = re.fullmatch(r"\$\{\{\s*inputs\.(\w+)\s*\}\}", str(for_each))
    schema = draft.inputs.get(found[1], {}) if found else {}
    return schema.get("items", True)


def _phrase(text: str, reading: Reading) -> str:
    """The words of a step, its slots as the goal has them: quotes stay, so that data stays data."""
    for name, slot in reading.slots.items():
        text = text.replace("{" + name + "}", slot)
    return text


def _named(inputs: Mapping[str, Any], slots: Mapping[str, str]) -> dict[str, Any]:
    """A method's inputs; a slot in a name is made a name of."""
    names = {slot: name_of(text) for slot, text in slots.items()}
    return {filled(name, names): filled(schema, slots) for name, schema in inputs.items()}
