"""The audit log: chained, gap-recording, and impossible to change in the middle without it showing."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.errors import PlatformUnavailable
from aip.governance.audit import LINE_BYTES_MAX, AuditChain, Batch, Noted, read, resume, verify
from aip.governance.feed import AuditFeed
from aip.governance.merkle import tree_head
from aip.runtime.envelope import Envelope, digest


def notes(*numbers):
    return [Noted(n, float(n), "kind", f"subject-{n}", {"n": n, "ü": "€"}) for n in numbers]


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "audit.jsonl"
    chain = AuditChain()
    path.write_bytes(chain.lines(Batch("a", notes(1, 2, 3))) + chain.lines(Batch("b", notes(1, 2))))
    return path


def test_what_was_written_verifies_and_reads_back(log):
    report = verify(log)
    assert (report.ok, report.entries, report.gaps, report.torn) == (True, 5, 0, False)
    assert [entry["subject"] for entry in read(log)] == [f"subject-{n}" for n in (1, 2, 3, 1, 2)]
    assert report.head == list(read(log))[-1]["hash"]


@given(st.data())
def test_any_changed_byte_is_found(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("log") / "audit.jsonl"
    whole = AuditChain().lines(Batch("a", notes(1, 2, 3)))
    at = data.draw(st.integers(0, len(whole) - 2))
    flipped = bytes([whole[at] ^ data.draw(st.integers(1, 255))])
    path.write_bytes(whole[:at] + flipped + whole[at + 1 :])
    report = verify(path)
    # A flip can also cut a line in two or make the tail look torn; what it can not do is pass as three good entries.
    assert not (report.ok and report.entries == 3)


@pytest.mark.parametrize("change", ["drop", "swap", "repeat", "add"])
def test_entries_cannot_be_dropped_moved_repeated_or_added(log, change):
    lines = log.read_bytes().splitlines(keepends=True)
    if change == "drop":
        del lines[1]
    elif change == "swap":
        lines[1], lines[2] = lines[2], lines[1]
    elif change == "repeat":
        lines.insert(1, lines[1])
    else:
        entry = json.loads(lines[1])
        lines.insert(2, json.dumps({**entry, "index": 2}).encode() + b"\n")
    log.write_bytes(b"".join(lines))
    assert not verify(log).ok


def test_a_torn_last_line_is_a_crash_and_a_torn_middle_is_tampering(log):
    whole = log.read_bytes()
    log.write_bytes(whole[:-10])
    report = verify(log)
    assert report.ok
    assert report.torn
    assert report.entries == 4
    log.write_bytes(b"x" * (LINE_BYTES_MAX + 5) + b"\n" + whole)
    assert not verify(log).ok


def test_a_lost_number_becomes_a_gap_and_a_repeated_one_nothing(tmp_path):
    path = tmp_path / "audit.jsonl"
    chain = AuditChain()
    path.write_bytes(
        chain.lines(Batch("a", notes(1, 2)))
        + chain.lines(Batch("a", notes(1, 2)))
        + chain.lines(Batch("a", notes(5)))
    )
    report = verify(path)
    assert (report.ok, report.entries, report.gaps) == (True, 4, 1)
    gap = next(entry for entry in read(path) if entry["kind"] == "audit.gap")
    assert gap["detail"] == {"from": 3, "to": 4}


def test_a_restarted_log_goes_on_with_the_chain_and_knows_its_producers(log):
    log.write_bytes(log.read_bytes() + b'{"torn')
    chain, size = resume(log)
    log.write_bytes(log.read_bytes()[:size] + chain.lines(Batch("a", notes(3, 5))))
    report = verify(log)
    assert (report.ok, report.entries, report.gaps) == (True, 7, 1)


class Log:
    """The receiving end of a feed, which can be down."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.down = False

    async def send(self, batch: Batch) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise PlatformUnavailable("down")
        self.batches.append(batch)


def envelope(number):
    return Envelope(f"m{number}", 0, "a/1", "b/1", "say", b"x", sequence=number)


async def test_admissions_are_entered_per_flush_with_the_root_of_their_digests():
    log = Log()
    feed = AuditFeed("cell", log.send, lambda: 1.0)
    sent = [envelope(n) for n in range(5)]
    for one in sent:
        feed.admitted(one)
    feed.note("refused", "b/1", {})
    assert await feed.flush()
    kinds = {note.kind: note for batch in log.batches for note in batch.notes}
    root = tree_head([digest(one) for one in sent]).hex()
    assert kinds["flush"].detail == {"admitted": 5, "root": root}
    assert "refused" in kinds


async def test_what_could_not_be_sent_is_sent_later_under_the_same_numbers():
    log = Log()
    log.down = True
    feed = AuditFeed("cell", log.send, lambda: 1.0)
    feed.note("one", "s", {})
    assert not await feed.flush()
    feed.note("two", "s", {})
    log.down = False
    assert await feed.flush()
    assert [(note.number, note.kind) for batch in log.batches for note in batch.notes] == [
        (1, "one"),
        (2, "two"),
    ]


async def test_a_record_waits_for_a_durable_batch_even_if_another_flush_took_it():
    log = Log()
    feed = AuditFeed("cell", log.send, lambda: 1.0)
    await asyncio.gather(feed.flush(), feed.record("effect", "s", {}), feed.flush())
    assert any(batch.durable for batch in log.batches)
