"""What can be done to an audit log, and the name that verification gives it."""

from __future__ import annotations

import hashlib
import shutil

import pytest
from audit_kit import LOG_KEY, Log

from aip.errors import InvalidPayload
from aip.governance import note
from aip.governance.audit import Batch, Noted, verify
from aip.governance.note import Checkpoint, Signer
from aip.governance.segments import (
    checkpoint_path,
    sealed,
    sealed_path,
    tree_path,
    verifier_path,
    witnessed_path,
)


@pytest.fixture
def log(tmp_path):
    log = Log(tmp_path / "audit")
    log.write(30)
    while len(active_lines(log)) < 4:
        log.write(1)
    log.sign()
    log.writer.close()
    return log


def found(log, *trusted):
    """The words that its problems begin with."""
    report = verify(log.path, trusted)
    assert report.ok == (not report.problems)
    return {problem.partition(":")[0] for problem in report.problems}


def point(log):
    return note.verify(checkpoint_path(log.path).read_text(), [LOG_KEY.verifier])


def active_lines(log):
    return log.path.read_bytes().splitlines(keepends=True)


def test_a_log_of_several_segments_holds_and_its_checkpoint_with_it(log):
    assert len(sealed(log.path)) > 1
    report = verify(log.path, [point(log)])
    assert (report.ok, report.first, report.torn) == (True, 0, False)
    assert report.entries == report.checkpoint == point(log).size
    assert report.root == point(log).root.hex()
    assert report.checkpoints_held == 1


def test_a_flipped_bit_anywhere_in_the_lines_is_found(log):
    for path in [segment.path for segment in sealed(log.path)] + [log.path]:
        whole = path.read_bytes()
        for at in range(0, len(whole) - 1, 97):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            assert found(log), f"byte {at} of {path.name}"
        path.write_bytes(whole)
    assert not found(log)


def test_a_flipped_bit_is_called_changed_and_points_at_its_line(log):
    log.path.write_bytes(log.path.read_bytes().replace(b'"subject":"subject-1"', b'"subject":"subject-2"', 1))
    report = verify(log.path)
    assert "changed" in {problem.partition(":")[0] for problem in report.problems}
    assert any("its content does not have its hash" in problem for problem in report.problems)


def test_a_cut_tail_is_called_so(log):
    log.path.write_bytes(b"".join(active_lines(log)[:-2]))
    assert found(log) == {"cut tail"}


def test_a_tail_cut_at_the_end_of_a_segment_is_called_so(log):
    log.path.unlink()
    assert found(log) == {"cut tail"}


def test_a_torn_last_line_is_a_crash_unless_somebody_signed_for_it(log):
    log.path.write_bytes(log.path.read_bytes() + b'{"at":1,"detail":')
    report = verify(log.path)
    assert report.ok
    assert report.torn
    log.path.write_bytes(b"".join(active_lines(log)[:-1])[:-10])
    assert found(log) == {"cut tail"}


def test_a_removed_entry_is_called_moved(log):
    lines = active_lines(log)
    log.path.write_bytes(b"".join(lines[:1] + lines[2:]))
    assert {"moved", "broken chain", "cut tail"} <= found(log)


def test_reordered_entries_are_called_moved(log):
    lines = active_lines(log)
    lines[1], lines[2] = lines[2], lines[1]
    log.path.write_bytes(b"".join(lines))
    assert {"moved", "broken chain", "rewritten"} <= found(log)


def test_a_segment_that_is_gone_from_the_middle_is_called_moved(log):
    sealed(log.path)[1].path.unlink()
    assert "moved" in found(log)


def test_a_beginning_that_is_gone_without_an_entry_is_called_missing(log):
    sealed(log.path)[0].path.unlink()
    assert "missing" in found(log)


def test_a_producer_cannot_excuse_what_is_gone(tmp_path):
    log = Log(tmp_path / "audit")
    log.write(30)
    end = sealed(log.path)[1].first
    log.writer.take(Batch("cell", [Noted(0, 1.0, "audit.dropped", "s", {"first": 0, "end": end})]))
    with pytest.raises(InvalidPayload):
        log.writer.take(Batch("cell", [Noted(-1, 1.0, "audit.dropped", "s", {"first": 0, "end": end})]))
    log.sign()
    log.writer.close()
    sealed(log.path)[0].path.unlink()
    assert found(log) == {"missing"}


