"""A goal to the text of a plan, or to an honest no.

    plan = make("find pages about 'bees', then summarise them", offers, methods, {})
    plan.text        plan.yaml, with the reasons as comments

The text is parsed and checked against the agents' own schemas before it is handed out, by the same code that reads a plan of a
person. A way that does not pass is not taken; the next one is tried. Where none is left `NoMethod` says what was in the way:
which methods were near, which capabilities are missing, which words nobody knew. It never makes a chain to have made one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...errors import PlanInvalid, UsageError
from ...settings import DEFAULT_LIMITS, Limits
from ..parse import check, parse
from ..parse.problem import Problem
from ..plan import Plan
from ..suggestion import nearest
from .decompose import Decomposer
from .draft import Draft, Result, as_yaml, plan_name
from .lexicon import Lexicon
from .method import GOAL_CHARS_MAX, Method
from .offer import Offers
from .phrase import one_sentence
from .templates import templates

WAYS_MAX = 20  # Ways that reach the goal but do not pass the check; a twenty-first will not either.
NEAREST_SHOWN_MAX = 3
FILE = "plan.yaml"


class NoMethod(PlanInvalid):
    """No plan: `details` has `nearest` methods, `missing` capabilities, and what was `refused` and why."""

    code = "plan.invalid.no_method"


@dataclass(frozen=True, slots=True)
class Made:
    """`text` passes the checks; `notes` say by which methods; `unused` are inputs that nothing reads."""

    text: str
    plan: Plan
    notes: tuple[str, ...]
    unused: tuple[str, ...]


def make(
    goal: str,
    offers: Offers,
    methods: Sequence[Method] = (),
    given: Mapping[str, Any] | None = None,
    *,
    template: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Made:
    """The plan for a goal. Raises `NoMethod`, or `UsageError` for what is no goal."""
    goal, told = one_sentence(goal), " ".join(goal.split())
    given = given or {}
    if not goal or len(goal) > GOAL_CHARS_MAX:
        raise UsageError(
            f"a goal has 1 to {GOAL_CHARS_MAX} characters, not {len(goal)}",
            hint='say what is to be done: aip plan make "find pages about bees, then summarise them"',
        )
    known = [*methods, *templates()]
    search = Decomposer(offers, known if template is None else [only(known, template), *known], given)
    if template is not None and not any(one.method.name == template for one in search.readings(goal)):
        forms = "; ".join(only(known, template).patterns[:NEAREST_SHOWN_MAX])
        raise NoMethod(f"the goal does not have the form of {template}", hint=f"it reads: {forms}")
    problems: list[Problem] = []
    for number, (draft, result) in enumerate(search.ways(goal)):
        if number >= WAYS_MAX:
            break
        if template is not None and not any(note.startswith(f"method {template} ") for note in draft.notes):
            continue
        text = _text(told, draft, result)
        try:
            plan = parse(text.encode(), FILE, limits)
        except PlanInvalid as error:
            problems = problems or [Problem(**one) for one in error.details.get("problems", [])]
            continue
        if found := check(plan, manifests_of(offers)):
            problems = problems or found
            continue
        unused = tuple(name for name in given if name not in plan.inputs)
        return Made(text, plan, draft.notes, unused)
    raise _no_method(told, known, search, problems)


def only(methods: Sequence[Method], name: str) -> Method:
    """The method of that name. Raises `UsageError` with the nearest."""
    for method in methods:
        if method.name == name:
            return method
    names = [method.name for method in methods]
    raise UsageError(
        f"there is no template or method {name!r}", hint=nearest(name, names) or f"known: {', '.join(names)}"
    )


def manifests_of(offers: Offers) -> dict[str, dict[str, Any]]:
    """What the plan's agents can do, by the plan's names for them: for the check of a made plan."""
    found: dict[str, dict[str, Any]] = {}
    for offer in offers:
        if offer.agent is not None:
            told = found.setdefault(offer.agent, {"capabilities": {}})
            told["capabilities"][offer.capability] = {"input": offer.takes, "output": offer.gives}
    return found


def _text(goal: str, draft: Draft, result: Result) -> str:
    head = [f"Goal: {goal}", "Made by `aip plan make`; each task says why it is there."]
    return as_yaml(draft, plan_name(goal), {"result": result.whole}, head)


def _no_method(
    goal: str, methods: Sequence[Method], search: Decomposer, problems: Sequence[Problem]
) -> NoMethod:
    near = Lexicon({method.name: method.texts for method in methods if not method.shipped}).fits(goal)
    by_name = {method.name: method for method in methods}
    shown = [
        {"method": fit.name, "goal": list(by_name[fit.name].patterns[:1]), "knows": list(fit.matched)}
        for fit in near[:NEAREST_SHOWN_MAX]
    ]
    failures = search.failures
    told = [*(f"missing: {one}" for one in failures.missing), *failures.refused]
    if failures.exhausted:
        told.insert(0, f"the search ended early: {failures.exhausted}")
    told += [f"nearest method: {one['method']} ({'; '.join(one['goal'])})" for one in shown]
    told += [str(problem) for problem in problems]
    return NoMethod(
        "no method for this goal",
        hint="say it with the agents' own words, put data in quotes, add a method to methods.yaml, or use --model",
        goal=goal,
        nearest=shown,
        missing=list(failures.missing),
        refused=list(failures.refused),
        problems=told,
        invalid=[asdict(problem) for problem in problems],
    )
