"""Kills the audit log's writer, again and again, and counts what it acknowledged and lost: `audit_crash.py DIR [RUNS] [SEED]`.

One folder for all runs, as a platform's is. The writer is a process of its own: it appends batches, waits for the fsync, tells
the number of the last entry through a pipe - that is the acknowledgement -, and signs and seals as it goes. It is killed with
SIGKILL at a random moment: every other time behind its first acknowledgement, else while it opens the log too. After each run
every acknowledged entry must be in the log; at the end the whole log must verify, its last checkpoint included. Prints one JSON
object; the exit code is 1 if anything was lost.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from aip.governance.audit import Batch, Noted, entries, log_path, verify
from aip.governance.log_writer import LogWriter
from aip.governance.note import Signer

RUNS = 1_000
WORK_S_MAX = 0.03  # A run's random length: opening takes a few milliseconds of it, a batch and its fsync about as much.
SEGMENT_BYTES_MAX = 64 * 2**10  # Small, so that many a kill falls into sealing.
BATCH = 5
KEY = Signer("crash.example/audit", bytes(32))


@dataclass(slots=True)
class Told:
    runs: int = 0
    killed: int = 0
    acknowledged: int = 0
    entered: int = 0
    lost: int = 0
    verified: bool = False


def write(folder: Path, producer: str, acknowledge: int) -> None:
    """Until it is killed."""
    writer = LogWriter(folder, KEY, segment_bytes_max=SEGMENT_BYTES_MAX)
    number = 0
    while True:
        notes = [Noted(number + n, time.time(), "crash", producer, {"pad": "x" * 200}) for n in range(BATCH)]
        writer.take(Batch(producer, notes, durable=True))
        writer.sync()
        number += BATCH
        os.write(acknowledge, number.to_bytes(8, "big"))
        statement = writer.statement()
        if statement is not None:
            writer.publish(*statement)


def run(folder: Path, producer: str, work_s: float, *, at_work: bool) -> tuple[bool, int]:
    """Whether it died of the kill, and how many entries it had acknowledged. `at_work`: some, however slow the machine is."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        try:
            write(folder, producer, write_end)
        finally:
            os._exit(1)
    os.close(write_end)
    first = os.read(read_end, 8) if at_work else b""
    time.sleep(work_s)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with open(read_end, "rb") as pipe:
        told = first + pipe.read()
    acknowledged = int.from_bytes(told[-8:], "big")
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, acknowledged


def crash(folder: Path, runs: int, seed: int) -> Told:
    rng, told, known = random.Random(seed), Told(), 0
    for number in range(runs):
        producer = f"writer#{number}"
        killed, acknowledged = run(folder, producer, rng.uniform(0, WORK_S_MAX), at_work=number % 2 == 1)
        told.runs += 1
        told.killed += killed
        told.acknowledged += acknowledged
        found = list(entries(folder, known)) if log_path(folder).exists() else []
        told.entered += len(found)
        known += len(found)
        there = {entry["number"] for entry in found if entry["producer"] == producer}
        told.lost += sum(wanted not in there for wanted in range(acknowledged))
    report = verify(log_path(folder))
    told.verified = report.ok
    for problem in report.problems:
        print(problem, file=sys.stderr)
    return told


def main() -> int:
    folder, runs = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else RUNS
    told = crash(folder, runs, int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    print(json.dumps({"bench": "audit", "row": "entries lost in kill -9 of the writer", **asdict(told)}))
    return int(told.lost > 0 or not told.verified or told.killed < told.runs)


if __name__ == "__main__":
    sys.exit(main())
