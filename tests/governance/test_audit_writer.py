"""Writing the audit log: what survives a crash, what is refused, what goes on."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from audit_kit import LOG_KEY, Log, batch

from aip.errors import Corrupt
from aip.governance import note
from aip.governance.audit import AuditChain, Batch, Noted, entries, log_path, read, verify
from aip.governance.key_file import KeyUnsafe, signer_of
from aip.governance.log_writer import LogHeld, LogUnwritable, LogWriter
from aip.governance.merkle import leaf_hash
from aip.governance.note import Signer
from aip.governance.segments import checkpoint_path, lines, sealed, tree_path, verifier_path
from aip.governance.tree import consistency_proof, inclusion_proof, verify_consistency, verify_inclusion
from aip.governance.tree_files import open_tree


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path / "audit")


def indexes(found):
    return [entry["index"] for entry in found]


def test_a_segment_begins_with_what_its_writer_must_know_of_those_before(log):
    log.write(30)
    first = json.loads(log.path.read_bytes().splitlines()[0])
    assert first["kind"] == "audit.segment"
    assert first["subject"] == sealed(log.path)[-1].path.name
    log.reopen()
    before = log.writer.size
    log.writer.take(batch(0, 30))  # Sent again after a restart: all of it is in the log.
    assert log.writer.size == before
    assert verify(log.path).gaps == 0


def test_entries_come_across_segments_from_any_first_to_any_last(log):
    log.write(40)
    total = log.writer.size
    assert indexes(entries(log.folder)) == list(range(total))
    for first in range(0, total, 3):
        assert indexes(entries(log.folder, first, first + 4)) == list(range(first, min(first + 5, total)))
    assert indexes(read(log.path)) == list(range(total))


def test_a_reader_that_began_before_a_sealing_sees_each_entry_once(log):
    log.write(8)
    stood = log.writer.size
    reading = read(log.path)
    seen = indexes([next(reading)])
    log.write(30)
    assert len(sealed(log.path)) > 1
    seen += indexes(reading)
    assert seen == list(range(len(seen)))
    assert len(seen) >= stood


def test_a_single_file_of_before_becomes_the_first_segment(tmp_path):
    path = log_path(tmp_path)
    path.write_bytes(AuditChain().lines(batch(0, 50)) + b'{"torn')
    writer = LogWriter(tmp_path, LOG_KEY, segment_bytes_max=2_000)
    writer.take(batch(50, 3))
    writer.sync()
    writer.publish(*writer.statement())
    assert [segment.first for segment in sealed(path)] == [0]
    report = verify(path)
    assert (report.ok, report.entries, report.checkpoints_held) == (True, 54, 1)


def test_every_entry_is_proved_by_its_line_and_every_checkpoint_continues_the_last(log):
    log.write(10)
    old = note.parse(log.sign())
    log.write(25)
    new = note.parse(log.sign())
    verify_consistency(
        old.size, new.size, old.root, new.root, consistency_proof(log.writer.tree, old.size, new.size)
    )
    tree = open_tree(tree_path(log.path), new.size)
    for index, line in enumerate(lines(log.path)):
        verify_inclusion(leaf_hash(line[:-1]), index, new.size, inclusion_proof(tree, index), new.root)


def test_a_checkpoint_covers_what_is_durable_and_nothing_more(tmp_path):
    log = Log(tmp_path, segment_bytes_max=10**6)
    log.write(5)
    assert log.writer.statement() is None
    log.writer.sync()
    log.write(5)
    text, size = log.writer.statement()
    assert note.parse(text).size == size == 5


@pytest.mark.parametrize("lost", ["tree", "level", "torn"])
def test_what_the_trees_files_lack_is_made_again_from_the_lines(log, lost):
    log.write(30)
    log.sign()
    log.writer.close()
    folder = tree_path(log.path)
    if lost == "tree":
        shutil.rmtree(folder)
    elif lost == "level":
        (folder / "0").write_bytes((folder / "0").read_bytes()[:100])
    else:
        (folder / "0").write_bytes(bytes(64) + (folder / "0").read_bytes()[64:])
    log.open()
    log.sign()
    assert verify(log.path).ok


def test_a_torn_line_is_cut_and_the_log_goes_on_behind_it(log):
    log.write(5)
    log.sign()
    log.writer.close()
    with log.path.open("ab") as file:
        file.write(b'{"at":9,"detail":{}')
    log.open()
    log.write(2)
    log.sign()
    report = verify(log.path)
    assert (report.ok, report.torn, report.entries, report.gaps) == (True, False, 7, 0)


def cut(log):
    log.path.write_bytes(b"".join(log.path.read_bytes().splitlines(keepends=True)[:-1]))


def change(log):
    first = sealed(log.path)[0].path
    first.write_bytes(first.read_bytes().replace(b'"n":1,', b'"n":2,'))
    shutil.rmtree(tree_path(log.path))


def another_key(log):
    path = checkpoint_path(log.path)
    path.write_text(note.sign(note.parse(path.read_text()), Signer(LOG_KEY.name, b"x" * 32)))


def no_beginning(log):
    sealed(log.path)[0].path.unlink()
    shutil.rmtree(tree_path(log.path))


@pytest.mark.parametrize("harm", [cut, change, another_key, no_beginning])
def test_a_log_that_is_not_what_was_signed_for_is_not_gone_on_with(log, harm):
    log.write(30)
    log.sign()
    log.writer.close()
    harm(log)
    with pytest.raises(Corrupt) as refusal:
        log.open()
    assert "evidence" in refusal.value.hint


def test_a_log_signed_with_another_key_is_not_signed_on_with_this_one(log):
    log.write(3)
    log.sign()
    log.writer.close()
    with pytest.raises(Corrupt, match="another key"):
        LogWriter(log.folder, Signer(LOG_KEY.name, b"x" * 32))
    assert verifier_path(log.path).read_text() == f"{LOG_KEY.verifier}\n"


def test_a_second_writer_is_refused_until_the_first_one_ends(log):
    with pytest.raises(LogHeld):
        LogWriter(log.folder, LOG_KEY)
    log.reopen()


@pytest.mark.parametrize("part", [0, 50])
def test_a_write_that_fails_is_undone_and_can_be_tried_again(log, monkeypatch, part):
    log.write(5)
    real = os.write

    def full(file, data):
        monkeypatch.setattr(os, "write", real)
        if part:
            return real(file, data[:part])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(LogUnwritable):
        log.writer.take(batch(5, 3))
    log.writer.take(batch(5, 3))
    log.sign()
    report = verify(log.path)
    assert (report.ok, report.entries, report.gaps) == (True, 8, 0)


def test_a_failed_fsync_ends_the_writer(log, monkeypatch):
    log.write(5)

    def fails(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fails)
    with pytest.raises(LogUnwritable):
        log.writer.sync()
    monkeypatch.undo()
    with pytest.raises(LogUnwritable):
        log.write(1)
    with pytest.raises(LogUnwritable):
        log.writer.sync()
    log.reopen()
    log.sign()
    assert verify(log.path).ok


def test_what_cannot_be_said_canonically_or_is_too_long_is_entered_as_well_as_it_can(log):
    deep: list[object] = []
    for _ in range(200):
        deep = [deep]
    details = [{"n": float("nan")}, {"n": 2**60 + 1}, {"s": "\ud800"}, {"d": deep}, {"long": "x" * 2**20}]
    log.writer.take(Batch("p", [Noted(n, 1.0, "k", "s" * 5_000, detail) for n, detail in enumerate(details)]))
    log.sign()
    assert verify(log.path).ok
    told = [entry["detail"] for entry in read(log.path)]
    assert told[:3] == [{"n": "nan"}, {"n": str(2**60 + 1)}, {"s": "?"}]
    assert set(told[4]) == {"cut_bytes", "sha256"}


def test_bodies_are_dropped_by_whole_segments_and_only_with_an_entry_about_it(log):
    log.write(40)
    log.sign()
    firsts = [segment.first for segment in sealed(log.path)]
    going = log.writer.droppable(firsts[2] + 1)  # In the middle of a segment: that one stays.
    assert [(one.first, one.end) for one in going] == [(0, firsts[1]), (firsts[1], firsts[2])]
    log.writer.drop(going, at=9.0)
    log.sign()
    kept = list(read(log.path))
    assert kept[0]["index"] == firsts[2]
    assert [entry["detail"]["end"] for entry in kept if entry["kind"] == "audit.dropped"] == [firsts[2]]
    log.reopen()
    log.write(3)
    old = note.parse(log.sign())
    # A leaf whose body is gone is still in the tree, for whoever kept the line.
    verify_inclusion(
        log.writer.tree.leaf(1), 1, old.size, inclusion_proof(log.writer.tree, 1, old.size), old.root
    )
    assert verify(log.path).ok


def test_a_segment_that_is_not_what_was_entered_is_evidence_and_is_not_dropped(log):
    log.write(40)
    log.sign()
    first = sealed(log.path)[0].path
    first.write_bytes(first.read_bytes().replace(b'"n":1,', b'"n":2,'))
    with pytest.raises(Corrupt, match="evidence"):
        log.writer.droppable(log.writer.size)


def test_the_signing_key_is_made_once_and_for_its_owner_only(tmp_path):
    path = tmp_path / "keys" / "audit.key"
    made = signer_of(path, "aip/audit", os.urandom)
    assert signer_of(path, "aip/audit", os.urandom) == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert made.name.startswith("aip/audit/")
    path.chmod(0o640)
    with pytest.raises(KeyUnsafe, match="others can read"):
        signer_of(path, "aip/audit", os.urandom)
    path.chmod(0o600)
    path.write_text("not a key\n")
    with pytest.raises(KeyUnsafe):
        signer_of(path, "aip/audit", os.urandom)


WRITER = Path(__file__).parents[2] / "scripts" / "bench_rows" / "audit_crash.py"


def test_no_acknowledged_entry_is_lost_when_the_writer_is_killed(tmp_path):
    """`scripts/bench_rows/audit_crash.py DIR RUNS` does it a thousand times."""
    done = subprocess.run(
        [sys.executable, str(WRITER), str(tmp_path), "3"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["runs"] == 3
    assert told["killed"] == 3
    assert told["acknowledged"] > 0
    assert told["lost"] == 0
