"""Files below one folder: whole or not at all, and never through a link."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.errors import InvalidPayload
from aip.governance.effects.failure import EffectFailed, NotAllowed
from aip.governance.effects.file import FileConfig, FileConnector, FileRequest
from aip.governance.effects.vault import Vault


def connector(root: Path, **config: Any) -> FileConnector:
    return FileConnector(FileConfig(root=root, **config), Vault(str, lambda: 0.0))


async def done(door: FileConnector, **request: Any) -> Any:
    prepared = await door.prepare(door.check(request), "k" * 64, 0.0)
    try:
        prepared.commit()
        return await prepared.result()
    finally:
        await prepared.discard()


def left(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


async def test_a_file_is_made_replaced_appended_to_and_removed(tmp_path: Path) -> None:
    door = connector(tmp_path, modes=("replace", "create", "append", "remove"))
    assert await done(door, path="a/b/c.txt", text="one") == {"path": "a/b/c.txt", "bytes": 3}
    await done(door, path="a/b/c.txt", text="two")
    await done(door, path="a/b/c.txt", text="+", mode="append")
    assert (tmp_path / "a/b/c.txt").read_text() == "two+"
    assert (tmp_path / "a/b/c.txt").stat().st_mode & 0o777 == 0o600
    await done(door, path="new", text=b"\xff", mode="create")
    await done(door, path="a/b/c.txt", mode="remove")
    assert left(tmp_path) == ["new"]


async def test_nothing_is_there_before_the_commit_nor_after_giving_up(tmp_path: Path) -> None:
    door = connector(tmp_path)
    (tmp_path / "x").write_text("old")
    prepared = await door.prepare(door.check({"path": "x", "text": "new"}), "k", 0.0)
    assert (tmp_path / "x").read_text() == "old"
    await prepared.discard()
    assert left(tmp_path) == ["x"]
    assert (tmp_path / "x").read_text() == "old"


async def test_a_draft_that_a_crash_left_behind_is_in_nobodys_way(tmp_path: Path) -> None:
    door = connector(tmp_path)
    (tmp_path / (".aip-" + "k" * 32)).write_text("half")
    await done(door, path="x", text="whole")
    assert left(tmp_path) == ["x"]


async def test_creating_what_exists_is_a_failure_that_did_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    with pytest.raises(EffectFailed, match="exists"):
        await done(connector(tmp_path), path="x", text="new", mode="create")
    assert (tmp_path / "x").read_text() == "old"
    assert left(tmp_path) == ["x"]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../x",
        "a/./x",
        "a//x",
        "a/",
        ".",
        "..",
        "x\0y",
        "x\ny",
        "a/" * 20 + "x",
        "n" * 256,
    ],
)
def test_a_path_that_may_leave_the_root_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(InvalidPayload):
        connector(tmp_path).check({"path": path, "text": ""})


@given(st.text("ab./\\\0 ", max_size=20))
def test_whatever_path_is_let_through_stays_below(path: str) -> None:
    try:
        FileRequest.of({"path": path, "text": ""})
    except InvalidPayload:
        return
    assert os.path.normpath(path) == path
    assert not os.path.isabs(path)
    assert ".." not in path.split("/")


@pytest.mark.parametrize("mode", ["replace", "create", "append"])
async def test_a_folder_that_is_a_link_is_not_entered(tmp_path: Path, mode: str) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "link").symlink_to(outside)
    with pytest.raises(NotAllowed):
        await done(connector(root), path="link/x", text="new", mode=mode)
    assert left(outside) == []


async def test_a_file_that_is_a_link_is_replaced_itself_and_never_appended_through(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.write_text("secret")
    (root / "link").symlink_to(outside)
    with pytest.raises(NotAllowed):
        await done(connector(root), path="link", text="new", mode="append")
    await done(connector(root), path="link", text="new")
    assert outside.read_text() == "secret"
    assert not (root / "link").is_symlink()


async def test_a_folder_swapped_for_a_link_after_the_walk_changes_nothing(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "a").mkdir(parents=True)
    outside.mkdir()
    door = connector(root)
    prepared = await door.prepare(door.check({"path": "a/x", "text": "new"}), "k", 0.0)
    (root / "a").rename(root / "moved")
    (root / "a").symlink_to(outside)
    prepared.commit()
    await prepared.result()
    await prepared.discard()
    assert left(outside) == []
    assert (root / "moved/x").read_text() == "new"


async def test_what_is_no_plain_file_with_one_name_is_not_appended_to(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.write_text("secret")
    os.link(outside, root / "hard")
    os.mkfifo(root / "pipe")
    for name in ("hard", "pipe"):
        with pytest.raises(NotAllowed):
            await done(connector(root), path=name, text="x", mode="append")
    assert outside.read_text() == "secret"


async def test_sizes_are_bounded(tmp_path: Path) -> None:
    door = connector(tmp_path, write_bytes_max=10, file_bytes_max=15)
    with pytest.raises(NotAllowed, match="11 bytes"):
        door.check({"path": "x", "text": "x" * 11})
    await done(door, path="x", text="x" * 10, mode="append")
    with pytest.raises(NotAllowed, match="15"):
        await done(door, path="x", text="x" * 10, mode="append")


def test_only_the_configured_modes_are_done(tmp_path: Path) -> None:
    with pytest.raises(NotAllowed, match="remove"):
        connector(tmp_path).check({"path": "x", "mode": "remove"})


async def test_a_name_below_a_file_and_a_folder_in_the_way_fail_without_doing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotAllowed):
        await done(connector(tmp_path), path="file/x", text="")
    with pytest.raises(EffectFailed):
        await done(connector(tmp_path), path="folder", text="")
    assert left(tmp_path) == ["file"]


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    import asyncio

    before = len(os.listdir("/proc/self/fd"))

    async def many() -> None:
        door = connector(tmp_path)
        (tmp_path / "file").write_text("")
        for number in range(20):
            await done(door, path=f"d/{number}", text="x")
            with pytest.raises(NotAllowed):
                await done(door, path="file/x", text="")

    asyncio.run(many())
    assert len(os.listdir("/proc/self/fd")) == before


def test_people_are_told_what_and_how_much(tmp_path: Path) -> None:
    door = connector(tmp_path / "reports")
    assert (
        door.describe(door.check({"path": "q3.md", "text": "abc"}))
        == "replace file reports/q3.md with 3 bytes"
    )
