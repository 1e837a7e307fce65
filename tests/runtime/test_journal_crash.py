"""The journal under crashes at every point, by seed: what was synced is there, in order, and nothing else."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from aip.errors import Corrupt
from aip.runtime.journal import DiskFull, Journal, JournalFailed, Position
from aip.runtime.journal_format import Record
from aip.runtime.simulated_disk import Crash, SimulatedDisk
from aip.settings import DEFAULT_LIMITS

SMALL = DEFAULT_LIMITS.but(segment_bytes_max=700, record_bytes_max=200)


@dataclass
class Owner:
    """A state machine that is its own history: the list of records applied, which a snapshot holds whole."""

    rng: random.Random
    applied: list[tuple[int, int, bytes]] = field(default_factory=list)  # (term, index, payload)
    written: dict[int, tuple[int, int, bytes]] = field(
        default_factory=dict
    )  # also what no append returned for
    synced: int = 0
    returned: int = 0

    def work(self, journal: Journal, steps: int) -> None:
        for _ in range(steps):
            choice = self.rng.random()
            if choice < 0.6:
                self.append(journal, self.rng.choice([1, 1, 1, 2, 5]))
            elif choice < 0.8:
                self.synced = max(self.synced, journal.sync())
            elif choice < 0.9:
                journal.advance_term(journal.term + 1)
            else:
                self.snapshot(journal)

    def append(self, journal: Journal, count: int) -> None:
        payloads = [self.rng.randbytes(self.rng.randint(0, 60)) for _ in range(count)]
        batch = [(journal.term, journal.last_index + 1 + i, payload) for i, payload in enumerate(payloads)]
        self.written.update({entry[1]: entry for entry in batch})
        self.returned = journal.append_many([(7, payload) for payload in payloads])
        self.applied += batch

    def snapshot(self, journal: Journal) -> None:
        # An owner hands over a copy of its state with the position it was taken at; often that is a little behind.
        upto = self.rng.randint(journal.snapshot_index, journal.last_index)
        if upto:
            journal.snapshot(repr(self.applied[:upto]).encode(), Position(self.applied[upto - 1][0], upto))
            self.synced = max(self.synced, journal.durable_index)

    def restore(self, journal: Journal) -> list[tuple[int, int, bytes]]:
        snapshot = journal.newest_snapshot()
        state = eval(snapshot.state) if snapshot else []
        return state + [as_entry(record) for record in journal.replay()]

    def check(self, journal: Journal, *, at_least: int, seed: int) -> None:
        restored = self.restore(journal)
        assert [entry[1] for entry in restored] == list(range(1, len(restored) + 1)), f"a gap, seed {seed}"
        assert len(restored) >= at_least, f"a record is missing, seed {seed}"
        assert all(entry == self.written[entry[1]] for entry in restored), (
            f"a record was invented, seed {seed}"
        )
        assert sorted(restored) == restored, f"a term fell, seed {seed}"
        assert journal.last_index == journal.durable_index == len(restored)
        self.applied, self.synced, self.returned = restored, len(restored), len(restored)


def as_entry(record: Record) -> tuple[int, int, bytes]:
    return record.term, record.index, record.payload


def open_until_it_stands(storage: SimulatedDisk, rng: random.Random) -> tuple[Journal, SimulatedDisk]:
    """Recovery itself is crashed a few times on the way."""
    for _ in range(rng.choice([0, 0, 1, 2])):
        storage.crash_after = storage.operations + rng.randint(0, 6)
        with suppress(Crash):
            Journal(storage, SMALL)
        storage = storage.power_cut()
    return Journal(storage, SMALL), storage


@pytest.mark.parametrize("block", range(8))
@pytest.mark.parametrize("crash", ["kill", "power_cut"])
def test_after_any_crash_everything_promised_is_there_and_nothing_else(block: int, crash: str) -> None:
    for seed in range(block * 40, block * 40 + 40):
        rng = random.Random(seed)
        storage, owner = SimulatedDisk(rng), Owner(rng)
        journal = Journal(storage, SMALL)
        for _ in range(4):
            storage.crash_after = storage.operations + rng.randint(0, 60)
            with suppress(Crash):
                owner.work(journal, 60)
            if crash == "kill":
                storage = storage.kill()
                journal, promised = Journal(storage, SMALL), owner.returned
            else:
                promised = owner.synced
                journal, storage = open_until_it_stands(storage.power_cut(), rng)
            owner.check(journal, at_least=promised, seed=seed)


def test_a_crash_at_each_single_operation_of_one_history_is_survived() -> None:
    whole = SimulatedDisk(random.Random(1))
    Owner(random.Random(2)).work(Journal(whole, SMALL), 60)
    assert whole.operations > 80
    for point in range(whole.operations):
        storage, owner = SimulatedDisk(random.Random(point)), Owner(random.Random(2))
        storage.crash_after = point
        with pytest.raises(Crash):
            owner.work(Journal(storage, SMALL), 60)
        owner.check(Journal(storage.power_cut(), SMALL), at_least=owner.synced, seed=point)


def test_after_a_failed_fsync_the_synced_records_are_there_and_nothing_was_promised_after_it() -> None:
    for seed in range(60):
        rng = random.Random(seed)
        storage, owner = SimulatedDisk(rng), Owner(rng)
        journal = Journal(storage, SMALL)
        storage.fail_sync_after = storage.syncs + rng.randint(0, 12)
        with pytest.raises(JournalFailed):
            owner.work(journal, 500)
        for _ in range(3):
            with pytest.raises(JournalFailed):
                owner.work(journal, 50)
        owner.check(Journal(storage.power_cut(), SMALL), at_least=owner.synced, seed=seed)


def test_a_disk_that_fills_up_again_and_again_costs_no_record() -> None:
    for seed in range(40):
        rng = random.Random(seed)
        storage, owner = SimulatedDisk(rng), Owner(rng)
        journal, refusals = Journal(storage, SMALL), 0
        for _ in range(30):
            stored = sum(len(storage.read(name)) for name in storage.names())
            storage.room_bytes = stored + rng.randint(0, 400) if rng.random() < 0.7 else None
            try:
                owner.work(journal, 5)
            except DiskFull:
                refusals += 1
        assert refusals
        storage.room_bytes = None
        owner.check(Journal(storage.kill(), SMALL), at_least=owner.returned, seed=seed)


def test_a_flipped_bit_is_refused_or_costs_only_the_last_record() -> None:
    """The one damage that looks like a torn append is in the last record: then it is cut, as a torn one is."""
    refused = 0
    for seed in range(150):
        rng = random.Random(seed)
        storage, owner = SimulatedDisk(rng), Owner(rng)
        journal = Journal(storage, SMALL)
        owner.work(journal, 40)
        journal.sync()
        storage = storage.kill()
        name = rng.choice([name for name in storage.names() if storage.read(name)])
        storage.flip_bit(name, rng.randrange(len(storage.read(name))), rng.randrange(8))
        try:
            again = Journal(storage, SMALL)
        except Corrupt as error:
            refused += error.details["file"] in storage.names()
        else:
            owner.check(again, at_least=owner.returned - 1, seed=seed)
    assert refused > 20


def test_the_same_seed_gives_the_same_disk() -> None:
    left = []
    for _ in range(2):
        rng = random.Random(3)
        storage, owner = SimulatedDisk(rng), Owner(rng)
        storage.crash_after = 70
        with pytest.raises(Crash):
            owner.work(Journal(storage, SMALL), 500)
        after = storage.power_cut()
        left.append({name: after.read(name) for name in after.names()})
    assert left[0] == left[1]
