"""`aip audit`: looking, verifying, exporting, proving, reporting - and what each says when something was done to the log."""

from __future__ import annotations

import csv
import json
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from platform_double import T0, Double, run_view

from aip.cli.audit import GrowingLog
from aip.errors import Corrupt
from aip.governance import note, segments
from aip.governance.entry import AuditChain, Batch, Noted
from aip.governance.index import AuditIndex
from aip.governance.merkle import leaf_hash
from aip.governance.tree import Tree
from aip.settings import Home

Type = Callable[..., Result]

SIGNER = note.Signer("aip.test/audit", bytes(range(32)))
SAID: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("policy.activated", "laptop", {"revision": "rev-1"}),
    ("effect.begun", "greeter/ada", {"effect": "mail", "key": "mail:1", "run": "r-1"}),
    ("effect.done", "greeter/ada", {"effect": "mail", "key": "mail:1", "run": "r-1"}),
    (
        "message.refused",
        "greeter/ada",
        {"code": "refused.policy", "run": "r-2", "tenant": "acme", "sender": "eve/1"},
    ),
    ("kill", "run/r-1", {"by": "user:ada", "reason": "it loops", "ordered_at": T0, "level": "terminate"}),
    ("run.ended", "r-1", {"state": "killed"}),
)


class Log:
    """A log of some entries, ten seconds apart, that can grow, be sealed and be signed."""

    def __init__(self, home: Home, said: tuple[tuple[str, str, dict[str, Any]], ...] = SAID) -> None:
        self.path = segments.log_path(home.audit)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._chain = AuditChain()
        self._leaves: list[bytes] = []
        self._number = 0
        self.say(*said)

    def say(self, *said: tuple[str, str, dict[str, Any]]) -> Log:
        for kind, subject, detail in said:
            self._number += 1
            noted = Noted(self._number, T0 - 600 + 10 * self._number, kind, subject, detail)
            (line,) = self._chain.entered(Batch("cell-1", [noted]))
            self._leaves.append(leaf_hash(line))
            with self.path.open("ab") as file:
                file.write(line + b"\n")
        return self

    def seal(self) -> Log:
        self.path.rename(segments.sealed_path(self.path, 0))
        self.path.touch()
        return self

    def sign(self, signer: note.Signer = SIGNER) -> Log:
        checkpoint = note.Checkpoint(signer.name, len(self._leaves), Tree.of(self._leaves).root())
        segments.checkpoint_path(self.path).write_text(note.sign(checkpoint, signer), "utf-8")
        segments.verifier_path(self.path).write_text(f"{signer.verifier}\n", "utf-8")
        return self


@pytest.fixture
def log(home: Home) -> Log:
    return Log(home).sign()


def rows(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def indices(result: Result) -> list[int]:
    return [row["index"] for row in rows(result)]


# Looking --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("", [0, 1, 2, 3, 4, 5]),
        ("-n 2", [4, 5]),
        ("--kind effect", [1, 2]),
        ("--kind effect --kind kill", [1, 2, 4]),
        ("--refused", [3]),
        ("--tenant acme", [3]),
        ("--run r-1", [1, 2, 4, 5]),
        ("--agent greeter", [1, 2, 3]),
        ("--agent eve/1", [3]),
        ("--subject run/", [4]),
        ("--refused --run r-1", []),
        ("--since 630s", [2, 3, 4, 5]),
        ("--until 630s", [0, 1]),
    ],
)
def test_a_query_gives_what_fits(log: Log, typed: Type, options: str, found: list[int]) -> None:
    assert indices(typed(f"audit query {options} -o json")) == found


def test_the_newest_run_is_called_last_here_too(log: Log, typed: Type, platform: Double) -> None:
    refused = typed("audit query --run last")
    assert refused.exit_code == 2
    assert "there are no runs yet" in refused.stderr
    for run in ("r-0", "r-1"):
        platform.views[run] = [run_view(run, "succeeded")]
    assert indices(typed("audit query --run last -o json")) == [1, 2, 4, 5]


def test_a_query_reads_sealed_segments_too(home: Home, typed: Type) -> None:
    Log(home).seal().say(("after.sealing", "x", {})).sign()
    assert indices(typed("audit query -o json")) == list(range(7))
    assert indices(typed("audit query --run r-1 -o json")) == [1, 2, 4, 5]


