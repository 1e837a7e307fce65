"""What a session has seen is known everywhere on the node before the data moves, and for good."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.errors import Corrupt
from aip.governance.session_labels import LABELS_MAX, SessionLabels


def test_what_one_process_adds_another_sees_at_once(tmp_path: Path) -> None:
    here, there = SessionLabels(tmp_path), SessionLabels(tmp_path)
    assert there.seen("r-1") == ()
    here.add("r-1", ("secret",), 1.0)
    assert there.seen("r-1") == ("secret",)
    assert there.seen("r-2") == ()
    there.add("r-1", ("pii", "secret"), 2.0)
    assert here.seen("r-1") == ("pii", "secret")


def test_the_same_again_is_written_once(tmp_path: Path) -> None:
    labels = SessionLabels(tmp_path)
    for at in range(5):
        labels.add("r-1", ("secret",), float(at))
    SessionLabels(tmp_path).add("r-1", ("secret",), 9.0)
    assert len((tmp_path / "labels.jsonl").read_text().splitlines()) == 1


def test_it_outlives_every_process_and_the_page(tmp_path: Path) -> None:
    SessionLabels(tmp_path).add("r-1", ("secret",), 1.0)
    (tmp_path / "labels").unlink()
    again = SessionLabels(tmp_path)
    assert again.seen("r-1") == ("secret",)
    again.add("r-2", ("pii",), 1.0)
    assert SessionLabels(tmp_path).seen("r-2") == ("pii",)


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_line_that_was_cut_off_is_what_nobody_was_told(tmp_path: Path, cut: int) -> None:
    labels = SessionLabels(tmp_path)
    labels.add("r-1", ("secret",), 1.0)
    with (tmp_path / "labels.jsonl").open("ab") as file:
        file.write(b'{"session":"r-2","label":"pii","at":1.0}\n'[:cut])
    after = SessionLabels(tmp_path)
    assert (after.seen("r-1"), after.seen("r-2")) == (("secret",), ())
    after.add("r-2", ("pii",), 2.0)
    assert SessionLabels(tmp_path).seen("r-2") == ("pii",)


def test_a_file_that_is_none_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text("what is this?\n")
    with pytest.raises(Corrupt, match=r"labels\.jsonl"):
        SessionLabels(tmp_path).seen("r-1")


def test_a_session_has_at_most_so_many(tmp_path: Path) -> None:
    labels = SessionLabels(tmp_path)
    labels.add("r-1", tuple(f"label-{n}" for n in range(LABELS_MAX + 9)), 1.0)
    assert len(labels.seen("r-1")) == LABELS_MAX


def add_many(folder: str, name: str) -> None:
    labels = SessionLabels(Path(folder))
    for number in range(40):
        labels.add(f"r-{number}", (name,), 1.0)


def test_many_processes_add_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=add_many, args=(str(tmp_path), name)) for name in ("a", "b", "c")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    labels = SessionLabels(tmp_path)
    assert {labels.seen(f"r-{number}") for number in range(40)} == {("a", "b", "c")}


@given(st.lists(st.tuples(st.sampled_from(["r-1", "r-2"]), st.sets(st.sampled_from("abcd")), st.booleans())))
def test_two_views_agree_with_a_set_after_every_step(tmp_path_factory, steps) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("labels")
    views = SessionLabels(folder), SessionLabels(folder)
    model: dict[str, set[str]] = {"r-1": set(), "r-2": set()}
    for session, labels, which in steps:
        views[which].add(session, tuple(sorted(labels)), 1.0)
        model[session] |= labels
        assert [view.seen(session) for view in views] == [tuple(sorted(model[session]))] * 2
