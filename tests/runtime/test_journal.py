"""The journal: what is appended, kept, replayed, refused. Crashes by seed are in test_journal_crash.py."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.errors import Corrupt, InvalidPayload, UsageError
from aip.runtime.journal import DiskFull, Journal, JournalFailed
from aip.runtime.journal_format import (
    RECORD_HEAD_BYTES,
    SEGMENT_HEAD_BYTES,
    Record,
    SegmentHead,
    Snapshot,
    decode_snapshot,
    encode_record,
    encode_snapshot,
    needed,
    record_at,
    segments,
    valid_behind,
)
from aip.runtime.simulated_disk import SimulatedDisk
from aip.settings import DEFAULT_LIMITS

SMALL = DEFAULT_LIMITS.but(
    segment_bytes_max=400, record_bytes_max=200
)  # About nine records of 16 bytes a segment.


def disk() -> SimulatedDisk:
    return SimulatedDisk(random.Random(7))


def filled(storage: SimulatedDisk, count: int = 40) -> Journal:
    journal = Journal(storage, SMALL)
    for number in range(1, count + 1):
        journal.append(1, b"payload %07d" % number)
    return journal


def numbers(records: Sequence[Record]) -> list[int]:
    return [int(record.payload[8:]) for record in records]


def last_segment(storage: SimulatedDisk) -> str:
    return list(segments(storage.names()).values())[-1]


# Appending and replaying


def test_what_was_appended_is_replayed_in_order_without_gaps() -> None:
    storage = disk()
    filled(storage)
    again = Journal(storage.kill(), SMALL)
    records = list(again.replay())
    assert [record.index for record in records] == list(range(1, 41))
    assert numbers(records) == list(range(1, 41))
    assert again.recovery.torn_bytes == 0


def test_a_batch_is_one_write() -> None:
    storage = disk()
    journal = Journal(storage, DEFAULT_LIMITS)
    before = storage.operations
    assert journal.append_many([(1, b"a"), (2, b"b"), (3, b"")]) == 3
    assert storage.operations == before + 1
    assert [(record.kind, record.payload) for record in journal.replay()] == [(1, b"a"), (2, b"b"), (3, b"")]


def test_an_empty_batch_writes_nothing() -> None:
    storage = disk()
    journal = filled(storage, 3)
    before = storage.operations
    assert journal.append_many([]) == 3
    assert storage.operations == before


def test_the_journal_goes_on_where_it_ended() -> None:
    storage = disk()
    filled(storage, 13)
    again = Journal(storage.kill(), SMALL)
    assert again.append(1, b"payload %07d" % 14) == 14
    assert numbers(list(again.replay())) == list(range(1, 15))


def test_replay_can_begin_anywhere() -> None:
    assert numbers(list(filled(disk()).replay(after=33))) == list(range(34, 41))


def test_replay_ends_where_the_journal_stood_when_it_was_asked() -> None:
    journal = filled(disk(), 5)
    replay = journal.replay()
    journal.append(1, b"payload %07d" % 6)
    assert numbers(list(replay)) == [1, 2, 3, 4, 5]


def test_a_segment_never_outgrows_its_limit() -> None:
    storage = disk()
    filled(storage)
    assert len(segments(storage.names())) == 5
    assert all(len(storage.read(name)) <= SMALL.segment_bytes_max for name in storage.names())


@pytest.mark.parametrize(
    "act",
    [
        lambda journal: journal.append(1, bytes(201)),
        lambda journal: journal.append_many([(1, bytes(100))] * 4),
    ],
    ids=["a record", "a batch"],
)
def test_what_is_too_large_is_refused_whole(act: Callable[[Journal], object]) -> None:
    journal = filled(disk(), 3)
    with pytest.raises(InvalidPayload):
        act(journal)
    assert journal.append(1, b"payload %07d" % 4) == 4
    assert numbers(list(journal.replay())) == [1, 2, 3, 4]


def test_terms_are_kept_and_never_fall() -> None:
    storage = disk()
    journal = filled(storage, 2)
    journal.advance_term(5)
    journal.append(1, b"payload %07d" % 3)
    with pytest.raises(UsageError):
        journal.advance_term(4)
    again = Journal(storage.kill(), SMALL)
    assert again.term == 5
    assert [record.term for record in again.replay()] == [0, 0, 5]


# Durability


def test_only_sync_makes_durable() -> None:
    journal = filled(disk(), 3)
    assert journal.durable_index == 0
    assert journal.sync() == 3
    assert journal.durable_index == 3


def test_what_replay_returns_is_durable() -> None:
    storage = disk()
    filled(storage, 5)
    after_kill = storage.kill()
    assert Journal(after_kill, SMALL).durable_index == 5
    assert numbers(list(Journal(after_kill.power_cut(), SMALL).replay())) == [1, 2, 3, 4, 5]


def test_a_failed_fsync_ends_the_journal_and_is_never_retried() -> None:
    storage = disk()
    journal = filled(storage, 3)
    journal.sync()
    journal.append(1, b"payload %07d" % 4)
    storage.fail_sync_after = storage.syncs
    with pytest.raises(JournalFailed):
        journal.sync()
    syncs = storage.syncs
    for act in (journal.sync, lambda: journal.append(1, b"x"), lambda: journal.snapshot(b"state")):
        with pytest.raises(JournalFailed):
            act()
    assert storage.syncs == syncs
    assert journal.durable_index == 3


def test_a_full_disk_refuses_the_append_and_leaves_the_journal_as_it_was() -> None:
    storage = disk()
    journal = filled(storage, 5)
    stored = storage.read(last_segment(storage))
    storage.room_bytes = len(stored) + 50
    with pytest.raises(DiskFull) as refused:
        journal.append(1, bytes(100))
    assert refused.value.retryable
    assert storage.read(last_segment(storage)) == stored
    storage.room_bytes = None
    assert journal.append(1, b"payload %07d" % 6) == 6
    assert numbers(list(Journal(storage.kill(), SMALL).replay())) == [1, 2, 3, 4, 5, 6]


def test_a_disk_that_is_full_at_the_turn_of_a_segment_leaves_no_half_segment() -> None:
    storage = disk()
    journal = filled(storage, 8)
    storage.room_bytes = len(storage.read(last_segment(storage))) + 10
    with pytest.raises(DiskFull):
        journal.append(1, b"payload %07d" % 9)
    assert len(storage.names()) == 1
    storage.room_bytes = None
    journal.append(1, b"payload %07d" % 9)
    assert len(segments(storage.names())) == 2
    assert numbers(list(Journal(storage.kill(), SMALL).replay())) == list(range(1, 10))


def test_a_full_disk_refuses_the_snapshot_and_the_journal_goes_on() -> None:
    storage = disk()
    journal = filled(storage, 5)
    storage.room_bytes = 500
    with pytest.raises(DiskFull):
        journal.snapshot(bytes(1_000))
    assert journal.snapshot_index == 0
    assert journal.append(1, b"payload %07d" % 6) == 6


def test_a_closed_journal_takes_nothing() -> None:
    journal = filled(disk(), 1)
    journal.close()
    journal.close()
    with pytest.raises(UsageError):
        journal.append(1, b"x")


# A torn tail, and damage


def test_a_tail_torn_at_any_byte_is_cut_and_what_stands_before_it_stays() -> None:
    whole = disk()
    filled(whole, 3)
    name = last_segment(whole)
    record_bytes = RECORD_HEAD_BYTES + 15
    for missing in range(1, record_bytes + 1):
        storage = disk()
        filled(storage, 3)
        storage.truncate(name, len(whole.read(name)) - missing)
        journal = Journal(storage, SMALL)
        assert numbers(list(journal.replay())) == [1, 2]
        assert journal.recovery.torn_bytes == record_bytes - missing
        journal.append(1, b"payload %07d" % 3)
        assert numbers(list(Journal(storage.kill(), SMALL).replay())) == [1, 2, 3]


def test_zeros_behind_the_last_record_are_a_torn_tail() -> None:
    storage = disk()
    filled(storage, 3)
    storage.append(bytes(100))
    journal = Journal(storage, SMALL)
    assert numbers(list(journal.replay())) == [1, 2, 3]
    assert journal.recovery.torn_bytes == 100


def test_any_flipped_bit_before_the_last_record_is_corrupt_with_file_and_offset() -> None:
    clean = disk()
    filled(clean, 3)
    name = last_segment(clean)
    record_bytes = RECORD_HEAD_BYTES + 15
    last_record_at = len(clean.read(name)) - record_bytes
    for offset in range(last_record_at):
        storage = disk()
        filled(storage, 3)
        storage.flip_bit(name, offset, offset % 8)
        with pytest.raises(Corrupt) as refused:
            Journal(storage, SMALL)
        start = 0 if offset < SEGMENT_HEAD_BYTES else (offset - SEGMENT_HEAD_BYTES) // record_bytes
        expected = 0 if offset < SEGMENT_HEAD_BYTES else SEGMENT_HEAD_BYTES + start * record_bytes
        assert refused.value.details == {"file": name, "offset": expected}


def test_a_bad_end_of_a_segment_that_is_not_the_last_is_corrupt() -> None:
    storage = disk()
    filled(storage)
    first = next(iter(segments(storage.names()).values()))
    storage.truncate(first, len(storage.read(first)) - 1)
    with pytest.raises(Corrupt) as refused:
        Journal(storage, SMALL)
    assert refused.value.details["file"] == first


def test_a_missing_segment_is_corrupt() -> None:
    for position, why in {
        0: "records 1 to 8 are missing",
        1: "the log ends at 8",
        3: "the log ends at 24",
    }.items():
        storage = disk()
        filled(storage)
        storage.remove(list(segments(storage.names()).values())[position])
        with pytest.raises(Corrupt, match=why):
            Journal(storage, SMALL)


def test_a_segment_of_another_journal_is_corrupt() -> None:
    storage, other = disk(), disk()
    filled(storage, 12)
    journal = Journal(other, SMALL, "other")
    for number in range(12):
        journal.append(1, b"foreign %07d" % number)
    name = last_segment(storage)
    assert name == last_segment(other)
    storage.remove(name)
    storage.write(name, other.read(name))
    with pytest.raises(Corrupt, match="does not continue"):
        Journal(storage, SMALL)


def test_another_journals_record_inside_a_payload_is_not_taken_for_one_behind_a_torn_tail() -> None:
    other, storage = disk(), disk()
    Journal(other, SMALL, "other").append(1, b"embedded")
    embedded = other.read(last_segment(other))[SEGMENT_HEAD_BYTES:]
    victim = Journal(storage, SMALL, "victim")
    victim.append(1, b"whole")
    victim.append(1, embedded + b"tail")
    name = last_segment(storage)
    storage.truncate(name, len(storage.read(name)) - 1)
    assert Journal(storage, SMALL, "victim").last_index == 1


# Snapshots


def test_a_snapshot_and_the_records_behind_it_give_the_state_back() -> None:
    storage = disk()
    journal = filled(storage, 20)
    journal.snapshot(b"the sum of twenty")
    journal.append(1, b"payload %07d" % 21)
    again = Journal(storage.kill(), SMALL)
    assert again.newest_snapshot() == Snapshot(0, 20, b"the sum of twenty")
    assert numbers(list(again.replay())) == [21]


def test_two_snapshots_are_kept_and_the_segments_behind_the_older_one() -> None:
    storage = disk()
    journal = filled(storage, 20)
    for number in range(21, 61):
        journal.append(1, b"payload %07d" % number)
        if number % 10 == 0:
            journal.snapshot(b"state %d" % number)
    held = segments(storage.names())
    assert [name for name in storage.names() if name.startswith("snapshot")] == [
        "snapshot-00000000000000000050.snap",
        "snapshot-00000000000000000060.snap",
    ]
    assert next(iter(held)) == 51
    with pytest.raises(UsageError):
        journal.replay(after=49)
    assert numbers(list(journal.replay(after=50))) == list(range(51, 61))


def test_a_rotten_newest_snapshot_falls_back_on_the_older_one_and_its_records() -> None:
    storage = disk()
    journal = filled(storage, 10)
    journal.snapshot(b"ten")
    for number in range(11, 21):
        journal.append(1, b"payload %07d" % number)
    journal.snapshot(b"twenty")
    name = storage.names()[-1]
    storage.flip_bit(name, len(storage.read(name)) - 1)
    again = Journal(storage, SMALL)
    assert again.newest_snapshot() == Snapshot(0, 10, b"ten")
    assert numbers(list(again.replay())) == list(range(11, 21))
    assert again.recovery.snapshots_damaged == (name,)
    assert name + ".damaged" in storage.names()


def test_a_rotten_only_snapshot_costs_nothing_while_all_records_are_there() -> None:
    storage = disk()
    filled(storage, 20).snapshot(b"twenty")
    name = storage.names()[-1]
    storage.flip_bit(name, 10)
    again = Journal(storage, SMALL)
    assert again.newest_snapshot() is None
    assert numbers(list(again.replay())) == list(range(1, 21))


def test_without_any_sound_snapshot_the_journal_refuses_to_start() -> None:
    storage = disk()
    journal = filled(storage, 10)
    for state in (b"ten", b"ten again"):
        journal.snapshot(state)
        journal.append(1, b"payload %07d" % 11)
    for name in [name for name in storage.names() if name.startswith("snapshot")]:
        storage.flip_bit(name, 3)
    with pytest.raises(Corrupt):
        Journal(storage, SMALL)


def test_a_snapshot_taken_for_an_earlier_position_keeps_the_records_behind_it() -> None:
    storage = disk()
    journal = filled(storage, 10)
    at = journal.position
    journal.append(1, b"payload %07d" % 11)
    journal.snapshot(b"ten", at)
    again = Journal(storage.kill(), SMALL)
    assert again.newest_snapshot() == Snapshot(0, 10, b"ten")
    assert numbers(list(again.replay())) == [11]


def test_a_state_from_elsewhere_can_be_installed_if_it_is_ahead() -> None:
    storage = disk()
    journal = filled(storage, 20)
    with pytest.raises(UsageError):
        journal.install(Snapshot(3, 20, b"not ahead"))
    journal.install(Snapshot(3, 500, b"from a replica"))
    assert journal.append(1, b"payload %07d" % 501) == 501
    for again in (journal, Journal(storage.kill(), SMALL)):
        assert again.newest_snapshot() == Snapshot(3, 500, b"from a replica")
        assert [(record.index, record.term) for record in again.replay()] == [(501, 3)]
        assert again.term == 3
    assert next(iter(segments(storage.names()))) == 501


def test_an_install_that_finds_no_room_leaves_the_old_state_or_the_new_one_and_loses_no_append() -> None:
    outcomes = set()
    for room_bytes in range(0, 400, 8):
        storage = disk()
        journal = filled(storage, 20)
        storage.room_bytes = sum(len(storage.read(name)) for name in storage.names()) + room_bytes
        with suppress(DiskFull):
            journal.install(Snapshot(3, 500, bytes(200)))
        storage.room_bytes = None
        appended = 0
        with suppress(JournalFailed):
            appended = journal.append(1, b"payload %07d" % (journal.last_index + 1))
        again = Journal(storage.kill(), SMALL)
        assert again.last_index == (appended or 500)
        outcomes.add((again.snapshot_index, tuple(numbers(list(again.replay())))))
    assert outcomes == {(0, tuple(range(1, 22))), (500, ()), (500, (501,))}


def test_left_over_temporary_files_are_removed() -> None:
    storage = disk()
    filled(storage, 2)
    storage.write("snapshot-00000000000000000002.snap.tmp", b"half")
    Journal(storage, SMALL)
    assert all(not name.endswith(".tmp") for name in storage.names())


# The format


@given(
    term=st.integers(0, 2**63 - 1),
    index=st.integers(1, 2**63 - 1),
    kind=st.integers(0, 255),
    payload=st.binary(max_size=300),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_record_comes_back_as_it_was(term: int, index: int, kind: int, payload: bytes, seed: int) -> None:
    parts: list[bytes] = []
    encode_record(parts, seed, (term, index, kind, payload))
    data = b"".join(parts)
    found = record_at(data, 0, seed)
    assert found is not None
    assert found.record == Record(term, index, kind, payload)
    assert found.end == len(data) == RECORD_HEAD_BYTES + len(payload)
    assert record_at(data, 0, seed ^ 1) is None
    assert record_at(data[:-1], 0, seed) is None


@given(junk=st.binary(max_size=200), payload=st.binary(max_size=50))
def test_a_valid_record_is_found_behind_any_junk(junk: bytes, payload: bytes) -> None:
    parts: list[bytes] = []
    encode_record(parts, 99, (1, 2, 3, payload))
    assert valid_behind(b"?" + junk + b"".join(parts), 0, 99) == 1 + len(junk)
    assert valid_behind(b"?" + junk, 0, 99) is None


@given(data=st.binary(max_size=200))
def test_no_bytes_whatever_make_reading_fail(data: bytes) -> None:
    assert record_at(data, 0, 1) is None
    assert decode_snapshot(data, 1) is None


@given(state=st.binary(max_size=100), position=st.integers(0, 10**9), bit=st.integers(0, 7))
def test_a_snapshot_with_any_bit_flipped_does_not_verify(state: bytes, position: int, bit: int) -> None:
    data = bytearray(b"".join(encode_snapshot(Snapshot(1, 2, state))))
    assert decode_snapshot(bytes(data), 2) == Snapshot(1, 2, state)
    data[position % len(data)] ^= 1 << bit
    assert decode_snapshot(bytes(data), 2) is None


def test_a_segment_is_needed_until_the_next_one_begins_at_or_before_the_record_wanted() -> None:
    held = {1: "a", 11: "b", 21: "c"}
    for base, wanted in {0: "abc", 9: "abc", 10: "bc", 19: "bc", 20: "c", 99: "c"}.items():
        assert "".join(needed(held, base).values()) == wanted


def test_a_segment_head_fits_its_size() -> None:
    assert len(SegmentHead(1, 0, 0).encode()) == SEGMENT_HEAD_BYTES