def test_a_query_for_nothing_is_no_failure(log: Log, typed: Type) -> None:
    result = typed("audit query --kind nothing")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no such entries" in result.stderr


@pytest.mark.parametrize("when", ["yesterday", "2027-13-01", "12"])
def test_a_time_that_is_none_says_how_to_write_one(log: Log, typed: Type, when: str) -> None:
    result = typed("audit", "query", "--since", when)
    assert result.exit_code == 2
    assert "36h" in result.stderr


def test_times_the_wrong_way_round_are_usage(log: Log, typed: Type) -> None:
    assert typed("audit query --since 1h --until 2h").exit_code == 2


def test_following_goes_on_in_the_new_file_when_the_log_is_sealed(home: Home) -> None:
    log = Log(home)
    growing = GrowingLog.from_now(log.path)
    log.say(("before", "x", {})).seal().say(("after", "x", {}))
    assert [entry["kind"] for entry in growing.new()] == ["before", "after"]
    log.say(("later", "x", {}))
    assert [entry["kind"] for entry in growing.new()] == ["later"]


def test_a_file_that_took_the_logs_place_is_not_taken_for_it(home: Home, tmp_path: Path) -> None:
    log = Log(home)
    growing = GrowingLog.from_now(log.path)
    other = tmp_path / "other"
    other.write_bytes(log.path.read_bytes())
    other.replace(log.path)
    with pytest.raises(Corrupt, match="replaced"):
        list(growing.new())


# Verifying ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def key(log: Log, typed: Type, tmp_path: Path) -> Path:
    path = tmp_path / "audit.vkey"
    path.write_text(typed("audit key").stdout, "utf-8")
    return path


def test_the_key_is_printed_as_c2sp_has_it(log: Log, typed: Type) -> None:
    assert typed("audit key").stdout == f"{SIGNER.verifier}\n"


def test_a_log_without_a_key_says_so(home: Home, typed: Type) -> None:
    Log(home)
    assert typed("audit key").exit_code == 2


def test_a_log_holds_under_its_key_and_an_earlier_checkpoint(
    log: Log, typed: Type, key: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.checkpoint"
    kept.write_bytes(segments.checkpoint_path(log.path).read_bytes())
    log.say(("more", "x", {})).sign()
    result = typed("audit", "verify", "--trust", str(key), "--checkpoint", str(kept))
    assert result.exit_code == 0, result.stderr
    assert "checkpoints that hold: 2" in result.stdout


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        ("flip", "changed"),
        ("cut", "cut tail"),
        ("rollback", "rollback"),
        ("split", "split view"),
        ("stranger", "signature"),
        ("drop", "moved"),
    ],
)
def test_what_was_done_to_the_log_is_named(
    home: Home, log: Log, typed: Type, key: Path, tmp_path: Path, harm: str, word: str
) -> None:
    kept = tmp_path / "kept.checkpoint"
    kept.write_bytes(segments.checkpoint_path(log.path).read_bytes())
    lines = log.path.read_bytes().splitlines(keepends=True)
    if harm == "flip":
        log.path.write_bytes(log.path.read_bytes().replace(b"killed", b"kilned"))
    elif harm == "cut":
        log.path.write_bytes(b"".join(lines[:-1]))
    elif harm == "drop":
        log.path.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    else:
        log.path.unlink()
        if harm == "rollback":
            Log(home, SAID[:-1]).sign()
        elif harm == "split":
            Log(home, (*SAID[:-1], ("run.ended", "r-1", {"state": "succeeded"}))).sign()
        else:
            Log(home).sign(note.Signer(SIGNER.name, bytes(32)))
    result = typed("audit", "verify", "--trust", str(key), "--checkpoint", str(kept))
    assert result.exit_code == 8
    assert word in result.stderr


def test_a_trusted_key_demands_a_checkpoint(home: Home, typed: Type, tmp_path: Path) -> None:
    Log(home)
    assert typed("audit verify").exit_code == 0
    result = typed("audit", "verify", "--trust", str(SIGNER.verifier))
    assert result.exit_code == 8
    assert "no signed checkpoint" in result.stderr


@pytest.mark.parametrize("key", ["not-there.vkey", "name+00000000+AAAA"])
def test_a_key_that_is_none_is_usage(log: Log, typed: Type, key: str) -> None:
    assert typed("audit", "verify", "--trust", key).exit_code == 2


