"""A plan in a file: read, checked, and its problems told with the lines they stand in.

Nothing of the plan's code runs in this process: what its agents can do is asked of a child process (`aip.client.inspect_code`),
or of a sandbox where they are to run in one (`inspect_contained`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NotFound, PlanInvalid, UsageError
from ..settings import DEFAULT_LIMITS
from . import measure
from .contract import Client

if TYPE_CHECKING:
    from ..orchestration.plan import Plan


def read(path: Path) -> bytes:
    """The file's bytes, bounded: one more than is allowed is read, so that the parser can refuse it by its own rule."""
    try:
        with path.open("rb") as file:
            return file.read(DEFAULT_LIMITS.plan_bytes_max + 1)
    except FileNotFoundError:
        raise NotFound(
            f"there is no plan at {path}", hint="write one with `aip init`, or name another file"
        ) from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder", hint=f"name the plan in it: {path / 'plan.yaml'}") from None
    except PermissionError:
        raise UsageError(f"{path} may not be read by you") from None


def parsed(path: Path) -> Plan:
    """The plan. Raises `PlanInvalid` with every problem, drawn for a person."""
    from ..orchestration.parse import parse

    source = read(path)
    try:
        return parse(source, str(path), DEFAULT_LIMITS)
    except PlanInvalid as error:
        raise DrawnPlanInvalid(error, source) from None


def checked(path: Path, client: Client) -> Plan:
    """The plan, held also against what its agents say they can do."""
    from dataclasses import asdict

    from ..orchestration.parse import check

    plan = parsed(path)
    problems = check(plan, manifests(plan, path, client))
    if problems:
        count = measure.count(len(problems), "problem")
        error = PlanInvalid(
            f"{path} does not fit its agents: {count}", problems=[asdict(one) for one in problems]
        )
        raise DrawnPlanInvalid(error, read(path))
    return plan


def manifests(plan: Plan, path: Path, client: Client) -> Mapping[str, Mapping[str, Any]]:
    """What each agent of the plan can do, by the plan's name for it."""
    folder = path.absolute().parent
    strangers = {name: agent.use for name, agent in plan.agents.items() if agent.isolation == "container"}
    others = {name: agent.use for name, agent in plan.agents.items() if name not in strangers}
    # Strangers first: where there is no sandbox for them, nothing of the plan is to run.
    contained = client.inspect_contained(folder, sorted(set(strangers.values()))) if strangers else {}
    known = client.inspect_code(folder, sorted(set(others.values()))) if others else {}
    return {name: contained[use] for name, use in strangers.items()} | {
        name: known[use] for name, use in others.items() if use in known
    }


class DrawnPlanInvalid(PlanInvalid):
    """A plan's problems with the lines they stand in, for a person; a program gets the problems themselves."""

    def __init__(self, error: PlanInvalid, source: bytes) -> None:
        from ..orchestration.parse import render

        super().__init__(error.message, hint=error.hint, **error.details)
        problems = error.details.get("problems") or []
        self.count = len(problems)
        self.drawing = render(problems, source)
