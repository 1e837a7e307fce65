"""What earlier runs of a plan took, from their journals: a new run starts first what took longest (`planner.weigh`).

Only runs that have ended count: those with a last view. They are looked for newest first, by the plan's name, and within bounds,
since a run waits for it before it begins. What cannot be read is left out and told: an old journal that is damaged is no reason
not to run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aip.errors import AIPError
from aip.orchestration import run_events as ev
from aip.orchestration.parse import parse
from aip.orchestration.plan import Plan
from aip.orchestration.planner import measure, weights
from aip.runtime import journal_copy
from aip.settings import DEFAULT_LIMITS, Home

from .sub_run import VIEW_FILE

RUNS_MAX = 3  # The newest weigh most anyway, and a thousand steps take about 30 ms to read.
LOOKED_AT_MAX = 50  # Runs of other plans that stand between.
FILE_BYTES_MAX = 8 * 2**20  # Of a view, and of a journal: a plan of 20,000 tasks.

Earlier = tuple[Plan, list[dict[str, Any]]]


def measured_weights(
    home: Home, run: str, plan: Plan, inputs: Mapping[str, Any]
) -> tuple[dict[str, float] | None, dict[str, str]]:
    """Seconds by task as far as earlier runs tell, else None; and the runs that could not be read, with the reason."""
    found: list[Earlier] = []
    unreadable: dict[str, str] = {}
    for folder in _ended(home, run):
        try:
            if _plan_name(folder) == plan.name:
                found.append(_read(folder, plan))
        except (AIPError, OSError, ValueError) as error:
            unreadable[folder.name] = str(error)[:200]
        if len(found) >= RUNS_MAX:
            break
    return weights(plan, measure(reversed(found)), inputs), unreadable


def _ended(home: Home, run: str) -> Iterator[Path]:
    """The folders of runs that have ended, newest first: a run's name begins with its time."""
    looked_at = 0
    for folder in sorted(home.runs.iterdir(), reverse=True) if home.runs.is_dir() else ():
        if folder.name != run and (folder / VIEW_FILE).is_file():
            yield folder
            looked_at += 1
            if looked_at >= LOOKED_AT_MAX:
                return


def _plan_name(folder: Path) -> str:
    view = folder / VIEW_FILE
    return "" if view.stat().st_size > FILE_BYTES_MAX else str(json.loads(view.read_bytes())["plan"])


def _read(folder: Path, plan: Plan) -> Earlier:
    place = folder / "journal"
    if sum(path.stat().st_size for path in journal_copy.files(place)) > FILE_BYTES_MAX:
        raise ValueError(f"its journal is larger than {FILE_BYTES_MAX} bytes")
    events = [event for _, event in ev.recorded(journal_copy.open_copy(place))]
    accepted = events[0] if events else None
    if not isinstance(accepted, ev.RunAccepted):
        raise ValueError("it was never accepted")
    is_same = accepted.plan_digest == plan.digest
    of_run = plan if is_same else parse(accepted.plan_source.encode(), folder.name, DEFAULT_LIMITS)
    return of_run, [ev.to_json(event) for event in events]