# Witnessing -----------------------------------------------------------------------------------------------------------


def test_a_witness_follows_a_log_and_its_checkpoint_serves_to_verify(
    log: Log, typed: Type, key: Path, tmp_path: Path
) -> None:
    memory = tmp_path / "witness"
    first = rows(typed("audit", "witness", "--memory", str(memory), "--trust", str(key), "-o", "json"))
    assert (first["before"], first["size"]) == (0, 6)
    log.say(("more", "x", {})).sign()
    second = rows(typed("audit", "witness", "--memory", str(memory), "--trust", str(key), "-o", "json"))
    assert (second["before"], second["size"]) == (6, 7)
    trusted = ("--trust", str(key), "--trust", second["key"])
    assert typed("audit", "verify", *trusted, "--checkpoint", second["checkpoint"]).exit_code == 0


@pytest.mark.parametrize("harm", ["rollback", "split", "stranger"])
def test_a_witness_refuses_a_log_with_two_histories_and_keeps_the_evidence(
    home: Home, log: Log, typed: Type, key: Path, tmp_path: Path, harm: str
) -> None:
    memory = tmp_path / "witness"
    witness = ("audit", "witness", "--memory", str(memory), "--trust", str(key))
    assert typed(*witness).exit_code == 0
    log.path.unlink()
    if harm == "rollback":
        Log(home, SAID[:-1]).sign()
    elif harm == "split":
        Log(home, (*SAID[:-1], ("else", "x", {}))).sign()
    else:
        Log(home).sign(note.Signer(SIGNER.name, bytes(32)))
    assert typed(*witness).exit_code == 8
    assert any(memory.glob("*.evidence")) is (harm != "stranger")


# Exports --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["jsonl", "csv", "ocsf"])
def test_an_export_verifies_elsewhere_with_the_key_alone(
    log: Log, home: Home, typed: Type, key: Path, tmp_path: Path, form: str
) -> None:
    out = tmp_path / f"all.{form}"
    made = typed("audit", "export", "--format", form, "--out", str(out))
    assert made.exit_code == 0, made.stderr
    assert "Every entry of the log from 0 to 5" in made.stdout
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    home.audit.rename(home.audit.with_name("gone"))
    result = typed("audit", "verify-export", str(out), "--trust", str(key))
    assert result.exit_code == 0, result.stderr
    assert "holds" in result.stdout
    assert "complete" in result.stdout
    assert "policy rev-1" in result.stdout


def test_a_changed_export_exits_with_8_and_says_where(
    log: Log, typed: Type, key: Path, tmp_path: Path
) -> None:
    out = tmp_path / "all.csv"
    typed("audit", "export", "--format", "csv", "--out", str(out))
    out.write_text(out.read_text("utf-8").replace("user:ada", "user:eve", 1), "utf-8")
    result = typed("audit", "verify-export", str(out), "--trust", str(key))
    assert result.exit_code == 8
    assert "line 6 of the export" in result.stderr


def test_an_export_in_csv_holds_no_formula(log: Log, typed: Type, tmp_path: Path) -> None:
    log.say(("=1+1", "@SUM(A1)", {"by": "-1", "code": "+1"})).sign()
    out = tmp_path / "all.csv"
    typed("audit", "export", "--format", "csv", "--out", str(out))
    with out.open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)


def test_an_export_asks_for_a_key_and_does_not_overwrite(log: Log, typed: Type, tmp_path: Path) -> None:
    out = tmp_path / "all.jsonl"
    assert typed("audit", "export", "--out", str(out)).exit_code == 0
    assert typed("audit", "verify-export", str(out)).exit_code == 2
    again = typed("audit", "export", "--out", str(out))
    assert again.exit_code == 2
    assert "--force" in again.stderr
    assert typed("audit", "export", "--out", str(out), "--force").exit_code == 0


def test_an_export_that_fails_leaves_nothing_behind(log: Log, typed: Type, tmp_path: Path) -> None:
    log.path.write_bytes(log.path.read_bytes().replace(b"killed", b"kilned"))
    folder = tmp_path / "out"
    folder.mkdir()
    assert typed("audit", "export", "--out", str(folder / "all.jsonl")).exit_code == 8
    assert list(folder.iterdir()) == []


