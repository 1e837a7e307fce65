"""The shelf: what is put is taken unchanged, what was exchanged is refused, and what ended runs left is cleared."""

from __future__ import annotations

import gc
import json
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from gate import collector, shelf
from hypothesis import given, settings
from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just("\udc80"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=50)
@given(JSON)
def test_what_is_put_is_taken_unchanged(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    assert shelf.take(shelf.put(tmp_path_factory.getbasetemp() / "shelf", value)) == value


def test_the_same_value_is_one_part_whoever_puts_it(tmp_path: Path) -> None:
    threads = [threading.Thread(target=shelf.put, args=(tmp_path, {"b": 1, "a": [2]})) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [shelf.put(tmp_path, {"a": [2], "b": 1})] == [str(path) for path in tmp_path.iterdir()]


@pytest.mark.parametrize("harm", ["changed", "gone", "exchanged", "too large"])
def test_a_part_that_is_not_what_its_name_says_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    part, other = Path(shelf.put(tmp_path, ["one"])), Path(shelf.put(tmp_path, ["two"]))
    match harm:
        case "changed":
            part.write_text('["zero"]')
        case "gone":
            part.unlink()
        case "exchanged":
            other.replace(part)
        case "too large":
            monkeypatch.setattr(shelf, "PART_BYTES_MAX", 3)
    with pytest.raises(shelf.Misplaced, match=part.name):
        shelf.take(str(part))


def test_only_the_shelves_of_ended_runs_are_cleared(tmp_path: Path) -> None:
    parts = {run: Path(shelf.put(tmp_path / run, [run])) for run in ("ended", "held", "unknown")}
    (tmp_path / "ended" / f".{parts['ended'].name}.77.1234").write_text("cut off in the writing")
    assert shelf.clear(tmp_path, lambda run: run == "ended") == ["ended"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["held", "unknown"]
    assert shelf.take(str(parts["held"])) == ["held"]


def test_clearing_deletes_nothing_that_is_not_a_part_and_follows_no_link(tmp_path: Path) -> None:
    shelves, outside = tmp_path / "shelves", tmp_path / "outside"
    shelf.put(shelves / "run", ["part"])
    kept = shelves / "run" / "notes.json"
    kept.write_text("mine")
    behind = Path(shelf.put(outside, ["behind a link"]))
    (shelves / "link").symlink_to(outside)
    (shelves / "file").write_text("no shelf")
    assert shelf.clear(shelves, lambda _: True) == []
    assert [path.name for path in (shelves / "run").iterdir()] == ["notes.json"]
    assert kept.read_text() == "mine"
    assert behind.exists()
    assert (shelves / "file").exists()


def test_where_no_run_was_there_is_nothing_to_clear(tmp_path: Path) -> None:
    assert shelf.clear(tmp_path / "never", lambda _: True) == []


@pytest.mark.parametrize(
    ("state", "cleared"),
    [
        ("succeeded", True),
        ("failed", True),
        ("cancelled", True),
        ("killed", True),
        ("held", False),
        ("running", False),
        ("paused", False),
    ],
)
def test_a_new_run_clears_what_ended_runs_of_this_platform_left(
    agents: ModuleType,
    environment: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    cleared: bool,
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("AIP_HOME", str(home))
    (home / "runs" / "r-old").mkdir(parents=True)
    (home / "runs" / "r-old" / "view.json").write_text(json.dumps({"run": "r-old", "state": state}))
    shelves = tmp_path / "parts"
    old = Path(shelf.put(shelves / "r-old", ["old"]))
    foreign = Path(shelf.put(shelves / "r-of-another-platform", ["unknown here"]))
    given = agents.Surveyor().inventory(str(shelves), str(environment()), "r-new")
    assert Path(given["whole"]).parent == shelves / "r-new"
    assert old.exists() is not cleared
    assert foreign.exists()


def test_the_collector_wakes_when_the_last_of_overlapping_rests_ends() -> None:
    assert gc.isenabled()
    with collector.resting():
        with pytest.raises(ZeroDivisionError), collector.resting():
            1 / 0  # noqa: B018
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with collector.resting():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
