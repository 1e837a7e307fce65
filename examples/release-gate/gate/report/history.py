"""What a run's records say about its course, as the timeline wants it (`timeline.py`).

Pure: the records are handed in as plain values. `view` is the platform's view of the run, `audit` its audit entries in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

LOSSES_SHOWN_MAX = 100  # A platform in a crash loop must not fill the page.
_LOSSES = {"process.ended", "cell.killed_blocked", "supervisor.gave_up"}
_MEANT = {"normal", "shutdown"}  # Exits that somebody asked for.


def history(view: Mapping[str, Any], audit: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Tasks that began, in the order they did; and what was lost while the run was at work."""
    start_s = float(view["accepted_at_s"] or 0.0)
    critical = {step["task"] for step in view["critical_path"]}
    tasks = [
        _row(name, task, start_s, name in critical)
        for name, task in view["tasks"].items()
        if task["started_at_s"] is not None
    ]
    tasks.sort(key=lambda row: (row["start_s"], row["name"]))
    lost = [
        {"what": _what(entry), "at_s": round(entry["at"] - start_s, 3)}
        for entry in audit
        if entry["at"] >= start_s and entry["kind"] in _LOSSES and _unmeant(entry)
    ]
    return {"id": view["run"], "tasks": tasks, "killed": lost[:LOSSES_SHOWN_MAX]}


def _row(name: str, task: Mapping[str, Any], start_s: float, critical: bool) -> dict[str, Any]:
    """A task that is still at work (the one that writes the report) ends where it begins."""
    began_s = task["started_at_s"] - start_s
    ended_s = (task["finished_at_s"] or task["started_at_s"]) - start_s
    return {
        "name": name,
        "start_s": round(began_s, 3),
        "end_s": round(max(began_s, ended_s), 3),
        "state": task["state"],
        "attempts": task["attempts"],
        "critical": critical,
    }


def _unmeant(entry: Mapping[str, Any]) -> bool:
    return entry["kind"] != "process.ended" or entry["detail"].get("exit") not in _MEANT


def _what(entry: Mapping[str, Any]) -> str:
    return f"{entry['subject']}, {entry['kind']}"