def test_one_entry_is_proved_and_verified(log: Log, typed: Type, key: Path, tmp_path: Path) -> None:
    out = tmp_path / "entry.tlog-proof"
    assert typed("audit", "prove", "4", "--out", str(out)).exit_code == 0
    assert typed("audit prove 4").stdout == out.read_text("utf-8")
    result = typed("audit", "verify-export", str(out), "--trust", str(key))
    assert result.exit_code == 0, result.stderr
    assert "kill run/r-1" in result.stdout
    out.write_text(out.read_text("utf-8").replace("index 4", "index 3"), "utf-8")
    assert typed("audit", "verify-export", str(out), "--trust", str(key)).exit_code == 8


def test_an_entry_that_is_not_there_is_usage(log: Log, typed: Type) -> None:
    assert typed("audit prove 99").exit_code == 2


# Reports --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framework", ["ai-act", "soc2", "iso42001"])
def test_a_report_is_written_in_markdown_and_html(
    log: Log, typed: Type, tmp_path: Path, framework: str
) -> None:
    page = tmp_path / "report.html"
    assert typed("audit", "report", "--for", framework, "--out", str(page)).exit_code == 0
    assert page.read_text("utf-8").startswith("<!doctype html>")
    result = typed("audit", "report", "--for", framework)
    assert result.exit_code == 0
    assert "It does not show" in result.stdout


def test_a_report_tells_a_log_that_does_not_hold(log: Log, typed: Type) -> None:
    log.path.write_bytes(log.path.read_bytes().replace(b"killed", b"kilned"))
    result = typed("audit report --for iso42001")
    assert result.exit_code == 0
    assert "DO NOT HOLD" in result.stdout


def test_a_report_of_a_log_without_a_checkpoint_says_what_that_means(home: Home, typed: Type) -> None:
    Log(home)
    assert "who can rewrite the file can rewrite all of it" in typed("audit report --for iso42001").stdout


def test_a_report_with_another_ending_is_usage(log: Log, typed: Type, tmp_path: Path) -> None:
    assert typed("audit", "report", "--for", "soc2", "--out", str(tmp_path / "x.pdf")).exit_code == 2


def test_the_command_line_knows_the_forms_and_frameworks_that_there_are() -> None:
    from aip.cli.audit_export import FORMS, FRAMEWORKS
    from aip.governance.export import clauses, export

    assert set(FORMS) == set(export.FORMS)
    assert set(FRAMEWORKS) == set(clauses.FRAMEWORKS)


# The index ------------------------------------------------------------------------------------------------------------


ASKED = [
    "",
    "-n 2",
    "--kind effect --kind ki",
    "--refused",
    "--tenant acme",
    "--run r-1",
    "--run r-",
    "--run r-1 --kind effect.d",
    "--subject run/",
    "--since 630s --until 610s",
    "--agent greeter",
]


@pytest.mark.parametrize("options", ASKED)
def test_the_index_answers_as_reading_the_whole_log_does(log: Log, typed: Type, options: str) -> None:
    log.say(("late", "x", {"run": "r-1"})).seal().say(("run.ended", "run/r-1", {}), ("kind", "r-1", {}))
    read = typed(f"audit query {options} -o json")
    assert "reading the whole log: there is no index" in read.stderr or "--agent" in options
    with AuditIndex(log.path.parent):
        pass
    answered = typed(f"audit query {options} -o json")
    assert ("reading the whole log" in answered.stderr) is ("--agent" in options)
    assert rows(answered) == rows(read)
    assert rows(read)


def test_an_index_that_cannot_be_used_is_done_without(
    log: Log, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    with AuditIndex(log.path.parent):
        pass

    def locked(self: AuditIndex) -> int:
        raise sqlite3.OperationalError("attempt to write a readonly database")

    monkeypatch.setattr(AuditIndex, "catch_up", locked)
    result = typed("audit query --run r-1 -o json")
    assert indices(result) == [1, 2, 4, 5]
    assert "readonly" in result.stderr


def test_a_question_leaves_a_copy_as_it_is(log: Log, typed: Type) -> None:
    before = sorted(path.name for path in log.path.parent.iterdir())
    assert typed("audit query").exit_code == 0
    assert sorted(path.name for path in log.path.parent.iterdir()) == before
