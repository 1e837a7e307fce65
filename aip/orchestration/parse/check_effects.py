"""A plan against the connectors that the platform has: a grant of one that is not there is most likely misspelt.

The operator's list may change between the check and the run, and the file beside a plan is seldom that of the platform it will
run on: so this is a caution where a file is checked, and a problem where a platform is about to take the plan.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ..plan import Plan
from ..suggestion import nearest
from .problem import Problem, quoted

SHOWN_MAX = 10


def unknown_connectors(plan: Plan, connectors: Collection[str]) -> Iterator[Problem]:
    """Every grant of a connector that is not among these."""
    known = sorted(connectors)
    for agent in plan.agents.values():
        place = agent.position
        for name in agent.effects:
            if name not in known:
                hint = nearest(name, known) or (
                    f"it has {', '.join(known[:SHOWN_MAX])}" if known else "see docs/effects.md"
                )
                message = f"agents.{agent.name}.effects: the platform's effects.yaml has no {quoted(name)}"
                yield Problem("check.effects", place.file, place.line, place.column, message, hint)
