"""The journal beside its floor (bare writes and fsyncs to the same disk) and beside SQLite in WAL mode, synchronous FULL."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aip.runtime.disk import DiskStorage
from aip.runtime.group_commit import GroupCommit
from aip.runtime.journal import Journal

PAYLOAD = bytes(range(200))
RECORD_BYTES = 227
ROUNDS = 3
APPENDS = 40_000
SYNCS = 40
GROUPS = (1, 16, 128)
ONE_BY_ONE_GOAL = 100_000
BATCH_GOAL = 200_000
GROUP_RATIO_GOAL = (
    1.0  # Durable records a second, over SQLite's rows a second in transactions of the same size.
)


def rows() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="aip-bench-") as folder:
        place = Path(folder)
        return [
            *_append_rows(place),
            _replay_row(place),
            *(_batch_row(place, group) for group in GROUPS),
            *(_waiters_row(place, group) for group in GROUPS),
        ]


def _append_rows(place: Path) -> list[dict[str, Any]]:
    batch = [(1, PAYLOAD)] * 100

    def one_by_one(journal: Journal) -> None:
        for _ in range(APPENDS):
            journal.append(1, PAYLOAD)

    def in_batches(journal: Journal) -> None:
        for _ in range(APPENDS // 100):
            journal.append_many(batch)

    single = _median_rate(APPENDS, lambda round_: _timed_journal(place, f"one-{round_}", one_by_one))
    batched = _median_rate(APPENDS, lambda round_: _timed_journal(place, f"many-{round_}", in_batches))
    floor = _median_rate(APPENDS, lambda round_: _timed_writes(place / f"floor-{round_}", APPENDS))
    return [
        _row("append one by one, 200 B", single, "records/s", "bare write()", floor, ONE_BY_ONE_GOAL, single),
        _row("append in batches of 100", batched, "records/s", "bare write()", floor, BATCH_GOAL, batched),
    ]


def _replay_row(place: Path) -> dict[str, Any]:
    """Reads back what `append one by one` left, CRCs checked."""

    def replay(round_: int) -> float:
        journal = Journal(DiskStorage(place / f"one-{round_}", "bench"))
        begun = time.perf_counter()
        count = sum(1 for _ in journal.replay())
        took_s = time.perf_counter() - begun
        journal.close()
        assert count == APPENDS
        return took_s

    rate = _median_rate(APPENDS, replay)
    return _row("replay", rate, "records/s", "", None, BATCH_GOAL, rate)


def _batch_row(place: Path, group: int) -> dict[str, Any]:
    """One writer: so many records in one append and one sync, beside so many rows in one transaction."""

    def ours(round_: int) -> float:
        return _timed_sync(place / f"batch-{group}-{round_}", group)

    def theirs(round_: int) -> float:
        return _timed_sqlite(place / f"batch-{group}-{round_}.db", 1, group)

    return _durable_row(
        f"durable, batches of {group}", "SQLite WAL FULL, same batch", SYNCS * group, ours, theirs
    )


def _waiters_row(place: Path, group: int) -> dict[str, Any]:
    """So many writers, each of which needs its own record durable before its next one, in one event loop."""

    def ours(round_: int) -> float:
        return asyncio.run(_timed_group(place / f"group-{group}-{round_}", group))

    def theirs(round_: int) -> float:
        return _timed_sqlite(place / f"group-{group}-{round_}.db", group, 1)

    return _durable_row(
        f"durable, {group} writers", "SQLite WAL FULL, a commit each", SYNCS * group, ours, theirs
    )


def _durable_row(
    row: str, reference: str, count: int, ours: Callable[[int], float], theirs: Callable[[int], float]
) -> dict[str, Any]:
    """Both in turns, so that a disk that is busy for a while is busy for both."""
    pairs = [(count / ours(round_), count / theirs(round_)) for round_ in range(ROUNDS)]
    rate, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    return _row(row, rate, "records/s", reference, other, GROUP_RATIO_GOAL, rate / other)


async def _timed_group(folder: Path, group: int) -> float:
    journal = Journal(DiskStorage(folder, "bench"))
    with ThreadPoolExecutor(1) as executor:
        commit = GroupCommit(journal, executor)

        async def writer() -> None:
            for _ in range(SYNCS):
                await commit.durable(journal.append(1, PAYLOAD))

        begun = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(group):
                tasks.create_task(writer())
        took_s = time.perf_counter() - begun
    journal.close()
    return took_s


def _timed_sync(folder: Path, group: int) -> float:
    journal = Journal(DiskStorage(folder, "bench"))
    batch = [(1, PAYLOAD)] * group
    begun = time.perf_counter()
    for _ in range(SYNCS):
        journal.append_many(batch)
        journal.sync()
    took_s = time.perf_counter() - begun
    journal.close()
    return took_s


def _timed_sqlite(file: Path, writers: int, rows_a_commit: int) -> float:
    database = sqlite3.connect(file, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE log (id INTEGER PRIMARY KEY, payload BLOB)")
    batch = [(PAYLOAD,)] * rows_a_commit
    begun = time.perf_counter()
    for _ in range(SYNCS * writers):
        database.execute("BEGIN")
        database.executemany("INSERT INTO log (payload) VALUES (?)", batch)
        database.execute("COMMIT")
    took_s = time.perf_counter() - begun
    database.close()
    return took_s


def _timed_journal(place: Path, name: str, act: Callable[[Journal], None]) -> float:
    journal = Journal(DiskStorage(place / name, "bench"))
    begun = time.perf_counter()
    act(journal)
    took_s = time.perf_counter() - begun
    journal.close()
    return took_s


def _timed_writes(file: Path, count: int) -> float:
    data = bytes(RECORD_BYTES)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    begun = time.perf_counter()
    for _ in range(count):
        os.write(descriptor, data)
    took_s = time.perf_counter() - begun
    os.close(descriptor)
    return took_s


def _median_rate(count: int, timed: Callable[[int], float]) -> float:
    return statistics.median(count / timed(round_) for round_ in range(ROUNDS))


def _row(
    row: str,
    value: float,
    unit: str,
    reference: str,
    reference_value: float | None,
    goal: float,
    judged: float,
) -> dict[str, Any]:
    return {
        "bench": "journal",
        "row": row,
        "value": round(value),
        "unit": unit,
        "reference": reference,
        "reference_value": None if reference_value is None else round(reference_value),
        "ratio": None if reference_value is None else round(value / reference_value, 2),
        "goal": goal,
        "met": judged >= goal,
    }
