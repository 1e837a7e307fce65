"""A journal is read beside its writer: nothing is locked, nothing changed, and what is read is a prefix of what was written."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from aip.runtime.disk import DiskStorage, JournalHeld
from aip.runtime.journal import Journal
from aip.runtime.journal_copy import TRIES_MAX, files, open_copy
from aip.runtime.journal_format import Record
from aip.settings import Limits

SMALL = Limits(segment_bytes_max=4_096, record_bytes_max=1_024)
COUNT = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def writer(folder: Path) -> Journal:
    journal = Journal(DiskStorage(folder, holder="writer"), SMALL)
    fill(journal)
    return journal


def fill(journal: Journal) -> None:
    drawn = random.Random(7)
    for _ in range(COUNT):
        journal.append(1, drawn.randbytes(200))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def records(journal: Journal) -> list[Record]:
    return list(journal.replay())


def test_what_a_writer_at_work_has_written_is_read_and_its_folder_stays_as_it_is(
    writer: Journal, folder: Path
) -> None:
    before = contents(folder)
    assert records(open_copy(folder)) == records(writer)
    assert contents(folder) == before
    assert writer.append(1, b"it goes on") == COUNT + 1


def test_a_torn_tail_is_cut_in_the_copy_alone(writer: Journal, folder: Path) -> None:
    whole = records(writer)
    last = files(folder)[-1]
    last.write_bytes(last.read_bytes()[:-3])
    before = contents(folder)
    assert records(open_copy(folder)) == whole[:-1]
    assert contents(folder) == before


def test_a_folder_that_is_not_there_yet_is_an_empty_journal_and_is_not_made(folder: Path) -> None:
    assert records(open_copy(folder)) == []
    assert not folder.exists()


def test_what_a_snapshot_takes_away_while_it_is_read_is_read_anew(
    writer: Journal, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def snapshot() -> None:
        for _ in range(2):  # The segments behind the older of two snapshots go.
            fill(writer)
            writer.snapshot(b"state", writer.position)

    read, first = Path.read_bytes, files(folder)[0]

    def read_beside_a_snapshot(path: Path) -> bytes:
        if path == first:
            snapshot()
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_beside_a_snapshot)
    copy = open_copy(folder)
    assert not first.exists()
    assert copy.snapshot_index == writer.snapshot_index > 0
    assert records(copy) == records(writer)


def test_a_folder_that_never_holds_still_is_told_and_may_be_tried_again(
    writer: Journal, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def gone(path: Path) -> bytes:
        tried.append(path)
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_bytes", gone)
    with pytest.raises(JournalHeld, match="changes faster") as caught:
        open_copy(folder)
    assert caught.value.retryable
    assert len(tried) == TRIES_MAX
