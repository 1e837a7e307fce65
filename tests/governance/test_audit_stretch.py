"""Many lines looked at as one: the same findings as line by line, whatever was done to them, in one process or in several."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path

import pytest
from audit_kit import Log
from hypothesis import given, settings
from hypothesis import strategies as st

from aip.governance import stretch
from aip.governance.audit import log_path, verify
from aip.governance.entry import LINE_BYTES_MAX, AuditChain, Batch, Noted
from aip.governance.segments import sealed
from aip.governance.stretch import examined


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Some segments, gaps between producers' numbers, bodies that retention dropped, and a checkpoint."""
    log = Log(tmp_path_factory.mktemp("written") / "audit", segment_bytes_max=4_000)
    for first in range(0, 60, 6):
        log.write(5)
        log.writer.take(Batch("gappy#1", [Noted(first, 1.0, "kind", "s", {})]))
    log.sign()
    log.writer.drop(log.writer.droppable(12), at=5.0)
    log.sign()
    log.writer.close()
    return log


@pytest.fixture
def small(monkeypatch):
    """Stretches of a few lines, and no log too small for several processes."""
    monkeypatch.setattr(stretch, "STRETCH_BYTES", 700)
    monkeypatch.setattr(stretch, "ALONE_BYTES_MAX", 0)


def line_by_line(path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(stretch, "examined", lambda block: None)
        return asdict(verify(path))


def entries(count, chain=None):
    return (chain or AuditChain()).lines(Batch("p", [Noted(n, 1.5 * n, "k", "s", {}) for n in range(count)]))


def test_a_block_that_holds_says_what_goes_on_behind_it():
    chain = AuditChain()
    entries(3, chain)
    previous = chain.head
    block = chain.lines(Batch("p", [Noted(5, 7.0, "k", "s", {}), Noted(6, 9.0, "k", "s", {})]))
    found = examined(block)
    assert (found.count, found.first, found.previous, found.head) == (3, 3, previous, chain.head)
    assert (found.first_at, found.last_at, len(found.leaves)) == (7.0, 9.0, 3 * 32)
    assert [b"audit.gap" in line for line in found.counted] == [True]


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\n",
        entries(2)[:-1],
        entries(2) + b"\n",
        entries(1) + entries(1),
        entries(2).replace(b'"index":1', b'"index":2'),
        entries(2).replace(b'"s"', b'"t"', 1),
        entries(2).replace(b"}\n", b"} \n"),
        entries(1).replace(b'"hash":', b'"hash" :'),
        b'{"at":1}\n',
        b"\xff\n",
        AuditChain().lines(Batch("p", [Noted(0, 1.0, "k", "s", {"x": "y" * 900_000})])) * 2,
        b" " * LINE_BYTES_MAX + b"\n",
    ],
    ids=lambda block: repr(block[:20]),
)
def test_a_block_with_anything_wrong_in_it_is_left_to_the_slow_look(block):
    assert examined(block) is None


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_was_done_to_a_log_is_found_alike_line_by_line(written, data):
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patched:
        folder = Path(place) / "audit"
        shutil.copytree(written.folder, folder)
        path = log_path(folder)
        target = data.draw(st.sampled_from([*(one.path for one in sealed(path)), path]))
        whole = target.read_bytes()
        lines = whole.splitlines(keepends=True)
        at = data.draw(st.integers(0, len(lines) - 1))
        harm = data.draw(st.sampled_from(["nothing", "flip", "cut", "remove", "double", "swap", "empty"]))
        byte = data.draw(st.integers(0, len(whole) - 1))
        harmed = {
            "nothing": whole,
            "flip": whole[:byte] + bytes([whole[byte] ^ 1 << byte % 8]) + whole[byte + 1 :],
            "cut": whole[:byte],
            "remove": b"".join(lines[:at] + lines[at + 1 :]),
            "double": b"".join(lines[: at + 1] + lines[at:]),
            "swap": b"".join(lines[:at][::-1] + lines[at:]),
            "empty": b"".join([*lines[:at], b"\n", *lines[at:]]),
        }[harm]
        target.write_bytes(harmed)
        patched.setattr(stretch, "STRETCH_BYTES", data.draw(st.sampled_from([1, 700, 2**20])))
        found = asdict(verify(path))
        assert found["ok"] or harmed != whole
        assert found == line_by_line(path, patched)


@pytest.mark.parametrize("spare", [0, 1, 700])
def test_a_line_that_is_too_long_is_said_to_be_wherever_a_stretch_ends(tmp_path, monkeypatch, spare):
    log = Log(tmp_path / "audit", segment_bytes_max=10**9)
    log.write(3)
    log.writer.close()
    with log.path.open("ab") as file:
        file.write(b"x" * (2 * LINE_BYTES_MAX) + b"\n")
    monkeypatch.setattr(stretch, "STRETCH_BYTES", LINE_BYTES_MAX // 2 + spare)
    found = asdict(verify(log.path))
    assert "longer than an entry" in " ".join(found["problems"])
    assert found == line_by_line(log.path, monkeypatch)


# Several processes ----------------------------------------------------------------------------------------------------


@pytest.fixture
def alone(monkeypatch):
    """Which spans this process looked at itself."""
    seen = []
    look = stretch._examined

    def counted(fd, span):
        seen.append(span)
        return look(fd, span)

    monkeypatch.setattr(stretch, "_examined", counted)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    return seen


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("harm", [False, True])
def test_several_processes_find_what_one_does(written, tmp_path, alone, harm):
    folder = tmp_path / "audit"
    shutil.copytree(written.folder, folder)
    path = log_path(folder)
    if harm:
        target = sealed(path)[1].path
        target.write_bytes(target.read_bytes().replace(b'"subject":"subject-1"', b'"subject":"subject-2"'))
    one = asdict(verify(path))
    assert one["ok"] is not harm
    alone.clear()
    assert asdict(verify(path, processes=3)) == one
    assert not alone


@pytest.mark.usefixtures("small")
def test_a_process_that_dies_is_done_without(written, alone, monkeypatch):
    monkeypatch.setattr(stretch, "_examine", lambda *_: os._exit(1))
    report = verify(written.path, processes=2)
    assert report.ok
    assert alone


@pytest.mark.usefixtures("small")
def test_who_has_threads_forks_nothing(written, alone, monkeypatch):
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    monkeypatch.setattr(stretch, "_forked", None)
    assert verify(written.path, processes=2).ok
    assert alone
