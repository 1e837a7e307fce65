"""The audit log: durable events, verification, questions and proofs, at a size.

Floors of the same run: bare writes and fsyncs of the same bytes; SHA-256 over the same lines, twice an entry (its hash and its
leaf) and once more for the tree, in one call each. Rates are of one process on one core, but for `verify`, which is told for one
and for as many as there are cores; the disk is whatever the temporary folder lies on.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from aip.governance.audit import Batch, Noted, log_path, verify
from aip.governance.index import AuditIndex, Question
from aip.governance.log_writer import LogWriter
from aip.governance.note import Signer
from aip.governance.segments import lines, tree_path
from aip.governance.tree import inclusion_proof
from aip.governance.tree_files import open_tree

from .row import Row, measured, quantile

KEY = Signer("bench.example/audit", bytes(32))
SIZE = 100_000
SIZE_LARGE = 1_000_000
GROUP = 100  # Notes of one durable batch: what a cell sends in one flush under load.
WRITTEN = 40_000  # Durable events that are timed.
ROUNDS = 3
ASKED = 300
EVENTS_GOAL = 20_000
VERIFY_GOAL = 500_000
QUERY_P99_GOAL_MS = 10.0
PROOF_GOAL_MS = 5.0
KINDS = ("message.refused", "effect.begun", "effect.done", "flush", "process.started")
T0 = 1_800_000_000.0


def rows(size: int = SIZE) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="aip-bench-") as folder:
        place = Path(folder)
        return [_durable_row(place), *_rows_of_a_log(place / "log", size)]


def _durable_row(place: Path) -> Row:
    """As the process does it: write, leaves, fsync for each batch, a checkpoint for each thousand."""
    rates = []
    for round_ in range(ROUNDS):
        batches = [_batch(first, GROUP) for first in range(0, WRITTEN, GROUP)]
        writer = LogWriter(place / f"durable-{round_}", KEY)
        begun = time.perf_counter()
        for number, batch in enumerate(batches):
            writer.take(batch)
            writer.sync()
            if number % (1_000 // GROUP) == 0 and (statement := writer.statement()) is not None:
                writer.publish(*statement)
        rates.append(WRITTEN / (time.perf_counter() - begun))
        writer.close()
    floor = WRITTEN / _bare_s(place, log_path(place / "durable-0"))
    return measured(
        "audit",
        f"durable events, batches of {GROUP}",
        rates,
        "events/s",
        reference="bare writes and fsyncs of the same bytes",
        reference_value=floor,
        goal=EVENTS_GOAL,
        more_is_better=True,
    )


def _rows_of_a_log(folder: Path, size: int) -> list[Row]:
    writer = LogWriter(folder, KEY)
    for first in range(0, size, 2_000):
        writer.take(_batch(first, min(2_000, size - first)))
    writer.sync()
    if (statement := writer.statement()) is not None:
        writer.publish(*statement)
    total = writer.size
    writer.close()
    cores = len(os.sched_getaffinity(0))
    verified = [_verify_row(folder, total, processes) for processes in sorted({1, cores})]
    return [*verified, _proof_row(folder, total), *_query_rows(folder, total)]


def _verify_row(folder: Path, total: int, processes: int) -> Row:
    """The goal is the command's, which takes all cores there are."""

    def checked() -> None:
        assert verify(log_path(folder), processes=processes).ok

    rates = [total / _seconds(checked) for _ in range(ROUNDS)]
    floor = total / _seconds(lambda: _hash_all(log_path(folder)))
    return measured(
        "audit",
        f"verify {total:,} entries, {processes} at once",
        rates,
        "events/s",
        reference="SHA-256 of the same, three an entry, one core",
        reference_value=floor,
        goal=VERIFY_GOAL if processes == len(os.sched_getaffinity(0)) else None,
        more_is_better=True,
    )


def _proof_row(folder: Path, total: int) -> Row:
    rng = random.Random(1)
    tree = open_tree(tree_path(log_path(folder)), total)
    times = []
    for _ in range(ASKED):
        index = rng.randrange(total)
        times.append(_seconds(lambda index=index: inclusion_proof(tree, index)) * 1e3)  # type: ignore[misc]
    return Row("audit", f"inclusion proof of {total:,}, p99", quantile(times, 0.99), "ms", goal=PROOF_GOAL_MS)


def _query_rows(folder: Path, total: int) -> list[Row]:
    rng = random.Random(2)
    with AuditIndex(folder) as index:
        indexing_s = _seconds(index.catch_up)
        rows = [
            Row("audit", f"index {total:,} entries", total / indexing_s, "entries/s", more_is_better=True)
        ]
        for name, ask in _QUESTIONS.items():
            times = []
            for _ in range(ASKED):
                question = ask(rng, T0 + rng.random() * total * 0.8, total)
                times.append(_seconds(lambda question=question: index.answer(question)) * 1e3)  # type: ignore[misc]
            value = quantile(times, 0.99)
            rows.append(Row("audit", f"query by {name}, p99", value, "ms", goal=QUERY_P99_GOAL_MS))
    return rows


Ask = Callable[[random.Random, float, int], Question]
_QUESTIONS: dict[str, Ask] = {
    "time": lambda rng, at, total: Question(since=at, until=at + total * 0.1),
    "kind": lambda rng, at, total: Question(kind=rng.choice(KINDS), until=at),
    "kind's family": lambda rng, at, total: Question(kind="effect", since=at),
    "subject": lambda rng, at, total: Question(subject=f"agent-{rng.randrange(10_000)}/1"),
    "run": lambda rng, at, total: Question(run=f"r-{rng.randrange(1_000)}", since=at),
    "tenant and refused": lambda rng, at, total: Question(
        tenant=f"t-{rng.randrange(20)}", refused=True, until=at
    ),
    "producer": lambda rng, at, total: Question(producer=f"cell-{rng.randrange(8)}#1", until=at),
    "refused": lambda rng, at, total: Question(refused=True, since=at),
}


def _batch(first: int, count: int) -> Batch:
    notes = [
        Noted(
            n,
            T0 + n,
            KINDS[n % 5],
            f"agent-{n * 7919 % 10_000}/1",
            {
                "run": f"r-{n * 31 % 1_000}",
                "tenant": f"t-{n * 17 % 20}",
                "capability": "say",
                "code": "refused.policy",
            },
        )
        for n in range(first, first + count)
    ]
    return Batch(f"cell-{first // 2_000 % 8}#1", notes, durable=True)


def _bare_s(place: Path, log: Path) -> float:
    found = log.read_bytes().splitlines(keepends=True)
    chunks = [b"".join(found[at : at + GROUP]) for at in range(0, len(found), GROUP)]
    file = os.open(place / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    begun = time.perf_counter()
    for chunk in chunks:
        os.write(file, chunk)
        os.fdatasync(file)
    took_s = time.perf_counter() - begun
    os.close(file)
    return took_s


def _hash_all(path: Path) -> None:
    sha256, node = hashlib.sha256, bytes(65)
    for line in lines(path):
        sha256(line).digest()
        sha256(line).digest()
        sha256(node).digest()


def _seconds(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


if __name__ == "__main__":
    import json

    for row in rows(int(sys.argv[1]) if len(sys.argv) > 1 else SIZE):
        print(json.dumps(row.plain()), flush=True)
