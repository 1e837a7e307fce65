"""Questions to the log: the index gives what reading the whole log gives, and is made again whenever it has to be."""

from __future__ import annotations

import random
import sqlite3

import pytest
from audit_kit import Log

from aip.errors import UsageError
from aip.governance.audit import Batch, Noted, read
from aip.governance.index import AuditIndex, Question
from aip.governance.segments import sealed

KINDS = ["flush", "effect.begun", "effect.done", "effect.refused", "message.refused", "effectual", "kill"]


def written(folder, count=300, seed=5):
    rng = random.Random(seed)
    log = Log(folder, segment_bytes_max=20_000)
    for n in range(count):
        detail = {"run": rng.choice(["", "r-1", "r-2"]), "n": n}
        if rng.random() < 0.5:
            detail["tenant"] = rng.choice(["north", "south"])
        at = 1_000 + rng.randrange(200) / 2
        noted = Noted(n, at, rng.choice(KINDS), rng.choice(["a/1", "b/2"]), detail)
        log.writer.take(Batch(rng.choice(["cell-1", "cell-2"]), [noted]))
    return log


@pytest.fixture
def log(tmp_path):
    return written(tmp_path / "audit")


@pytest.fixture
def index(log):
    with AuditIndex(log.folder) as index:
        index.catch_up()
        yield index


def fits(entry, question):
    kind, detail = entry["kind"], entry["detail"]
    return all(
        (
            question.since is None or entry["at"] >= question.since,
            question.until is None or entry["at"] < question.until,
            question.kind is None or kind == question.kind or kind.startswith(question.kind + "."),
            not question.kinds or kind.startswith(question.kinds),
            question.subject is None or entry["subject"] == question.subject,
            (question.subject_has or "") in entry["subject"],
            question.producer is None or entry["producer"] == question.producer,
            question.run is None or detail.get("run") == question.run,
            question.run_begins is None or (detail.get("run") or "").startswith(question.run_begins),
            question.tenant is None or detail.get("tenant") == question.tenant,
            question.refused is None or ("refused" in kind.split(".")) == question.refused,
        )
    )


QUESTIONS = [
    {},
    {"since": 1_020, "until": 1_060},
    {"kind": "effect"},
    {"kind": "effect.done", "since": 1_050},
    {"kind": "nothing"},
    {"subject": "a/1"},
    {"subject": "a/1", "kind": "effect", "tenant": "north"},
    {"run": "r-1"},
    {"run": "r-2", "refused": True, "until": 1_070},
    {"tenant": "north"},
    {"tenant": "south", "refused": True},
    {"producer": "cell-2", "refused": False},
    {"refused": True},
    {"refused": True, "kind": "message"},
    {"run": "r-9"},
    {"kinds": ("effect",)},
    {"kinds": ("effect.", "k"), "refused": False},
    {"kinds": ("effect", "effect.b"), "kind": "effect"},
    {"kinds": ("",), "tenant": "north"},
    {"run_begins": "r"},
    {"run_begins": "r-2", "kinds": ("kill",), "until": 1_080},
    {"run_begins": "r-1", "run": "r-2"},
    {"subject_has": "/2"},
    {"subject_has": "/1", "run_begins": "r-1", "since": 1_010},
]


@pytest.mark.parametrize("fields", QUESTIONS, ids=str)
@pytest.mark.parametrize("limit", [3, 10_000])
def test_an_answer_is_what_reading_the_whole_log_would_give(log, index, fields, limit):
    question = Question(**fields, limit=limit)
    expected = [entry for entry in read(log.path) if fits(entry, question)]
    expected.sort(key=lambda entry: (entry["at"], entry["index"]), reverse=True)
    answer = index.answer(question)
    assert answer.entries == expected[:limit]
    assert answer.complete == (len(expected) <= limit)


def test_what_comes_later_is_indexed_later_and_once(log, index):
    before = index.catch_up()
    log.write(5)
    assert index.catch_up() >= before + 5
    assert index.catch_up() == len(list(read(log.path)))


@pytest.mark.parametrize("harm", ["gone", "garbage", "another format", "another log"])
def test_an_index_that_is_no_good_is_made_again(log, index, tmp_path, harm):
    index.close()
    path = log.path.with_suffix(".index")
    if harm == "gone":
        path.unlink()
    elif harm == "garbage":
        path.write_bytes(b"not a database" * 1_000)
    elif harm == "another format":
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version = 99")
    else:
        other = written(tmp_path / "other", count=400, seed=6)
        with AuditIndex(other.folder) as others:
            others.catch_up()
        path.write_bytes(other.path.with_suffix(".index").read_bytes())
    with AuditIndex(log.folder) as again:
        assert again.catch_up() == len(list(read(log.path)))
        assert len(again.answer(Question(subject="a/1", limit=10_000)).entries) == sum(
            entry["subject"] == "a/1" for entry in read(log.path)
        )


def test_an_entry_whose_body_was_dropped_is_no_longer_an_answer(log, index):
    log.sign()
    end = sealed(log.path)[1].first
    log.writer.drop(log.writer.droppable(end), at=2_000.0)
    index.catch_up()
    found = index.answer(Question(limit=10_000)).entries
    assert min(entry["index"] for entry in found) == end
    assert len(found) == len(list(read(log.path)))


def test_a_look_through_that_was_cut_says_so(log, index, monkeypatch):
    monkeypatch.setattr("aip.governance.index.EXAMINED_MAX", 10)
    answer = index.answer(Question(subject="a/1", tenant="north"))
    assert not answer.complete
    assert all(entry["detail"]["tenant"] == "north" for entry in answer.entries)


def test_a_limit_out_of_bounds_is_refused(index):
    with pytest.raises(UsageError, match="limit"):
        index.answer(Question(limit=0))
