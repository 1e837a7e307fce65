"""What a process accounts for, on its way to the log."""

from __future__ import annotations

from typing import Any

from aip.governance.audit import Batch
from aip.governance.feed import ROWS_MAX, AuditFeed
from aip.runtime.envelope import Envelope, Kind


class Log:
    def __init__(self) -> None:
        self.entries: list[Any] = []

    async def append(self, batch: Batch) -> None:
        self.entries += batch.notes

    def of(self, kind: str) -> list[Any]:
        return [entry for entry in self.entries if entry.kind == kind]


def call(number: int, run: str) -> Envelope:
    return Envelope(
        id=f"c.{number}",
        kind=Kind.CALL,
        sender="a/x",
        recipient="b/y",
        capability="do",
        payload=b"",
        run=run,
        causation="c.0",
        labels=(("task", "t"), ("attempt", f"{run}/t/0/1.1")),
    )


async def test_calls_that_ended_are_one_entry_a_run_with_who_asked_whom_and_why() -> None:
    log = Log()
    feed = AuditFeed("cell-1#1", log.append, lambda: 9.0)
    feed.settled(call(1, "r-1"), 1.0, 2.0, "")
    feed.settled(call(2, "r-2"), 1.5, 2.5, "agent.failed")
    feed.settled(call(3, "r-1"), 3.0, 4.0, "")
    await feed.flush()
    one, two = log.of("messages")
    assert (one.subject, [row[0] for row in one.detail["rows"]]) == ("r-1", ["c.1", "c.3"])
    assert two.detail == {
        "run": "r-2",
        "rows": [["c.2", "c.0", "r-2/t/0/1.1", "a/x", "b/y", "do", 1.5, 2.5, "agent.failed"]],
    }


async def test_an_entry_has_a_bounded_number_of_rows() -> None:
    log = Log()
    feed = AuditFeed("cell-1#1", log.append, lambda: 9.0)
    for number in range(ROWS_MAX + 1):
        feed.settled(call(number, "r-1"), 1.0, 2.0, "")
    await feed.flush()
    assert [len(entry.detail["rows"]) for entry in log.of("messages")] == [ROWS_MAX, 1]
