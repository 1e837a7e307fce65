"""The artifact store: what is put is what is got, and what is held is kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.errors import Corrupt, InvalidPayload, NotFound, UsageError
from aip.orchestration.artifact import (
    ArtifactRef,
    ArtifactStore,
    Collected,
    StorageFull,
    StoredObject,
    held,
    unreferenced,
)

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


def age(tmp_path: Path, ref: ArtifactRef, touched_s: float) -> None:
    os.utime(tmp_path / "objects" / ref.sha256[:2] / ref.sha256[2:], (touched_s, touched_s))


@pytest.mark.parametrize("data", [b"", b"x", os.urandom(100_000)])
def test_what_is_put_is_got_again_under_its_own_hash(store: ArtifactStore, data: bytes) -> None:
    ref = store.put(data)
    assert ref == ArtifactRef.of(data)
    assert store.get(ref) == data
    assert store.put(data) == ref
    assert store.has(ref)
    assert len(list(store.objects())) == 1


def test_nothing_but_the_exact_bytes_is_ever_returned(store: ArtifactStore, tmp_path: Path) -> None:
    ref = store.put(b"the truth")
    path = tmp_path / "objects" / ref.sha256[:2] / ref.sha256[2:]
    path.write_bytes(b"the trath")
    with pytest.raises(Corrupt, match="digest"):
        store.get(ref)
    path.write_bytes(b"the")
    with pytest.raises(Corrupt, match="3 bytes"):
        store.get(ref)
    path.unlink()
    with pytest.raises(NotFound):
        store.get(ref)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "", "A" * 64, "a" * 63, "a" * 64 + "\n", "a" * 62 + "/x"]
)
def test_a_name_from_outside_never_becomes_a_path(store: ArtifactStore, name: str) -> None:
    with pytest.raises(UsageError):
        store.get(ArtifactRef(name, 1))
    with pytest.raises(UsageError):
        store.hold("r-1", [ArtifactRef(name, 1)])
    with pytest.raises(UsageError):
        store.hold("../" + name, [])


def test_sizes_are_bounded_and_a_full_disk_is_said_so(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidPayload, match="limit"):
        ArtifactStore(tmp_path / "small", size_bytes_max=10).put(b"x" * 11)
    full = ArtifactStore(tmp_path / "full", free_bytes_min=2**62)
    with pytest.raises(StorageFull):
        full.put(b"x")
    assert list(full.objects()) == []


def test_only_what_nobody_holds_and_is_old_enough_is_collected(store: ArtifactStore, tmp_path: Path) -> None:
    mine, shared, old, fresh = (store.put(name) for name in (b"mine", b"shared", b"old", b"fresh"))
    store.hold("r-1", [mine, shared])
    store.hold("r-2", [shared])
    store.drop("r-1", [shared])
    for ref in (mine, shared, old):
        age(tmp_path, ref, 1_000.0)
    age(tmp_path, fresh, 9_950.0)
    assert store.collect(10_000.0, grace_s=100.0) == Collected(1, 3)
    assert [store.has(ref) for ref in (mine, shared, old, fresh)] == [True, True, False, True]
    store.release("r-2")
    store.release("r-2")
    assert store.collect(10_000.0, grace_s=100.0).objects == 1
    assert [store.has(ref) for ref in (mine, shared)] == [True, False]


def test_putting_again_renews_the_grace(store: ArtifactStore, tmp_path: Path) -> None:
    ref = store.put(b"again")
    age(tmp_path, ref, 1_000.0)
    store.put(b"again")
    now_s = next(store.objects()).touched_s
    assert store.collect(now_s + 50.0, grace_s=100.0).objects == 0


def test_an_object_that_is_renewed_while_it_is_collected_comes_back(store: ArtifactStore) -> None:
    ref = store.put(b"just renewed")
    assert store._discard(ref.sha256, touched_before_s=0.0) is False
    assert store.get(ref) == b"just renewed"


def test_what_was_half_written_is_thrown_away_and_never_seen(store: ArtifactStore, tmp_path: Path) -> None:
    left = tmp_path / "temp" / "tmpleft"
    left.write_bytes(b"half")
    os.utime(left, (1_000.0, 1_000.0))
    assert list(store.objects()) == []
    store.collect(10_000.0, grace_s=100.0)
    assert not left.exists()


def test_a_torn_last_line_counts_for_nothing_and_spoils_nothing(store: ArtifactStore, tmp_path: Path) -> None:
    first, second = store.put(b"1"), store.put(b"2")
    store.hold("r-1", [first])
    with (tmp_path / "refs" / "r-1").open("a") as file:
        file.write("- " + first.sha256[:20])
    assert store.held_by("r-1") == {first.sha256}
    store.hold("r-1", [second])
    assert store.held_by("r-1") == {first.sha256, second.sha256}


@given(st.lists(st.tuples(st.sampled_from("+-"), st.sampled_from([A, B, C]))))
def test_a_run_holds_what_it_took_last_and_did_not_drop(acts: list[tuple[str, str]]) -> None:
    last = {digest: sign for sign, digest in acts}
    assert held(f"{sign} {digest}\n" for sign, digest in acts) == {
        one for one, sign in last.items() if sign == "+"
    }


@pytest.mark.parametrize("line", ["", "\n", "+ xyz\n", f"* {A}\n", f"+ {A}", f"+{A}\n", f"+ {A} \n"])
def test_a_line_that_is_not_whole_holds_nothing(line: str) -> None:
    assert held([line]) == set()


@given(st.sets(st.sampled_from([A, B, C])), st.integers(0, 200), st.integers(0, 200))
def test_no_held_object_is_ever_unreferenced(holds: set[str], touched_s: int, grace_s: int) -> None:
    objects = [StoredObject(digest, 1, float(touched_s)) for digest in (A, B, C)]
    gone = {one.sha256 for one in unreferenced(objects, [holds, set()], 200.0, float(grace_s))}
    assert gone == (set() if 200 - touched_s <= grace_s else {A, B, C} - holds)
