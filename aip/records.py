"""What runs leave behind, read from their files: no platform, no lock, nothing changed.

runs/<run>/spec.msgpack   what was submitted
runs/<run>/journal/       every event
runs/<run>/view.json      the last view, while the run is at its end
runs/<run>/log.jsonl      what its agents said
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import AIPError, NotFound
from .orchestration import run_events as ev
from .orchestration.artifact import ArtifactRef, ArtifactStore
from .orchestration.parse import parse
from .orchestration.run import RunMachine
from .orchestration.run_view import view
from .runtime import codec
from .runtime.journal_copy import open_copy
from .settings import DEFAULT_LIMITS, Home

LOG_READ_BYTES = 1 << 20


def _folder(home: Home, run: str) -> Path:
    folder = home.runs / run
    if not run or "/" in run or not folder.is_dir():
        raise NotFound(f"there is no run {run!r}", hint="see `aip run list`")
    return folder


def stored_events(home: Home, run: str, after: int = 0) -> Iterator[dict[str, Any]]:
    """Every event of a run as plain JSON, with its index in the journal."""
    for index, event in ev.recorded(open_copy(_folder(home, run) / "journal"), after):
        yield {"index": index, **ev.to_json(event)}


def stored_run(home: Home, run: str) -> dict[str, Any]:
    """The last view of a run: the one written at its end, else folded from its journal."""
    folder = _folder(home, run)
    ended = folder / "view.json"
    if ended.exists():
        shown: dict[str, Any] = json.loads(ended.read_text())
        return shown
    machine = _fold(home, run, folder)
    if machine is None:
        return {
            "run": run,
            "plan": "",
            "state": "accepted",
            "reason": "",
            "accepted_at_s": None,
            "finished_at_s": None,
            "tasks": {},
            "gates": [],
            "critical_path": [],
            "version": -1,
        }
    return {**view(machine), "outputs": None, "version": -1}


def _fold(home: Home, run: str, folder: Path) -> RunMachine | None:
    events = [event for _, event in ev.recorded(open_copy(folder / "journal"))]
    if not events:
        return None
    accepted = events[0]
    assert isinstance(accepted, ev.RunAccepted)
    plan = parse(accepted.plan_source.encode(), f"{run}/plan.yaml", DEFAULT_LIMITS)
    store = ArtifactStore(home.artifacts)

    def load(ref: ArtifactRef) -> Any:
        return codec.decode(store.get(ref))

    machine = RunMachine(plan, load=load, rng=random.Random(0))
    for event in events:
        machine.run.apply(event)
    return machine


def stored_runs(home: Home) -> list[dict[str, Any]]:
    """Short views of every run, newest first. One that cannot be read says why instead of hiding."""
    found = []
    for folder in sorted(home.runs.iterdir(), reverse=True) if home.runs.is_dir() else []:
        try:
            shown = stored_run(home, folder.name)
        except AIPError as error:
            shown = {
                "run": folder.name,
                "plan": "",
                "state": "unreadable",
                "reason": error.message,
                "tasks": {},
            }
        found.append(
            {
                "run": shown["run"] or folder.name,
                "plan": shown["plan"],
                "state": shown["state"],
                "reason": shown.get("reason", ""),
                "submitted_by": shown.get("submitted_by", ""),
                "accepted_at_s": shown.get("accepted_at_s"),
                "finished_at_s": shown.get("finished_at_s"),
                "tasks": len(shown["tasks"]),
                "tasks_done": sum(
                    task["state"] in ("succeeded", "skipped") for task in shown["tasks"].values()
                ),
            }
        )
    return found


def log_lines(home: Home, run: str, offset: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Whole lines of a run's log from a byte offset on, each with the offset behind it."""
    path = _folder(home, run) / "log.jsonl"
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield offset, json.loads(line)


def stored_logs(home: Home, run: str, task: str | None = None) -> Iterator[dict[str, Any]]:
    for _, line in log_lines(home, run):
        if task is None or line["task"] == task:
            yield line
