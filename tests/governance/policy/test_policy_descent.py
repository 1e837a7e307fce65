"""Families are read from where births are written down, by whichever process wrote them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.governance.kill import lineage
from aip.governance.kill.lineage import Lineage
from aip.governance.policy import descent
from aip.governance.policy.descent import DEPTH_MAX, Descent

NAMES = st.sampled_from([f"a/{number}" for number in range(6)])


def test_nobody_was_born_yet(tmp_path: Path) -> None:
    assert Descent(tmp_path / "none").of("a/1") == (0, 0)


def test_depth_and_children_are_known_across_processes_and_as_soon_as_they_are_written(
    tmp_path: Path,
) -> None:
    here, there, seen = Lineage(tmp_path, "cell-0"), Lineage(tmp_path, "cell-1"), Descent(tmp_path)
    here.born("a/1", "a/2")
    assert (seen.of("a/1"), seen.of("a/2")) == ((0, 1), (1, 0))
    there.born("a/2", "a/3")
    there.born("a/2", "a/4")
    assert (seen.of("a/2"), seen.of("a/4"), seen.of("b/1")) == ((1, 2), (2, 0), (0, 0))


@given(st.lists(st.tuples(NAMES, NAMES), max_size=20))
def test_what_is_read_bit_by_bit_is_what_is_read_at_once(
    tmp_path_factory: pytest.TempPathFactory, births: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("lineage")
    written, bit_by_bit = Lineage(folder, "cell-0"), Descent(folder)
    for parent, child in births:
        written.born(parent, child)
        bit_by_bit.of(parent)
    written.close()
    at_once = Descent(folder)
    names = {name for birth in births for name in birth}
    assert {name: bit_by_bit.of(name) for name in names} == {name: at_once.of(name) for name in names}


def test_a_circle_is_old_and_a_torn_line_is_no_birth(tmp_path: Path) -> None:
    (tmp_path / "cell-0").write_bytes(b"a/1 a/2\na/2 a/1\na/1 a/3")
    seen = Descent(tmp_path)
    assert (seen.of("a/1"), seen.of("a/3")) == ((DEPTH_MAX, 1), (0, 0))


def test_births_are_counted_across_the_files_that_are_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineage, "BYTES_MAX", 40)
    written, seen = Lineage(tmp_path, "cell-0"), Descent(tmp_path)
    for number in range(50):
        written.born("a/0", f"b/{number}")
        assert seen.of("a/0") == (0, number + 1)


def test_when_there_are_too_many_what_the_files_hold_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineage, "BYTES_MAX", 40)
    monkeypatch.setattr(descent, "BIRTHS_MAX", 20)
    written, seen, most = Lineage(tmp_path, "cell-0"), Descent(tmp_path), 0
    for number in range(100):
        written.born("a/0", f"b/{number}")
        most = max(most, seen.of("a/0")[1])
    assert 20 <= most <= 22