def test_a_chain_that_was_made_anew_is_called_rewritten(log, tmp_path):
    """Who can rewrite every line and every hash still cannot meet a root that was signed."""
    other = Log(tmp_path / "other", segment_bytes_max=10**9)
    other.write(40, kind="kinder")
    other.writer.close()
    for segment in sealed(log.path):
        segment.path.unlink()
    shutil.rmtree(tree_path(log.path))
    shutil.copy(other.path, log.path)
    assert found(log) == {"rewritten"}


def test_an_older_tree_signed_again_is_called_a_rollback(log, tmp_path):
    shutil.copytree(log.folder, tmp_path / "copy")
    log.open()
    log.write(20)
    log.sign()
    log.writer.close()
    seen = point(log)
    shutil.rmtree(log.folder)
    shutil.copytree(tmp_path / "copy", log.folder)
    assert not found(log)  # To itself an old copy looks whole.
    assert found(log, seen) == {"rollback"}


def test_a_rollback_shows_in_the_last_witnessed_checkpoint_too(log, tmp_path):
    shutil.copytree(log.folder, tmp_path / "copy")
    log.open()
    log.write(20)
    witnessed = log.sign()
    log.writer.close()
    shutil.rmtree(log.folder)
    shutil.copytree(tmp_path / "copy", log.folder)
    witnessed_path(log.path).write_text(witnessed)
    assert found(log) == {"rollback"}


def test_a_rolled_back_log_that_grew_again_is_called_rewritten(log, tmp_path):
    shutil.copytree(log.folder, tmp_path / "copy")
    log.open()
    log.write(5)
    log.sign()
    log.writer.close()
    seen = point(log)
    shutil.rmtree(log.folder)
    shutil.copytree(tmp_path / "copy", log.folder)
    log.open()
    log.write(50, kind="another")
    log.sign()
    log.writer.close()
    assert found(log, seen) == {"rewritten"}


def test_two_checkpoints_of_one_size_are_called_a_split_view(log):
    other = Checkpoint(LOG_KEY.name, point(log).size, b"x" * 32)
    assert "split view" in found(log, other)


def test_a_checkpoint_that_was_edited_or_signed_by_another_is_called_so(log):
    path = checkpoint_path(log.path)
    whole = path.read_text()
    path.write_text(whole.replace(f"\n{point(log).size}\n", f"\n{point(log).size - 1}\n"))
    assert found(log) == {"signature"}
    other = Signer(LOG_KEY.name, b"x" * 32)
    path.write_text(note.sign(note.parse(whole), other))
    assert found(log) == {"signature"}
    path.write_text(whole)
    verifier_path(log.path).write_text("nonsense\n")
    assert found(log) == {"signature"}


def test_a_changed_leaf_in_the_trees_files_is_called_tree(log):
    path = tree_path(log.path) / "0"
    leaves = bytearray(path.read_bytes())
    leaves[40] ^= 1
    path.write_bytes(leaves)
    assert found(log) == {"tree"}


def test_what_retention_dropped_is_not_missing_and_the_rest_still_has_its_root(log):
    log.open()
    log.writer.drop(log.writer.droppable(12), at=5.0)
    log.sign()
    log.writer.close()
    report = verify(log.path, [point(log)])
    assert report.ok, report.problems
    assert report.first > 0
    assert not sealed_path(log.path, 0).exists()


def test_a_log_of_before_checkpoints_is_held_to_its_chain(tmp_path):
    """Lines as they were written before RFC 8785 was followed: numbers spelt as Python spells them."""
    path = tmp_path / "audit.jsonl"
    path.write_bytes(
        b'{"at":1.0,"detail":{"rate":1e+16},"hash":"8f5ab86fcdc1ed4c35ec4f9d1a5bb1f09d0f9c5a8f4f2e0a6e3f7b8c9d0e1f2a",'
        b'"index":0,"kind":"k","number":1,"previous":"' + b"0" * 64 + b'","producer":"p","subject":"s"}\n'
    )
    assert any("changed" in problem for problem in verify(path).problems)
    old = path.read_bytes()
    bare = old.replace(b',"hash":"8f5ab86fcdc1ed4c35ec4f9d1a5bb1f09d0f9c5a8f4f2e0a6e3f7b8c9d0e1f2a"', b"")
    right = hashlib.sha256(bare.rstrip(b"\n")).hexdigest().encode()
    path.write_bytes(old.replace(b"8f5ab86fcdc1ed4c35ec4f9d1a5bb1f09d0f9c5a8f4f2e0a6e3f7b8c9d0e1f2a", right))
    assert verify(path).ok
