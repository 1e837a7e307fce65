"""The journal on a real file system: real locks, real kills, real limits, and group commit around it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aip.errors import UsageError
from aip.runtime.disk import DiskStorage, JournalHeld
from aip.runtime.group_commit import GroupCommit
from aip.runtime.journal import Journal, JournalFailed
from aip.runtime.journal_format import Snapshot
from aip.runtime.simulated_disk import SimulatedDisk
from aip.settings import DEFAULT_LIMITS

SMALL = DEFAULT_LIMITS.but(segment_bytes_max=4_000, record_bytes_max=1_000)


def payloads(journal: Journal) -> list[bytes]:
    return [record.payload for record in journal.replay()]


def run_python(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


# Files


def test_a_journal_in_a_new_nested_folder_is_there_again_after_closing(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "registry"
    journal = Journal(DiskStorage(folder, "first"), SMALL)
    journal.append_many([(1, b"%d" % number) for number in range(100)])
    journal.snapshot(b"a hundred")
    journal.append(1, b"one more")
    journal.close()
    again = Journal(DiskStorage(folder, "second"), SMALL)
    assert again.newest_snapshot() == Snapshot(0, 100, b"a hundred")
    assert payloads(again) == [b"one more"]
    again.close()


def test_segments_turn_over_on_disk_and_covered_ones_are_deleted(tmp_path: Path) -> None:
    journal = Journal(DiskStorage(tmp_path, "test"), SMALL)
    for number in range(100):
        journal.append(1, bytes(200))
        if number in (50, 80):
            journal.snapshot(b"state")
    assert payloads(journal) == [bytes(200)] * 19
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[1].startswith("segment-")
    assert int(names[1][8:28]) == 52
    journal.close()


def test_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "secret"
    journal = Journal(DiskStorage(folder, "test"), SMALL)
    journal.snapshot(b"state")
    assert folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())
    journal.close()


def test_a_second_writer_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    journal = Journal(DiskStorage(tmp_path, "registry/0"), SMALL)
    with pytest.raises(JournalHeld) as refused:
        DiskStorage(tmp_path, "registry/1")
    assert refused.value.details["holder"] == f"registry/0 (pid {os.getpid()})"
    journal.close()
    DiskStorage(tmp_path, "registry/1").close()


def test_the_lock_of_a_killed_writer_is_free(tmp_path: Path) -> None:
    script = """
        import sys, time
        from pathlib import Path
        from aip.runtime.disk import DiskStorage
        storage = DiskStorage(Path(sys.argv[1]), "the other process")
        print("held", flush=True)
        time.sleep(60)
    """
    with run_python(script, tmp_path) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(JournalHeld, match=rf"the other process \(pid {other.pid}\)"):
            DiskStorage(tmp_path, "this one")
        other.kill()
    DiskStorage(tmp_path, "this one").close()


@pytest.mark.parametrize("delay_s", [0.02, 0.1, 0.3])
def test_what_append_returned_for_survives_kill_9_without_any_fsync(tmp_path: Path, delay_s: float) -> None:
    script = """
        import sys
        from pathlib import Path
        from aip.runtime.disk import DiskStorage
        from aip.runtime.journal import Journal
        journal = Journal(DiskStorage(Path(sys.argv[1]), "victim"))
        while True:
            first = journal.last_index + 1
            last = journal.append_many([(1, b"%d" % index) for index in range(first, first + 100)])
            sys.stdout.write(f"{last}\\n")
            sys.stdout.flush()
    """
    with run_python(script, tmp_path) as victim:
        assert victim.stdout is not None
        returned = [victim.stdout.readline()]
        timer = threading.Timer(delay_s, victim.send_signal, [signal.SIGKILL])
        timer.start()
        returned += victim.stdout
        timer.join()
    acknowledged = int([line for line in returned if line.endswith("\n")][-1])
    journal = Journal(DiskStorage(tmp_path, "survivor"))
    survivors = payloads(journal)
    assert len(survivors) >= acknowledged >= 100
    assert survivors == [b"%d" % index for index in range(1, len(survivors) + 1)]
    journal.close()


def test_a_write_that_the_file_system_cuts_short_leaves_nothing_behind(tmp_path: Path) -> None:
    """The kernel writes a part up to the file size limit and then refuses: the same as a disk that fills up."""
    script = """
        import resource, sys
        from pathlib import Path
        from aip.runtime.disk import DiskStorage
        from aip.runtime.journal import DiskFull, Journal
        journal = Journal(DiskStorage(Path(sys.argv[1]), "test"))
        journal.append(1, b"before")
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, resource.RLIM_INFINITY))
        try:
            journal.append(1, bytes(10_000))
        except DiskFull as error:
            print(error.code)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        journal.append(1, b"after")
        print([record.payload for record in journal.replay()])
    """
    with run_python(script, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.read() == "journal.disk_full\n[b'before', b'after']\n"
    journal = Journal(DiskStorage(tmp_path, "again"))
    assert payloads(journal) == [b"before", b"after"]
    assert journal.recovery.torn_bytes == 0
    journal.close()


def test_the_real_and_the_simulated_disk_hold_the_same_bytes(tmp_path: Path) -> None:
    simulated = SimulatedDisk(random.Random(0))
    real = DiskStorage(tmp_path, "test")
    for storage in (simulated, real):
        journal = Journal(storage, SMALL, "same")
        for number in range(60):
            journal.append(number % 5, bytes([number]) * 150)
            if number == 40:
                journal.sync()
                journal.advance_term(3)
                journal.snapshot(b"forty")
        journal.append(1, b"torn")
        name = real.names()[-1] if storage is real else simulated.names()[-1]
        storage.truncate(name, len(storage.read(name)) - 2)
    assert [name for name in real.names() if name != "lock"] == simulated.names()
    assert all(real.read(name) == simulated.read(name) for name in simulated.names())
    real.close()


# Group commit


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


class SlowDisk(SimulatedDisk):
    """Every fsync waits until it is let through."""

    def __init__(self) -> None:
        super().__init__(random.Random(0))
        self.gate = threading.Semaphore(1_000)
        self.started = 0
        self.running = 0

    def sync(self) -> None:
        self.started += 1
        self.running += 1
        assert self.running == 1, "two fsyncs at once"
        try:
            assert self.gate.acquire(timeout=10)
            super().sync()
        finally:
            self.running -= 1

    def hold(self) -> None:
        self.gate = threading.Semaphore(0)


async def until_syncs_started(disk: SlowDisk, count: int) -> None:
    async with asyncio.timeout(10):
        while disk.started < count:
            await asyncio.sleep(0.001)


@pytest.fixture
def slow_disk() -> SlowDisk:
    return SlowDisk()


async def test_many_wait_for_one_fsync(slow_disk: SlowDisk, executor: ThreadPoolExecutor) -> None:
    journal = Journal(slow_disk)
    commit = GroupCommit(journal, executor)
    await asyncio.gather(*(commit.durable(journal.append(1, b"x")) for _ in range(128)))
    assert journal.durable_index == 128
    assert commit.syncs == 1


async def test_a_record_appended_during_an_fsync_waits_for_the_next(
    slow_disk: SlowDisk, executor: ThreadPoolExecutor
) -> None:
    journal = Journal(slow_disk)
    commit = GroupCommit(journal, executor)
    slow_disk.hold()
    begun = slow_disk.started
    early = asyncio.create_task(commit.durable(journal.append(1, b"early")))
    await until_syncs_started(slow_disk, begun + 1)
    late = asyncio.create_task(commit.durable(journal.append(1, b"late")))
    slow_disk.gate.release()
    await asyncio.wait_for(early, 10)
    assert not late.done()
    assert journal.durable_index == 1
    slow_disk.gate.release()
    await asyncio.wait_for(late, 10)
    assert journal.durable_index == 2


async def test_what_is_durable_already_waits_for_nothing(
    slow_disk: SlowDisk, executor: ThreadPoolExecutor
) -> None:
    journal = Journal(slow_disk)
    commit = GroupCommit(journal, executor)
    journal.append(1, b"x")
    journal.sync()
    await commit.durable()
    assert commit.syncs == 0


async def test_nobody_can_wait_for_what_was_not_appended(
    slow_disk: SlowDisk, executor: ThreadPoolExecutor
) -> None:
    with pytest.raises(UsageError):
        await GroupCommit(Journal(slow_disk), executor).durable(1)


async def test_a_failed_fsync_reaches_everybody_who_waits_and_everybody_after(
    slow_disk: SlowDisk, executor: ThreadPoolExecutor
) -> None:
    journal = Journal(slow_disk)
    commit = GroupCommit(journal, executor)
    slow_disk.fail_sync_after = slow_disk.syncs
    waiting = [commit.durable(journal.append(1, b"x")) for _ in range(10)]
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, JournalFailed) for outcome in outcomes)
    with pytest.raises(JournalFailed):
        await commit.durable(1)
    assert journal.durable_index == 0


async def test_who_is_released_together_shares_the_next_fsync(
    slow_disk: SlowDisk, executor: ThreadPoolExecutor
) -> None:
    journal = Journal(slow_disk)
    commit = GroupCommit(journal, executor)

    async def writer() -> None:
        for _ in range(5):
            await commit.durable(journal.append(1, b"x"))

    await asyncio.gather(*(writer() for _ in range(20)))
    assert journal.durable_index == 100
    assert commit.syncs == 5


async def test_an_executor_that_has_ended_leaves_nobody_waiting(slow_disk: SlowDisk) -> None:
    journal = Journal(slow_disk)
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(JournalFailed, match="no fsync can run"):
        await asyncio.wait_for(GroupCommit(journal, executor).durable(journal.append(1, b"x")), 10)


async def test_a_cancelled_waiter_leaves_and_the_others_stay(
    slow_disk: SlowDisk, executor: ThreadPoolExecutor
) -> None:
    journal = Journal(slow_disk)
    commit = GroupCommit(journal, executor)
    slow_disk.hold()
    begun = slow_disk.started
    impatient, patient = (asyncio.create_task(commit.durable(journal.append(1, b"x"))) for _ in range(2))
    await until_syncs_started(slow_disk, begun + 1)
    impatient.cancel()
    slow_disk.gate.release(2)
    await asyncio.wait_for(patient, 10)
    assert impatient.cancelled()
    assert journal.durable_index == 2


async def test_appends_go_on_while_an_fsync_runs(slow_disk: SlowDisk, executor: ThreadPoolExecutor) -> None:
    journal = Journal(slow_disk)
    commit = GroupCommit(journal, executor)
    slow_disk.hold()
    begun = slow_disk.started
    waiting = asyncio.create_task(commit.durable(journal.append(1, b"x")))
    await until_syncs_started(slow_disk, begun + 1)
    assert journal.append_many([(1, b"y")] * 100) == 101
    assert not waiting.done()
    slow_disk.gate.release(2)
    await asyncio.wait_for(waiting, 10)


async def test_segments_turn_over_under_load_with_snapshots_beside(
    tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    journal = Journal(DiskStorage(tmp_path, "test"), SMALL)
    commit = GroupCommit(journal, executor)

    async def writer(number: int) -> None:
        for turn in range(20):
            await commit.durable(journal.append(1, b"%d/%d" % (number, turn) + bytes(100)))

    async def snapshots() -> None:
        for _ in range(5):
            at = journal.position
            await asyncio.get_running_loop().run_in_executor(executor, journal.snapshot, b"%d" % at.index, at)
            await asyncio.sleep(0.005)

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(writer(number))
        group.create_task(snapshots())
    journal.close()
    again = Journal(DiskStorage(tmp_path, "again"), SMALL)
    snapshot = again.newest_snapshot()
    assert snapshot is not None
    assert snapshot.state == b"%d" % snapshot.index
    assert [record.index for record in again.replay()] == list(range(snapshot.index + 1, 161))
    again.close()
