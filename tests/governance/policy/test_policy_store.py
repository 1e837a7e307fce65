"""Versions: staged, in force, gone back to; and what a crash leaves in the folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from policies_for_tests import bundle

from aip.errors import Corrupt, NotFound, UsageError
from aip.governance.policy import store
from aip.governance.policy.certify import Certificate
from aip.governance.policy.store import GOOD_MAX, Version, Versions


def version(number: int) -> Version:
    return Version(f"r{number}", f"sha256:{number}")


def in_force(*numbers: int) -> Versions:
    versions = Versions()
    for number in numbers:
        versions = versions.stage(version(number)).activate()
    return versions


def test_what_was_in_force_is_what_one_goes_back_to() -> None:
    versions = in_force(1, 2, 3)
    assert versions.active == version(3)
    back = versions.rollback()
    assert (back.active, back.failed) == (version(2), version(3))
    assert back.rollback().active == version(1)


def test_staging_changes_nothing_that_is_in_force() -> None:
    assert in_force(1).stage(version(2)).active == version(1)


def test_the_same_version_again_is_not_its_own_predecessor() -> None:
    assert in_force(1, 2, 2).rollback().active == version(1)


@pytest.mark.parametrize("act", [Versions.activate, Versions.rollback])
def test_there_must_be_something_to_go_to(act: object) -> None:
    with pytest.raises(UsageError):
        act(Versions())  # type: ignore[operator]


class AnyOrder(RuleBasedStateMachine):
    """Whatever order a night brings, what is in force was activated, and numbers only grow."""

    def __init__(self) -> None:
        super().__init__()
        self.versions = Versions()
        self.next = 0
        self.activated: set[Version | None] = {None}
        self.number = 0

    @rule()
    def stage(self) -> None:
        self.next += 1
        self.versions = self.versions.stage(version(self.next))

    @rule()
    def activate(self) -> None:
        if self.versions.staged is not None:
            self.versions = self.versions.activate()
            self.activated.add(self.versions.active)

    @rule()
    def roll_back(self) -> None:
        if self.versions.good:
            self.versions = self.versions.rollback()

    @invariant()
    def holds(self) -> None:
        versions = self.versions
        assert versions.active in self.activated
        assert set(versions.good) <= self.activated
        assert len(versions.good) <= GOOD_MAX
        assert len(set(versions.good)) == len(versions.good)
        assert versions.active not in versions.good or versions.active is None
        assert versions.number >= self.number
        self.number = versions.number


TestAnyOrder = AnyOrder.TestCase


def test_the_folder_gives_back_what_it_was_given(tmp_path: Path) -> None:
    certificate = Certificate("d", "r", "e", "x", 1, 2, 3, 4, 5)
    kept = store.put(tmp_path, bundle(), certificate)
    store.save(tmp_path, Versions().stage(kept).activate())
    versions = store.load(tmp_path)
    assert versions.active is not None
    assert store.get(tmp_path, versions.active) == (bundle(), certificate)


def test_an_empty_folder_has_no_versions(tmp_path: Path) -> None:
    assert store.load(tmp_path / "none") == Versions()


def test_versions_never_name_a_bundle_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        store.save(tmp_path, in_force(1))


def test_a_bundle_that_is_not_what_its_name_says_is_corrupt(tmp_path: Path) -> None:
    kept, other = store.put(tmp_path, bundle()), store.put(tmp_path, bundle(data="{}"))
    paths = sorted(tmp_path.glob("*.tar.gz"))
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, reversed(contents), strict=True):
        path.write_bytes(content)
    for one in (kept, other):
        with pytest.raises(Corrupt):
            store.get(tmp_path, one)


@pytest.mark.parametrize("content", [b"", b"{", b'{"active": 3}'])
def test_versions_that_cannot_be_read_are_corrupt_and_not_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "versions.json").write_bytes(content)
    with pytest.raises(Corrupt):
        store.load(tmp_path)


def test_a_crash_between_writing_and_renaming_leaves_the_old_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Versions().stage(store.put(tmp_path, bundle())).activate()
    store.save(tmp_path, old)

    def crash(*_: object) -> None:
        raise OSError("power cut")

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(OSError, match="power cut"):
        store.save(tmp_path, old.stage(store.Version.of(bundle())))
    assert store.load(tmp_path) == old


def test_tidying_removes_what_no_version_names_and_nothing_else(tmp_path: Path) -> None:
    kept, other = store.put(tmp_path, bundle()), store.put(tmp_path, bundle(data="{}"))
    (tmp_path / "sha256-mine.txt").write_text("mine")
    versions = Versions().stage(kept)
    store.save(tmp_path, versions)
    assert store.tidy(tmp_path, versions) == [other.digest]
    assert store.get(tmp_path, kept)[0] == bundle()
    assert (tmp_path / "sha256-mine.txt").exists()
