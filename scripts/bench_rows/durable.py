"""Durable plans of a thousand steps that do nothing, through the real platform: a chain, and a fan 1 -> 998 -> 1.

Two times are taken. *As journaled* is from the RunAccepted to the RunFinished event. *As the client sees it* begins with `submit`
(reading, checking and packing the plan, a process for the run, a cell where there is none) and ends when a client that watches
the run has the last view. A first run in the same pool warms the cell; every run has a process of its own.

The floors are what the same durability costs without a platform: one fdatasync after the other, and SQLite with a commit a step.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from .row import Row, measured, spread
from .stage import Run, Stage

BENCH = "plans"
TASKS = 1_000
ROUNDS = 3
GOAL_S = 1.0
RECORD = bytes(range(200))

HEAD = """
apiVersion: aip/v1
kind: Plan
metadata: {name: steps}
agents:
  worker: {use: "agents:Worker", replicas: {min: 1, max: 64}}
tasks:
"""
STEP = "  t{number}: {{agent: worker, capability: step, with: {{n: {number}}}, needs: [{needs}]}}\n"


def chain(tasks: int) -> str:
    """Each needs the one before."""
    return _plan([[number - 1] if number else [] for number in range(tasks)])


def fan(tasks: int) -> str:
    """One, then all but two at once, then one that needs them all."""
    middle = list(range(1, tasks - 1))
    return _plan([[], *([0] for _ in middle), middle])


def _plan(needs: list[list[int]]) -> str:
    return HEAD + "".join(
        STEP.format(number=number, needs=", ".join(f"t{other}" for other in others))
        for number, others in enumerate(needs)
    )


def rows(stage: Stage, *, tasks: int = TASKS, rounds: int = ROUNDS) -> list[Row]:
    shapes = {"chain": stage.plan("chain", chain(tasks)), "fan": stage.plan("fan", fan(tasks))}
    stage.run(stage.plan("warm", chain(10)))
    runs: dict[str, list[Run]] = {shape: [] for shape in shapes}
    syncs, commits = [], []
    for _ in range(rounds):
        for shape, plan in shapes.items():
            runs[shape].append(stage.run(plan))
        syncs.append(sync_floor_s(stage.home.root / "floor", tasks))
        commits.append(sqlite_floor_s(stage.home.root / "floor.db", tasks))
    floors = {
        f"{tasks:,} fdatasyncs in a row": spread(syncs).median,
        "SQLite WAL FULL, a commit a step": spread(commits).median,
    }
    return [row for shape in shapes for row in _rows(shape, tasks, runs[shape], floors)]


def _rows(shape: str, tasks: int, runs: list[Run], floors: dict[str, float]) -> list[Row]:
    name = f"{shape} of {tasks:,} steps"
    (syncs, syncs_s), (commits, commits_s) = floors.items()
    cpu_ms = spread([run.cpu_s for run in runs]).median / tasks * 1e3
    fsyncs = [run.view["fsyncs"] for run in runs if "fsyncs" in run.view]
    note = f"{cpu_ms:.2f} ms CPU a step, all processes"
    if fsyncs:
        note += f"; {spread(fsyncs).median:.0f} fsyncs of the run's journal"
    return [
        measured(
            BENCH,
            f"{name}, as journaled",
            [run.run_s for run in runs],
            "s",
            reference=syncs,
            reference_value=syncs_s,
            goal=GOAL_S,
            note=note,
        ),
        measured(
            BENCH,
            f"{name}, as the client sees it",
            [run.client_s for run in runs],
            "s",
            reference=commits,
            reference_value=commits_s,
            note=f"{spread([run.starting_s for run in runs]).median:.2f} s of it until RunAccepted",
        ),
    ]


def sync_floor_s(path: Path, count: int) -> float:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def sync(_: int) -> None:
        os.write(descriptor, RECORD)
        os.fdatasync(descriptor)

    try:
        return _timed(sync, count)
    finally:
        os.close(descriptor)


def sqlite_floor_s(path: Path, count: int) -> float:
    path.unlink(missing_ok=True)
    database = sqlite3.connect(path, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE steps (id INTEGER PRIMARY KEY, result BLOB)")
        return _timed(
            lambda number: database.execute("INSERT INTO steps (result) VALUES (?)", (RECORD,)), count
        )
    finally:
        database.close()


def _timed(act: Callable[[int], object], count: int) -> float:
    began = time.perf_counter()
    for number in range(count):
        act(number)
    return time.perf_counter() - began
